"""API keys: ``ck_<id>_<secret>`` for users, ``sk_<id>_<secret>`` for admins.

The secret is 256 random bits and is stored only as its sha256; a key is found by its id and
compared in constant time. Every check reads the database, so a key that another process creates
or revokes counts at once.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from clouditia.atomic_files import write_private
from clouditia.errors import AuthenticationError, ConfigError
from clouditia_gateway.audit.log import NoAudit
from clouditia_gateway.clock import iso, iso_now, utc_now
from clouditia_gateway.errors import StorageError
from clouditia_gateway.records import Principal
from clouditia_gateway.store import KeyRecord

if TYPE_CHECKING:
    from clouditia_gateway.audit.log import Recorder
    from clouditia_gateway.state_dir import StateDir
    from clouditia_gateway.store import Store

_KEY = re.compile(r"(ck|sk)_([0-9a-f]{12})_([0-9a-f]{64})")
_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
#: What a key may do: everything that its owner may, or only look.
SCOPES = ("all", "read")
#: ``last_used_at`` is written at most this often per key.
_TOUCH_EVERY = timedelta(seconds=60)
_NEW_KEY_HINT = "Ask for a key on the gateway's machine: clouditia keys create --user NAME."


class KeyStore:
    """Mints, checks and revokes keys."""

    def __init__(self, store: Store, audit: Recorder | None = None) -> None:
        self._store = store
        self._audit = audit or NoAudit()
        self._touched: dict[str, str] = {}

    def mint(
        self,
        user: str,
        *,
        is_admin: bool = False,
        expires_days: float | None = None,
        scope: str = "all",
    ) -> tuple[KeyRecord, str]:
        """Make a key for ``user``; returns its record and the key itself, which is kept nowhere.

        Only programs that may write the state directory mint keys: no route does, so no key can
        make one that may do more than itself.

        Raises:
            ConfigError: the user name or the number of days is not acceptable.
        """
        if not _USER.fullmatch(user):
            raise ConfigError(
                f"{user[:80]!r} cannot be a user name",
                hint="Use 1 to 64 letters, digits and . _ @ + -, with a letter or digit first.",
            )
        if scope not in SCOPES:
            raise ConfigError(f"a key's scope is one of {', '.join(SCOPES)}, not {scope!r}")
        if expires_days is not None and not 0 < expires_days <= 36500:
            raise ConfigError(f"a key must expire in 0 to 36500 days, got {expires_days}")
        now = utc_now()
        expires = None if expires_days is None else iso(now + timedelta(days=expires_days))
        key_id, secret = secrets.token_hex(6), secrets.token_hex(32)
        record = KeyRecord(key_id, user, is_admin, _sha256(secret), iso(now), expires, scope=scope)
        self._store.add_key(record)
        self._audit.record(
            "key_created",
            key_id=key_id,
            user=user,
            is_admin=is_admin,
            scope=scope,
            expires_at=expires,
            by_uid=os.getuid(),
        )
        return record, f"{'sk' if is_admin else 'ck'}_{key_id}_{secret}"

    def mint_admin_key(self, state: StateDir, user: str = "admin") -> None:
        """Write ``admin.key`` with a new admin key, unless the file is there."""
        if not state.admin_key.exists():
            _, key = self.mint(user, is_admin=True)
            write_private(state.admin_key, key + "\n")

    def list(self) -> list[KeyRecord]:
        """All keys, revoked and expired ones too, oldest first."""
        return self._store.keys()

    def revoke(self, key_id: str) -> KeyRecord:
        """Revoke a key by its id (the part between the underscores), or by the whole key.

        Raises:
            ConfigError: there is no such key.
        """
        match = _KEY.fullmatch(key_id)
        key_id = match.group(2) if match else key_id.removeprefix("ck_").removeprefix("sk_")
        record = self._store.key(key_id)
        if record is None:
            raise ConfigError(
                f"there is no key with the id {key_id[:16]!r}",
                hint="clouditia keys list shows the ids.",
            )
        if self._store.revoke_key(key_id, iso_now()):
            self._audit.record("key_revoked", key_id=key_id, user=record.user, by_uid=os.getuid())
        return record

    def authenticate(self, key: str) -> Principal:
        """Whose key this is.

        Raises:
            AuthenticationError: it is malformed, unknown, expired or revoked.
        """
        match = _KEY.fullmatch(key)
        if match is None:
            raise AuthenticationError(_malformed(key), hint=_NEW_KEY_HINT)
        prefix, key_id, secret = match.groups()
        record = self._store.key(key_id)
        # An unknown id is compared too, so that it takes as long as a wrong secret.
        expected = record.secret_sha256 if record else _sha256("")
        is_right = hmac.compare_digest(_sha256(secret), expected)
        if record is None or not is_right or record.is_admin != (prefix == "sk"):
            raise AuthenticationError("this gateway does not know this key", hint=_NEW_KEY_HINT)
        principal = self._live(record)
        self._touch(key_id)
        return principal

    def principal_of(self, key_id: str) -> Principal:
        """The owner of a live key that proved itself before (a session cookie, a connection).

        Raises:
            AuthenticationError: it is gone, expired or revoked.
        """
        record = self._store.key(key_id)
        if record is None:
            raise AuthenticationError("this gateway does not know this key", hint=_NEW_KEY_HINT)
        return self._live(record)

    def _live(self, record: KeyRecord) -> Principal:
        if record.revoked_at is not None:
            raise AuthenticationError("this key was revoked", hint=_NEW_KEY_HINT)
        if record.expires_at is not None and record.expires_at <= iso_now():
            raise AuthenticationError(
                f"this key has expired (at {record.expires_at})", hint=_NEW_KEY_HINT
            )
        return Principal(record.user, record.key_id, record.is_admin, record.scope == "read")

    def _touch(self, key_id: str) -> None:
        last = self._touched.get(key_id)
        if last is None or last <= iso(utc_now() - _TOUCH_EVERY):
            now = iso_now()
            self._touched[key_id] = now
            # A full disk must not lock anybody out; a minute later it is tried again.
            with suppress(StorageError):
                self._store.touch_key(key_id, now)


def key_id_in(key: str) -> str:
    """The id in something that looks like a key; empty for anything else."""
    match = _KEY.fullmatch(key)
    return match.group(2) if match else ""


def _malformed(key: str) -> str:
    if key.startswith(("ck_", "sk_")):
        return f"this key is not complete: a key has 80 characters, this one {len(key)}"
    return "this is not a Clouditia key: keys start with ck_ or sk_"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("ascii")).hexdigest()
