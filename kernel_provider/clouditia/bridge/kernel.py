"""Where each message goes: between the front end's sockets and the link, bytes untouched.

No sockets and no clock here: messages come in by method, go out through the two functions given
at construction, and every decision about the bridge's own life is made elsewhere.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from clouditia.bridge.kernel_info import BusyRequests, KernelInfoCache
from clouditia.bridge.routing import RequestTable, Route
from clouditia.errors import ClouditiaError, PackageTooLarge, RemoteProtocolError
from clouditia.protocol.messages import (
    CLOUDITIA,
    CONTROL,
    IOPUB,
    MAX_BUFFERS,
    SHELL,
    STDIN,
    Message,
    decode_json,
    decode_v1,
    encode_json,
    encode_v1,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from clouditia.bridge.composing import Composer
    from clouditia.protocol.messages import Buffer, Signer

__all__ = ["REPLAY_REQUEST", "KernelChannels", "Request", "ShutdownListener"]

log = logging.getLogger("clouditia.bridge")

#: A front end that was away asks on control for the messages of ``content.msg_id`` again.
REPLAY_REQUEST = "clouditia_replay_request"
#: Requests that wait for a reply, and one-way messages that may still ask for input.
_MAX_OPEN_REQUESTS = 100_000
_MAX_ONE_WAY = 1000


@dataclass(frozen=True)
class Request:
    """One message of a front end."""

    msg_id: str
    msg_type: str
    route: Route
    message: Message


class ShutdownListener(Protocol):
    """Hears of the requests that concern the bridge's own life."""

    def shutdown_requested(self, request: Request) -> bool:
        """A front end sent this ``shutdown_request``; returns whether it is for the kernel."""
        ...

    def shutdown_replied(self, msg_id: str) -> None:
        """The kernel's reply to this shutdown request was handed to the front end."""
        ...


