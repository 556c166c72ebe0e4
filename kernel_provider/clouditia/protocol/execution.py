"""One request, from sent to done: what its messages mean for whoever waits for it.

An :class:`Execution` is fed every message of the kernel and picks its own. It is done when its
reply *and* its idle were seen, in either order, because output and reply come over different
sockets and one may overtake the other. It is lost when the kernel that
ran it is gone. What a peer sends never raises: what is missing or malformed takes the plainest
meaning.

After a :class:`GapNoted` the reply itself may be gone. Send the same request again, with the same
``msg_id``: the host never runs it twice but says where its messages are, and if they are in the
gap the execution is lost with :class:`~clouditia.errors.MessagesLost`.

Source: Jupyter messaging; docs/protocol.md, "The clouditia channel".
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Tuple

from clouditia.errors import (
    ClouditiaError,
    ExecutionError,
    KernelDied,
    MessagesLost,
    RemoteProtocolError,
)
from clouditia.protocol.execution_events import (
    AlreadyRan,
    Cleared,
    Displayed,
    DisplayUpdated,
    ExecutionEvent,
    ExecutionState,
    GapNoted,
    InputRequested,
    Lost,
    Printed,
    Replied,
    Started,
    StateChanged,
)
from clouditia.protocol.execution_outputs import DisplayRegistry, Output, OutputList
from clouditia.protocol.messages import (
    CLOUDITIA,
    CONTROL,
    IOPUB,
    SHELL,
    STDIN,
    Message,
    decode_json,
)

__all__ = [
    "AlreadyRan",
    "Cleared",
    "DisplayRegistry",
    "DisplayUpdated",
    "Displayed",
    "Execution",
    "ExecutionEvent",
    "ExecutionState",
    "GapNoted",
    "InputRequested",
    "Lost",
    "Output",
    "Printed",
    "Replied",
    "Started",
    "StateChanged",
]

_Meaning = Callable[[Dict[str, Any]], List[ExecutionEvent]]
_ENDED = (ExecutionState.DONE, ExecutionState.LOST)


class Execution:
    """The life of one request.

    Args:
        msg_id: Id of the request.
        epoch: Epoch of the kernel that it was sent to; with it, replayed notices about earlier
            kernels are told apart. None takes every notice as one about this kernel.
        displays: Shared among the executions of one notebook, so that `update_display_data`
            reaches the outputs of earlier cells.
        keeps_outputs: False for a caller that acts on events and needs no list at the end.

    Attributes:
        state: Where the request stands.
        execution_count: Number of the run, once known.
        reply: Content of the reply, once here.
    """

    def __init__(
        self,
        msg_id: str,
        *,
        epoch: Optional[int] = None,
        displays: Optional[DisplayRegistry] = None,
        keeps_outputs: bool = True,
    ) -> None:
        self.msg_id = msg_id
        self.epoch = epoch
        self.state = ExecutionState.SENT
        self.execution_count: Optional[int] = None
        self.reply: Optional[Dict[str, Any]] = None
        self._keeps_outputs = keeps_outputs
        self._displays = displays if displays is not None else DisplayRegistry()
        self._outputs = OutputList(self._displays)
        self._is_idle = False
        self._lost: Optional[ClouditiaError] = None
        self._gaps: List[Tuple[int, int]] = []
        self._known_span: Optional[Tuple[int, int]] = None
        self._meanings: Dict[Tuple[str, str], _Meaning] = {
            (IOPUB, "status"): self._on_status,
            (IOPUB, "execute_input"): self._on_input,
            (IOPUB, "stream"): self._on_stream,
            (IOPUB, "display_data"): self._on_display,
            (IOPUB, "execute_result"): self._on_result,
            (IOPUB, "error"): self._on_error,
            (IOPUB, "update_display_data"): self._on_update,
            (IOPUB, "clear_output"): self._on_clear,
            (STDIN, "input_request"): self._on_input_request,
        }
        self._notices: Dict[str, _Meaning] = {
            "kernel_exited": self._on_exited,
            "kernel_ended": self._on_kernel_ended,
            "known_request": self._on_known,
        }

    # --- what there is to see -------------------------------------------------------------------

    @property
    def outputs(self) -> List[Output]:
        """The outputs so far, in nbformat's form and order."""
        return self._outputs.as_list()

    @property
    def has_ended(self) -> bool:
        """Whether the request is done or lost."""
        return self.state in _ENDED

    @property
    def has_gaps(self) -> bool:
        """Whether messages are missing, so that the outputs may be incomplete."""
        return bool(self._gaps)

    @property
    def status(self) -> Optional[str]:
        """``ok``, ``error`` or ``aborted``, as the reply says; None before it."""
        return None if self.reply is None else _status_of(self.reply)

    def failure(self) -> Optional[ClouditiaError]:
        """Why the request did not succeed; None while it runs and when it did."""
        if self._lost is not None:
            return self._lost
        if self.reply is None or self.status == "ok":
            return None
        if self.status == "aborted":
            return ExecutionError(
                "The request was aborted before it ran, because an earlier one failed.",
                ename="Aborted",
            )
        ename, evalue = str(self.reply.get("ename", "")), str(self.reply.get("evalue", ""))
        lines = self.reply.get("traceback")
        traceback = [str(line) for line in lines] if isinstance(lines, list) else []
        return ExecutionError(
            "The code raised %s: %s" % (ename or "an error without a name", evalue),
            ename=ename,
            evalue=evalue,
            traceback=traceback,
            cell=self.execution_count,
        )

    # --- what comes in --------------------------------------------------------------------------

    def receive(self, message: Message) -> List[ExecutionEvent]:
        """Take a message of the kernel; messages of other requests change nothing."""
        msg_type = str(_decoded(message.header).get("msg_type", ""))
        if message.channel == CLOUDITIA:
            notice = self._notices.get(msg_type)
            return notice(_decoded(message.content)) if notice else []
        if _decoded(message.parent_header).get("msg_id") != self.msg_id:
            return []
        if message.channel in (SHELL, CONTROL):
            return self._on_reply(_decoded(message.content)) if msg_type.endswith("_reply") else []
        meaning = self._meanings.get((message.channel, msg_type))
        if meaning is None:
            return []
        events: List[ExecutionEvent] = []
        if self.state is ExecutionState.SENT:
            events += self._move(ExecutionState.BUSY)
        return events + meaning(_decoded(message.content))

    def gap(self, first: int, last: int) -> List[ExecutionEvent]:
        """Take note that messages ``first`` to ``last`` of the link are gone for good."""
        if self.has_ended:
            return []
        self._gaps.append((first, last))
        return [GapNoted(first, last), *self._lose_if_answer_is_gone()]

    def lose(self, error: ClouditiaError) -> List[ExecutionEvent]:
        """Give up: there will be no answer, because of ``error``."""
        if self.has_ended:
            return []
        self._lost = error
        return [Lost(error), *self._move(ExecutionState.LOST)]

    # --- states ---------------------------------------------------------------------------------

    def _move(self, state: ExecutionState) -> List[ExecutionEvent]:
        if self.has_ended or state is self.state:
            return []
        self.state = state
        return [StateChanged(state)]

    def _on_reply(self, content: Dict[str, Any]) -> List[ExecutionEvent]:
        if self.reply is not None or self.has_ended:
            return []
        self.reply = content
        self._count(content)
        state = ExecutionState.DONE if self._is_idle else ExecutionState.REPLIED
        return [Replied(_status_of(content), content), *self._move(state)]

    def _on_status(self, content: Dict[str, Any]) -> List[ExecutionEvent]:
        if content.get("execution_state") != "idle":
            return []
        self._is_idle = True
        replied = self.reply is not None
        return self._move(ExecutionState.DONE if replied else ExecutionState.IDLE)

    def _lose_if_answer_is_gone(self) -> List[ExecutionEvent]:
        if self._known_span is None:
            return []
        first, last = self._known_span
        if not any(gap_first <= last <= gap_last for gap_first, gap_last in self._gaps):
            return []
        return self.lose(
            MessagesLost(
                "The request ran, its answer was message %d, which is gone." % last,
                hint="Run it again if that is safe.",
                first=first,
                last=last,
            )
        )

    # --- outputs --------------------------------------------------------------------------------

    def _count(self, content: Dict[str, Any]) -> None:
        count = content.get("execution_count")
        if isinstance(count, int):
            self.execution_count = count

    def _on_input(self, content: Dict[str, Any]) -> List[ExecutionEvent]:
        self._count(content)
        return [Started(str(content.get("code", "")), self.execution_count)]

    def _on_stream(self, content: Dict[str, Any]) -> List[ExecutionEvent]:
        name, text = str(content.get("name", "stdout")), str(content.get("text", ""))
        if self._keeps_outputs:
            self._outputs.print(name, text)
        return [Printed(name, text)]

    def _on_display(self, content: Dict[str, Any]) -> List[ExecutionEvent]:
        return self._show(_bundle("display_data", content), _display_id(content))

    def _on_result(self, content: Dict[str, Any]) -> List[ExecutionEvent]:
        self._count(content)
        output = _bundle("execute_result", content)
        output["execution_count"] = self.execution_count
        return self._show(output, _display_id(content))

    def _on_error(self, content: Dict[str, Any]) -> List[ExecutionEvent]:
        lines = content.get("traceback")
        output: Output = {
            "output_type": "error",
            "ename": str(content.get("ename", "")),
            "evalue": str(content.get("evalue", "")),
            "traceback": [str(line) for line in lines] if isinstance(lines, list) else [],
        }
        return self._show(output, None)

    def _show(self, output: Output, display_id: Optional[str]) -> List[ExecutionEvent]:
        if self._keeps_outputs:
            self._outputs.append(output, display_id)
        return [Displayed(output, display_id)]

    def _on_update(self, content: Dict[str, Any]) -> List[ExecutionEvent]:
        display_id = _display_id(content)
        if display_id is None:
            return []
        data, metadata = _object(content, "data"), _object(content, "metadata")
        count = self._displays.update(display_id, data, metadata)
        return [DisplayUpdated(display_id, data, metadata, count)]

    def _on_clear(self, content: Dict[str, Any]) -> List[ExecutionEvent]:
        wait = bool(content.get("wait", False))
        self._outputs.clear(wait=wait)
        return [Cleared(wait)]

    def _on_input_request(self, content: Dict[str, Any]) -> List[ExecutionEvent]:
        return [InputRequested(str(content.get("prompt", "")), bool(content.get("password")))]

    # --- notices of the host --------------------------------------------------------------------

    def _is_about_me(self, content: Dict[str, Any]) -> bool:
        epoch = content.get("epoch")
        return self.epoch is None or not isinstance(epoch, int) or epoch >= self.epoch

    def _on_exited(self, content: Dict[str, Any]) -> List[ExecutionEvent]:
        return self.lose(_death(content)) if self._is_about_me(content) else []

    def _on_kernel_ended(self, content: Dict[str, Any]) -> List[ExecutionEvent]:
        reason = str(content.get("reason") or "no reason given")
        return self.lose(KernelDied("The kernel was shut down: %s." % reason))

    def _on_known(self, content: Dict[str, Any]) -> List[ExecutionEvent]:
        first, last = content.get("first"), content.get("last")
        if content.get("msg_id") != self.msg_id or not isinstance(first, int):
            return []
        if not isinstance(last, int):
            return [AlreadyRan(first, None)]
        self._known_span = (first, last)
        return [AlreadyRan(first, last), *self._lose_if_answer_is_gone()]


