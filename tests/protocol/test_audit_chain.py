"""The chain names the first line that was edited, deleted or inserted, wherever that is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clouditia.protocol.audit_chain import (
    DROPPED,
    LOST,
    MAX_TEXT_CHARS,
    START,
    TORN,
    Head,
    Report,
    check,
    digest,
    next_line,
)
from clouditia.protocol.audit_record import MAX_LINE_BYTES, parse_record

AT = "2026-01-01T00:00:00.000000Z"


def chain(count: int, head: Head = START) -> tuple[list[bytes], Head]:
    lines = []
    for index in range(count):
        line, head = next_line(head, AT, "key_created", {"user": f"u{index}"})
        lines.append(line)
    return lines, head


def fault_of(report: Report) -> tuple[int, str] | None:
    return None if report.fault is None else (report.fault.line, report.fault.kind)


def edited(line: bytes) -> bytes:
    return line.replace(b'"user":"u', b'"user":"x')


def test_an_untouched_log_is_sound() -> None:
    lines, head = chain(5)
    assert check(lines, head) == Report(1, head)
    assert check([], START) == check([], None) == Report(0, START)
    assert [parse_record(line).number for line in lines] == [1, 2, 3, 4, 5]  # type: ignore[union-attr]


@pytest.mark.parametrize("index", range(5))
def test_an_edited_line_is_named(index: int) -> None:
    lines, head = chain(5)
    lines[index] = edited(lines[index])
    assert fault_of(check(lines, head)) == (index + 1, "edited")
    if index < 3:  # without the head, what follows the last lines is not known
        assert fault_of(check(lines, None)) == (index + 1, "edited")


@pytest.mark.parametrize("index", range(5))
def test_a_line_that_no_longer_is_one_is_named(index: int) -> None:
    lines, head = chain(5)
    lines[index] = b"{" + lines[index]
    assert fault_of(check(lines, head)) == (index + 1, "edited")


@pytest.mark.parametrize("first", range(5))
@pytest.mark.parametrize("count", [1, 2, 5])
def test_deleted_lines_are_named(first: int, count: int) -> None:
    lines, head = chain(5)
    del lines[first : first + count]
    report = check(lines, head)
    assert fault_of(report) == (first + 1, "deleted")
    assert report.fault is not None
    last = min(5, first + count)
    assert report.fault.text == (
        f"line {last} is missing"
        if last == first + 1
        else f"lines {first + 1} to {last} are missing"
    )


@pytest.mark.parametrize("index", range(6))
def test_an_inserted_line_is_named(index: int) -> None:
    lines, head = chain(5)
    before = START if index == 0 else Head(index, digest(lines[index - 1]))
    forged, _ = next_line(before, AT, "key_revoked", {})
    lines.insert(index, forged)
    found = fault_of(check([*lines, *([] if index < 5 else [forged])], head))
    assert found is not None
    assert found in {(index + 1, "inserted"), (index + 2, "inserted")}


@pytest.mark.parametrize("index", range(5))
def test_text_between_two_lines_is_named(index: int) -> None:
    lines, head = chain(5)
    lines.insert(index, b"no event")
    assert fault_of(check(lines, head)) == (index + 1, "inserted")


def test_a_line_whose_link_was_edited_is_named_itself() -> None:
    lines, head = chain(5)
    lines[2] = lines[2].replace(digest(lines[1]).encode(), b"f" * 64)
    assert fault_of(check(lines, head)) == (3, "edited")


def test_a_chain_that_was_written_anew_from_some_line_on_is_not_the_kept_one() -> None:
    lines, head = chain(5)
    forged = edited(lines[3])
    last, _ = next_line(Head(4, digest(forged)), AT, "key_created", {})
    assert fault_of(check([*lines[:3], forged, last], head)) == (5, "edited")


def test_one_line_beyond_the_head_is_that_of_a_writer_that_died_and_two_are_not() -> None:
    lines, _ = chain(5)
    assert fault_of(check(lines, Head(4, digest(lines[3])))) is None
    assert fault_of(check(lines, Head(3, digest(lines[2])))) == (5, "inserted")
    assert fault_of(check(lines, Head(4, "0" * 64))) == (4, "edited")


def test_a_torn_line_is_sound_where_a_marker_vouches_for_it() -> None:
    lines, head = chain(2)
    torn = b'{"n":3,"at":"20'
    marker, head = next_line(head, AT, TORN, {"bytes": len(torn), "sha256": digest(torn)})
    more, head = chain(2, head)
    assert check([*lines, torn, marker, *more], head) == Report(1, head, None, torn=1)
    assert fault_of(check([*lines, torn + b"x", marker, *more], head)) == (3, "inserted")
    assert fault_of(check([*lines, torn, *more], head)) == (3, "edited")
    assert fault_of(check([*lines, torn, torn, marker, *more], head)) == (3, "edited")


@pytest.mark.parametrize("what", ["number", "prev", "event"])
def test_only_the_right_marker_in_the_right_place_vouches_for_a_torn_line(what: str) -> None:
    lines, head = chain(2)
    torn = b"torn"
    wrong_head = {"number": Head(7, head.sha256), "prev": Head(2, "f" * 64)}.get(what, head)
    event = "key_created" if what == "event" else TORN
    marker, _ = next_line(wrong_head, AT, event, {"sha256": digest(torn)})
    report = check([*lines, torn, marker], None)
    assert report.torn == 0
    assert report.fault is not None
    assert report.fault.line == 3


def test_a_line_with_another_number_is_named() -> None:
    lines, head = chain(4)
    skipping, _ = next_line(Head(head.number + 1, head.sha256), AT, "key_created", {})
    assert fault_of(check([*lines, skipping], None)) == (5, "edited")


def test_events_that_could_not_be_written_are_counted() -> None:
    lines, head = chain(1)
    for count in (3, 4):
        marker, head = next_line(head, AT, LOST, {"events": count})
        lines.append(marker)
    assert check(lines, head).lost == 7


def test_removed_parts_are_sound_where_the_right_marker_says_so() -> None:
    lines, head = chain(6)
    for last, sha256, expected in (
        (3, digest(lines[2]), None),
        (3, digest(lines[1]), (1, "deleted")),
        (2, digest(lines[2]), (1, "deleted")),
    ):
        marker, end = next_line(head, AT, DROPPED, {"last": last, "sha256": sha256})
        report = check([*lines[3:], marker], end)
        assert fault_of(report) == expected
        assert report.first == 4
    assert fault_of(check(lines[3:], head)) == (1, "deleted")


def test_of_several_markers_for_removed_parts_the_one_that_fits_counts() -> None:
    """The last part of them may still be there: a writer may die between marker and removal."""
    lines, head = chain(6)
    for last in (2, 3):
        marker, head = next_line(
            head, AT, DROPPED, {"last": last, "sha256": digest(lines[last - 1])}
        )
        lines.append(marker)
    assert fault_of(check(lines[3:], head)) is None
    assert fault_of(check(lines[2:], head)) is None
    assert fault_of(check(lines[1:], head)) == (1, "deleted")


def test_a_head_is_read_back_and_nothing_else_is() -> None:
    _, head = chain(3)
    assert Head.decode(head.encode()) == head
    assert len(START.encode()) == len(Head(10**19, head.sha256).encode())
    raw = head.encode()
    wrong = [b"", b"x" * 86, raw[:-1], raw + b" ", raw[:40] + b"\n", b"-" + raw[1:]]
    for other in [*wrong, raw[:20] + b"_" + raw[21:]]:
        assert Head.decode(other) is None


@pytest.mark.parametrize(
    "change",
    [{"n": 0}, {"n": True}, {"n": "1"}, {"at": 1}, {"event": None}, {"prev": 2}],
    ids=str,
)
def test_what_lacks_a_field_is_no_record(change: dict[str, object]) -> None:
    line, _ = next_line(START, AT, "e", {})
    assert parse_record(line) is not None
    assert parse_record(json.dumps({**json.loads(line), **change}).encode()) is None


@pytest.mark.parametrize("raw", [b"", b"[]", b"3", b"\xff", b"[" * 10_000, b"{}"], ids=repr)
def test_what_is_no_object_is_no_record(raw: bytes) -> None:
    assert parse_record(raw) is None


def test_a_line_beyond_the_limit_is_no_record() -> None:
    line, _ = next_line(START, AT, "e", {})
    assert parse_record(line + b" " * (MAX_LINE_BYTES - len(line))) is not None
    assert parse_record(line + b" " * (MAX_LINE_BYTES + 1 - len(line))) is None


def test_no_text_makes_a_line_long_and_other_values_stay_what_they_are() -> None:
    line, _ = next_line(START, AT, "e", {"a": "x" * 10_000, "b": None, "c": True, "d": 7, "e": [1]})
    record = parse_record(line)
    assert record is not None
    assert record.fields == {
        "a": "x" * (MAX_TEXT_CHARS - 1) + "…",
        "b": None,
        "c": True,
        "d": 7,
        "e": "[1]",
    }
    exact, _ = next_line(START, AT, "e", {"a": "x" * MAX_TEXT_CHARS})
    assert json.loads(exact)["a"] == "x" * MAX_TEXT_CHARS


@given(
    st.integers(1, 12),
    st.lists(
        st.tuples(st.integers(0, 11), st.sampled_from("ide"), st.binary(max_size=20)), max_size=3
    ),
)
def test_whatever_is_done_to_the_lines_shows(
    count: int, deeds: list[tuple[int, str, bytes]]
) -> None:
    lines, head = chain(count)
    changed = list(lines)
    for where, kind, junk in deeds:
        where %= len(changed) + 1
        junk = junk.replace(b"\n", b"")
        if kind == "i":
            changed.insert(where, junk)
        elif where < len(changed):
            changed[where : where + 1] = [] if kind == "d" else [junk]
    report = check(changed, head)
    assert (report.fault is None) == (changed == lines)
    if report.fault is not None:
        untouched = 0
        while untouched < len(lines) and changed[untouched : untouched + 1] == [lines[untouched]]:
            untouched += 1
        assert report.fault.line == untouched + 1
