"""``clouditia doctor``: what works, what does not, and what to do about it."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from clouditia.cli.app import Subparsers
from clouditia.cli.checks import all_findings
from clouditia.cli.output import emit, say

__all__ = ["command"]


def command(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "doctor",
        help="check this installation, the targets and their keys",
        description="Check this installation, every target with its key and certificate, and the "
        "kernelspecs. Exits with 1 if anything failed.",
    )
    parser.set_defaults(run=_doctor)


def _doctor(args: argparse.Namespace) -> int:
    findings = all_findings()
    lines = []
    for finding in findings:
        lines.append(f"{finding.status:4}  {finding.subject}: {finding.text}")
        if finding.next_step:
            lines.append(f"      -> {finding.next_step}")
    emit(args, [asdict(finding) for finding in findings], "\n".join(lines))
    failed = sum(finding.status == "fail" for finding in findings)
    warned = sum(finding.status == "warn" for finding in findings)
    say(f"{len(findings)} checks, {warned} warnings, {failed} failures")
    return 1 if failed else 0
