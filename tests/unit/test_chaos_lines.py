"""The cell of numbered lines and its oracle: bursts, last display, state of a comm."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from clouditia.testing.chaos import HEALTHY, LineOracle, NumberedLines


def message(msg_type: str, **content: Any) -> dict[str, Any]:
    return {"header": {"msg_type": msg_type}, "content": content}


def stdout(text: str) -> dict[str, Any]:
    return message("stream", name="stdout", text=text)


def display(text: str) -> dict[str, Any]:
    return message("display_data", data={"text/plain": text}, metadata={})


def state(kind: str, value: int) -> dict[str, Any]:
    return message(kind, comm_id="c", data={"method": "update", "state": {"value": value}})


END = [
    message("execute_reply", status="ok"),
    message("status", execution_state="idle"),
]


def verdict_on(lines: NumberedLines, *messages: dict[str, Any]) -> Any:
    oracle = LineOracle(lines)
    for each in (*messages, *END):
        oracle.feed(each)
    return oracle.verdict()


def test_a_cell_with_all_its_parts_is_healthy() -> None:
    lines = NumberedLines(2, display=True, state="comm")
    came = [state("comm_open", 0), stdout("#0\n#1\n"), state("comm_msg", 2), display("#end 2")]
    assert verdict_on(lines, *came) == HEALTHY


@pytest.mark.parametrize(
    "came",
    [
        [state("comm_open", 0), display("#end 2")],
        [state("comm_open", 0), state("comm_msg", 1), display("#end 2")],
        [state("comm_open", 0), state("comm_msg", 2)],
        [state("comm_open", 0), state("comm_msg", 2), display("#end 3")],
    ],
    ids=["no update", "an old state", "no display", "another display"],
)
def test_a_cell_that_did_not_show_its_end_has_lost_its_state(came: list[dict[str, Any]]) -> None:
    lines = NumberedLines(2, display=True, state="comm")
    assert verdict_on(lines, stdout("#0\n#1\n"), *came) == HEALTHY | {"state": False}


def test_a_last_display_that_comes_twice_is_a_repetition() -> None:
    lines = NumberedLines(1, display=True)
    came = [stdout("#0\n"), display("#end 1"), display("#end 1")]
    assert verdict_on(lines, *came) == HEALTHY | {"duplicated": 1}


def test_outputs_of_a_notebook_file_count_too() -> None:
    oracle = LineOracle(NumberedLines(3, display=True))
    oracle.feed_output({"output_type": "stream", "name": "stdout", "text": ["#0\n", "#1\n"]})
    oracle.feed_output({"output_type": "stream", "name": "stderr", "text": "#7\n"})
    oracle.feed_text("#2\n")
    oracle.feed_output({"output_type": "display_data", "data": {"text/plain": "#end 3"}})
    assert (oracle.lost, oracle.duplicated, oracle.state) == (0, 0, True)
    assert str(oracle) == "0 of 3 lost, 0 duplicated, in order, no reply, no idle, state"


def test_the_cell_does_what_it_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    shown: list[Any] = []

    class Comm:
        def __init__(self, target_name: str, data: Any) -> None:
            sent.append((target_name, data))

        def send(self, data: Any) -> None:
            sent.append(data["state"]["value"])

    module = types.ModuleType("comm")
    module.create_comm = Comm  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "comm", module)
    lines = NumberedLines(4, every_s=0.001, burst=2, display=True, state="comm", state_every=2)
    names: dict[str, Any] = {"display": lambda data, *, raw: shown.append((data, raw))}
    exec(lines.code, names)
    assert capsys.readouterr().out == "#0\n#1\n#2\n#3\n"
    assert sent == [("clouditia.chaos", {"state": {"value": 0}}), 2, 4, 4]
    assert shown == [({"text/plain": "#end 4"}, True)]
    exec(lines.probe, names)
    assert capsys.readouterr().out == lines.kept
    exec(lines.probe, {})
    assert capsys.readouterr().out != lines.kept
