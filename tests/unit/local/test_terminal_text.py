"""What other machines say cannot give orders to the user's terminal."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clouditia.terminal_text import TerminalFilter, json_for_terminal, visible

ORDERS = {
    "title": "\x1b]0;owned\x07",
    "clipboard": "\x1b]52;c;ZXZpbA==\x1b\\",
    "device status": "\x1b[6n",
    "identify": "\x1b[c",
    "reset": "\x1bc",
    "dcs": "\x1bP$q q\x1b\\",
    "apc": "\x1b_G a=T\x1b\\",
    "window": "\x1b[8;1;1t",
    "mouse": "\x1b[?1000h",
    "alternate screen": "\x1b[?1049h",
    "charset": "\x1b(0",
    "c1 csi": "\x9b6n",
    "c1 osc": "\x9d0;x\x9c",
    "bell": "\x07",
    "half": "\x1b[31",
}
NEEDED = [
    "plain\n",
    "\x1b[1;31mred\x1b[0m",
    "\x1b[38;2;1;2;3mtrue colour",
    "50%|#####     |\r60%|######    |",
    "\x1b[2K\r\x1b[A",
    "\x1b[?25l\x1b[?25h",
    "a\tb\bc",
    "ünïcödé 你好 🎉",
]
PIECE = st.one_of(st.sampled_from([*ORDERS.values(), *NEEDED, "\x1b", "]", "[", "\x9b"]), st.text())


@pytest.mark.parametrize("text", NEEDED)
def test_what_cells_need_passes(text: str) -> None:
    assert TerminalFilter().feed(text) == text


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_orders_do_not_pass_whole_or_in_pieces(order: str) -> None:
    left = "" if order[0] != "\x9b" and order[0] != "\x9d" else order[1:].replace("\x9c", "")
    whole = TerminalFilter().feed(f"a{order}b")
    assert whole.startswith("a")
    assert "\x1b" not in whole
    assert whole.replace(left, "") in ("ab", "a")
    pieces = TerminalFilter()
    assert "".join(pieces.feed(character) for character in f"a{order}b") == whole


@given(st.lists(PIECE, max_size=8))
def test_nothing_but_colours_and_movements_ever_comes_out(pieces: list[str]) -> None:
    one = TerminalFilter()
    out = "".join(one.feed(piece) for piece in pieces)
    rest = re.sub(r"\x1b\[([0-9;:]*[mKJABCDEFGH]|\?25[hl])", "", out)
    assert not re.search(r"[\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f]", rest)


def test_a_sequence_without_an_end_holds_back_a_bounded_part() -> None:
    one = TerminalFilter()
    for _ in range(50):
        one.feed("\x1b]" + "x" * 1000)
    assert len(one._held) < 5000
    assert one.feed("\nvisible again\n").endswith("visible again\n")


def test_names_are_shown_and_not_obeyed() -> None:
    assert visible("a\x1b[31m\n\x9b\u202e") == "a\\x1b[31m\\x0a\\x9b\\u202e"
    assert visible("one\ntwo", keep_lines=True) == "one\ntwo"
    assert visible("x" * 100, limit=10) == "x" * 9 + "…"
    assert visible(None) == "None"


def test_json_says_the_same_without_obeyed_characters() -> None:
    import json

    value = {"a": "\x9b6n\u202e ü"}
    shown = json_for_terminal(json.dumps(value, ensure_ascii=False, indent=1))
    assert json.loads(shown) == value
    assert "\x9b" not in shown
    assert "ü" in shown
