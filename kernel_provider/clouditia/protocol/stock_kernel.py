"""One kernel of a stock Jupyter server, as one client knows it over connections that break.

A stock server forwards messages and forgets them: it numbers nothing, may drop what was sent around
a cut, and restarts a dead kernel without answering what that kernel was asked. This machine draws
from the messages themselves what the link protocol would have said, so that nothing hangs:

- After a cut it asks ``kernel_info`` behind whatever was asked before. Once that is answered (reply
  *and* idle), earlier requests of the same lane that still lack an answer have lost it.
- A status from another session than before means another kernel process; the server's own status
  ``restarting`` or ``dead`` means that the process died. Whatever it was asked is answered.
- After a restart nothing is passed on before the new process has answered a question of ours: the
  server may begin to listen to its output later than to its replies.
- Interrupt, restart and shutdown become calls of the server's REST interface, because a
  ``shutdown_request`` that is merely passed on looks like a crash to the server's own restarter.

Messages of the front end go in by :meth:`StockKernel.submit`, those of the server by
:meth:`StockKernel.receive`; :meth:`StockKernel.actions` says what to do next. No request is ever
sent twice. Source: Jupyter messaging; jupyter_server's and Enterprise Gateway's websocket handlers.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Optional

from clouditia.protocol.answers import (
    EXECUTE_REQUEST,
    Cause,
    Compose,
    Unanswered,
    failure,
    success,
)
from clouditia.protocol.messages import (
    CLOUDITIA,
    CONTROL,
    IOPUB,
    SHELL,
    STDIN,
    Buffer,
    Message,
    decode_json,
    encode_json,
)
from clouditia.protocol.stock_actions import (
    Action,
    Call,
    Deliver,
    Lane,
    Order,
    Probe,
    Request,
    Send,
    StartOver,
)

__all__ = ["Action", "Call", "Deliver", "Send", "StartOver", "StockKernel"]

INTERRUPT, RESTART, SHUTDOWN = "interrupt", "restart", "shutdown"

_GONE = "variables that it held are gone"
_CUT = Cause(
    "UnknownOutcomeError",
    "the connection to the server broke while this was under way, and the reply is lost. "
    "It may have run; what it printed meanwhile may be missing.",
)
_REPLACED = Cause("KernelDied", f"the kernel died or was restarted by somebody else; {_GONE}.")
_RESTARTED = Cause("KernelRestarted", "the kernel was restarted.", in_output=False)


class StockKernel:
    """The machine; not thread-safe.

    Args:
        compose: Makes messages with fresh ids.
        server: How the server is called in what people read.
    """

    def __init__(self, compose: Compose, server: str) -> None:
        self.epoch = 1
        self._compose = compose
        self._server = server
        self._is_online = False
        self._is_settling = False  # a new process has not answered yet
        self._connections = 0
        self._process = ""  # session of the kernel's own messages; empty while unknown
        self._requests: Dict[str, Request] = {}
        self._probes: Dict[str, Probe] = {}
        self._orders: Dict[int, Order] = {}
        self._calls = 0
        self._news = ""  # to be told in the next cell
        self._actions: List[Action] = []

    # --- questions ------------------------------------------------------------------------------

    @property
    def accepts(self) -> bool:
        """Whether :meth:`submit` may be called now; else messages wait at the caller's."""
        is_restarting = any(order.verb == RESTART for order in self._orders.values())
        return self._is_online and not is_restarting and not self._is_settling

    @property
    def is_settling(self) -> bool:
        """Whether a new kernel process is expected to answer; :meth:`ask_again` every second."""
        return self._is_online and self._is_settling

    @property
    def open_requests(self) -> int:
        """Requests that are not done."""
        return len(self._requests)

    def actions(self) -> List[Action]:
        """What to do, in order; the caller does all of it."""
        actions, self._actions = self._actions, []
        return actions

    # --- the connection -------------------------------------------------------------------------

    def connection_made(self) -> None:
        """A websocket is open; the server has begun to forward."""
        self._is_online = True
        self._connections += 1
        if self._is_settling:
            self._ask(SHELL, None, Probe(frozenset(), None))
        elif self._connections > 1 and self._requests:
            self._tell_running(
                f"the connection to {self._server} is back. A stock server keeps what was printed "
                "meanwhile only where nobody else is connected, so some may be missing"
            )
            self._probe(_CUT)

    def ask_again(self) -> None:
        """An answer is overdue, and the server does not say that the kernel is busy.

        A server that joins the output of a process late may have missed an idle, a probe's, too.
        """
        if self._is_settling:
            self._ask(SHELL, None, Probe(frozenset(), None))
        else:
            causes = [probe.cause for probe in self._probes.values() if probe.cause is not None]
            self._probe(causes[0] if causes else _CUT)

    def connection_lost(self) -> None:
        """The websocket is gone; its probes went with it."""
        self._is_online = False
        self._probes.clear()

    # --- from the front end ---------------------------------------------------------------------

    def submit(self, message: Message) -> None:
        """Take one message of the front end."""
        header = decode_json(message.header)
        msg_type = str(header.get("msg_type", ""))
        if message.channel == CLOUDITIA:
            self._command(message)
        elif msg_type == "shutdown_request":
            is_restart = decode_json(message.content).get("restart") is True
            self._order(RESTART if is_restart else SHUTDOWN, message)
        elif msg_type == "interrupt_request":
            self._order(INTERRUPT, message)
        else:
            self._forward(message, header, msg_type)

    def _forward(self, message: Message, header: Dict[str, Any], msg_type: str) -> None:
        if msg_type.endswith("_request"):
            subshell = header.get("subshell_id")
            lane = (message.channel, subshell if isinstance(subshell, str) else None)
            self._requests[str(header.get("msg_id", ""))] = Request(message, msg_type, lane)
        if self._news and msg_type == EXECUTE_REQUEST:
            self._tell(self._news, message.header)
            self._news = ""
        self._actions.append(Send(message))

    def _command(self, message: Message) -> None:
        verb = str(decode_json(message.content).get("command", ""))
        if verb in (INTERRUPT, RESTART):
            self._order(verb, message)
        # "shutdown" comes from a bridge that ends its kernel over REST itself.

    def _order(self, verb: str, message: Message) -> None:
        self._calls += 1
        self._orders[self._calls] = Order(verb, message)
        if verb == RESTART:
            self._notice("kernel_state", execution_state="restarting")
        self._actions.append(Call(self._calls, verb))

    # --- what became of a call ------------------------------------------------------------------

    def call_done(self, number: int, error: Optional[Dict[str, Any]] = None) -> None:
        """A call came back; ``error`` is in wire form."""
        order = self._orders.pop(number)
        if error is None and order.verb == RESTART:
            self._new_epoch()
            self._fail(self._requests, _RESTARTED)
            self._notice("kernel_state", execution_state="starting")
            self._start_over()
        self._answer(order, error)
        if error is None and order.verb == SHUTDOWN:
            self.gone("shut down")

    def _answer(self, order: Order, error: Optional[Dict[str, Any]]) -> None:
        if order.message.channel == CLOUDITIA:
            command_id = decode_json(order.message.content).get("id")
            self._notice("command_reply", id=command_id, ok=error is None, error=error)
            return
        header = decode_json(order.message.header)
        asked = Unanswered(
            order.message.channel, str(header.get("msg_type", "")), order.message.header
        )
        if error is not None:
            cause = Cause(str(error.get("code")), str(error.get("message")))
            self._deliver(failure(self._compose, asked, cause))
        else:
            told = {} if order.verb == INTERRUPT else {"restart": order.verb == RESTART}
            self._deliver(success(self._compose, asked, told))

    # --- from the server ------------------------------------------------------------------------

    def receive(self, message: Message) -> None:
        """Take one message of the server; what is malformed raises RemoteProtocolError."""
        parent = decode_json(message.parent_header)
        msg_id = str(parent.get("msg_id", ""))
        probe = self._probes.get(msg_id)
        if message.channel == IOPUB:
            self._iopub(message, parent, msg_id, probe)
        elif message.channel in (SHELL, CONTROL):
            self._reply(message, msg_id, probe)
        elif message.channel == STDIN:
            self._actions.append(Deliver(message))

    def _reply(self, message: Message, msg_id: str, probe: Optional[Probe]) -> None:
        if probe is not None:
            probe.replied = True
            self._settle(msg_id, probe)
            return
        request = self._requests.get(msg_id)
        if request is not None:
            request.replied = True
            self._drop_if_done(msg_id, request)
        self._actions.append(Deliver(message))

    def _iopub(
        self, message: Message, parent: Dict[str, Any], msg_id: str, probe: Optional[Probe]
    ) -> None:
        header = decode_json(message.header)
        if header.get("msg_type") == "status":
            state = str(decode_json(message.content).get("execution_state", ""))
            if not parent and state in ("restarting", "dead"):
                self._server_says(state)
                return
            self._note_process(str(header.get("session", "")), parent, message.parent_header)
            if state == "idle":
                self._note_idle(msg_id, probe)
        if probe is None:
            self._actions.append(Deliver(message))

    def _note_idle(self, msg_id: str, probe: Optional[Probe]) -> None:
        request = self._requests.get(msg_id)
        if request is not None:
            request.idle_seen = True
            self._drop_if_done(msg_id, request)
        elif probe is not None:
            probe.idle_seen = True
            self._settle(msg_id, probe)

    def _drop_if_done(self, msg_id: str, request: Request) -> None:
        if request.replied and request.idle_seen:
            del self._requests[msg_id]

    # --- the kernel process ---------------------------------------------------------------------

    def _note_process(self, session: str, parent: Dict[str, Any], header: Buffer) -> None:
        """The kernel names its session in each status; another one is another process."""
        if not session or session == parent.get("session"):  # some kernels repeat the client's
            return
        is_replaced = bool(self._process) and session != self._process
        self._process = session
        if is_replaced:
            self.epoch += 1
            self._notice("kernel_state", execution_state="starting")
            if str(parent.get("msg_id", "")) in self._requests:
                self._tell(_REPLACED.sentence, header)
            else:
                self._news = _REPLACED.sentence
            for probe in self._probes.values():
                probe.cause = probe.cause and _REPLACED
            self._probe(_REPLACED)

    def _server_says(self, state: str) -> None:
        if any(order.verb == RESTART for order in self._orders.values()):
            return  # it is what we asked for
        if state == "dead":
            self.died("the server could not restart it")
            return
        self._new_epoch()
        reason = f"the kernel died, and {self._server} restarted it; {_GONE}."
        self._notice("kernel_state", execution_state="restarting", reason=reason)
        self._fail(self._requests, Cause("KernelDied", reason))
        self._news = reason
        self._start_over()

    def died(self, reason: str) -> None:
        """There is evidence that the kernel is dead and nobody will restart it."""
        self._fail(self._requests, Cause("KernelDied", f"the kernel died: {reason}."))
        self._notice("kernel_exited", reason=reason, expected=False)

    def gone(self, reason: str) -> None:
        """The server has no such kernel any more."""
        self._fail(self._requests, Cause("KernelEnded", f"the kernel was ended: {reason}."))
        self._notice("kernel_ended", reason=reason)

    def _start_over(self) -> None:
        self._is_online = False  # what comes meanwhile waits for the next connection
        self._is_settling = True
        self._actions.append(StartOver())

    def _new_epoch(self) -> None:
        self.epoch += 1
        self._process = ""
        self._probes.clear()
        self._news = ""

    # --- probes and answers ---------------------------------------------------------------------

    def _probe(self, cause: Cause) -> None:
        """Find out which of the requests sent so far will not be answered any more."""
        lanes: Dict[Lane, List[str]] = {}
        for msg_id, request in self._requests.items():
            lanes.setdefault(request.lane, []).append(msg_id)
        for (channel, subshell), msg_ids in lanes.items():
            self._ask(channel, subshell, Probe(frozenset(msg_ids), cause))

    def _ask(self, channel: str, subshell: Optional[str], probe: Probe) -> None:
        question = self._compose(channel, "kernel_info_request", {}, b"{}")
        header = decode_json(question.header)
        if subshell is not None:
            header["subshell_id"] = subshell
            question = question._replace(header=encode_json(header))
        self._probes[str(header["msg_id"])] = probe
        self._actions.append(Send(question))

    def _settle(self, msg_id: str, probe: Probe) -> None:
        if probe.replied and probe.idle_seen:
            del self._probes[msg_id]
            if probe.cause is None:
                self._is_settling = False
            else:
                self._fail([each for each in self._requests if each in probe.msg_ids], probe.cause)

    def _fail(self, msg_ids: Iterable[str], cause: Cause) -> None:
        for msg_id in list(msg_ids):
            request = self._requests.pop(msg_id)
            self._deliver(failure(self._compose, request.unanswered, cause))

    def _deliver(self, messages: List[Message]) -> None:
        self._actions.extend(map(Deliver, messages))

    def _notice(self, msg_type: str, **content: Any) -> None:
        self._deliver([self._compose(CLOUDITIA, msg_type, {"epoch": self.epoch, **content}, b"{}")])

    def _tell_running(self, sentence: str) -> None:
        cells = [each for each in self._requests.values() if each.msg_type == EXECUTE_REQUEST]
        if cells:
            self._tell(sentence, cells[0].message.header)

    def _tell(self, sentence: str, parent: Buffer) -> None:
        content = {"name": "stderr", "text": f"[clouditia] {sentence.rstrip('.')}.\n"}
        self._deliver([self._compose(IOPUB, "stream", content, parent)])
