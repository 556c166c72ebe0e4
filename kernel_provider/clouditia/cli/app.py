"""Finding, loading and running one command; turning its errors into text and an exit code.

A command is a function ``command(subparsers) -> None`` that adds one parser whose defaults hold
``run``, a function of the parsed arguments that returns the exit code. Other packages add commands
through the entry-point group ``clouditia.commands``.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeAlias

from clouditia import __version__
from clouditia.errors import ClouditiaError, ConfigError, ExecutionError
from clouditia.terminal_text import TerminalFilter, visible

__all__ = ["CommandParser", "Subparsers", "build_parser", "run_command"]

ENTRY_POINTS = "clouditia.commands"

#: Name, module and one line of help; the help of ``clouditia`` imports none of the modules.
BUILT_IN = {
    "login": ("clouditia.cli.login", "add a gateway and its kernels"),
    "run": ("clouditia.cli.run", "run a notebook or a script on a remote kernel"),
    "kernels": ("clouditia.cli.kernels", "list, attach to and stop remote kernels"),
    "attach": ("clouditia.cli.attach", "show the live output of a running kernel"),
    "kernelspec": ("clouditia.cli.kernelspec", "write, list and remove kernelspecs"),
    "target": ("clouditia.cli.target", "list and remove gateways"),
    "doctor": ("clouditia.cli.doctor", "check this installation, the targets and their keys"),
}
#: One line of help for the commands that our own other packages add.
_KNOWN_EXTERNAL = {
    "audit": "read and verify the audit log of a gateway",
    "gateway": "start or stop a gateway on this machine",
    "keys": "create, list and revoke API keys of a gateway",
}


class CommandParser(argparse.ArgumentParser):
    """Takes ``--json`` and ``--debug`` at every level, unless a command defines its own."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("conflict_handler", "resolve")
        options.setdefault("allow_abbrev", False)
        super().__init__(**options)
        self.add_argument(
            "--json",
            action="store_true",
            default=argparse.SUPPRESS,
            help="print data as JSON on standard output",
        )
        self.add_argument(
            "--debug",
            action="store_true",
            default=argparse.SUPPRESS,
            help="show tracebacks and log lines",
        )


#: What ``add_subparsers`` returns; argparse gives it no public name.
Subparsers: TypeAlias = "argparse._SubParsersAction[CommandParser]"  # noqa: SLF001


def run_command(argv: Sequence[str] | None = None) -> int:
    """Parse and run one command line.

    Args:
        argv: Arguments without the program's name; default: those of this process.

    Returns:
        The exit code: 0, the one of the error's class, or 130 after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _never_fail_to_print()
    wants_json, wants_debug = "--json" in arguments, "--debug" in arguments
    try:
        parser = build_parser(_command_name(arguments))
        args = parser.parse_args(arguments)
        if not hasattr(args, "run"):
            parser.parse_args([*arguments, "--help"])
        return int(args.run(args))
    except ClouditiaError as exc:
        if wants_debug:
            raise
        return _report(exc, wants_json=wants_json)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output left, as `head` does; nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as exc:  # the border of the program
        if wants_debug:
            raise
        what = f"{type(exc).__name__}: {exc}"
        return _report(
            ClouditiaError(f"internal error: {what}", hint="See more with --debug."),
            wants_json=wants_json,
        )


def build_parser(command: str | None = None) -> CommandParser:
    """The parser for one command, with all others named in its help.

    Args:
        command: The only command to load; None loads none.
    """
    parser = CommandParser(
        prog="clouditia",
        description="A GPU behind the notebook you already use.",
        epilog="Exit codes are listed in the documentation of clouditia.errors.",
    )
    parser.set_defaults(json=False, debug=False)
    parser.add_argument("--version", action="version", version=f"clouditia {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (_module, text) in BUILT_IN.items():
        if name != command:
            subparsers.add_parser(name, help=text)
    if command in BUILT_IN:
        importlib.import_module(BUILT_IN[command][0]).command(subparsers)
        return parser
    for entry_point in entry_points(group=ENTRY_POINTS):
        if entry_point.name == command:
            _load(entry_point)(subparsers)
        else:
            text = _KNOWN_EXTERNAL.get(entry_point.name, f"(from {entry_point.module})")
            subparsers.add_parser(entry_point.name, help=text)
    return parser


def _command_name(arguments: Sequence[str]) -> str | None:
    """The first word; all options before it are flags."""
    return next((word for word in arguments if not word.startswith("-")), None)


def _load(entry_point: EntryPoint) -> Callable[[Subparsers], None]:
    try:
        loaded: Callable[[Subparsers], None] = entry_point.load()
    except ImportError as exc:
        raise ConfigError(
            f"the command {entry_point.name!r} cannot be loaded: {exc}",
            hint="Install what it needs with: pip install 'clouditia[gateway]'",
        ) from exc
    return loaded


def _report(error: ClouditiaError, *, wants_json: bool) -> int:
    if wants_json:
        print(json.dumps({"error": error.to_wire()}))
    else:
        # A traceback of a cell may be coloured; all else is a sentence.
        is_output = isinstance(error, ExecutionError)
        message = error.message if is_output else visible(error.message, keep_lines=True)
        print(f"clouditia: {TerminalFilter().feed(message)}", file=sys.stderr)
        if error.hint:
            print(f"  {visible(error.hint)}", file=sys.stderr)
    return error.exit_code


def _never_fail_to_print() -> None:
    """Consoles that lack a character get a replacement instead of an exception."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            with contextlib.suppress(ValueError):
                reconfigure(errors="backslashreplace")
