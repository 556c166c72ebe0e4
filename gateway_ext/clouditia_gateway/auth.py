"""Who sends a request: from the ``Authorization`` header, ``?token=`` or the login cookie.

``?token=`` counts only where a browser or VS Code has no other way (``/``, ``/login``, kernel
websockets): a URL ends up in logs and histories. The cookie holds a key id, signed; it is worth
exactly as much as that key is at this moment.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tornado.httputil import HTTPServerRequest
from tornado.web import create_signed_value, decode_signed_value

from clouditia.errors import AuthenticationError
from clouditia_gateway.audit import caller
from clouditia_gateway.audit.log import NoAudit
from clouditia_gateway.clock import utc_now
from clouditia_gateway.keys import key_id_in
from clouditia_gateway.throttle import FAILURES_PER_MINUTE, FailureThrottle

if TYPE_CHECKING:
    from clouditia_gateway.audit.log import Recorder
    from clouditia_gateway.keys import KeyStore
    from clouditia_gateway.records import Principal

COOKIE_NAME = "clouditia-login"
#: A login ends after this many days even when its key lives on.
COOKIE_DAYS = 7

_HEADER = re.compile(r"(?:bearer|token)\s+(\S{1,200})\s*", re.IGNORECASE)

Via = Literal["header", "query", "cookie"]


@dataclass(frozen=True)
class Authentication:
    """Who it is, and how that was shown; ``cookie`` needs the checks against forged requests."""

    principal: Principal
    via: Via


class Authenticator:
    """Finds and checks the credential of a request."""

    def __init__(self, keys: KeyStore, cookie_secret: bytes, audit: Recorder | None = None) -> None:
        self._keys = keys
        self._cookie_secret = cookie_secret
        self._audit = audit or NoAudit()
        self._by_address = FailureThrottle()
        self._by_key_id = FailureThrottle()

    def authenticate(
        self, request: HTTPServerRequest, *, allow_query_token: bool = False
    ) -> Authentication:
        """Who sent this request. An explicit key counts before a cookie.

        Raises:
            AuthenticationError: there is no credential, or it is wrong; with ``retry_after`` in
                its details (HTTP 429) after more than 10 wrong ones a minute from one address,
                or for one key id.
        """
        caller.address.set(str(request.remote_ip))
        header = request.headers.get("Authorization", "")
        if header:
            match = _HEADER.fullmatch(header)
            return Authentication(
                self.check_key(match.group(1) if match else "", request), "header"
            )
        token = request.query_arguments.get("token", [b""])[0] if allow_query_token else b""
        if token:
            return Authentication(
                self.check_key(token.decode("ascii", "replace"), request), "query"
            )
        cookie = request.cookies.get(COOKIE_NAME)
        if cookie is not None:
            return Authentication(self._check_cookie(cookie.value, request), "cookie")
        raise AuthenticationError(
            "this needs an API key",
            hint="Send it as Authorization: Bearer KEY; clouditia login keeps one for you.",
        )

    def check_key(self, key: str, request: HTTPServerRequest) -> Principal:
        """The key's owner; failures count against the sender's address and the key's id."""
        caller.address.set(str(request.remote_ip))
        try:
            return self._keys.authenticate(key)
        except AuthenticationError as exc:
            raise self._counted(exc, request, key_id_in(key)) from None

    def _check_cookie(self, value: str, request: HTTPServerRequest) -> Principal:
        key_id = decode_signed_value(
            self._cookie_secret, COOKIE_NAME, value, max_age_days=COOKIE_DAYS, clock=_now_s
        )
        if key_id is None:
            expired = AuthenticationError("the login has expired", hint="Log in again at /login.")
            raise self._counted(expired, request, "")
        try:
            return self._keys.principal_of(key_id.decode("ascii", "replace"))
        except AuthenticationError as exc:
            raise self._counted(exc, request, key_id.decode("ascii", "replace")) from None

    def _counted(
        self, error: AuthenticationError, request: HTTPServerRequest, key_id: str
    ) -> AuthenticationError:
        self._audit.refused("login_refused", key_id=key_id or None, why=error.message)
        wait, whose = self._by_address.failed(str(request.remote_ip)), "from this address"
        if key_id and (longer := self._by_key_id.failed(key_id)) > wait:
            wait, whose = longer, "for this key"
        if not wait:
            return error
        seconds = math.ceil(wait)
        return AuthenticationError(
            f"more than {FAILURES_PER_MINUTE} failed logins a minute {whose}",
            hint=f"Wait {seconds} s.",
            retryable=True,
            details={"retry_after": seconds},
        )

    def cookie_for(self, principal: Principal) -> str:
        """The value of the login cookie for this principal's key."""
        return create_signed_value(
            self._cookie_secret, COOKIE_NAME, principal.key_id, clock=_now_s
        ).decode()


def _now_s() -> float:
    return utc_now().timestamp()
