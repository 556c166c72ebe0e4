"""10,000 messages as fast as the kernel can, again and again: nothing is lost, and each ends.

Messages, not lines: a kernel collects printed lines, so every one of these is a display.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from tests.integration.front_end import FrontEnd, connected, started

from clouditia.testing.targets import LoggedInTarget

pytestmark = pytest.mark.faults

MESSAGES = 10_000
CODE = f"for i in range({MESSAGES}): display({{'text/plain': str(i)}}, raw=True)"


@pytest.fixture(scope="module")
def front_end(module_target: LoggedInTarget) -> Iterator[FrontEnd]:
    with started(module_target.kernel_name()) as manager, connected(manager) as front_end:
        yield front_end


def burst(front_end: FrontEnd) -> None:
    front_end.seen.clear()
    began = time.monotonic()
    ran = front_end.result(front_end.execute(CODE))
    numbers = [int(each["data"]["text/plain"]) for each in ran.of("display_data")]
    print(f"{len(numbers)} messages in {time.monotonic() - began:.1f} s")
    assert numbers == list(range(MESSAGES))
    assert ran.reply.content["status"] == "ok"
    idles = [each for each in ran.outputs if each.is_idle]
    assert len(idles) == 1


def test_a_burst_of_10_000_messages_arrives_whole(front_end: FrontEnd) -> None:
    burst(front_end)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_20_bursts_of_10_000_messages_arrive_whole(front_end: FrontEnd) -> None:
    for _ in range(20):
        burst(front_end)
