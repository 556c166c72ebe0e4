"""What may change or differ behind the URL of a stock server, and what is then said."""

from __future__ import annotations

import json
import signal
from urllib.parse import urlsplit

import pytest
from tests.integration.front_end import connected, started
from tests.peers.enterprise_gateway import IPYKERNEL_7, PlainServer, enterprise_gateway
from tests.peers.plain_targets import PlainTarget, command, log_in

from clouditia.errors import ConfigError, PermissionDeniedError
from clouditia.rest import GatewayClient
from clouditia.settings import load_target
from clouditia.testing.chaos import ChaosProxy
from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.home import IsolatedHome
from clouditia.testing.targets import log_in as log_in_to_gateway

REMOTE_NAMES = {"stock": "python3", "eg": IPYKERNEL_7}


def test_a_gateway_replaced_by_a_stock_server_is_an_error_and_no_downgrade(
    module_home: IsolatedHome, eg: PlainServer
) -> None:
    with GatewayProcess(module_home) as gateway:
        parts = urlsplit(gateway.url)
        assert parts.hostname is not None
        assert parts.port is not None
        with ChaosProxy(parts.hostname, parts.port) as proxy:
            url = f"http://{proxy.host}:{proxy.port}"
            target = log_in_to_gateway(gateway, name="replaced", url=url)
            proxy.target = ("127.0.0.1", eg.port)
            done = command(module_home, "kernels", "list", "--target", "replaced")
            assert done.code == 2
            assert "is not the Clouditia gateway that it was at login" in done.err
            with pytest.raises(ConfigError), started(target.kernel_name()):
                pass
            assert eg.kernel_ids == []
            assert load_target("replaced").kind == "clouditia"


def test_a_gateways_key_is_not_sent_to_a_stock_server(
    module_home: IsolatedHome, eg: PlainServer
) -> None:
    done = log_in(module_home, eg.url, "mixed-up", "ck_made_up_for_this_test")
    assert done.code == 2
    assert "it was not sent" in done.err


def test_a_server_that_lists_no_kernels_below_a_prefix_serves_them_all_the_same(
    module_home: IsolatedHome,
) -> None:
    with enterprise_gateway(module_home, list_kernels=False, base_url="/team/eg") as server:
        done = log_in(module_home, server.url, "unlisted", server.token)
        assert done.code == 0, done.err
        listing = command(module_home, "kernels", "list", "--target", "unlisted")
        assert listing.code == 4
        assert "list_kernels" in listing.err
        name = f"clouditia-unlisted-{IPYKERNEL_7}"
        with started(name) as manager, connected(manager) as front_end:
            assert front_end.run("print(6 * 7)").text() == "42\n"


def test_what_a_server_refuses_is_said_in_its_own_words(module_home: IsolatedHome) -> None:
    with enterprise_gateway(module_home, environment={"EG_MAX_KERNELS": "0"}) as server:
        assert log_in(module_home, server.url, "full", server.token).code == 0
        refused = pytest.raises(PermissionDeniedError, match="Resource Limit")
        with refused, started(f"clouditia-full-{IPYKERNEL_7}"):
            pass


def test_sigterm_to_the_bridge_ends_the_kernel_for_front_ends_without_provisioners(
    target: PlainTarget,
) -> None:
    written = command(
        target.home, "kernelspec", "sync", "--target", target.name, "--no-provisioner"
    )
    assert written.code == 0, written.err
    with started(target.kernel_name(REMOTE_NAMES[target.name])) as manager:
        with connected(manager) as front_end:
            assert front_end.run("print('raw')").text() == "raw\n"
        (kernel_id,) = target.server.kernel_ids
        manager.signal_kernel(signal.SIGTERM)
        target.wait_until_gone(kernel_id)


def test_the_doctor_finds_nothing_wrong_with_a_stock_server(
    eg_target: PlainTarget, stock_target: PlainTarget
) -> None:
    # The stock server runs in the same home, so it lists our kernelspecs among its own.
    for target in (eg_target, stock_target):
        synced = command(target.home, "kernelspec", "sync", "--target", target.name)
        assert (synced.code, f"{target.name}-clouditia-" in synced.out + synced.err) == (0, False)
    done = command(eg_target.home, "doctor", "--json")
    found = {each["subject"]: each for each in json.loads(done.out)}
    for target in (eg_target, stock_target):
        finding = found[f"target {target.name}"]
        assert finding["status"] == "ok"
        assert GatewayClient(load_target(target.name)).stock_version() in str(finding)
        assert f"target {target.name}, kernelspecs" not in found
