"""One plain ZMQ socket on an asyncio loop: batches in, never-blocking sends out.

``zmq.asyncio`` costs a future and a task switch per message; a bridge and a kernel host pass
messages through, so they take them in batches from the loop's reader callback instead.

A ZMQ file descriptor is edge-triggered: it becomes readable when the socket's state changes, and
*any* call on the socket may swallow that edge. So ``EVENTS`` is asked again after every send and
every receive, and the work goes on in the next loop iteration when there is more.

The loop must offer ``add_reader``: on Windows that is a ``SelectorEventLoop``, not the default.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import zmq

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from clouditia.protocol.messages import Buffer

__all__ = ["ZmqEndpoint"]

#: Parts from this size on are handed over as views into ZMQ's own memory, not copied. Measured:
#: a copied 64 KiB part costs twice, a 1 MiB part 18 times, the receive call itself.
ZERO_COPY_BYTES = 64 * 1024
#: One callback gets at most this much, so that timers and other sockets have their turn.
BATCH_MESSAGES = 256
BATCH_BYTES = 4 * 1024 * 1024

# Plain numbers: combining pyzmq's enums costs more than sending a small part.
_NOBLOCK = int(zmq.NOBLOCK)
_MORE_NOBLOCK = int(zmq.SNDMORE) | _NOBLOCK
_POLLIN = int(zmq.POLLIN)
_POLLOUT = int(zmq.POLLOUT)
_EVENTS = int(zmq.EVENTS)


class ZmqEndpoint:
    """A bound or connected ZMQ socket, owned by one asyncio loop.

    Must be created, used and closed in the loop's thread. It owns the socket from now on.

    Args:
        socket: A plain socket; its options and addresses are the caller's choice.
        on_messages: Gets every readable message, in order, as a list of messages, each a list of
            parts (``bytes``, or ``memoryview`` for large ones).
        on_drained: Called when the last queued message went out, after a time with
            :attr:`pending_bytes` above zero.
        loop: The loop; by default the running one.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        on_messages: Callable[[list[list[Buffer]]], None],
        *,
        on_drained: Callable[[], None] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.socket = socket
        self._on_messages = on_messages
        self._on_drained = on_drained
        self._loop = loop or asyncio.get_running_loop()
        self._queue: deque[tuple[list[Buffer], int]] = deque()
        self._pending_bytes = 0
        self._is_paused = False
        self._is_closed = False
        self._wakeup: asyncio.Handle | None = None
        self._fd = int(socket.getsockopt(zmq.FD))
        self._loop.add_reader(self._fd, self._work)
        self._check_soon()  # the edge for what came before add_reader is gone already

    @property
    def pending_bytes(self) -> int:
        """Bytes of messages that ZMQ did not take yet."""
        return self._pending_bytes

    def send(self, parts: Sequence[Buffer]) -> None:
        """Send one message now, or queue it until ZMQ takes it; never blocks.

        Raises:
            zmq.ZMQError: ZMQ refuses the message for good (not: is busy).
        """
        if self._is_closed:
            return
        message = list(parts)
        if self._queue or not self._try_send(message):
            size = sum(map(_size, message))
            self._queue.append((message, size))
            self._pending_bytes += size
        self._check_soon()

    def pause_reading(self) -> None:
        """Leave further messages to ZMQ, whose high-water mark then holds the peer back."""
        self._is_paused = True

    def resume_reading(self) -> None:
        """Undo :meth:`pause_reading`."""
        self._is_paused = False
        self._check_soon()

    def close(self, linger_ms: int = 0) -> None:
        """Close the socket; ZMQ may still send what it took for ``linger_ms``. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._wakeup is not None:
            self._wakeup.cancel()
        self._loop.remove_reader(self._fd)
        while self._queue and self._try_send(self._queue[0][0]):
            self._queue.popleft()
        self._queue.clear()
        self._pending_bytes = 0
        self.socket.close(linger=linger_ms)

    def _check_soon(self) -> None:
        """Look at ``EVENTS`` after a call that may have swallowed the edge."""
        if self._wakeup is None and not self._is_closed and self._has_work():
            self._wakeup = self._loop.call_soon(self._work)

    def _has_work(self) -> bool:
        events = self.socket.getsockopt(_EVENTS)
        if not isinstance(events, int):
            return False
        wants_read = not self._is_paused and bool(events & _POLLIN)
        return wants_read or bool(self._queue and events & _POLLOUT)

    def _work(self) -> None:
        """One turn: flush, then receive one batch; come again when there is more."""
        if self._wakeup is not None:
            self._wakeup.cancel()
            self._wakeup = None
        if self._is_closed:
            return
        try:
            self._flush()
            if not self._is_paused and not self._is_closed:
                batch = self._receive_batch()
                if batch:
                    self._on_messages(batch)
        finally:
            self._check_soon()

    def _flush(self) -> None:
        if not self._queue:
            return
        while self._queue and self._try_send(self._queue[0][0]):
            self._pending_bytes -= self._queue.popleft()[1]
        if not self._queue and self._on_drained is not None:
            self._on_drained()

    def _try_send(self, message: list[Buffer]) -> bool:
        send = self.socket.send
        last = len(message) - 1
        try:
            for index, part in enumerate(message):
                flags = _NOBLOCK if index == last else _MORE_NOBLOCK
                send(part, flags, copy=_size(part) < ZERO_COPY_BYTES)
        except zmq.Again:
            return False  # only the first part can meet a full queue; then nothing was sent
        return True

    def _receive_batch(self) -> list[list[Buffer]]:
        batch: list[list[Buffer]] = []
        size = 0
        receive = self.socket.recv
        try:
            while len(batch) < BATCH_MESSAGES and size < BATCH_BYTES:
                frame = receive(_NOBLOCK, copy=False)
                message: list[Buffer] = []
                while True:
                    length = len(frame)
                    size += length
                    message.append(frame.bytes if length < ZERO_COPY_BYTES else frame.buffer)
                    if not frame.more:
                        break
                    frame = receive(_NOBLOCK, copy=False)
                batch.append(message)
        except zmq.Again:
            pass  # all read; parts of one message arrive together, so this is never in the middle
        return batch


def _size(part: Buffer) -> int:
    return part.nbytes if isinstance(part, memoryview) else len(part)
