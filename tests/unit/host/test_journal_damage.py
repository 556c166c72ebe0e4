"""A journal whose files were damaged: what is good is read, what is not is a gap, none is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.host.test_journal_files import Clock, frame, journal, read, reply, stream, write

from clouditia.protocol.journal import RECOVERY_SKIP, UpRequest, up_record
from clouditia.protocol.journal_retention import Compact, Level, Retention
from clouditia.protocol.messages import SHELL, Message
from clouditia.protocol.outbox import Omitted
from clouditia_gateway.host.journal_compaction import rewrite_segment
from clouditia_gateway.host.journal_files import JournalFiles
from clouditia_gateway.host.recent import RecentMessages

MESSAGES = 12
STAMP = {"epoch": 1, "time_ns": 10**18}


def said(number: int) -> Message:
    return reply(str(number)) if number % 4 == 0 else stream(f"line {number}")


def three_segments(directory: Path) -> list[bytes]:
    """Three hosts, one after the other, wrote a segment each; what these hold."""
    for first in (1, 5, 9):
        part = journal(directory)
        request = UpRequest("client", first, f"cell{first}", "execute_request", SHELL)
        part.append([up_record(request, next_seq=part.next_seq, **STAMP)])
        write(part, *[said(number) for number in range(first, first + 4)])
        part.close()
    return [path.read_bytes() for path in sorted(directory.glob("*.journal"))]


def put(directory: Path, segments: list[bytes]) -> None:
    for number, content in enumerate(segments, 1):
        (directory / f"{number:08d}.journal").write_bytes(content)
    (directory / "00000004.journal").unlink(missing_ok=True)


def check_reads(loaded: JournalFiles) -> list[int]:
    """Every number is the right message or a gap of damage; returns the numbers in gaps."""
    gone = []
    for seq in range(1, MESSAGES + 1):
        found = loaded.read(seq) if seq < loaded.next_seq else None
        if isinstance(found, list):
            assert b"".join(found) == frame(said(seq))
        else:
            assert found is None or found.reason == "damaged"
            gone.append(seq)
    return gone


def test_a_byte_flipped_anywhere_costs_one_message_at_most(tmp_path: Path) -> None:
    segments = three_segments(tmp_path)
    costs = set()
    for number, content in enumerate(segments):
        for place in range(0, len(content), 5):
            damaged = bytearray(content)
            damaged[place] ^= 0x20
            put(tmp_path, [*segments[:number], bytes(damaged), *segments[number + 1 :]])
            loaded = journal(tmp_path)
            gone = check_reads(loaded)
            costs.add(len(gone))
            # The next message gets a number that nobody has seen on another one.
            assert loaded.next_seq > MESSAGES
            seq = loaded.next_seq
            write(loaded, stream("after"))
            loaded.close()
            again = journal(tmp_path)
            assert check_reads(again) == gone
            assert read(again, seq) == frame(stream("after"))
            again.close()
    assert costs == {0, 1}  # 0: the record of a request


def test_a_segment_torn_at_any_length_never_gives_a_number_twice(tmp_path: Path) -> None:
    segments = three_segments(tmp_path)
    last = segments[-1]
    for length in range(0, len(last), 7):
        put(tmp_path, [*segments[:-1], last[:length]])
        loaded = journal(tmp_path)
        gone = check_reads(loaded)
        assert gone == list(range(gone[0], MESSAGES + 1))
        whole = loaded.next_seq == gone[0]  # torn exactly between two frames: nobody can tell
        assert whole or loaded.next_seq == gone[0] + RECOVERY_SKIP
        loaded.close()


def test_after_a_power_cut_numbers_are_left_out_even_if_the_end_looks_whole(tmp_path: Path) -> None:
    first = JournalFiles(tmp_path, Retention(), Clock())
    first.load("boot 1")
    write(first, stream("a"))
    first.close()
    same = JournalFiles(tmp_path, Retention(), Clock())
    same.load("boot 1")
    assert same.next_seq == 2
    same.close()
    other = JournalFiles(tmp_path, Retention(), Clock())
    other.load("boot 2")
    assert other.next_seq == 2 + RECOVERY_SKIP
    assert read(other, 1) == frame(stream("a"))
    gone = other.read(2)
    assert isinstance(gone, Omitted)
    assert gone.reason == "damaged"
    other.close()


def test_compaction_of_a_segment_that_was_damaged_keeps_what_is_good(tmp_path: Path) -> None:
    target = journal(tmp_path)
    write(target, *[said(number) for number in range(1, MESSAGES + 1)])
    target.close()
    path = target.path_of(1)
    target = journal(tmp_path)
    write(target, stream("next segment"))
    content = bytearray(path.read_bytes())
    content[content.index(b'"r"') + 1] ^= 1  # in the reply of number 4
    path.write_bytes(content)
    new_path = path.with_suffix(".new")
    target.replace(rewrite_segment(path, Compact(1, Level.STREAM), new_path), new_path)
    target._recent = RecentMessages()
    for now in (target, journal(tmp_path)):
        assert [seq for seq in range(1, 13) if isinstance(now.read(seq), list)] == [8, 12]
        gone = [now.read(1), now.read(4), now.read(5)]
        assert all(isinstance(item, Omitted) for item in gone)
        assert read(now, 13) == frame(stream("next segment"))
        now.close()


def test_what_a_killed_host_left_half_written_is_removed(tmp_path: Path) -> None:
    three_segments(tmp_path)
    for suffix in (".new", ".now", ".part"):
        (tmp_path / f"00000002{suffix}").write_bytes(b"half")
    loaded = journal(tmp_path)
    assert check_reads(loaded) == []
    assert sorted({path.suffix for path in tmp_path.iterdir()}) == [".journal"]
    loaded.close()


def test_an_old_segment_that_came_back_is_left_out(tmp_path: Path) -> None:
    segments = three_segments(tmp_path)
    (tmp_path / "00000004.journal").write_bytes(segments[0])
    loaded = journal(tmp_path)
    assert check_reads(loaded) == []
    assert loaded.next_seq == MESSAGES + 1
    loaded.close()


def test_endless_output_never_takes_more_disk_than_the_limit(tmp_path: Path) -> None:
    limit = 1024 * 1024
    target = journal(tmp_path / "j", max_bytes=limit)
    most = 0
    for number in range(800):
        write(target, *[stream("x" * 1000) for _ in range(9)], reply(str(number)))
        most = max(most, sum(path.stat().st_size for path in (tmp_path / "j").iterdir()))
    written = target.next_seq * 1000
    assert written > 7 * limit
    assert most <= limit
    target._recent = RecentMessages()
    gone = target.read(1)
    assert isinstance(gone, Omitted)
    assert (gone.reason, gone.messages) == ("retention", 9)
    assert gone.size_bytes > 9000
    assert all(read(target, seq) for seq in range(10, 8001, 10))  # no reply is lost
    assert read(target, 7999) == frame(stream("x" * 1000))
    target.close()


@pytest.mark.parametrize(
    ("lines", "limit"),
    [
        (1, 1.25),  # each line flushed: the smallest messages that a kernel prints
        (10, 1.2),  # as a kernel collects them by itself, and smaller than it mostly does
        (200, 1.02),
    ],
)
def test_a_journal_takes_little_more_than_the_messages(
    tmp_path: Path, lines: int, limit: float
) -> None:
    """Cells that print lines of 80 characters; bytes on disk for each byte of the messages."""
    target = journal(tmp_path / "j")
    payload = 0
    for cell in range(40):
        request = UpRequest("c" * 32, cell, f"{cell:032x}_1", "execute_request", SHELL)
        target.append([up_record(request, next_seq=target.next_seq, **STAMP)])
        messages = [ordinary(cell, f"{line:080d}\n" * lines) for line in range(50)]
        payload += sum(message.size for message in messages)
        write(target, *messages)
    written = sum(path.stat().st_size for path in (tmp_path / "j").iterdir())
    assert written / payload <= limit
    target.close()


def ordinary(cell: int, text: str) -> Message:
    """A line as ipykernel sends it: headers of some 250 bytes each."""
    header = (
        b'{"msg_id":"%032x_%d_99","msg_type":"stream","username":"root","session":"%032x",'
        b'"date":"2026-01-01T00:00:00.000000Z","version":"5.4"}'
    ) % (1, 4711, 1)
    parent = (
        b'{"msg_id":"%032x_1","username":"ada","session":"%032x",'
        b'"date":"2026-01-01T00:00:00.000000Z","msg_type":"execute_request","version":"5.3"}'
    ) % (cell, 2)
    body = stream(text)
    return body._replace(header=header, parent_header=parent)
