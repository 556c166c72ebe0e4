"""What tornado really routes, and what the OpenAPI document says, are the same."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tornado.web import Application, RequestHandler

from clouditia_gateway.config import GatewayConfig
from clouditia_gateway.gateway import Gateway
from clouditia_gateway.handlers.base import GatewayHandler, UnknownRouteHandler
from clouditia_gateway.openapi import openapi_document
from clouditia_gateway.routes import HTTP_ROUTES
from clouditia_gateway.server import GatewayServer

METHODS = ("get", "post", "patch", "put", "delete")
#: Reviewed: what answers without a key. At most six, and none shows or changes anything.
PUBLIC = {"/", "/tree", "/login", "/health", "/api"}


@pytest.fixture
def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Application]:
    """The application as a running gateway serves it, not listening."""
    monkeypatch.setenv("HOME", str(tmp_path))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    handlers[signal.SIGUSR1] = signal.getsignal(signal.SIGUSR1)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    gateway = Gateway(GatewayConfig(tmp_path / "state", base_url="/a/b/"))
    try:
        yield GatewayServer.around(gateway).web_app
    finally:
        gateway.close()
        GatewayServer.clear_instance()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        asyncio.set_event_loop(None)
        loop.close()
        logging.getLogger("clouditia").setLevel(logging.NOTSET)


def rules(application: Application) -> dict[str, type[RequestHandler]]:
    """Pattern → handler of everything that can be reached, in tornado's own data."""
    found = {}
    for outer in application.default_router.rules:
        for rule in getattr(outer.target, "rules", []):
            found[rule.matcher.regex.pattern] = rule.target
    return found


def as_openapi_path(pattern: str) -> str:
    """``/a/b/api/kernels/(?P<kernel_id>[^/]+)$`` → ``/api/kernels/{kernel_id}``."""
    path = pattern.removesuffix("$").removeprefix("/a/b")
    path = re.sub(r"\(\?P<(\w+)>[^)]*\)", r"{\1}", path)
    path = re.sub(r"/\?$", "", path)
    return path.replace("\\", "")


def methods_of(handler: type[RequestHandler]) -> set[str]:
    unimplemented = RequestHandler._unimplemented_method
    return {name for name in METHODS if getattr(handler, name) is not unimplemented}


def test_every_route_and_method_is_described_and_every_description_is_routed(
    application: Application,
) -> None:
    routed = {
        as_openapi_path(pattern): methods_of(handler)
        for pattern, handler in rules(application).items()
        if handler is not UnknownRouteHandler
    }
    described = {
        path: set(item) & set(METHODS) for path, item in openapi_document()["paths"].items()
    }
    assert routed == described


def test_nothing_of_jupyter_server_is_left_and_the_last_rule_is_our_404(
    application: Application,
) -> None:
    found = rules(application)
    assert {handler.__module__.split(".")[0] for handler in found.values()} == {"clouditia_gateway"}
    assert list(found.values())[-1] is UnknownRouteHandler


def test_path_parameters_of_the_description_are_those_of_the_route() -> None:
    for path, item in openapi_document()["paths"].items():
        names = re.findall(r"\{(\w+)\}", path)
        assert [parameter["name"] for parameter in item.get("parameters", [])] == names


def test_the_public_routes_are_the_reviewed_ones() -> None:
    document = openapi_document()["paths"]
    described = {
        path
        for path, item in document.items()
        if any(item.get(method, {}).get("security") == [] for method in METHODS)
    }
    served = {
        as_openapi_path(pattern) or "/"
        for pattern, handler in HTTP_ROUTES
        if issubclass(handler, GatewayHandler) and handler.is_public
    }
    assert described == served == PUBLIC


def test_every_handler_checks_the_key_before_the_method() -> None:
    for _, handler in HTTP_ROUTES:
        assert issubclass(handler, GatewayHandler)
        assert handler.prepare is GatewayHandler.prepare
