"""The kernel's story as it is written down: every record gets its number, epoch and time here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from clouditia.errors import SessionError
from clouditia.protocol.journal import (
    Record,
    Tag,
    UpRequest,
    down_record,
    epoch_record,
    exit_record,
    up_record,
)
from clouditia.protocol.journal_requests import KnownRequest, RequestState
from clouditia.protocol.messages import STDIN, Message
from clouditia_gateway.host.journal_files import JournalFiles
from clouditia_gateway.host.notices import MessageFactory

#: Tags of messages that show nothing by themselves.
_SILENT: frozenset[int] = frozenset((Tag.OTHER,))
_SILENT_OR_REPLY: frozenset[int] = _SILENT | {Tag.REPLY}


class Chronicle:
    """Writes to the journal and tells whoever reads it.

    Args:
        journal: Loaded.
        now_ns: The clock of its records.
        on_published: Called after messages for clients were written, with whether they may wait a
            moment for what comes next (a status, a reply whose idle is still to come).

    Attributes:
        epoch: Number of the kernel process, counted from 1; 0 before the first.
        messages: Makes the host's own messages.
        is_idle_expected: Whether the kernel has yet to say that it is idle; nothing is known of
            it before a supervisor has told.
        open_prompt: Number of the kernel's question that nobody has answered yet.
    """

    def __init__(
        self,
        journal: JournalFiles,
        now_ns: Callable[[], int],
        on_published: Callable[[bool], None],
    ) -> None:
        self.epoch = journal.index.epoch
        self.messages = MessageFactory()
        self.now_ns = now_ns
        self._journal = journal
        self._on_published = on_published
        self.is_idle_expected: Callable[[], bool] = lambda: False
        self.open_prompt: int | None = None

    @property
    def last_exit(self) -> Mapping[str, Any] | None:
        """How the kernel of this epoch ended, None while it lives as far as is known."""
        return self._journal.index.exit_facts

    def publish(self, messages: Sequence[Message]) -> None:
        """Give messages their numbers, write them down, then tell the clients."""
        if not messages:
            return
        first = self._journal.next_seq
        now = self.now_ns()
        records = [
            down_record(message, seq=first + place, epoch=self.epoch, time_ns=now)
            for place, message in enumerate(messages)
        ]
        self._journal.append(records)
        for place, message in enumerate(messages):
            if message.channel == STDIN:
                self.open_prompt = first + place
        self._on_published(self._may_wait({record.tag for record in records}))

    def _may_wait(self, tags: set[int]) -> bool:
        """Whether nobody misses these messages until more comes, or a few milliseconds pass."""
        return tags <= _SILENT or (tags <= _SILENT_OR_REPLY and self.is_idle_expected())

    def notice(self, msg_type: str, **content: Any) -> None:
        """Publish a notice on the ``clouditia`` channel."""
        self.publish([self.messages.notice(msg_type, **content)])

    def asked(self, request: UpRequest) -> KnownRequest | None:
        """Record a request before anything is done about it; returns what is known if it was."""
        known = self._journal.index.known(request.msg_id, request.msg_type)
        if request.channel == STDIN:
            self.open_prompt = None
        self._append(up_record(request, **self._stamp()))
        return known

    def find(self, msg_id: str) -> dict[str, int | None]:
        """Where the messages of a recorded request are; docs/protocol.md, command ``find``.

        Raises:
            SessionError: no such request was recorded.
        """
        known = self._journal.index.known(msg_id)
        if known is None:
            raise SessionError(
                "this kernel was never asked for it; the one that ran it is another, or gone"
            )
        return {
            "first": known.first_seq,
            "last": known.last_seq,
            "next": self._journal.next_seq,
            "prompt": self.open_prompt,
        }

    def begin_epoch(self) -> None:
        """A kernel process begins."""
        self.epoch += 1
        self.open_prompt = None
        self._append(epoch_record(**self._stamp()))

    def exited(self, facts: dict[str, Any]) -> None:
        """The kernel process has ended."""
        self._append(exit_record(facts, **self._stamp()))
        self.notice("kernel_exited", epoch=self.epoch, **facts)

    def first_of_interest(self) -> int:
        """Where a new client starts: at the oldest request that runs, or that a death cut off."""
        started_at = self._journal.index.oldest_unfinished_seq()
        cut_off_at = (self.last_exit or {}).get("cut_off_at")
        return min(started_at, cut_off_at) if isinstance(cut_off_at, int) else started_at

    def unfinished(self) -> list[RequestState]:
        """Requests that want an answer still, oldest first."""
        return self._journal.index.unfinished()

    def _append(self, record: Record) -> None:
        self._journal.append([record])

    def _stamp(self) -> dict[str, int]:
        return {
            "next_seq": self._journal.next_seq,
            "epoch": self.epoch,
            "time_ns": self.now_ns(),
        }
