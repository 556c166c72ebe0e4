"""What every HTTP handler does: authenticate first, read a bounded JSON body, answer in JSON.

A handler is closed unless it says otherwise: without :attr:`GatewayHandler.is_public` a request
gets as far as its method only with a live key. The body is read after that, and only up to the
limit, so nobody without a key can fill the memory.
"""

from __future__ import annotations

import http.client
import json
import logging
import secrets
from typing import TYPE_CHECKING, Any, ClassVar

from jupyter_server.auth.decorator import allow_unauthenticated
from tornado.web import HTTPError, RequestHandler, stream_request_body

from clouditia.errors import ClouditiaError, PackageTooLarge, PermissionDeniedError
from clouditia_gateway.audit import caller
from clouditia_gateway.audit.kernels import by
from clouditia_gateway.channels.origin import is_foreign_page
from clouditia_gateway.config import MAX_BODY_BYTES, MAX_JSON_DEPTH
from clouditia_gateway.context import SETTING
from clouditia_gateway.errors import (
    BadRequestError,
    MethodNotAllowedError,
    NotFoundError,
    http_status,
)
from clouditia_gateway.handlers.json_depth import is_deeper_than

if TYPE_CHECKING:
    from types import TracebackType

    from clouditia_gateway.context import GatewayContext
    from clouditia_gateway.records import Principal

log = logging.getLogger("clouditia.gateway")

PROTOCOL_VERSION = "1"
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_CSP = "default-src 'none'; frame-ancestors 'none'; sandbox"


def json_object(raw: bytes) -> dict[str, Any]:
    """A body as a JSON object; an empty body is an empty object.

    Raises:
        BadRequestError: it is something else.
    """
    if not raw.strip():
        return {}
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        raise BadRequestError("the body is not valid JSON") from None
    if is_deeper_than(value, MAX_JSON_DEPTH):
        raise BadRequestError(f"the body is nested deeper than {MAX_JSON_DEPTH} levels")
    if not isinstance(value, dict):
        raise BadRequestError(f"the body must be a JSON object, got {type(value).__name__}")
    return value


