"""The journal on disk: what was written is read back, whatever the disk did meanwhile."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from clouditia.errors import LocalProtocolError
from clouditia.protocol.journal import (
    RECOVERY_SKIP,
    Omission,
    UpRequest,
    down_record,
    epoch_record,
    exit_record,
    up_record,
)
from clouditia.protocol.journal_retention import Retention
from clouditia.protocol.messages import IOPUB, SHELL, Message, encode_json, encode_v1
from clouditia.protocol.outbox import Omitted
from clouditia_gateway.host.journal_compaction import rewrite_segment
from clouditia_gateway.host.journal_files import JournalFiles
from clouditia_gateway.host.journal_overflow import Overflow
from clouditia_gateway.host.recent import RecentMessages


class Clock:
    def __init__(self) -> None:
        self.ns = 10**18

    def __call__(self) -> int:
        self.ns += 1000
        return self.ns


def journal(directory: Path, **retention: float) -> JournalFiles:
    limits = Retention(**{"max_bytes": 2**30, "max_age_s": 1e6, **retention})  # type: ignore[arg-type]
    made = JournalFiles(directory, limits, Clock())
    made.load()
    return made


def stream(text: str) -> Message:
    header = encode_json({"msg_type": "stream", "msg_id": "m"})
    content = encode_json({"name": "stdout", "text": text})
    return Message(IOPUB, header, b"{}", b"{}", content)


def reply(parent: str) -> Message:
    header = encode_json({"msg_type": "execute_reply", "msg_id": "r"})
    return Message(SHELL, header, encode_json({"msg_id": parent}), b"{}", b"{}")


def write(target: JournalFiles, *messages: Message) -> None:
    first = target.next_seq
    target.append(
        [
            down_record(message, seq=first + place, epoch=1, time_ns=10**18)
            for place, message in enumerate(messages)
        ]
    )


def read(source: JournalFiles, seq: int) -> bytes:
    parts = source.read(seq)
    assert isinstance(parts, list), parts
    return b"".join(parts)


def frame(message: Message) -> bytes:
    return b"".join(encode_v1(message))


@contextlib.contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """Writes that would make a file larger than ``size`` fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_was_written_is_read_back_by_the_next_host(tmp_path: Path) -> None:
    first = journal(tmp_path / "j")
    messages = [stream(f"line {i}") for i in range(50)]
    stamp = {"epoch": 1, "time_ns": 10**18}
    first.append([epoch_record(next_seq=1, **stamp)])
    request = UpRequest("client", 7, "cell", "execute_request", SHELL)
    first.append([up_record(request, next_seq=1, **stamp)])
    write(first, *messages[:25])
    write(first, *messages[25:])
    first.close()
    second = journal(tmp_path / "j")
    assert [read(second, seq) for seq in range(1, 51)] == [frame(item) for item in messages]
    assert (second.first_seq, second.next_seq, second.index.epoch) == (1, 51, 1)
    assert second.index.received_from("client") == 7
    assert [state.msg_id for state in second.index.unfinished()] == ["cell"]
    second.append([exit_record({"reason": "x"}, next_seq=51, **stamp)])
    second.close()
    third = journal(tmp_path / "j")
    assert third.index.exit_facts == {"reason": "x"}
    third.close()


def test_old_messages_come_from_the_disk_and_recent_ones_from_memory(tmp_path: Path) -> None:
    target = journal(tmp_path / "j")
    messages = [stream("x" * 300_000) for _ in range(40)]  # 12 MB, three times the memory
    for message in messages:
        write(target, message)
    assert len(target.read(40)) == 6  # the parts as they were given
    assert len(target.read(1)) == 1  # one view of the file
    assert [read(target, seq) for seq in range(1, 41)] == [frame(item) for item in messages]
    target.close()


def test_a_torn_end_is_cut_and_its_numbers_are_not_given_again(tmp_path: Path) -> None:
    first = journal(tmp_path / "j")
    write(first, *[stream(f"line {i}") for i in range(10)])
    path = first.path_of(1)
    first.close()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 5)
    second = journal(tmp_path / "j")
    assert read(second, 9) == frame(stream("line 8"))
    gone = second.read(10)
    assert isinstance(gone, Omitted)
    assert (gone.first, gone.reason) == (10, "damaged")
    assert second.next_seq == 10 + RECOVERY_SKIP
    write(second, stream("after"))
    second.close()
    third = journal(tmp_path / "j")
    assert read(third, 10 + RECOVERY_SKIP) == frame(stream("after"))
    assert third.next_seq == 11 + RECOVERY_SKIP
    third.close()


