from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.unit.gateway.stubs import ADA, BOB, ROOT, Site

from clouditia.errors import (
    AuthenticationError,
    ConfigError,
    GatewayUnreachable,
    KernelDied,
    KernelNotFound,
    PathNotAllowed,
    QuotaError,
    SessionError,
)
from clouditia.testing.waiting import wait_until_async
from clouditia_gateway.errors import DrainingError, NotFoundError, StaleHostError
from clouditia_gateway.records import HostState


def with_site(
    tmp_path: Path, scenario: Callable[[Site], Coroutine[Any, Any, None]], **options: Any
) -> None:
    async def run() -> None:
        site = Site(tmp_path, **options)
        try:
            await scenario(site)
        finally:
            await site.aclose()

    asyncio.run(run())


def launch_file(site: Site, number: int = -1) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(
        (site.engine.launched[number].directory / "launch.json").read_text()
    )
    return content


def test_a_kernel_is_recorded_and_described_before_its_host_starts(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        (site.root / "work").mkdir()
        record = await site.registry.start_kernel(
            ADA, env={"FOO": "bar", "LD_PRELOAD": "evil"}, path="work/nb.ipynb"
        )
        launch = launch_file(site)
        assert launch["kernel_id"] == record.kernel_id
        assert launch["cwd"] == str(site.root / "work")
        assert "{connection_file}" in launch["argv"]
        assert launch["env"]["FOO"] == "bar"
        assert launch["env"]["JPY_SESSION_NAME"] == "work/nb.ipynb"
        assert "canary" not in json.dumps(launch)
        assert "evil" not in json.dumps(launch)
        assert hashlib.sha256(launch["token"].encode()).hexdigest() == record.token_sha256
        assert (Path(record.directory) / "launch.json").stat().st_mode & 0o777 == 0o600
        assert "AWS_SECRET" not in site.engine.launched[0].environment
        model = site.registry.model(record)
        assert model["execution_state"] == "starting"
        assert model["clouditia"]["ignored_env"] == ["LD_PRELOAD"]

    with_site(tmp_path, scenario)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"name": "no-such"}, NotFoundError),
        ({"name": "../python3"}, NotFoundError),
        ({"path": "../x"}, PathNotAllowed),
        ({"kernel_id": "x"}, ConfigError),
        ({"kernel_id": str(uuid.uuid4()).upper()}, ConfigError),
    ],
)
def test_a_refused_start_leaves_nothing_behind(
    tmp_path: Path, options: dict[str, str], error: type[Exception]
) -> None:
    async def scenario(site: Site) -> None:
        with pytest.raises(error):
            await site.registry.start_kernel(ADA, **options)  # type: ignore[arg-type]  # all strings
        assert_nothing_left(site)

    with_site(tmp_path, scenario)


