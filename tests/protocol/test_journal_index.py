"""The journal's index against a plain model, through rolls, compaction, damage and rebuilds."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clouditia.errors import LocalProtocolError
from clouditia.protocol.journal import (
    Kind,
    Omission,
    OmissionReason,
    Record,
    RecordReader,
    Tag,
    UpRequest,
    down_record,
    encode_record,
    epoch_record,
    exit_record,
    message_of,
    omitted_record,
    read_frame,
    recovery_record,
    up_record,
)
from clouditia.protocol.journal_index import JournalIndex, Location, SegmentIndex
from clouditia.protocol.journal_requests import KnownRequest
from clouditia.protocol.journal_retention import Level, compact_records
from clouditia.protocol.messages import Message, encode_json

RETENTION, DAMAGED = OmissionReason.RETENTION, OmissionReason.DAMAGED


def message(channel: str, msg_type: str, parent: str = "", **content: str) -> Message:
    return Message(
        channel,
        encode_json({"msg_type": msg_type}),
        encode_json({"msg_id": parent}),
        b"{}",
        encode_json(content),
    )


@dataclass
class Disk:
    """Segments in memory, the index over them, and what a reader should find."""

    segments: list[bytearray] = field(default_factory=lambda: [bytearray()])
    index: JournalIndex = field(default_factory=JournalIndex)
    texts: dict[int, str] = field(default_factory=dict)
    tags: dict[int, Tag] = field(default_factory=dict)

    def write(self, record: Record) -> None:
        frame = b"".join(encode_record(record))
        segment = self.segments[-1]
        self.index.add(record, len(self.segments) - 1, len(segment), len(frame))
        segment.extend(frame)

    def say(self, sent: Message) -> int:
        seq = self.index.next_seq
        record = down_record(sent, seq=seq, epoch=1, time_ns=seq)
        self.write(record)
        self.texts[seq] = bytes(sent.content).decode()
        self.tags[seq] = Tag(record.tag)
        return seq

    def ask(self, msg_id: str, *, client_id: str = "c", up_seq: int = 1, **kind: str) -> None:
        request = UpRequest(
            client_id,
            up_seq,
            msg_id,
            kind.get("msg_type", "execute_request"),
            kind.get("channel", "shell"),
        )
        self.write(up_record(request, next_seq=self.index.next_seq, epoch=1, time_ns=0))

    def stream(self, text: str = "x") -> int:
        return self.say(message("iopub", "stream", text=text))

    def reply(self, msg_id: str) -> int:
        return self.say(message("shell", "execute_reply", msg_id))

    def idle(self, msg_id: str) -> int:
        return self.say(message("iopub", "status", msg_id, execution_state="idle"))

    def roll(self) -> None:
        if self.segments[-1]:
            self.segments.append(bytearray())

    def compact(self, number: int, level: Level) -> None:
        records = [frame.record for frame in RecordReader(bytes(self.segments[number]))]
        segment, rebuilt = bytearray(), SegmentIndex(number)
        for record in compact_records(records, level):
            frame = b"".join(encode_record(record))
            rebuilt.add(record, len(segment), len(frame))
            segment.extend(frame)
        self.segments[number] = segment
        self.index.replace(rebuilt)

    def rebuilt(self) -> JournalIndex:
        index = JournalIndex()
        for number, segment in enumerate(self.segments):
            for frame in RecordReader(bytes(segment)):
                index.add(frame.record, number, frame.offset, frame.length)
        return index

    def text_at(self, location: Location) -> str:
        frame = read_frame(bytes(self.segments[location.segment]), location.offset)
        assert frame.length == location.length
        return bytes(message_of(frame.record).content).decode()


def walk(disk: Disk, index: JournalIndex) -> tuple[dict[int, str], list[Omission]]:
    """All readable texts, and the omissions that a reader from 1 on meets."""
    texts, omissions = {}, []
    seq = 1
    while seq < index.next_seq:
        found = index.find(seq)
        if isinstance(found, Location):
            texts[seq] = disk.text_at(found)
            seq += 1
        else:
            assert found.first == seq
            omissions.append(found)
            seq = found.last + 1
    assert seq == index.next_seq
    return texts, omissions


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("stream"), st.integers(1, 3)),
        st.tuples(st.just("show"), st.integers(1, 2)),
        st.tuples(st.just("ask"), st.integers(0, 5)),
        st.tuples(st.just("comm"), st.integers(0, 1)),
        st.tuples(st.just("reply"), st.integers(0, 5)),
        st.tuples(st.just("idle"), st.integers(0, 5)),
        st.tuples(st.just("roll"), st.just(0)),
        st.tuples(st.just("compact"), st.sampled_from(Level)),
    ),
    max_size=60,
)
DROPS = {
    Level.STREAM: {Tag.STREAM},
    Level.DISPLAY: {Tag.STREAM, Tag.DISPLAY},
    Level.ALL_BUT_OUTCOMES: {Tag.STREAM, Tag.DISPLAY, Tag.OTHER},
}


@dataclass
class Model:
    """What a plain reading of the rules says about the same steps."""

    first: dict[str, int] = field(default_factory=dict)
    replied: set[str] = field(default_factory=set)
    idle: set[str] = field(default_factory=set)
    last: dict[str, int] = field(default_factory=dict)
    up: dict[str, int] = field(default_factory=lambda: {"c": 0, "d": 0})
    gone: set[int] = field(default_factory=set)

    def answer(self, msg_id: str, seen: set[str], seq: int) -> None:
        if msg_id in self.first and msg_id not in self.last:
            seen.add(msg_id)
            if msg_id in self.replied and msg_id in self.idle:
                self.last[msg_id] = seq


def take_step(disk: Disk, model: Model, name: str, number: int, step: int) -> None:
    msg_id = f"r{number}"
    if name == "stream":
        for part in range(number):
            disk.stream(f"{step}.{part}")
    elif name == "show":
        for part in range(number):
            disk.say(message("iopub", ("display_data", "execute_input")[part], text=f"{step}"))
    elif name == "ask":
        model.up["c"] += 1
        model.first.setdefault(msg_id, disk.index.next_seq)
        disk.ask(msg_id, up_seq=model.up["c"])
    elif name == "comm":
        client_id = "cd"[number]
        model.up[client_id] += 1
        up_seq = model.up[client_id]
        disk.ask(f"comm{step}", client_id=client_id, up_seq=up_seq, msg_type="comm_msg")
    elif name == "reply":
        model.answer(msg_id, model.replied, disk.reply(msg_id))
    elif name == "idle":
        model.answer(msg_id, model.idle, disk.idle(msg_id))
    elif name == "roll":
        disk.roll()
    elif len(disk.segments) > 1 and disk.segments[-1]:
        compact_oldest(disk, model, Level(number))


def compact_oldest(disk: Disk, model: Model, level: Level) -> None:
    for number in range(len(disk.segments) - 1):
        frames = list(RecordReader(bytes(disk.segments[number])))
        down = [frame.record.seq for frame in frames if frame.record.kind == Kind.DOWN]
        drops = {seq for seq in down if disk.tags[seq] in DROPS[level]}
        if drops:
            disk.compact(number, level)
            model.gone |= drops
            return


@settings(max_examples=300)
@given(STEPS)
def test_the_index_agrees_with_a_plain_model_before_and_after_a_rebuild(
    steps: list[tuple[str, int]],
) -> None:
    disk, model = Disk(), Model()
    for step, (name, number) in enumerate(steps):
        take_step(disk, model, name, number, step)
    for index in (disk.index, disk.rebuilt()):
        assert index.next_seq == len(disk.texts) + 1
        texts, omissions = walk(disk, index)
        assert texts == {seq: text for seq, text in disk.texts.items() if seq not in model.gone}
        covered = [range(gap.first, gap.last + 1) for gap in omissions]
        assert sorted(model.gone) == [seq for numbers in covered for seq in numbers]
        assert all(
            gap.messages == len(numbers) for gap, numbers in zip(omissions, covered, strict=True)
        )
        assert all(gap.size_bytes > 0 and gap.reason is RETENTION for gap in omissions)
        assert index.size_bytes == sum(len(segment) for segment in disk.segments)
        assert index.first_seq == min(texts, default=index.next_seq)
        check_requests(index, model)


def check_requests(index: JournalIndex, model: Model) -> None:
    waiting = [msg_id for msg_id in model.first if msg_id not in model.last]
    assert [state.msg_id for state in index.unfinished()] == waiting
    for state in index.unfinished():
        assert state.first_seq == model.first[state.msg_id]
        assert state.replied is (state.msg_id in model.replied)
        assert state.idle_seen is (state.msg_id in model.idle)
    for msg_id, first in model.first.items():
        assert index.known(msg_id) == KnownRequest(first, model.last.get(msg_id))
    oldest = min([model.first[msg_id] for msg_id in waiting], default=index.next_seq)
    assert index.oldest_unfinished_seq() == oldest
    assert {client: index.received_from(client) for client in model.up} == model.up


# --- numbers ------------------------------------------------------------------------------------


def test_an_empty_journal_has_no_numbers() -> None:
    index = JournalIndex()
    assert (index.first_seq, index.next_seq, index.size_bytes, index.segments()) == (1, 1, 0, [])
    for seq in (0, 1):
        with pytest.raises(LocalProtocolError, match=f"message {seq} was asked for"):
            index.find(seq)


def test_a_number_is_never_given_twice() -> None:
    disk = Disk()
    disk.stream()
    disk.stream()
    for seq in (1, 2):
        again = down_record(message("iopub", "stream"), seq=seq, epoch=1, time_ns=0)
        with pytest.raises(LocalProtocolError, match="the next is 3"):
            disk.index.add(again, 0, 500, 10)
    gone = omitted_record(Omission(2, 9, 0, 0, DAMAGED), epoch=1, time_ns=0)
    with pytest.raises(LocalProtocolError, match="message 2 was written"):
        disk.index.add(gone, 0, 500, 10)


def test_a_segment_refuses_numbers_out_of_order_and_empty_ranges() -> None:
    segment = SegmentIndex(3)
    stream = down_record(message("iopub", "stream"), seq=5, epoch=1, time_ns=0)
    segment.add(stream, 0, 10)
    with pytest.raises(
        LocalProtocolError, match="5 to 5 were written to segment 3 after message 5"
    ):
        segment.add(stream, 10, 10)
    backwards = omitted_record(Omission(9, 8, 0, 0, DAMAGED), epoch=1, time_ns=0)
    with pytest.raises(LocalProtocolError, match="9 to 8"):
        segment.add(backwards, 10, 10)


def test_a_segment_has_nothing_outside_of_its_numbers() -> None:
    segment = SegmentIndex(3)
    assert (segment.lookup(1), segment.next_known(1)) == (None, None)
    segment.add(down_record(message("iopub", "stream"), seq=5, epoch=1, time_ns=0), 0, 10)
    assert [segment.lookup(seq) for seq in (4, 5, 6)] == [None, Location(3, 0, 10), None]
    assert [segment.next_known(seq) for seq in (4, 5)] == [5, None]


def test_segments_begin_in_order() -> None:
    index = JournalIndex()
    index.add(epoch_record(next_seq=1, epoch=1, time_ns=0), 4, 0, 40)
    with pytest.raises(LocalProtocolError, match="segment 3 begins after segment 4"):
        index.add(epoch_record(next_seq=1, epoch=1, time_ns=0), 3, 0, 40)


def test_only_closed_segments_can_be_rewritten() -> None:
    disk = Disk()
    disk.stream()
    for number in (0, 7):
        with pytest.raises(LocalProtocolError, match=f"segment {number} is not a closed one"):
            disk.index.replace(SegmentIndex(number))


def test_messages_lost_to_damage_are_one_gap_up_to_the_next_good_message() -> None:
    disk = Disk()
    for _ in range(4):
        disk.stream()
    disk.roll()
    disk.stream("five")
    cut = [frame.offset for frame in RecordReader(bytes(disk.segments[0]))][2]
    del disk.segments[0][cut:]
    index = disk.rebuilt()
    assert index.next_seq == 6
    assert index.find(3) == Omission(3, 4, 0, 0, DAMAGED)
    assert index.find(4) == Omission(4, 4, 0, 0, DAMAGED)
    assert index.find(5) == Location(1, 0, len(disk.segments[1]))


def test_a_missing_first_segment_is_a_gap() -> None:
    index = JournalIndex()
    stream = down_record(message("iopub", "stream"), seq=10, epoch=1, time_ns=0)
    index.add(stream, 5, 0, 99)
    assert index.find(1) == Omission(1, 9, 0, 0, DAMAGED)
    assert (index.first_seq, index.next_seq) == (10, 11)


def test_a_jump_within_a_segment_is_a_gap() -> None:
    disk = Disk()
    disk.stream()
    later = down_record(message("iopub", "stream"), seq=4, epoch=1, time_ns=0)
    disk.write(later)
    assert disk.index.find(2) == Omission(2, 3, 0, 0, DAMAGED)
    assert isinstance(disk.index.find(4), Location)


def test_a_request_that_names_a_later_number_shows_that_messages_are_lost() -> None:
    disk = Disk()
    disk.stream()
    request = UpRequest("c", 1, "m", "execute_request", "shell")
    disk.write(up_record(request, next_seq=8, epoch=1, time_ns=0))
    assert disk.index.next_seq == 8
    assert disk.index.find(2) == Omission(2, 7, 0, 0, DAMAGED)


def test_the_numbers_after_a_recovery_are_new() -> None:
    disk = Disk()
    disk.stream()
    disk.write(recovery_record(next_seq=2, epoch=2, time_ns=0))
    seq = disk.stream()
    assert seq == 2 + 2**20
    assert disk.index.find(1000) == Omission(1000, seq - 1, 0, 0, DAMAGED)
    assert disk.rebuilt().find(1000) == disk.index.find(1000)
    assert disk.index.epoch == 2


def test_omissions_that_meet_across_segments_are_one_gap_and_damage_is_its_reason() -> None:
    disk = Disk()
    for reason in (RETENTION, DAMAGED, RETENTION):
        first = disk.index.next_seq
        disk.write(omitted_record(Omission(first, first + 9, 10, 1000, reason), epoch=1, time_ns=0))
        disk.roll()
    disk.stream()
    assert disk.index.find(1) == Omission(1, 30, 30, 3000, DAMAGED)
    assert disk.index.find(6) == Omission(6, 30, 25, 2500, DAMAGED)
    assert disk.index.find(21) == Omission(21, 30, 10, 1000, RETENTION)
    assert disk.index.first_seq == 31


def test_a_record_of_a_later_version_is_passed_over() -> None:
    disk = Disk()
    disk.stream()
    disk.write(Record(77, 2, 1, 5, (b"what is this",)))
    disk.write(Record(Kind.DOWN, 2, 1, 6, (b"".join(bytes(p) for p in _parts("x")),), tag=200))
    assert disk.index.next_seq == 3
    assert isinstance(disk.index.find(2), Location)
    segment = disk.index.segments()[0]
    assert segment.size_bytes == len(disk.segments[0])
    assert segment.tag_bytes[Tag.NOTICE] > 0


def _parts(text: str) -> list[bytes]:
    record = down_record(message("iopub", "new", text=text), seq=1, epoch=1, time_ns=0)
    return [bytes(part) for part in record.payload]


def test_a_segment_that_begins_before_the_one_before_is_refused() -> None:
    disk = Disk()
    disk.stream("a")
    disk.stream("b")
    old = epoch_record(next_seq=1, epoch=1, time_ns=0)
    newest = disk.index.segments()[-1].number
    disk.index.add(epoch_record(next_seq=3, epoch=1, time_ns=0), newest + 1, 0, 40)
    with pytest.raises(LocalProtocolError, match="begins at message 1"):
        disk.index.add(old, newest + 2, 0, 40)
    disk.index.add(epoch_record(next_seq=3, epoch=1, time_ns=0), newest + 2, 0, 40)
    assert isinstance(disk.index.find(1), Location)


def test_a_segment_knows_its_age_and_what_it_holds() -> None:
    segment = SegmentIndex(0)
    for seq, (msg_type, time_ns, length) in enumerate(
        [("stream", 50, 10), ("stream", 70, 20), ("error", 60, 5)], 1
    ):
        sent = message("iopub", msg_type)
        segment.add(down_record(sent, seq=seq, epoch=1, time_ns=time_ns), 0, length)
    assert (segment.oldest_ns, segment.newest_ns, segment.size_bytes) == (50, 70, 35)
    assert (segment.first_seq, segment.last_seq) == (1, 3)
    assert segment.tag_bytes[Tag.STREAM] == 30
    assert segment.tag_bytes[Tag.ERROR] == 5


def test_a_million_lines_cost_a_few_bytes_each() -> None:
    record = down_record(message("iopub", "stream"), seq=1, epoch=1, time_ns=0)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    index = JournalIndex()
    count = 50_000
    for seq in range(1, count + 1):
        index.add(record._replace(seq=seq), seq // 10_000, seq * 500, 500)
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert used / count < 12
    assert index.find(count) == Location(5, count * 500, 500)


# --- epochs -------------------------------------------------------------------------------------


def test_an_exit_is_remembered_until_the_next_kernel_begins() -> None:
    disk = Disk()
    seen: list[tuple[int, object]] = []
    for record in (
        epoch_record(next_seq=1, epoch=1, time_ns=0),
        exit_record({"signal": 9}, next_seq=1, epoch=1, time_ns=0),
        epoch_record(next_seq=1, epoch=2, time_ns=0),
    ):
        disk.write(record)
        seen.append((disk.index.epoch, disk.index.exit_facts))
        assert disk.rebuilt().exit_facts == disk.index.exit_facts
    assert seen == [(1, None), (1, {"signal": 9}), (2, None)]


def test_a_request_stays_unfinished_after_an_exit_until_somebody_answers_it() -> None:
    disk = Disk()
    disk.ask("r")
    disk.write(exit_record({}, next_seq=1, epoch=1, time_ns=0))
    disk.write(epoch_record(next_seq=1, epoch=2, time_ns=0))
    assert [(state.msg_id, state.epoch) for state in disk.rebuilt().unfinished()] == [("r", 1)]
    disk.reply("r")
    disk.idle("r")
    assert disk.rebuilt().unfinished() == []
