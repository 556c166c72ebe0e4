"""The same thing many times over, and many kernels at once: nothing adds up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import psutil
import pytest
from tests.faults.slow_readers import host_of
from tests.integration.front_end import connected, started
from tests.integration.stock_front_end import stock_front_end

from clouditia.rest import GatewayClient
from clouditia.settings import load_target
from clouditia.testing.chaos import ChaosProxy
from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.targets import LoggedInTarget, log_in

#: What the first cycles load is not what each cycle costs, and neither are the newest 4 MB of
#: messages, which the host keeps in memory.
WARM_UP = 200
FILL = "for i in range(8000): print('x' * 600, flush=True)"
KB_A_CYCLE = 1.0
FDS_FLAT = 3
MB_A_KERNEL, FDS_A_KERNEL = 3.0, 8.0
ROUNDS = 5


@pytest.fixture
def proxy(gateway: GatewayProcess) -> Iterator[ChaosProxy]:
    address = urlsplit(gateway.url)
    with ChaosProxy(str(address.hostname), int(address.port or 0)) as proxy:
        yield proxy


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "cycles",
    [pytest.param(200, marks=pytest.mark.slow), pytest.param(2000, marks=pytest.mark.soak)],
)
def test_cells_and_cuts_in_turn_take_no_memory_and_no_descriptor(
    gateway: GatewayProcess, proxy: ChaosProxy, cycles: int
) -> None:
    """Growth of gateway, host and bridge: at most 1 KB a cycle, and no descriptor."""
    target = log_in(gateway, url=f"http://{proxy.host}:{proxy.port}")
    with started(target.kernel_name()) as manager, connected(manager) as front_end:
        (kernel,) = GatewayClient(load_target(target.name)).list_kernels()
        processes = {
            "gateway": psutil.Process(gateway.pid),
            "host": host_of(gateway.state_dir, kernel["id"]),
            "bridge": psutil.Process(manager.provisioner.pid),
        }

        def run(times: int) -> None:
            for number in range(times):
                assert front_end.run(f"print({number})").text() == f"{number}\n"
                front_end.seen.clear()
                proxy.cut_once()
                proxy.wait_connected(60)

        front_end.run(FILL)
        front_end.seen.clear()
        run(WARM_UP)
        before = {name: (_rss_kb(each), each.num_fds()) for name, each in processes.items()}
        run(cycles)
        for name, each in processes.items():
            kb_a_cycle = (_rss_kb(each) - before[name][0]) / cycles
            fds = each.num_fds() - before[name][1]
            print(f"{name}: {kb_a_cycle:+.2f} KB a cycle, {fds:+d} descriptors")
            assert fds <= FDS_FLAT, name
            assert kb_a_cycle <= KB_A_CYCLE, name


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "kernels", [pytest.param(30, marks=pytest.mark.slow), pytest.param(50, marks=pytest.mark.soak)]
)
def test_many_kernels_and_clients_on_one_gateway(target: LoggedInTarget, kernels: int) -> None:
    """Each costs the gateway 3 MB and 8 descriptors at most, and all of them answer."""
    lab, gateway = load_target(target.name), psutil.Process(target.gateway.pid)
    with ExitStack() as stack:
        front_ends = [stack.enter_context(stock_front_end(lab))]
        front_ends[0].run("1+1")
        rss_kb, fds = _rss_kb(gateway), gateway.num_fds()
        for _ in range(kernels):
            front_ends.append(stack.enter_context(stock_front_end(lab)))
            front_ends[-1].run("1+1")
        times = []
        for _ in range(ROUNDS):
            for number, front_end in enumerate(front_ends):
                began = time.monotonic()
                assert front_end.run(f"print({number})").text() == f"{number}\n"
                times.append(time.monotonic() - began)
        mb_each = (_rss_kb(gateway) - rss_kb) / 1000 / kernels
        fds_each = (gateway.num_fds() - fds) / kernels
        p95_ms = sorted(times)[int(len(times) * 0.95)] * 1000
        print(f"{kernels} kernels: {mb_each:.2f} MB, {fds_each:.1f} fds each; p95 {p95_ms:.0f} ms")
        assert mb_each <= MB_A_KERNEL
        assert fds_each <= FDS_A_KERNEL
        assert len(GatewayClient(lab).list_kernels()) == kernels + 1


def _rss_kb(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 1000
