"""Text of other people's machines on the user's terminal.

A terminal obeys what it is sent: escape sequences set titles, write to the clipboard, or make it
type answers. Names and sentences are shown with such characters spelled out. What a cell prints
keeps colours and cursor movements, which progress bars need, and loses everything else.
"""

from __future__ import annotations

import re

__all__ = ["TerminalFilter", "json_for_terminal", "visible"]

MAX_CHARS = 4000
#: Longer sequences are nothing that a terminal needs; what is held back of a stream is bounded.
_MAX_HELD_CHARS = 4096

#: Controls, and characters that turn the direction of the text around them.
_UNSEEN = "\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff"
_SPELLED_OUT = re.compile(f"[{_UNSEEN}]")
_SPELLED_OUT_BUT_LINES = re.compile(f"(?!\n)[{_UNSEEN}]")
_KEPT_CSI = re.compile(r"\x1b\[(?:[0-9;:]{0,40}[mKJABCDEFGH]|\?25[hl])")
_SEQUENCE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI
    r"|\x1b[\]PX^_][^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c|(?=\n))"  # OSC, DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-~]"  # all others
    r"|[\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f]"
)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b\x9c\n]*\x1b?|[ -/]*)\Z")


def visible(text: object, *, limit: int = MAX_CHARS, keep_lines: bool = False) -> str:
    """``text`` with everything spelled out that a terminal would obey, and cut at a limit.

    Args:
        text: A name or a sentence from elsewhere.
        limit: Characters that are kept.
        keep_lines: Whether line ends stay what they are.
    """
    shown = str(text)
    if len(shown) > limit:
        shown = shown[: limit - 1] + "…"
    return (_SPELLED_OUT_BUT_LINES if keep_lines else _SPELLED_OUT).sub(_spell, shown)


def json_for_terminal(text: str) -> str:
    """JSON that says the same without characters that a terminal obeys."""
    return _SPELLED_OUT_BUT_LINES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _spell(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


class TerminalFilter:
    """Passes what a cell prints, piece by piece, wherever sequences are cut."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """What may be written now; an unfinished sequence waits for the next piece."""
        text = self._held + text
        self._held = ""
        unfinished = _UNFINISHED.search(text, max(0, len(text) - _MAX_HELD_CHARS))
        if unfinished is not None:
            text, self._held = text[: unfinished.start()], unfinished[0]
        return _SEQUENCE.sub(_keep_or_drop, text)


def _keep_or_drop(found: re.Match[str]) -> str:
    return found[0] if _KEPT_CSI.fullmatch(found[0]) else ""
