"""What is believed of a server's answers: a bounded size, within a bounded time, and kernel ids.

A kernel's id goes into URLs, notes and the bridge's standard input, so it must be one plain word,
whoever chose it.
"""

from __future__ import annotations

import http.client
import re
import time
from typing import Any

from clouditia.errors import RemoteProtocolError

__all__ = ["MAX_ANSWER_BYTES", "checked_kernel", "read_answer"]

#: A thousand kernels with all their fields are a quarter of this. Decoded JSON takes up to thirty
#: times as much memory.
MAX_ANSWER_BYTES = 4 * 1024 * 1024
#: The pieces of an answer may each take the timeout of a piece, but not for ever.
_PIECES_TIMEOUTS = 4
_PIECE_BYTES = 64 * 1024
_KERNEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


def read_answer(response: http.client.HTTPResponse, timeout: float) -> bytes | None:
    """The body, or None if it is longer than :data:`MAX_ANSWER_BYTES`.

    Raises:
        HTTPException: it was not whole after four times ``timeout`` seconds.
    """
    deadline = time.monotonic() + _PIECES_TIMEOUTS * timeout
    # Of some versions of http.client, read1() forgets how much of the body has come.
    length = None if response.chunked else response.length
    if length is not None and length > MAX_ANSWER_BYTES:
        return None
    answer = bytearray()
    while len(answer) != length:
        left = _PIECE_BYTES if length is None else length - len(answer)
        piece = response.read1(min(_PIECE_BYTES, left))
        if not piece:
            break
        answer += piece
        if len(answer) > MAX_ANSWER_BYTES:
            return None
        if time.monotonic() > deadline:
            raise http.client.HTTPException(
                f"the answer was not whole after {_PIECES_TIMEOUTS * timeout:g} s"
            )
    if length is not None and len(answer) < length:
        raise http.client.IncompleteRead(b"", length - len(answer))
    return bytes(answer)


def checked_kernel(model: object, asked: str) -> dict[str, Any]:
    """A kernel model with an id that can be used.

    Args:
        model: What the server sent.
        asked: What was asked, for the message.

    Raises:
        RemoteProtocolError: it is no model of a kernel.
    """
    kernel_id = model.get("id") if isinstance(model, dict) else None
    if not isinstance(model, dict) or not isinstance(kernel_id, str):
        raise RemoteProtocolError(f"{asked} was answered with no kernel")
    if not _KERNEL_ID.fullmatch(kernel_id):
        raise RemoteProtocolError(
            f"{asked} was answered with a kernel id that is no plain word: {kernel_id[:80]!r}"
        )
    return model
