"""A hostile server per file, in both forms, and a user who has logged in to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.hostile.client import KEY
from tests.hostile.server import HostileServer

from clouditia.settings import Target, save_target, store_key
from clouditia.testing.home import IsolatedHome


@pytest.fixture(scope="module")
def evil_gateway(module_home: IsolatedHome) -> Iterator[HostileServer]:
    """Says that it is a Clouditia gateway; the target ``evil``."""
    with HostileServer().running() as server:
        save_target(Target("evil", server.url, key_file=store_key("evil", KEY)))
        yield server


@pytest.fixture(scope="module")
def evil_stock(module_home: IsolatedHome) -> Iterator[HostileServer]:
    """Says that it is a stock server; the target ``stock``."""
    with HostileServer(is_gateway=False).running() as server:
        key_file = store_key("stock", "t0ken", kind="plain")
        save_target(Target("stock", server.url, key_file=key_file, kind="plain"))
        yield server


@pytest.fixture(autouse=True)
def well_behaved_again(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    for name in ("evil_gateway", "evil_stock"):
        if name in request.fixturenames:
            request.getfixturevalue(name).reset()
