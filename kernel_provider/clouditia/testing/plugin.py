"""The pytest plugin: fixtures around a real gateway in another process.

Loaded by every pytest run in an environment where Clouditia is installed, so nothing heavy is
imported before a fixture is used.

``clouditia_home``, ``gateway`` and ``target`` are made for one test. ``module_home``,
``module_gateway`` and ``module_target`` are shared by the tests of one file, for tests that only
use the gateway and do not break it. A test takes one set or the other, not both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from clouditia.testing.gateway_process import GatewayProcess
    from clouditia.testing.home import IsolatedHome
    from clouditia.testing.targets import LoggedInTarget


@pytest.fixture
def clouditia_home() -> Iterator[IsolatedHome]:
    """An empty home directory that this process and its children take for the user's."""
    from clouditia.testing.home import isolated_home

    with isolated_home() as home:
        yield home


@pytest.fixture
def gateway(clouditia_home: IsolatedHome) -> Iterator[GatewayProcess]:
    """A running gateway; drained at the end, with a check that no process is left."""
    yield from _running_gateway(clouditia_home)


@pytest.fixture
def target(gateway: GatewayProcess) -> LoggedInTarget:
    """The user ``ada``, logged in to ``gateway`` as target ``lab``, with kernelspecs."""
    from clouditia.testing.targets import log_in

    return log_in(gateway)


@pytest.fixture(scope="module")
def module_home() -> Iterator[IsolatedHome]:
    """``clouditia_home`` for all tests of a file."""
    from clouditia.testing.home import isolated_home

    with isolated_home() as home:
        yield home


@pytest.fixture(scope="module")
def module_gateway(module_home: IsolatedHome) -> Iterator[GatewayProcess]:
    """``gateway`` for all tests of a file."""
    yield from _running_gateway(module_home)


@pytest.fixture(scope="module")
def module_target(module_gateway: GatewayProcess) -> LoggedInTarget:
    """``target`` for all tests of a file."""
    from clouditia.testing.targets import log_in

    return log_in(module_gateway)


def _running_gateway(home: IsolatedHome) -> Iterator[GatewayProcess]:
    from clouditia.testing.gateway_process import GatewayProcess

    with GatewayProcess(home) as running:
        yield running
