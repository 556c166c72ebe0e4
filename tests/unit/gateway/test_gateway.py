from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.web import Application

from clouditia.errors import ConfigError
from clouditia.testing.waiting import wait_until_async
from clouditia_gateway import gateway as gateway_module
from clouditia_gateway.config import GatewayConfig
from clouditia_gateway.gateway import Gateway
from clouditia_gateway.records import Principal


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    yield
    logging.getLogger("clouditia").setLevel(logging.NOTSET)


Scenario = Callable[[Gateway, list[str]], Coroutine[Any, Any, None]]


def serve(config: GatewayConfig, scenario: Scenario) -> None:
    async def run() -> None:
        gateway = Gateway(config)
        server, stops = HTTPServer(Application()), list[str]()
        try:
            await gateway.start(server, lambda: stops.append("stop"))
            await scenario(gateway, stops)
        finally:
            server.stop()
            await gateway.aclose()
            gateway.close()

    asyncio.run(run())


def test_an_embedded_gateway_ends_only_when_nobody_is_connected_and_no_kernel_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_module, "EMBEDDED_IDLE_S", 0.3)
    monkeypatch.setattr(gateway_module, "_IDLE_CHECK_S", 0.05)

    async def scenario(gateway: Gateway, stops: list[str]) -> None:
        leave = gateway.context.live_connections.register(
            Principal("ada", "k"), lambda _code, _why: None
        )
        with pytest.raises(AssertionError):
            await wait_until_async(lambda: stops, 0.8)
        leave()
        await wait_until_async(lambda: stops, 5)
        assert stops == ["stop"]

    serve(GatewayConfig(tmp_path / "s", is_embedded=True), scenario)


def test_others_are_told_where_it_is_once_it_listens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scenario(gateway: Gateway, _stops: list[str]) -> None:
        content = json.loads((tmp_path / "s" / "gateway.json").read_text())
        assert content["url"] == content["host_url"] == f"http://127.0.0.1:{gateway.port}/p"
        assert capsys.readouterr().out == f"ready {gateway.url}\n"

    serve(GatewayConfig(tmp_path / "s", base_url="/p/"), scenario)


def test_a_kept_port_that_somebody_took_is_named(tmp_path: Path) -> None:
    first = Gateway(GatewayConfig(tmp_path / "a"))
    try:
        second = Gateway(GatewayConfig(tmp_path / "b"))
        second.context.store.set_setting("port", str(first.port))
        second.close()
        with pytest.raises(ConfigError, match=f"port {first.port}: Address already in use"):
            Gateway(GatewayConfig(tmp_path / "b"))
        second = Gateway(GatewayConfig(tmp_path / "b", port=0, host="127.0.0.2"))
        second.close()
    finally:
        first.close()


def test_a_failed_start_frees_the_state_directory(tmp_path: Path) -> None:
    config = GatewayConfig(tmp_path / "s")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "gateway.sqlite3").write_bytes(b"no database" * 500)
    with pytest.raises(ConfigError):
        Gateway(config)
    (tmp_path / "s" / "gateway.sqlite3").unlink()
    Gateway(config).close()