def test_an_unknown_kernelspec_is_answered_with_those_there_are(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        with pytest.raises(NotFoundError, match=r"'no-such'; it has: .*python3"):
            await site.registry.start_kernel(ADA, name="no-such")

    with_site(tmp_path, scenario)


def test_an_engine_that_refuses_leaves_nothing_behind(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        site.engine.refuses = SessionError("no room")
        with pytest.raises(SessionError, match="no room"):
            await site.registry.start_kernel(ADA)
        assert_nothing_left(site)

    with_site(tmp_path, scenario)


def assert_nothing_left(site: Site) -> None:
    assert site.store.kernels() == []
    assert list(site.state.kernels.iterdir()) == []
    assert site.registry.live_count == 0
    assert site.engine.alive == set()


def test_other_peoples_kernels_do_not_exist(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        record = await site.start()
        registry, kernel_id = site.registry, record.kernel_id
        assert registry.list_kernels(BOB) == []
        for attempt in (registry.interrupt, registry.restart, registry.shutdown):
            with pytest.raises(KernelNotFound):
                await attempt(kernel_id, BOB)
        with pytest.raises(KernelNotFound):
            registry.get_kernel(kernel_id, BOB)
        with pytest.raises(KernelNotFound):
            await registry.start_kernel(BOB, kernel_id=kernel_id)
        assert site.hub.requests == []
        assert [found.kernel_id for found in registry.list_kernels(ROOT)] == [kernel_id]

    with_site(tmp_path, scenario)


def test_a_foreign_kernel_is_refused_in_the_same_words_as_an_absent_one(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        foreign, absent = (await site.start()).kernel_id, str(uuid.uuid4())
        words = []
        for kernel_id in (foreign, absent):
            with pytest.raises(KernelNotFound) as refused:
                site.registry.get_kernel(kernel_id, BOB)
            words.append(str(refused.value).replace(kernel_id, "ID"))
        assert words[0] == words[1]

    with_site(tmp_path, scenario)


def test_a_repeated_start_with_the_same_id_launches_once(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        kernel_id = str(uuid.uuid4())
        first = await site.registry.start_kernel(ADA, kernel_id=kernel_id)
        second = await site.registry.start_kernel(ADA, kernel_id=kernel_id)
        assert first == second
        assert len(site.engine.launched) == 1

    with_site(tmp_path, scenario)


def test_the_limit_of_kernels_is_per_user_and_says_its_number(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        first = await site.start()
        await site.start()
        with pytest.raises(QuotaError, match="ada has 2 kernels, at most 2"):
            await site.registry.start_kernel(ADA)
        await site.registry.start_kernel(BOB)
        await site.registry.shutdown(first.kernel_id, ADA)
        await site.start()

    with_site(tmp_path, scenario, kernels_per_user=2)


def test_host_tokens_are_right_old_or_wrong(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        site.hub.connects_at_once = site.registry
        record = await site.registry.start_kernel(ADA)
        old = launch_file(site)["token"]
        assert site.registry.authenticate_host(record.kernel_id, old).fence == 1
        site.engine.alive.clear()
        record = await site.registry.ensure_host(record)
        new = launch_file(site)["token"]
        assert (record.fence, launch_file(site)["fence"]) == (2, 2)
        assert site.registry.authenticate_host(record.kernel_id, new) == record
        with pytest.raises(StaleHostError, match=r"host 1 .* replaced by host 2"):
            site.registry.authenticate_host(record.kernel_id, old)
        with pytest.raises(AuthenticationError):
            site.registry.authenticate_host(record.kernel_id, "guess")
        with pytest.raises(KernelNotFound):
            site.registry.authenticate_host(str(uuid.uuid4()), new)

    with_site(tmp_path, scenario)


def test_a_token_of_one_kernel_does_not_open_another(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        await site.start()
        other = await site.registry.start_kernel(ADA)
        with pytest.raises(AuthenticationError):
            site.registry.authenticate_host(other.kernel_id, launch_file(site, 0)["token"])

    with_site(tmp_path, scenario)


def test_an_unreachable_kernel_is_busy_not_dead(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        record = await site.start()
        assert site.registry.model(record)["execution_state"] == "idle"
        site.hub.disconnect(site.registry, record)
        model = site.registry.model(record)
        assert model["execution_state"] == "busy"
        assert model["clouditia"]["reachable"] is False
        with pytest.raises(GatewayUnreachable):
            await site.registry.interrupt(record.kernel_id, ADA)

    with_site(tmp_path, scenario)


def test_a_dead_host_is_found_and_its_kernel_shown_dead_with_the_cause(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        await site.registry.start()
        record = await site.start()
        site.engine.alive.clear()
        site.hub.disconnect(site.registry, record)
        await wait_until_async(lambda: site.registry.model(record)["execution_state"] == "dead", 5)
        assert site.registry.model(record)["clouditia"]["reason"] == "the kernel host died"
        assert site.engine.stopped == [Path(record.directory).name]

    with_site(tmp_path, scenario)


def test_the_next_gateway_adopts_living_kernels_and_finds_dead_ones(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        living, dead, ended = [await site.start() for _ in range(3)]
        site.engine.alive.discard(Path(dead.directory).name)
        site.store.end_kernel(ended.kernel_id, "2026-01-01T00:00:00Z")
        await site.registry.aclose()
        site.store.close()

        site.open()
        await site.registry.start()
        assert site.registry.model(living)["execution_state"] == "busy"
        assert site.registry.model(dead)["execution_state"] == "dead"
        site.hub.connect(site.registry, living, execution_state="idle")
        assert site.registry.model(living)["execution_state"] == "idle"
        site.hub.connect(site.registry, ended)  # its host dials in and hears what was decided
        await wait_until_async(lambda: site.store.kernel(ended.kernel_id) is None, 5)
        assert "shutdown" in [method for _, method in site.hub.requests]
        assert not Path(ended.directory).exists()

    with_site(tmp_path, scenario)


def test_shutting_down_asks_the_host_and_removes_the_directory(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        record = await site.start()
        await site.registry.shutdown(record.kernel_id, ADA)
        assert site.hub.requests == [(record.kernel_id, "shutdown")]
        assert not Path(record.directory).exists()
        assert site.store.kernels() == []
        with pytest.raises(KernelNotFound):
            site.registry.get_kernel(record.kernel_id, ADA)
        with pytest.raises(KernelNotFound):  # so that its host, if any, ends itself
            site.registry.authenticate_host(record.kernel_id, launch_file_token(site))

    with_site(tmp_path, scenario)


def launch_file_token(site: Site) -> str:
    return "token of " + site.engine.launched[-1].kernel_id


@pytest.mark.parametrize("is_told_at_once", [True, False])
def test_a_kernel_that_a_client_has_shut_down_ends_without_a_delete(
    tmp_path: Path, is_told_at_once: bool
) -> None:
    async def scenario(site: Site) -> None:
        record = await site.start()
        site.engine.alive.clear()  # the host leaves right after it has said so
        ended = HostState(epoch=1, execution_state="dead", reason="ended")
        tell = site.registry.state_changed if is_told_at_once else site.registry.host_connected
        tell(record.kernel_id, ended)
        assert site.registry.list_kernels(ADA) == []
        await wait_until_async(lambda: site.registry.live_count == 0, 5)
        assert_nothing_left(site)
        assert not Path(record.directory).exists()

    with_site(tmp_path, scenario)


def test_a_crashed_kernel_stays_for_its_restart(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        record = await site.start()
        crashed = HostState(epoch=1, execution_state="dead", reason="killed by SIGKILL")
        site.registry.state_changed(record.kernel_id, crashed)
        assert site.registry.list_kernels(ADA) == [record]
        assert site.registry.model(record)["execution_state"] == "dead"

    with_site(tmp_path, scenario)


def test_a_shutdown_is_decided_at_once_even_when_the_host_is_away(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        record = await site.registry.start_kernel(ADA)  # it has not dialled in
        await site.registry.shutdown(record.kernel_id, ADA)
        assert site.registry.list_kernels(ADA) == []
        await wait_until_async(lambda: site.store.kernels() == [], 10)
        assert Path(record.directory).name in site.engine.stopped  # it did not answer: killed

    with_site(tmp_path, scenario)


def test_a_host_that_ends_by_itself_while_it_is_awaited_is_not_awaited_any_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(site: Site) -> None:
        record = await site.registry.start_kernel(ADA)

        async def not_soon(kernel_id: str, timeout_s: float) -> None:
            site.engine.alive.clear()  # it said that the kernel has ended, and left
            await asyncio.sleep(timeout_s)

        monkeypatch.setattr(site.hub, "wait_connected", not_soon)
        ended = HostState(epoch=1, execution_state="dead", reason="ended")
        site.registry.state_changed(record.kernel_id, ended)
        await wait_until_async(lambda: site.store.kernels() == [], 5)
        assert not Path(record.directory).exists()

    with_site(tmp_path, scenario)


def test_a_kernel_whose_launch_file_is_lost_cannot_be_served_again(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        record = await site.registry.start_kernel(ADA)
        (Path(record.directory) / "launch.json").unlink()
        site.engine.alive.clear()
        with pytest.raises(KernelDied, match="cannot be served again"):
            await site.registry.ensure_host(record)

    with_site(tmp_path, scenario)


def test_many_clients_of_a_dead_host_launch_one_new_host(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        record = await site.registry.start_kernel(ADA)
        site.engine.alive.clear()
        site.hub.connects_at_once = site.registry
        found = await asyncio.gather(*(site.registry.ensure_host(record) for _ in range(5)))
        assert len(site.engine.launched) == 2
        assert {one.kernel_id for one in found} == {record.kernel_id}

    with_site(tmp_path, scenario)


def test_a_restart_of_a_kernel_with_a_dead_host_launches_one(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        record = await site.start()
        site.engine.alive.clear()
        site.hub.disconnect(site.registry, record)
        site.hub.connects_at_once = site.registry
        assert (await site.registry.restart(record.kernel_id, ADA)).fence == 2
        assert site.hub.requests == [(record.kernel_id, "restart")]

    with_site(tmp_path, scenario)


def test_draining_ends_everybodys_kernels_and_takes_no_new_ones(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        await site.start()
        bobs = await site.registry.start_kernel(BOB)
        site.hub.connect(site.registry, bobs)
        assert await site.registry.drain() == 2
        assert_nothing_left(site)
        with pytest.raises(DrainingError):
            await site.registry.start_kernel(ADA)

    with_site(tmp_path, scenario)


def test_a_state_from_the_wire_keeps_only_fields_of_the_right_type() -> None:
    state = HostState.from_wire(
        {"epoch": "2", "execution_state": "idle", "connections": True, "exit": [], "pid": 7, "x": 1}
    )
    assert state == HostState(execution_state="idle", pid=7)
