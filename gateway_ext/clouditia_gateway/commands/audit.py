"""``clouditia audit show|verify``, on the machine of the gateway."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clouditia.errors import ConfigError
from clouditia.protocol.audit_chain import Head, Report, check
from clouditia.protocol.audit_record import parse_record
from clouditia_gateway.audit.files import AuditFiles, torn_bytes, whole_lines
from clouditia_gateway.config import default_state_dir

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clouditia.protocol.audit_record import Record

    Subparsers = argparse._SubParsersAction[Any]  # noqa: SLF001  (argparse names it in no other way)


def command(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "audit",
        help="read and verify the audit log of a gateway",
        description="The audit log of the gateway on this machine: who made keys, started and "
        "ended kernels, and what was refused. Each line holds the hash of the line before it.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    verify = actions.add_parser(
        "verify", help="name the first line that was edited, deleted or inserted; 1 if there is one"
    )
    verify.add_argument(
        "--head",
        metavar="N:SHA256",
        help="what an earlier `audit verify` printed and you kept elsewhere: must still be there",
    )
    verify.set_defaults(run=_verify)
    show = actions.add_parser("show", help="print the events, oldest first")
    show.add_argument("--last", type=int, metavar="N", help="only the last N")
    show.set_defaults(run=_show)
    for action in (verify, show):
        action.add_argument("--state-dir", type=Path, help="the gateway's state directory")


def _files(args: argparse.Namespace) -> AuditFiles:
    files = AuditFiles(args.state_dir or default_state_dir())
    if not files.directory.is_dir() or not (files.parts() or files.head.exists()):
        raise ConfigError(
            f"there is no audit log in {files.directory}", hint="--state-dir names another one."
        )
    return files


def _verify(args: argparse.Namespace) -> int:
    files = _files(args)
    remembered = _remembered(args.head)
    report = check(whole_lines(files.parts()), files.kept_head())
    if report.fault is None and remembered is not None:
        report = _held_against(remembered, files, report)
    torn = torn_bytes(files.current)
    if args.json:
        print(json.dumps(_as_json(report, torn)))
    else:
        _say(report, torn, has_head=files.kept_head() is not None)
    return 1 if report.fault else 0


def _remembered(text: str | None) -> Head | None:
    if text is None:
        return None
    number, _, sha256 = text.partition(":")
    if not number.isdigit() or len(sha256) != 64:
        raise ConfigError(f"--head is NUMBER:SHA256 as `audit verify` prints it, not {text!r}")
    return Head(int(number), sha256)


def _held_against(remembered: Head, files: AuditFiles, report: Report) -> Report:
    """A sound chain may still be another one than before: written anew from some line on."""
    if remembered.number < report.first:
        return report  # that part was removed; the chain vouches for it
    lines = (line for line in whole_lines(files.parts()) if _number(line) <= remembered.number)
    return check(lines, remembered)


def _number(line: bytes) -> int:
    record = parse_record(line)
    return 0 if record is None else record.number


def _as_json(report: Report, torn: int) -> dict[str, object]:
    return {
        "first": report.first,
        "last": report.head.number,
        "sha256": report.head.sha256,
        "fault": None if report.fault is None else report.fault._asdict(),
        "torn_lines": report.torn,
        "lost_events": report.lost,
        "torn_bytes_at_the_end": torn,
    }


def _say(report: Report, torn: int, *, has_head: bool) -> None:
    if report.fault is not None:
        print(f"line {report.fault.line} was {report.fault.kind}: {report.fault.text}")
        return
    print(f"lines {report.first} to {report.head.number} are as they were written")
    print(f"head {report.head.number}:{report.head.sha256}")
    notes = [
        (report.torn, f"{report.torn} lines were cut short by a crash, and say so"),
        (report.lost, f"{report.lost} events could not be written, and are only counted"),
        (torn, f"the last {torn} bytes are a line cut short; the next event will say so"),
        (not has_head, "audit.head is missing: whether lines are gone at the end is not known"),
    ]
    for applies, text in notes:
        if applies:
            print(f"note: {text}", file=sys.stderr)


def _show(args: argparse.Namespace) -> int:
    records = list(_records(_files(args)))
    for record in records[-args.last :] if args.last else records:
        if args.json:
            line = {"n": record.number, "at": record.at, "event": record.event, **record.fields}
            print(json.dumps(line))
        else:
            words = " ".join(f"{name}={_word(value)}" for name, value in record.fields.items())
            print(f"{record.number:6} {record.at[:19]}Z {record.event:18} {words}")
    return 0


def _records(files: AuditFiles) -> Iterator[Record]:
    for line in whole_lines(files.parts()):
        record = parse_record(line)
        if record is not None:
            yield record


def _word(value: object) -> str:
    """A value as JSON, which holds no control characters; plain words without quotes."""
    text = json.dumps(value)
    is_plain = isinstance(value, str) and value and text == f'"{value}"' and " " not in value
    return str(value) if is_plain else text
