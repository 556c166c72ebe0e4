"""What operators may set and owners ask for, and what is told about kernels that a limit ended."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.unit.gateway.stubs import ADA, BOB, ROOT, Site

from clouditia.errors import ConfigError, KernelNotFound
from clouditia_gateway.config import GatewayConfig
from clouditia_gateway.endings import recent
from clouditia_gateway.extension import ClouditiaGateway
from clouditia_gateway.host.lifespan import Policy
from clouditia_gateway.life_limits import sentence, wanted_ttl
from clouditia_gateway.records import HostState

DAY = 86400.0


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (Policy(cull_idle_timeout_s=-1), "--cull-idle-timeout must be at least 0 s, got -1"),
        (Policy(detached_ttl_s=9, max_detached_ttl_s=8), "--detached-ttl 9 is above"),
    ],
)
def test_limits_that_cannot_work_are_refused(tmp_path: Path, policy: Policy, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        GatewayConfig(tmp_path, limits=policy)


def test_the_limit_comes_from_the_request_then_from_the_kernelspec() -> None:
    metadata = {"clouditia": {"detached_ttl": 60}}
    assert wanted_ttl({}, {}, Policy()) == 0
    assert wanted_ttl({}, metadata, Policy()) == 60
    assert wanted_ttl({"KERNEL_DETACHED_TTL": "90.5"}, metadata, Policy()) == 90.5


@pytest.mark.parametrize("value", ["", "x", "0", "-3", "nan", "inf"])
def test_a_limit_that_is_no_time_is_refused(value: str) -> None:
    if not value:
        assert wanted_ttl({"KERNEL_DETACHED_TTL": value}, {}, Policy()) == 0
        return
    with pytest.raises(ConfigError, match="number of seconds above 0"):
        wanted_ttl({"KERNEL_DETACHED_TTL": value}, {}, Policy())


def test_more_than_the_gateway_allows_is_refused_with_both_numbers() -> None:
    with pytest.raises(ConfigError, match=r"is 90000 s, this gateway allows at most 86400 s"):
        wanted_ttl({"KERNEL_DETACHED_TTL": "90000"}, {}, Policy(max_detached_ttl_s=DAY))


def test_a_gateway_says_what_it_ends_in_a_sentence() -> None:
    assert sentence(Policy()) == ""
    both = sentence(Policy(cull_idle_timeout_s=7200, detached_ttl_s=7 * DAY))
    assert both == (
        "this gateway ends kernels that have had no work and no client for 2 h (cull_idle_timeout) "
        "or have had no work and no client for 7 days (detached_ttl)"
    )
    assert "no client" not in sentence(Policy(60, cull_connected=True))


def test_the_names_of_stock_servers_are_understood() -> None:
    app = ClouditiaGateway()
    app.parse_command_line(
        [
            "--MappingKernelManager.cull_idle_timeout=60",
            "--MappingKernelManager.cull_connected=True",
            "--MappingKernelManager.cull_busy=False",
            "--ClouditiaGateway.max_detached_ttl=90",
        ]
    )
    assert app.gateway_config().limits == Policy(60, True, 0, 90)


def test_a_busy_kernel_cannot_be_culled() -> None:
    app = ClouditiaGateway()
    app.parse_command_line(["--MappingKernelManager.cull_busy=True"])
    with pytest.raises(ConfigError, match="never ended"):
        app.gateway_config()


def test_who_asks_for_a_kernel_that_a_limit_ended_hears_why(tmp_path: Path) -> None:
    async def scenario() -> None:
        site = Site(tmp_path)
        try:
            await check(site)
        finally:
            await site.aclose()

    async def check(site: Site) -> None:
        record, other = await site.start(), await site.start()
        why = "it had no work for a time; the limit is 60 s"
        state: dict[str, Any] = {"execution_state": "dead", "reason": "ended"}
        site.registry.state_changed(record.kernel_id, HostState(**state, ended_because=why))
        await site.registry.shutdown(other.kernel_id, ADA)
        for principal in (ADA, ROOT):
            with pytest.raises(KernelNotFound, match=rf"was ended at .*Z: {why}"):
                site.registry.get_kernel(record.kernel_id, principal)
        with pytest.raises(KernelNotFound, match="there is no kernel"):
            site.registry.get_kernel(record.kernel_id, BOB)
        with pytest.raises(KernelNotFound, match="there is no kernel"):
            site.registry.get_kernel(other.kernel_id, ADA)
        (told,) = recent(site.store, ADA)
        assert (told["id"], told["reason"]) == (record.kernel_id, why)
        assert recent(site.store, BOB) == []

    asyncio.run(scenario())


def test_only_the_last_thousand_are_remembered(tmp_path: Path) -> None:
    async def scenario() -> None:
        site = Site(tmp_path, kernels_per_user=2000)
        try:
            record = await site.start()
            with site.store.transaction():
                for number in range(1003):
                    site.store._db.execute(
                        "INSERT INTO endings VALUES (?, 'ada', 'python3', '', ?, 'x')",
                        (f"k{number}", f"2020-01-01T00:00:{number:04d}"),
                    )
            site.store.end_kernel(record.kernel_id, "2026-01-01T00:00:00", "late")
            kept = site.store.endings("ada", 5000)
            assert (len(kept), kept[0].reason) == (1000, "late")
            assert kept[-1].kernel_id == "k4"
        finally:
            await site.aclose()

    asyncio.run(scenario())
