"""Write ``docs/cli.md`` from the help of every command (``--check`` only compares)."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
COLUMNS = "96"
INTRODUCTION = """\
# Commands

Written by `make docs` from the commands themselves. Data goes to standard output, talk to
standard error.
"""


def main() -> int:
    """Write the page, or exit 1 when it is not what the commands say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    is_check = parser.parse_args().check
    page = render()
    if is_check and page != PAGE.read_text(encoding="utf-8"):
        print(f"docs/{PAGE.name} is not what the commands say: run `make docs`")
        return 1
    if not is_check:
        PAGE.write_text(page, encoding="utf-8")
    return 0


def render() -> str:
    """The whole page."""
    from clouditia.cli.app import build_parser

    os.environ["COLUMNS"] = COLUMNS
    sections = [INTRODUCTION]
    for name in subcommands(build_parser()):
        sections += describe(subcommands(build_parser(name))[name])
    return "\n".join(sections)


def describe(command: argparse.ArgumentParser) -> list[str]:
    """A section for one command and one for each of its actions."""
    level = "##" if command.prog.count(" ") == 1 else "###"
    sections = [f"{level} {command.prog}\n\n```\n{command.format_help().rstrip()}\n```\n"]
    for action in subcommands(command).values():
        sections += describe(action)
    return sections


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Parsers of the next level by name."""
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:  # noqa: SLF001  (argparse has no public way to list them)
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            found.update(action.choices)
    return found


if __name__ == "__main__":
    sys.exit(main())
