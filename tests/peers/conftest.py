"""The stock servers that the tests of one file share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.front_end import FrontEnd, connected, started
from tests.peers.enterprise_gateway import (
    IPYKERNEL_6,
    IPYKERNEL_7,
    NO_PORTS,
    PlainServer,
    enterprise_gateway,
)
from tests.peers.plain_targets import PlainTarget, RemoteKernel, plain_target

from clouditia.testing.home import IsolatedHome
from clouditia.testing.jupyter_server import jupyter_server

#: Target and kernelspec of each kind of remote kernel.
REMOTES = {
    "jupyter_server 2": ("stock_target", "python3"),
    "EG and ipykernel 6": ("eg_target", IPYKERNEL_6),
    "EG and ipykernel 7": ("eg_target", IPYKERNEL_7),
}
TARGETS = {"jupyter_server 2": "stock_target", "Enterprise Gateway": "eg_target"}


@pytest.fixture(scope="module")
def eg(module_home: IsolatedHome) -> Iterator[PlainServer]:
    with enterprise_gateway(module_home) as server:
        yield server


@pytest.fixture(scope="module")
def stock(module_home: IsolatedHome) -> Iterator[PlainServer]:
    with jupyter_server(module_home, NO_PORTS) as server:
        yield PlainServer(server.url, server.token, module_home.directory)


@pytest.fixture(scope="module")
def eg_target(module_home: IsolatedHome, eg: PlainServer) -> Iterator[PlainTarget]:
    with plain_target(module_home, "eg", eg) as target:
        yield target


@pytest.fixture(scope="module")
def stock_target(module_home: IsolatedHome, stock: PlainServer) -> Iterator[PlainTarget]:
    with plain_target(module_home, "stock", stock) as target:
        yield target


@pytest.fixture(scope="module", params=TARGETS.values(), ids=list(TARGETS))
def target(request: pytest.FixtureRequest) -> PlainTarget:
    """Each kind of server in turn."""
    found: PlainTarget = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module", params=REMOTES.values(), ids=list(REMOTES))
def remote(request: pytest.FixtureRequest) -> RemoteKernel:
    """Each kind of remote kernel in turn."""
    target, kernel_name = request.param
    return RemoteKernel(request.getfixturevalue(target), kernel_name)


@pytest.fixture(scope="module")
def manager(remote: RemoteKernel) -> Iterator[Any]:
    """A running kernel of that kind; a test that ends its process leaves a fresh one behind."""
    with started(remote.name) as running:
        yield running


@pytest.fixture
def front_end(manager: Any) -> Iterator[FrontEnd]:
    with connected(manager) as connection:
        yield connection
