"""Much output and large messages, through every part there is: complete, in order, byte-equal."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.integration.front_end import FrontEnd, connected, started
from tests.integration.stock_front_end import stock_front_end

from clouditia.settings import load_target
from clouditia.testing.chaos import HEALTHY, LineOracle
from clouditia.testing.targets import LoggedInTarget

LARGE_BYTES = 12 * 1000 * 1000
HUGE_BYTES = 100 * 1000 * 1000
OVER_BYTES = 257 * 2**20
WIDE_LINES, WIDE_LINE_BYTES = 80_000, 100

#: Answers each message on the comm with the hash and the content of its buffer.
ECHO = """
import hashlib
def opened(comm, message):
    @comm.on_msg
    def echo(message):
        buffer = bytes(message["buffers"][0])
        comm.send({"sha256": hashlib.sha256(buffer).hexdigest()}, buffers=[buffer])
get_ipython().kernel.comm_manager.register_target("echo", opened)
"""


@contextmanager
def bridged(target: LoggedInTarget) -> Iterator[FrontEnd]:
    with started(target.kernel_name()) as manager, connected(manager) as front_end:
        yield front_end


@contextmanager
def stock(target: LoggedInTarget) -> Iterator[FrontEnd]:
    with stock_front_end(load_target(target.name)) as front_end:
        yield front_end


FORMS = {"bridge": bridged, "stock": stock}


@pytest.fixture(scope="module", params=FORMS)
def front_end(module_target: LoggedInTarget, request: pytest.FixtureRequest) -> Iterator[FrontEnd]:
    """One kernel for the tests of one way to it."""
    with FORMS[request.param](module_target) as opened:
        yield opened


def large_text() -> str:
    """The same in every process, and nothing that compresses well."""
    return random.Random(7).randbytes(LARGE_BYTES // 2).hex()


def test_100_000_printed_lines_arrive_complete_and_in_order(front_end: FrontEnd) -> None:
    oracle = LineOracle(100_000)
    ran = front_end.run(oracle.code(oracle.count))
    for each in (*ran.outputs, ran.reply):
        oracle.feed(each.message)
    assert oracle.verdict() == HEALTHY


def test_80_000_lines_of_100_bytes_arrive_byte_for_byte(front_end: FrontEnd) -> None:
    width = WIDE_LINE_BYTES - 1
    ran = front_end.run(f"for i in range({WIDE_LINES}): print(f'{{i:0{width}d}}')")
    expected = "".join(f"{i:0{width}d}\n" for i in range(WIDE_LINES))
    assert len(expected) == WIDE_LINES * WIDE_LINE_BYTES
    assert ran.text() == expected, "the text differs (too long to show)"


def test_a_display_of_12_mb_arrives_byte_for_byte(front_end: FrontEnd) -> None:
    code = (
        "import random\n"
        f"text = random.Random(7).randbytes({LARGE_BYTES // 2}).hex()\n"
        "display({'text/plain': text}, raw=True)"
    )
    (shown,) = front_end.run(code).of("display_data")
    is_equal = shown["data"]["text/plain"] == large_text()
    assert is_equal


def test_a_request_of_12_mb_arrives_byte_for_byte(front_end: FrontEnd) -> None:
    text = large_text()
    # Not as code: IPython alone would take seconds to cut that into tokens.
    expression = f"__import__('hashlib').sha256('{text}'.encode()).hexdigest()"
    content = {"code": "", "silent": False, "user_expressions": {"sha256": expression}}
    evaluated = front_end.ask("execute_request", content)["user_expressions"]["sha256"]
    assert evaluated["status"] == "ok"
    digest = evaluated["data"]["text/plain"].strip("'")
    assert digest == hashlib.sha256(text.encode()).hexdigest()


def test_a_comm_buffer_of_100_mb_arrives_byte_for_byte_both_ways(front_end: FrontEnd) -> None:
    front_end.run(ECHO)
    sent = random.Random(8).randbytes(HUGE_BYTES)
    front_end.send("comm_open", {"comm_id": "c", "target_name": "echo", "data": {}})
    msg_id = front_end.send("comm_msg", {"comm_id": "c", "data": {}}, buffers=(sent,))
    came = front_end.wait(
        lambda each: each.parent == msg_id and each.msg_type == "comm_msg", "an echo"
    )
    assert came.content["data"]["sha256"] == hashlib.sha256(sent).hexdigest()
    (back,) = came.buffers
    is_equal = back == sent
    assert is_equal


@pytest.mark.slow
def test_messages_over_256_mib_are_refused_with_the_limit_and_the_link_stays(
    module_target: LoggedInTarget,
) -> None:
    with bridged(module_target) as front_end:
        ran = front_end.run(
            f"print('kept')\ndisplay({{'text/plain': 'x' * {OVER_BYTES}}}, raw=True)"
        )
        assert "the limit is 268402560 bytes" in ran.text(
            "stderr"
        )  # 256 MiB less the frame's own offsets
        content = {"code": "", "silent": False, "user_expressions": {"a": "1" * OVER_BYTES}}
        reply = front_end.ask("execute_request", content)
        assert reply["status"] == "error"
        assert "at most 268435456 bytes" in reply["evalue"]
        assert front_end.run("print('alive')").text() == "alive\n"