@stream_request_body
class GatewayHandler(RequestHandler):
    """Base of all HTTP handlers of the gateway."""

    #: Whether requests without a key reach the method.
    is_public: ClassVar[bool] = False
    #: Whether only admins may use it.
    needs_admin: ClassVar[bool] = False
    #: Whether a read-only key may use all methods, too, because none changes anything.
    is_harmless: ClassVar[bool] = False
    #: Whether ``?token=`` counts here.
    allow_query_token: ClassVar[bool] = False
    max_body_bytes: ClassVar[int] = MAX_BODY_BYTES

    def initialize(self) -> None:
        """Start with an empty body and nobody."""
        caller.address.set(str(self.request.remote_ip))
        self._body = bytearray()
        self._body_size = 0
        self._principal: Principal | None = None

    @property
    def context(self) -> GatewayContext:
        """The gateway's parts."""
        context: GatewayContext = self.settings[SETTING]
        return context

    @property
    def principal(self) -> Principal:
        """Who sent the request."""
        if self._principal is None:
            raise PermissionDeniedError("nobody is logged in")
        return self._principal

    def set_default_headers(self) -> None:
        """Nothing here is a page of another site, a script, or to be kept by a cache."""
        self.clear_header("Server")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Content-Security-Policy", _CSP)
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("X-Clouditia-Protocol", PROTOCOL_VERSION)

    # --- before the method ----------------------------------------------------------------------

    def prepare(self) -> None:
        """Runs before the body is read."""
        self._check_declared_size()
        self._check_page()
        if self.is_public:
            return
        found = self.context.authenticator.authenticate(
            self.request, allow_query_token=self.allow_query_token
        )
        self._principal = found.principal
        if found.via == "cookie" and self.request.method not in _SAFE_METHODS:
            self.check_form_token()
        if self.needs_admin and not found.principal.is_admin:
            raise PermissionDeniedError("this needs an admin key")
        changes = self.request.method not in _SAFE_METHODS and not self.is_harmless
        if changes and found.principal.is_read_only:
            raise PermissionDeniedError("this key may only look, not change anything")

    def _check_page(self) -> None:
        """Pages of other sites may neither change anything nor get at what needs a key.

        Raises:
            PermissionDeniedError: a browser says that such a page has sent this.
        """
        if self.is_public and self.request.method in _SAFE_METHODS:
            return
        if is_foreign_page(self.request.headers, self.settings):
            raise PermissionDeniedError("pages of other sites may not do this")

    def check_form_token(self) -> None:
        """A request that a browser may have been tricked into must show the ``_xsrf`` value.

        Raises:
            PermissionDeniedError: it does not.
        """
        try:
            super().check_xsrf_cookie()
        except HTTPError as exc:
            raise PermissionDeniedError(
                "the _xsrf value is missing or wrong",
                hint="Send it as X-XSRFToken, or use a key in the Authorization header.",
            ) from exc

    def check_xsrf_cookie(self) -> None:
        """Tornado would ask before it is known who asks; see :meth:`check_form_token`."""

    def _check_declared_size(self) -> None:
        try:
            declared = int(self.request.headers.get("Content-Length", "0"))
        except ValueError:
            declared = 0  # tornado has refused it already where it matters
        if declared > self.max_body_bytes:
            raise self._too_large(declared)

    def _too_large(self, size: int) -> PackageTooLarge:
        return PackageTooLarge(
            f"the body has {size} bytes or more, at most {self.max_body_bytes} are possible here"
        )

    def data_received(self, chunk: bytes) -> None:
        """Keep the body up to the limit, and only count the rest."""
        self._body_size += len(chunk)
        if self._body_size <= self.max_body_bytes:
            self._body += chunk

    # --- bodies and answers ---------------------------------------------------------------------

    def body_bytes(self) -> bytes:
        """The whole body.

        Raises:
            PackageTooLarge: it was longer than :attr:`max_body_bytes`.
        """
        if self._body_size > self.max_body_bytes:
            raise self._too_large(self._body_size)
        return bytes(self._body)

    def json_body(self) -> dict[str, Any]:
        """The body as a JSON object; an empty body is an empty object.

        Raises:
            BadRequestError: it is something else.
        """
        return json_object(self.body_bytes())

    def answer(self, value: object, *, status: int = 200) -> None:
        """Finish with a JSON value."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(value, ensure_ascii=False, separators=(",", ":")))

    def answer_nothing(self) -> None:
        """Finish with 204."""
        self.set_status(204)
        self.finish()

    # --- errors ---------------------------------------------------------------------------------

    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Log only what nobody expected; :meth:`write_error` tells the client an id of it."""
        if isinstance(value, (ClouditiaError, HTTPError)) or value is None:
            return
        self._incident = secrets.token_hex(6)
        log.error(
            "%s %s failed (request id %s)",
            self.request.method,
            self.request.path,
            self._incident,
            exc_info=(typ or type(value), value, tb),
        )

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer with the error's wire form; never a traceback, never a path of this machine."""
        cause = kwargs.get("exc_info", (None, None, None))[1]
        error = self._error_of(status_code, cause)
        wire = error.to_wire()
        status = http_status(error) if isinstance(cause, ClouditiaError) else status_code
        if wire["retry_after"] is not None:
            self.set_header("Retry-After", str(wire["retry_after"]))
        if status == 403:
            self.context.audit.refused(
                "permission_refused",
                **({} if self._principal is None else by(self._principal)),
                request=f"{self.request.method} {self.request.path}",
                why=error.message,
            )
        if status == 401:
            self.set_header("WWW-Authenticate", "Bearer")
        self.answer(wire, status=status)

    def _error_of(self, status: int, cause: BaseException | None) -> ClouditiaError:
        if isinstance(cause, ClouditiaError):
            return cause
        method, path = self.request.method, self.request.path[:200]
        if status == 404:
            return NotFoundError(f"{path} is not a route of this gateway")
        if status == 405:
            return MethodNotAllowedError(f"{path} does not take {method}")
        if status < 500:
            return BadRequestError(f"{method} {path}: {http.client.responses.get(status, status)}")
        return ClouditiaError(
            f"{method} {path} failed inside the gateway",
            hint="The gateway's log holds the cause under the request id.",
            request_id=getattr(self, "_incident", None),
        )

    # --- methods --------------------------------------------------------------------------------

    # jupyter_server asks every method whether it checks the user; ours are checked in `prepare`.

    @allow_unauthenticated
    async def head(self, *arguments: str, **options: str) -> None:
        """As GET, without a body."""
        answered = self.get(*arguments, **options)
        if answered is not None:
            await answered

    @allow_unauthenticated
    def options(self, *_arguments: str, **_options: str) -> None:
        """Other sites' pages have no business here: no CORS, hence no preflight."""
        raise HTTPError(405)


class UnknownRouteHandler(GatewayHandler):
    """Every path that is not ours."""

    is_public = True

    def prepare(self) -> None:
        """404, whatever the method."""
        raise NotFoundError(f"{self.request.path[:200]} is not a route of this gateway")
