"""The audit log on real files: several writers, torn lines, full disks, parts put aside."""

from __future__ import annotations

import contextvars
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from clouditia.protocol import audit_chain
from clouditia.protocol.audit_chain import Report, check
from clouditia_gateway.audit import caller
from clouditia_gateway.audit.files import AuditFiles, torn_bytes, whole_lines
from clouditia_gateway.audit.log import AuditLog
from clouditia_gateway.audit.sparing import Sparing


def report_of(directory: Path) -> Report:
    files = AuditFiles(directory)
    return check(whole_lines(files.parts()), files.kept_head())


def events_of(directory: Path) -> list[str]:
    return [json.loads(line)["event"] for line in whole_lines(AuditFiles(directory).parts())]


def test_events_are_chained_and_private_and_name_the_caller(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    # A context of their own each: tests of requests may have left an address in this one.
    contextvars.Context().run(log.record, "key_created", user="ada", is_admin=False)
    context = contextvars.Context()
    context.run(caller.address.set, "192.0.2.7")
    context.run(log.record, "kernel_started", user="ada")
    assert report_of(tmp_path)[:3] == (1, AuditFiles(tmp_path).kept_head(), None)
    lines = [json.loads(line) for line in whole_lines([tmp_path / "audit.jsonl"])]
    assert "from" not in lines[0]
    assert lines[1]["from"] == "192.0.2.7"
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600


def test_writers_in_several_threads_make_one_chain(tmp_path: Path) -> None:
    def write() -> None:
        own = AuditLog(tmp_path)
        for _ in range(25):
            own.record("event")

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = report_of(tmp_path)
    assert (report.head.number, report.fault) == (100, None)


def test_a_torn_line_is_mended_by_a_marker_and_stays(tmp_path: Path) -> None:
    AuditLog(tmp_path).record("first")
    torn = b'{"n":2,"at":"2026'
    path = tmp_path / "audit.jsonl"
    with path.open("ab") as file:
        file.write(torn)
    assert torn_bytes(path) == len(torn)
    assert report_of(tmp_path).fault is None
    AuditLog(tmp_path).record("second")
    report = report_of(tmp_path)
    assert (report.head.number, report.torn, report.fault) == (3, 1, None)
    assert torn in path.read_bytes()
    assert torn_bytes(path) == 0


def test_a_writer_that_died_before_the_head_is_caught_up_with_and_it_says_so(
    tmp_path: Path,
) -> None:
    log = AuditLog(tmp_path)
    log.record("first")
    head = (tmp_path / "audit.head").read_bytes()
    log.record("second")
    (tmp_path / "audit.head").write_bytes(head)
    log.record("third")
    assert events_of(tmp_path) == ["first", "second", audit_chain.RECOVERED, "third"]
    assert report_of(tmp_path).fault is None


def test_a_line_that_somebody_else_put_at_the_end_stays_a_fault(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    log.record("first")
    with (tmp_path / "audit.jsonl").open("ab") as file:
        file.write(b'{"n":2,"at":"","event":"forged","prev":"x"}\n')
    log.record("second")
    fault = report_of(tmp_path).fault
    assert fault is not None
    assert (fault.line, fault.kind) == (2, "inserted")


def test_a_cut_end_is_noticed_even_when_the_log_goes_on(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    for _ in range(4):
        log.record("event")
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    assert report_of(tmp_path).fault == (3, "deleted", "lines 3 to 4 are missing")
    log.record("event")
    assert report_of(tmp_path).fault == (3, "deleted", "lines 3 to 4 are missing")


def test_full_parts_are_put_aside_and_the_oldest_go_with_a_marker(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, max_part_bytes=1000, max_parts=2)
    for number in range(60):
        log.record("event", number=number)
    assert len(AuditFiles(tmp_path).rotated()) == 2
    report = report_of(tmp_path)
    assert report.fault is None
    assert report.first > 30
    AuditFiles(tmp_path).rotated()[0].unlink()
    fault = report_of(tmp_path).fault
    assert fault is not None
    assert (fault.line, fault.kind) == (1, "deleted")


def test_a_full_disk_stops_nothing_is_said_once_and_told_by_a_marker(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In a process that may write 4 KiB at most: the system's own limit, with its own error."""
    code = """
import logging, resource, signal, sys
from pathlib import Path
from clouditia_gateway.audit.log import AuditLog
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(message)s")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = AuditLog(Path(sys.argv[1]))
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
for number in range(60):
    log.record("event", number=number, text="x" * 100)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
log.record("event", number=60)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.count("ERROR the audit log cannot be written") == 1
    report = report_of(tmp_path)
    assert report.fault is None
    assert 10 < report.head.number < 40
    assert report.lost == 60 - (report.head.number - 2)
    assert f"{report.lost} events are lost" in done.stdout
    assert events_of(tmp_path)[-2:] == [audit_chain.LOST, "event"]


def test_refusals_beyond_sixty_a_minute_are_counted_and_not_listed(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    for _ in range(200):
        log.refused("login_refused")
    assert 60 <= len(events_of(tmp_path)) <= 65  # a slow machine earns a few more
    assert os.path.getsize(tmp_path / "audit.jsonl") < 20_000


def test_the_number_of_refusals_that_got_no_line_is_told_by_the_next_that_does() -> None:
    sparing = Sparing(per_minute=2)
    assert [sparing.count(0.0) for _ in range(5)] == [0, 0, None, None, None]
    assert sparing.count(29.0) is None
    assert sparing.count(31.0) == 4
    assert sparing.count(1000.0) == 0
    assert sparing.count(1000.0) == 0
    assert sparing.count(1000.0) is None
