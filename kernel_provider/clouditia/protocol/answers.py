"""What to say to a request in the place of a kernel that cannot answer it.

A request is complete when its reply *and* its idle were seen, so whoever answers for a kernel that
is gone gives whatever of the two is missing, and shows the cause in the output of a cell.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, NamedTuple

from clouditia.protocol.messages import CONTROL, IOPUB, SHELL, Buffer, Message

#: Makes a message with a fresh id from (channel, msg_type, content, header of the request).
Compose = Callable[[str, str, Mapping[str, Any], Buffer], Message]

EXECUTE_REQUEST = "execute_request"


class Cause(NamedTuple):
    """Why the kernel does not answer: a name for the error, a sentence, further lines."""

    ename: str
    sentence: str
    details: str = ""
    in_output: bool = True  # whether cells show it
    reason: str = ""  # in one word, for programs; such as oom, signal, exit


class Unanswered(NamedTuple):
    """A request, and how much of its answer was seen."""

    channel: str
    msg_type: str
    header: Buffer
    replied: bool = False
    idle_seen: bool = False


def error_content(ename: str, evalue: str, details: str = "") -> Dict[str, Any]:
    """The content of an error, in output and in replies; ``details`` are further lines."""
    traceback = [f"{ename}: {evalue}", *details.splitlines()]
    return {"ename": ename, "evalue": evalue, "traceback": traceback}


def failure(compose: Compose, request: Unanswered, cause: Cause) -> List[Message]:
    """What is missing of the answer: error in the output of a cell, reply, idle."""
    content = error_content(cause.ename, cause.sentence, cause.details)
    if cause.reason:
        content["reason"] = cause.reason
    messages = missing(compose, request, {"status": "error", **content})
    if request.msg_type == EXECUTE_REQUEST and cause.in_output and not request.replied:
        messages.insert(0, compose(IOPUB, "error", content, request.header))
    return messages


def missing(compose: Compose, request: Unanswered, reply: Mapping[str, Any]) -> List[Message]:
    """The reply and the idle of a request, as far as it has not got them."""
    messages: List[Message] = []
    if not request.replied:
        channel = CONTROL if request.channel == CONTROL else SHELL
        messages.append(compose(channel, reply_type(request.msg_type), reply, request.header))
    if not request.idle_seen:
        messages.append(compose(IOPUB, "status", {"execution_state": "idle"}, request.header))
    return messages


def success(compose: Compose, request: Unanswered, content: Mapping[str, Any]) -> List[Message]:
    """Busy, reply and idle for a request that was carried out without the kernel."""
    busy = compose(IOPUB, "status", {"execution_state": "busy"}, request.header)
    return [busy, *missing(compose, request, {"status": "ok", **content})]


def reply_type(request_type: str) -> str:
    """Type of the reply to a request (``str.removesuffix`` is younger than Python 3.8)."""
    suffix = "_request"
    base = request_type[: -len(suffix)] if request_type.endswith(suffix) else request_type
    return base + "_reply"