# --- reading what a peer wrote ------------------------------------------------------------------


def _decoded(part: Any) -> Dict[str, Any]:
    try:
        return decode_json(part)
    except RemoteProtocolError:
        return {}


def _object(content: Dict[str, Any], name: str) -> Dict[str, Any]:
    value = content.get(name)
    return value if isinstance(value, dict) else {}


def _display_id(content: Dict[str, Any]) -> Optional[str]:
    display_id = _object(content, "transient").get("display_id")
    return display_id if isinstance(display_id, str) else None


def _bundle(output_type: str, content: Dict[str, Any]) -> Output:
    data, metadata = _object(content, "data"), _object(content, "metadata")
    return {"output_type": output_type, "data": data, "metadata": metadata}


def _status_of(reply: Dict[str, Any]) -> str:
    status = reply.get("status")
    if status in ("aborted", "abort"):  # kernels before protocol 5.4 say abort
        return "aborted"
    return "ok" if status == "ok" else "error"


def _death(content: Dict[str, Any]) -> KernelDied:
    reason = str(content.get("reason") or "no reason known")
    exit_code = content.get("exit_code")
    last_log = str(content.get("last_stderr") or "")
    last_words = last_log.strip().splitlines()[-1:] or ["it wrote nothing to stderr"]
    return KernelDied(
        "The kernel died while the code ran: %s (exit code %s; last line of stderr: %s)."
        % (reason, exit_code, last_words[0]),
        hint="Restart the kernel; its variables are gone, the outputs so far are kept.",
        exit_code=exit_code if isinstance(exit_code, int) else None,
        last_log=last_log,
    )
