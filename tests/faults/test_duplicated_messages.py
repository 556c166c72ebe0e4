"""Messages that arrive twice, in both directions: a link drops them, a request runs once."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from tests.faults.bare_link import bare_link, remote_kernel
from tests.integration.stock_front_end import joined_stock_front_end

from clouditia.protocol import frames
from clouditia.settings import Target, load_target
from clouditia.testing.chaos import HEALTHY, ChaosProxy, NumberedLines
from clouditia.testing.targets import LoggedInTarget

pytestmark = pytest.mark.faults

LINES = NumberedLines(2000, display=True, state="comm")


def behind(target: Target, proxy: ChaosProxy) -> Target:
    return replace(target, url=f"http://{proxy.host}:{proxy.port}")


def carries_data(payload: bytes) -> bool:
    """No handshake: those never come twice on one connection."""
    return payload[:1] not in (bytes([frames.HELLO]), bytes([frames.WELCOME]))


def test_a_link_takes_each_message_once(module_target: LoggedInTarget) -> None:
    target = load_target(module_target.name)
    address = urlsplit(target.url)
    with (
        remote_kernel(target) as kernel_id,
        ChaosProxy(str(address.hostname), int(address.port or 0)) as proxy,
    ):
        proxy.duplicate(where=carries_data)
        with bare_link(behind(target, proxy), kernel_id) as link:
            assert link.run("ran = globals().get('ran', 0) + 1\nprint(ran)") == "1\n"
            msg_id = link.execute(LINES.code)
            link.wait_done(msg_id)
            assert link.judge(LINES, msg_id).verdict() == HEALTHY
            assert link.run("print(ran)") == "1\n"
            assert len(link.ups) == 1
            assert link.downs == []


def test_a_request_of_a_stock_client_that_arrives_twice_runs_once(
    module_target: LoggedInTarget,
) -> None:
    target = load_target(module_target.name)
    address = urlsplit(target.url)
    with (
        remote_kernel(target) as kernel_id,
        ChaosProxy(str(address.hostname), int(address.port or 0)) as proxy,
    ):
        proxy.duplicate(direction="up")
        with joined_stock_front_end(behind(target, proxy), kernel_id) as client:
            for run in range(1, 21):
                ran = client.run("ran = globals().get('ran', 0) + 1\nprint(ran)")
                assert ran.text() == f"{run}\n"
            replies = [each for each in client.seen if each.msg_type == "execute_reply"]
            assert len(replies) == 20