def test_a_damaged_message_becomes_a_gap_and_the_others_stay(tmp_path: Path) -> None:
    target = journal(tmp_path / "j")
    for _ in range(30):
        write(target, stream("y" * 300_000))
    path = target.path_of(1)
    raw = bytearray(path.read_bytes())
    raw[1000] ^= 1
    path.write_bytes(raw)
    gone = target.read(1)
    assert isinstance(gone, Omitted)
    assert gone[:4] == (1, 1, "damaged", 1)
    assert read(target, 2) == frame(stream("y" * 300_000))
    target.close()


def test_a_full_disk_keeps_messages_in_memory_and_recovers(tmp_path: Path) -> None:
    target = journal(tmp_path / "j")
    troubles: list[OSError] = []
    target.on_trouble = troubles.append
    write(target, stream("before"))
    size = target.path_of(1).stat().st_size
    with files_limited_to(size + 10):
        write(target, stream("a" * 100))
        write(target, stream("b" * 100), reply("cell"))
        assert len(troubles) == 1
        assert target.path_of(1).stat().st_size == size  # nothing half-written is left
        assert not target.recover(down_record(stream("x"), seq=5, epoch=1, time_ns=1))
    assert read(target, 2) == frame(stream("a" * 100))
    assert target.recover(down_record(stream("works"), seq=5, epoch=1, time_ns=10**18))
    assert target.overflow is None
    write(target, stream("after"))
    target.close()
    again = journal(tmp_path / "j")
    expected = [stream("before"), stream("a" * 100), stream("b" * 100), reply("cell")]
    expected += [stream("works"), stream("after")]
    assert [read(again, seq) for seq in range(1, 7)] == [frame(item) for item in expected]
    again.close()


def test_a_full_memory_drops_output_with_a_marker_and_keeps_replies() -> None:
    overflow = Overflow(1, max_bytes=10_000)
    for seq in range(1, 101):
        message = reply(str(seq)) if seq % 10 == 0 else stream("z" * 500)
        overflow.add(down_record(message, seq=seq, epoch=1, time_ns=1))
    gone = overflow.read(1)
    assert isinstance(gone, Omission)
    assert (gone.first, gone.last, gone.messages) == (1, 9, 9)
    gone = overflow.read(4)  # a reader in the middle of it is told only of what is before it
    assert isinstance(gone, Omission)
    assert (gone.first, gone.last, gone.messages) == (4, 9, 6)
    assert isinstance(overflow.read(10), list)
    assert isinstance(overflow.read(99), list)
    with pytest.raises(LocalProtocolError):
        overflow.read(101)


def test_an_overflow_with_gaps_is_written_and_read_back(tmp_path: Path) -> None:
    target = journal(tmp_path / "j")
    write(target, stream("before"))
    with files_limited_to(target.path_of(1).stat().st_size):
        write(target, stream("lost"))
        assert target.overflow is not None
        target.overflow._max_bytes = 2000
        write(target, *[stream("w" * 400) for _ in range(10)], reply("cell"))
    seq = target.next_seq
    assert target.recover(down_record(stream("works"), seq=seq, epoch=1, time_ns=10**18))
    target._recent = RecentMessages()
    gap = target.read(2)
    assert isinstance(gap, Omitted)
    assert gap.first == 2
    assert gap.messages == gap.last - 1
    assert read(target, seq - 1) == frame(reply("cell"))
    target.close()


def test_retention_compacts_closed_segments_in_place(tmp_path: Path) -> None:
    target = journal(tmp_path / "j", max_bytes=600_000)
    for place in range(40):
        write(target, stream("s" * 20_000), reply(str(place)))
    retention = Retention(600_000, 1e6)
    assert len(target.index.segments()) > 3
    for job in retention.plan(target.index.segments(), 10**18):
        path = target.path_of(job.segment)
        new_path = path.with_suffix(".new")
        target.replace(rewrite_segment(path, job, new_path), new_path)
    assert target.index.size_bytes <= 600_000
    target._recent = RecentMessages()
    assert isinstance(target.read(1), Omitted)
    assert all(isinstance(target.read(seq), list) for seq in range(2, 81, 2))
    target.close()
    again = journal(tmp_path / "j", max_bytes=600_000)
    assert again.next_seq == 81
    assert read(again, 2) == frame(reply("0"))
    again.close()


def test_recent_messages_are_bounded_by_bytes() -> None:
    recent = RecentMessages(max_bytes=10_000)
    for seq in range(1, 101):
        recent.add(seq, [b"x" * 400])
    assert recent.get(100) == [b"x" * 400]
    assert recent.get(90) is None
    recent.add(101, [b"x" * 20_000])
    assert recent.get(101) is None


def test_kinds_without_numbers_take_none(tmp_path: Path) -> None:
    target = journal(tmp_path / "j")
    target.append([epoch_record(next_seq=1, epoch=1, time_ns=1)])
    assert target.next_seq == 1
    target.release(100)
    with pytest.raises(LocalProtocolError):
        target.rebase(5)
    target.close()
