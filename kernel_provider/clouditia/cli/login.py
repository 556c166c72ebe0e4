"""``clouditia login``: add a gateway or a stock server, check it, and write its kernelspecs."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from clouditia.cli.app import Subparsers
from clouditia.cli.limits import tell_policy
from clouditia.cli.output import emit, say
from clouditia.errors import AuthenticationError, ConfigError
from clouditia.kernelspecs import SyncReport, sync_specs
from clouditia.rest import GatewayClient
from clouditia.settings import (
    EMBEDDED,
    ENVIRONMENT,
    KEY_PREFIXES,
    Target,
    check_key,
    read_key_file,
    save_target,
    store_key,
)
from clouditia.transport.tls import normalize_pin

__all__ = ["command", "login"]

#: What a stock server lacks, said once: here.
_PLAIN = """\
{url} is a stock server ({version}), now the target {name!r}. Its kernels work \
in every front end; what only a Clouditia gateway can do:
  - keep output for sure while the connection is away: a stock server keeps it for its only client,
    and drops what exceeds its rate limit; a reply that is lost shows as an error, never as a hang
  - keep kernels when the server stops
  - take more than 10 MiB in one message
  - keep users apart: whoever has the token sees every kernel"""


def command(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "login",
        help="add a gateway and its kernels",
        description="Add a gateway under a name, check its certificate and your key, and write "
        "a kernelspec for each of its kernels. The key comes from --key-file, from "
        "CLOUDITIA_API_KEY or from a prompt, never from the command line. The URL may also be that "
        "of a stock Jupyter server or an Enterprise Gateway, with its token as the key.",
    )
    parser.add_argument("url", metavar="URL", help="https://host:port or https://host/prefix")
    parser.add_argument("--name", required=True, help="what kernelspecs and commands call it")
    keys = parser.add_mutually_exclusive_group()
    keys.add_argument("--key-file", type=Path, help="file that holds the API key (mode 0600)")
    keys.add_argument(
        "--no-key", action="store_true", help="for a stock server that wants no token"
    )
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
    asked = _target(args)
    key = "" if args.no_key else _read_key(args.key_file)
    target = replace(asked, kind=GatewayClient(asked, key=key).find_kind())
    _check_key_is_meant(target, key)
    client = GatewayClient(target, key=key)
    server = _look_at_gateway(client) if target.kind == "clouditia" else _look_at_stock(client)
    kernelspecs = client.kernelspecs()
    if key:
        key_file = store_key(target.name, key, kind=target.kind)
        target = replace(target, key_file=key_file)
    save_target(target)
    report = sync_specs(target.name, kernelspecs, provisioner=not args.no_provisioner)
    _print(args, target, server, report)
    return 0


@dataclass(frozen=True)
class _Server:
    """Who answers, and whom it takes us for."""

    version: str
    user: str = ""
    info: dict[str, Any] = field(default_factory=dict)


def _check_key_is_meant(target: Target, key: str) -> None:
    """Send no key to a server of the other kind: it would learn a secret of somebody else's."""
    if target.kind == "clouditia":
        check_key(key, "login")
    elif key.startswith(KEY_PREFIXES):
        raise ConfigError(
            f"{target.url} is a stock Jupyter server, but the key is one of a Clouditia gateway; "
            "it was not sent",
            hint="Check the URL. Should this really be that server's token, change the token.",
        )


def _look_at_gateway(client: GatewayClient) -> _Server:
    info = client.info()
    identity = client.me().get("identity")
    user = str(identity.get("username", "")) if isinstance(identity, dict) else ""
    return _Server(str(info.get("version")), user, info)


def _look_at_stock(client: GatewayClient) -> _Server:
    return _Server(client.stock_version())


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


def _read_key(key_file: Path | None) -> str:
    """One printable word; whether it must look like ours is known once the server has answered."""
    if key_file is not None:
        return read_key_file(key_file, kind="plain")
    given = os.environ.get("CLOUDITIA_API_KEY")
    if given:
        return check_key(given, "CLOUDITIA_API_KEY", kind="plain")
    if not sys.stdin.isatty():
        raise AuthenticationError(
            "no key was given and there is no terminal to ask at",
            hint="Use --key-file FILE, or set CLOUDITIA_API_KEY; --no-key where none is wanted.",
        )
    given = getpass.getpass("API key (it is not shown): ")
    return check_key(given, "the prompt", kind="plain")


def _print(args: argparse.Namespace, target: Target, server: _Server, report: SyncReport) -> None:
    names = sorted([*report.written, *report.unchanged])
    data = {
        "target": target.name,
        "url": target.url,
        "kind": target.kind,
        "user": server.user,
        "version": server.version,
        "kernelspecs": names,
        "removed": report.removed,
        "skipped": report.skipped,
    }
    emit(args, data, "")
    if target.kind == "plain":
        say(_PLAIN.format(url=target.url, version=server.version, name=target.name))
    else:
        say(f"Logged in to {target.url} as {server.user}; it is now the target {target.name!r}.")
        tell_policy(server.info)
    for name in names:
        say(f"  kernelspec {name}")
    for name, why in report.skipped.items():
        say(f"  left out {name}: {why}")
    say(
        "Pick one of these kernels in JupyterLab or VS Code, or try: "
        f"clouditia run NOTEBOOK.ipynb --target {target.name}"
    )
