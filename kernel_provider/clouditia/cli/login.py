"""``clouditia login``: add a gateway, check it, and write its kernelspecs."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from pathlib import Path
from typing import Any, Literal

from clouditia.cli.app import Subparsers
from clouditia.cli.output import emit, say
from clouditia.errors import AuthenticationError, ClouditiaError, ConfigError
from clouditia.kernelspecs import SyncReport, sync_specs
from clouditia.rest import GatewayClient
from clouditia.settings import (
    EMBEDDED,
    ENVIRONMENT,
    Target,
    check_key,
    read_key_file,
    save_target,
    store_key,
)
from clouditia.transport.tls import normalize_pin

__all__ = ["command", "login"]


def command(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "login",
        help="add a gateway and its kernels",
        description="Add a gateway under a name, check its certificate and your key, and write "
        "a kernelspec for each of its kernels. The key comes from --key-file, from "
        "CLOUDITIA_API_KEY or from a prompt, never from the command line.",
    )
    parser.add_argument("url", metavar="URL", help="https://host:port or https://host/prefix")
    parser.add_argument("--name", required=True, help="what kernelspecs and commands call it")
    parser.add_argument("--key-file", type=Path, help="file that holds the API key (mode 0600)")
    trust = parser.add_mutually_exclusive_group()
    trust.add_argument("--ca-file", type=Path, help="PEM file of the authorities to trust")
    trust.add_argument("--pin", help="SHA-256 of the only certificate to trust")
    parser.add_argument(
        "--on-close",
        choices=["shutdown", "detach"],
        default="shutdown",
        help="what closing a notebook in VS Code does to its kernel (default: shutdown)",
    )
    parser.add_argument(
        "--no-provisioner",
        action="store_true",
        help="write kernelspecs that a Python without Clouditia can list, too",
    )
    parser.set_defaults(run=login)


def login(args: argparse.Namespace) -> int:
    """Do it; nothing is written unless everything was right."""
    target = _target(args)
    key = _read_key(args.key_file)
    client = GatewayClient(target, key=key)
    info = _info(client, target)
    user = _user(client.me())
    kernelspecs = client.kernelspecs()
    key_file = store_key(target.name, key)
    save_target(_with_key_file(target, key_file))
    report = sync_specs(target.name, kernelspecs, provisioner=not args.no_provisioner)
    _print(args, target, info, user, report)
    return 0


def _target(args: argparse.Namespace) -> Target:
    on_close: Literal["shutdown", "detach"] = args.on_close
    target = Target(
        args.name,
        args.url,
        ca_file=args.ca_file.absolute() if args.ca_file else None,
        pin=normalize_pin(args.pin) if args.pin else None,
        on_close=on_close,
    )
    if target.name in (EMBEDDED, ENVIRONMENT):
        raise ConfigError(f"the name {target.name!r} is reserved", hint="Choose another --name.")
    return target


def _with_key_file(target: Target, key_file: Path) -> Target:
    from dataclasses import replace

    return replace(target, key_file=key_file)


def _read_key(key_file: Path | None) -> str:
    if key_file is not None:
        return read_key_file(key_file)
    given = os.environ.get("CLOUDITIA_API_KEY")
    if given:
        return check_key(given, "CLOUDITIA_API_KEY")
    if not sys.stdin.isatty():
        raise AuthenticationError(
            "no key was given and there is no terminal to ask at",
            hint="Use --key-file FILE, or set CLOUDITIA_API_KEY.",
        )
    return check_key(getpass.getpass("API key (it is not shown): "), "the prompt")


def _info(client: GatewayClient, target: Target) -> dict[str, Any]:
    try:
        return client.info()
    except ClouditiaError as exc:
        if exc.details.get("http_status") != 404:
            raise
        raise ConfigError(
            f"{target.url} answers, but it is no Clouditia gateway (404). A stock Jupyter server "
            "as a target comes with the next release",
            hint="Check the URL: a gateway behind a proxy may have a prefix.",
        ) from exc


def _user(me: dict[str, Any]) -> str:
    identity = me.get("identity")
    return str(identity.get("username", "")) if isinstance(identity, dict) else ""


def _print(
    args: argparse.Namespace, target: Target, info: dict[str, Any], user: str, report: SyncReport
) -> None:
    names = sorted([*report.written, *report.unchanged])
    data = {
        "target": target.name,
        "url": target.url,
        "user": user,
        "version": info.get("version"),
        "kernelspecs": names,
        "removed": report.removed,
        "skipped": report.skipped,
    }
    emit(args, data, "")
    say(f"Logged in to {target.url} as {user}; it is now the target {target.name!r}.")
    for name in names:
        say(f"  kernelspec {name}")
    for name, why in report.skipped.items():
        say(f"  left out {name}: {why}")
    say(
        "Pick one of these kernels in JupyterLab or VS Code, or try: "
        f"clouditia run NOTEBOOK.ipynb --target {target.name}"
    )