class KernelChannels:
    """Routes the messages of one kernel.

    Args:
        signer: Checks and signs local messages.
        composer: Writes the bridge's own messages.
        send_local: Takes (channel, ZMQ parts) for a local socket.
        send_remote: Takes the parts of a v1 frame for the link; raises PackageTooLarge.
        wishes: Hears of shutdowns.
        on_notice: Gets (msg_type, content) of what the kernel host says on the clouditia channel.
        on_replay_request: Gets a front end's wish to see the messages of a request again.
    """

    def __init__(
        self,
        signer: Signer,
        composer: Composer,
        *,
        send_local: Callable[[str, list[Buffer]], None],
        send_remote: Callable[[list[Buffer]], None],
        wishes: ShutdownListener,
        on_notice: Callable[[str, dict[str, Any]], None],
        on_replay_request: Callable[[Request], None],
    ) -> None:
        self.kernel_id = ""
        self.is_online = False
        self._signer = signer
        self._composer = composer
        self._send_local = send_local
        self._send_remote = send_remote
        self._wishes = wishes
        self._on_notice = on_notice
        self._on_replay_request = on_replay_request
        self._requests = RequestTable(_MAX_OPEN_REQUESTS)
        self._one_way = RequestTable(_MAX_ONE_WAY)
        self._info = KernelInfoCache()
        self._busy = BusyRequests()
        self._has_spoken = False
        self._probe_id: str | None = None
        self._unanswered: list[Request] = []
        self._replayed: dict[str, int | None] = {}
        self._replays = 0

    @property
    def open_requests(self) -> int:
        """Requests that no reply was seen for."""
        return len(self._requests)

    # --- from the front end ---------------------------------------------------------------------

    def from_front_end(self, channel: str, messages: list[list[Buffer]]) -> None:
        """Take what a front end sent on one channel."""
        for parts in messages:
            try:
                self._take(self._read(channel, parts))
            except RemoteProtocolError as exc:
                log.warning("dropped a local message on %s: %s", channel, exc.message)

    def _read(self, channel: str, parts: list[Buffer]) -> Request:
        identities, message = self._signer.decode(channel, parts)
        header = decode_json(message.header)
        return Request(
            str(header.get("msg_id", "")),
            str(header.get("msg_type", "")),
            Route(channel, identities),
            message,
        )

    def _take(self, request: Request) -> None:
        if request.msg_type == "kernel_info_request" and self._answer_info(request):
            return
        if request.msg_type == REPLAY_REQUEST:
            self._on_replay_request(request)
            return
        is_shutdown = request.msg_type == "shutdown_request"
        if not is_shutdown or self._wishes.shutdown_requested(request):
            self.forward(request)

    def forward(self, request: Request) -> None:
        """Send a request to the kernel and remember where its reply belongs."""
        if request.route.channel != STDIN:
            is_answered = request.msg_type.endswith("_request")
            table = self._requests if is_answered else self._one_way
            table.remember(request.msg_id, request.route)
        count = len(request.message.buffers)
        if count > MAX_BUFFERS:
            text = f"a message has at most {MAX_BUFFERS} buffers, this one has {count}."
            self.refuse(request, PackageTooLarge(text))
            return
        if request.msg_type == "execute_request":
            self._busy.asked(request.msg_id, request.message.header)
        try:
            self._send_remote(encode_v1(request.message))
        except PackageTooLarge as exc:
            self.refuse(request, exc)

    def reply(
        self, request: Request, content: object | bytes, *, error: dict[str, Any] | None = None
    ) -> None:
        """Answer a request in the kernel's place, with the busy and idle that belong to it.

        Args:
            request: What was asked.
            content: Of the reply.
            error: Shown in the output of the request before the reply.
        """
        self._requests.take(request.msg_id, request.route.channel)
        self._busy.answered(request.msg_id)
        parent = request.message.header
        self.publish(self._composer.status("busy", parent=parent))
        if error is not None:
            self.publish(self._composer.message(IOPUB, "error", error, parent=parent), "error")
        msg_type = request.msg_type.removesuffix("_request") + "_reply"
        self._reply_to(
            request.route,
            self._composer.message(request.route.channel, msg_type, content, parent=parent),
        )
        self.publish(self._composer.status("idle", parent=parent))

    def refuse(self, request: Request, error: ClouditiaError) -> None:
        """Answer with an error: a request that cannot be sent must not hang its cell."""
        log.warning("refused a %s: %s", request.msg_type, error.code)
        failure = {"ename": type(error).__name__, "evalue": str(error), "traceback": [str(error)]}
        if request.msg_type.endswith("_request"):
            is_cell = request.msg_type == "execute_request"
            content = {"status": "error", "execution_count": 0, **failure}
            self.reply(request, content, error=failure if is_cell else None)

    def _answer_info(self, request: Request) -> bool:
        if self._info.content is None or (self.is_online and not self._busy):
            if self._busy or not self.is_online:  # the answer to a probe will do, should one come
                self._unanswered.append(request)
            return False
        self.reply(request, self._info.content)
        if self._busy:  # the idle of this answer must not look like the kernel's
            self.publish(self._composer.status("busy", parent=self._busy.latest))
        return True

    def subscribed(self, topic: bytes) -> None:
        """A front end subscribed to iopub: welcome it, and say so when the kernel still starts."""
        content = {"subscription": topic.decode("utf-8", "replace")}
        welcome = self._composer.message(IOPUB, "iopub_welcome", content)
        self._send_local(IOPUB, self._signer.encode(welcome, [topic] if topic else []))
        if not self._has_spoken:
            self.publish(self._composer.status("starting"))

    # --- from the kernel ------------------------------------------------------------------------

    def from_kernel(self, frame: Buffer, seq: int = 0) -> None:
        """Take message ``seq`` of the link; a malformed one is dropped with a log line."""
        try:
            message = decode_v1(frame)
            if self._replayed and self._comes_by_replay(message, seq):
                self._note_busy(message)
            else:
                self.take_from_kernel(message)
        except RemoteProtocolError as exc:
            log.warning("dropped a message of the link: %s", exc.message)

    def take_from_kernel(self, message: Message) -> None:
        """Take one message of the kernel or its host; a malformed one is dropped."""
        try:
            if message.channel == CLOUDITIA:
                msg_type = str(decode_json(message.header).get("msg_type", ""))
                self._on_notice(msg_type, decode_json(message.content))
                return
            self._has_spoken = True
            if message.channel == IOPUB:
                self._pass_iopub(message)
            elif message.channel == STDIN:
                self._pass_stdin(message)
            else:
                self._pass_reply(message)
        except RemoteProtocolError as exc:
            log.warning("dropped a message of the kernel: %s", exc.message)

    def _pass_reply(self, message: Message) -> None:
        msg_id = _parent_id(message)
        route = self._requests.take(msg_id, message.channel)
        self._busy.answered(msg_id)
        if route is None and msg_id != self._probe_id:
            return  # another client's, or a second reply
        msg_type = self._heard(message)
        if msg_type == "kernel_info_reply" and not self._info.learn(message):
            return  # clients fail on an info without versions; the exit of the bridge says more
        if msg_type == "kernel_info_reply":
            for request in self._unanswered:
                if self._requests.find(request.msg_id):
                    self._answer_info(request)
            self._unanswered.clear()
        if route is None:
            return
        self._reply_to(route, message)
        if msg_type == "shutdown_reply":
            self._wishes.shutdown_replied(msg_id)

    def _pass_stdin(self, message: Message) -> None:
        msg_id = _parent_id(message)
        route = self._requests.find(msg_id) or self._one_way.find(msg_id)
        if route is not None:
            self._reply_to(route._replace(channel=STDIN), message)

    def _pass_iopub(self, message: Message) -> None:
        msg_type = self._heard(message)
        if msg_type == "iopub_welcome":
            return
        if msg_type == "status":
            parent = decode_json(message.parent_header)
            msg_id = str(parent.get("msg_id", ""))
            if msg_id and msg_id == self._probe_id:
                return
            state = str(decode_json(message.content).get("execution_state", ""))
            if parent.get("msg_type") == "execute_request":
                self._busy.status(state, msg_id, message.parent_header)
            elif state == "idle" and self._busy:
                self.publish(message, msg_type)
                # On control or a subshell: the front end would show the busy kernel as idle.
                message = self._composer.status("busy", parent=self._busy.latest)
        self.publish(message, msg_type)

    def _heard(self, message: Message) -> str:
        """The type of a kernel's message; takes note of its session."""
        header = decode_json(message.header)
        self._composer.session = str(header.get("session") or self._composer.session)
        return str(header.get("msg_type", ""))

    def _note_busy(self, message: Message) -> None:
        """A status that the front end gets by a replay: what the kernel does, it does now."""
        parent = decode_json(message.parent_header)
        state = decode_json(message.content).get("execution_state")
        if message.channel == IOPUB and state and parent.get("msg_type") == "execute_request":
            self._busy.status(str(state), str(parent.get("msg_id", "")), message.parent_header)

    def _reply_to(self, route: Route, message: Message) -> None:
        self._send_local(route.channel, self._signer.encode(message, route.identities))

    def publish(self, message: Message, msg_type: str = "status") -> None:
        """Send a message on iopub under its topic."""
        topic = f"kernel.{self.kernel_id}.{msg_type}".encode()
        self._send_local(IOPUB, self._signer.encode(message, [topic]))

    # --- messages once more (clouditia.bridge.replays) ------------------------------------------

    def is_replayed(self, msg_id: str) -> bool:
        """Whether the messages of this request come by a replay now."""
        return self._replayed.get(msg_id, 0) is None

    def begin_replay(self, msg_id: str, route: Route) -> None:
        """From now on messages of this request come by a replay; its reply goes to ``route``."""
        self._replayed[msg_id] = None
        self._requests.remember(msg_id, route._replace(channel=SHELL))

    def pass_replayed(self, message: Message) -> None:
        """Hand one message of a replay to the front end.

        With a number in its metadata: jupyter_client refuses a signature that it has seen before.
        """
        self._replays += 1
        metadata = {**decode_json(message.metadata), "clouditia": {"replay": self._replays}}
        message = message._replace(metadata=encode_json(metadata))
        if message.channel == IOPUB:
            self.publish(message, str(decode_json(message.header).get("msg_type", "")))
        elif message.channel == STDIN:
            self._pass_stdin(message)
        else:
            self._pass_reply(message)

    def end_replay(self, msg_id: str, seq: int) -> None:
        """Message ``seq`` was the last of the replay; what the link has beyond it is new."""
        self._replayed[msg_id] = seq
        if len(self._replayed) > _MAX_ONE_WAY:
            del self._replayed[next(iter(self._replayed))]

    def tell_lost(self, msg_id: str, info: Mapping[str, Any]) -> None:
        """Say in the output of a replayed request that some of it is gone for good."""
        parent = encode_json({"msg_id": msg_id, "msg_type": "execute_request"})
        reason = str(info.get("reason") or "no reason given")
        self._tell(f"output of this cell is gone: {reason}", parent)

    def _comes_by_replay(self, message: Message, seq: int) -> bool:
        last = self._replayed.get(_parent_id(message), 0)
        return last is None or seq <= last

    # --- what the bridge knows about the kernel -------------------------------------------------

    def epoch_changed(self) -> None:
        """Another kernel process answers from now on."""
        self._info.forget()
        self._busy.clear()

    def found_busy(self) -> None:
        """The kernel already runs something: learn about it on control, which is not held up."""
        self._has_spoken = True
        self._busy.assume()
        probe = self._composer.message(CONTROL, "kernel_info_request", {})
        self._probe_id = str(decode_json(probe.header)["msg_id"])
        self._send_remote(encode_v1(probe))

    def messages_lost(self, count: int, size_bytes: int, reason: str) -> None:
        """Say in the output of the running request that some of it is gone for good."""
        text = f"{count} messages ({size_bytes} bytes) of output are gone: {reason}"
        self._tell(text, self._busy.latest)

    @property
    def waits_for_others(self) -> bool:
        """Whether a cell of this front end waits, and none of its cells runs."""
        return self._busy.is_with_others

    def tell_waiting(self, text: str) -> bool:
        """Write into the output of the cell that waits; False if this front end has none."""
        parent = self._busy.waiting
        if parent is not None:
            self._tell(text, parent)
        return parent is not None

    def _tell(self, text: str, parent: Buffer) -> None:
        content = {"name": "stderr", "text": f"[clouditia] {text}\n"}
        self.publish(self._composer.message(IOPUB, "stream", content, parent), "stream")


def _parent_id(message: Message) -> str:
    return str(decode_json(message.parent_header).get("msg_id", ""))
