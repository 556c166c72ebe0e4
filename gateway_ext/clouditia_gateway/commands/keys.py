"""``clouditia keys create|list|revoke``, on the machine of the gateway."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clouditia_gateway.audit.log import AuditLog
from clouditia_gateway.clock import iso_now
from clouditia_gateway.config import default_state_dir
from clouditia_gateway.keys import KeyStore
from clouditia_gateway.state_dir import StateDir
from clouditia_gateway.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clouditia_gateway.store import KeyRecord

    Subparsers = argparse._SubParsersAction[Any]  # noqa: SLF001  (argparse names it in no other way)


def command(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "keys",
        help="create, list and revoke API keys of a gateway",
        description="API keys of the gateway on this machine. A running gateway notices at once.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    create = actions.add_parser("create", help="print a new key, once")
    create.add_argument("--user", required=True, help="whose key it is")
    create.add_argument("--admin", action="store_true", help="a key that may do everything")
    create.add_argument(
        "--read-only", action="store_true", help="a key that may look and change nothing"
    )
    create.add_argument("--expires-days", type=float, metavar="N", help="default: never")
    create.set_defaults(run=_create)
    listing = actions.add_parser("list", help="show all keys, without their secrets")
    listing.set_defaults(run=_list)
    revoke = actions.add_parser("revoke", help="make a key worthless within 5 s")
    revoke.add_argument("key_id", metavar="ID", help="as `keys list` shows it")
    revoke.set_defaults(run=_revoke)
    for action in (create, listing, revoke):
        action.add_argument("--state-dir", type=Path, help="the gateway's state directory")


@contextmanager
def _keys(args: argparse.Namespace) -> Iterator[KeyStore]:
    state = StateDir(args.state_dir or default_state_dir())
    state.prepare()
    with closing(Store(state.database)) as store:
        yield KeyStore(store, AuditLog(state.path))


def _create(args: argparse.Namespace) -> int:
    with _keys(args) as keys:
        record, key = keys.mint(
            args.user,
            is_admin=args.admin,
            expires_days=args.expires_days,
            scope="read" if args.read_only else "all",
        )
    if args.json:
        print(json.dumps(_public(record) | {"key": key}))
    else:
        print(key)
        until = f", until {record.expires_at}" if record.expires_at else ""
        print(f"Key of {record.user}{until}. It is shown only now.", file=sys.stderr)
    return 0


def _list(args: argparse.Namespace) -> int:
    with _keys(args) as keys:
        records = keys.list()
    if args.json:
        print(json.dumps([_public(record) for record in records]))
        return 0
    for record in records:
        kind = "admin" if record.is_admin else "user"
        kind += " read-only" if record.scope == "read" else ""
        last = record.last_used_at or "never used"
        print(f"{record.key_id}  {_standing(record):8}{kind:16} {record.user:20} {last}")
    return 0


def _revoke(args: argparse.Namespace) -> int:
    with _keys(args) as keys:
        record = keys.revoke(args.key_id)
    if args.json:
        print(json.dumps({"revoked": record.key_id, "user": record.user}))
    else:
        print(f"Revoked key {record.key_id} of {record.user}.", file=sys.stderr)
    return 0


def _standing(record: KeyRecord) -> str:
    if record.revoked_at is not None:
        return "revoked"
    if record.expires_at is not None and record.expires_at <= iso_now():
        return "expired"
    return "live"


def _public(record: KeyRecord) -> dict[str, object]:
    """A key as JSON, without the hash of its secret."""
    return {
        "key_id": record.key_id,
        "user": record.user,
        "is_admin": record.is_admin,
        "scope": record.scope,
        "state": _standing(record),
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        "revoked_at": record.revoked_at,
        "last_used_at": record.last_used_at,
    }
