"""``/``, ``/tree``, ``/login`` and ``/logout``: as much as browsers and VS Code need, no more.

VS Code's password prompt: ``GET /tree`` must lead to the login, ``GET /login`` gives ``_xsrf``,
``POST /login`` answers 302 and its first cookie is the session. The password is an API key.
"""

from __future__ import annotations

from html import escape
from urllib.parse import parse_qs

from clouditia.errors import AuthenticationError
from clouditia_gateway.audit.kernels import by
from clouditia_gateway.auth import COOKIE_NAME
from clouditia_gateway.errors import BadRequestError
from clouditia_gateway.handlers.base import GatewayHandler

_PAGE_CSP = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"
)
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Clouditia gateway</title>
<style>body{{font:16px system-ui;max-width:36em;margin:4em auto;padding:0 1em}}</style></head>
<body><h1>Clouditia gateway</h1>{body}</body></html>
"""
_FORM = """{notice}<form method="post" action="{action}">
<input type="hidden" name="_xsrf" value="{xsrf}">
<label>API key <input type="password" name="password" autocomplete="off" autofocus></label>
<button>Log in</button></form>
"""


class PageHandler(GatewayHandler):
    """A small HTML page."""

    is_public = True
    allow_query_token = True
    max_body_bytes = 16 * 1024

    def show(self, body: str, *, status: int = 200) -> None:
        """Finish with a page around ``body`` (HTML)."""
        self.set_status(status)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Content-Security-Policy", _PAGE_CSP)
        # With "no-referrer", browsers would send the form as if it came from nowhere.
        self.set_header("Referrer-Policy", "same-origin")
        self.finish(_PAGE.format(body=body))

    def user(self) -> str | None:
        """Who is logged in; a wrong credential counts as nobody."""
        try:
            found = self.context.authenticator.authenticate(
                self.request, allow_query_token=self.allow_query_token
            )
        except AuthenticationError as exc:
            if exc.details.get("retry_after") is not None:
                raise
            return None
        return found.principal.user

    def go(self, route: str) -> None:
        """Redirect within the gateway."""
        self.redirect(self.context.config.base_url + route)


class RootHandler(PageHandler):
    """``/``."""

    def get(self) -> None:
        """Who is logged in, or the way to the login."""
        user = self.user()
        if user is None:
            self.go("login")
            return
        self.show(
            f"<p>Logged in as <b>{escape(user)}</b>. This address serves kernels: give it to "
            "<code>clouditia login</code>, or to VS Code as an existing Jupyter server.</p>"
        )


class TreeHandler(PageHandler):
    """``/tree``: where VS Code looks whether a password is needed."""

    allow_query_token = False

    def get(self) -> None:
        """Lead to ``/`` or to the login."""
        self.go("" if self.user() else "login")


class LoginHandler(PageHandler):
    """``/login``."""

    def get(self) -> None:
        """The form; also sets the ``_xsrf`` cookie that it needs."""
        self._show_form("")

    def post(self) -> None:
        """Check the key and set a cookie that is worth what the key is worth."""
        self._take_form()
        try:
            principal = self.context.authenticator.check_key(
                self.get_body_argument("password", ""), self.request
            )
        except AuthenticationError as exc:
            if exc.details.get("retry_after") is not None:
                raise
            self._show_form(f"<p role=alert>{escape(str(exc))}</p>", status=401)
            return
        self.context.audit.record("logged_in", **by(principal))
        self.set_cookie(
            COOKIE_NAME,
            self.context.authenticator.cookie_for(principal),
            path=self.context.config.base_url,
            httponly=True,
            samesite="Lax",
            secure=self.request.protocol == "https",
        )
        self.go("")

    def _take_form(self) -> None:
        """Parse the body, which tornado leaves to us, and check its ``_xsrf``."""
        try:
            fields = parse_qs(self.body_bytes().decode(), keep_blank_values=True, max_num_fields=16)
        except ValueError:
            raise BadRequestError("the body is not a form") from None
        self.request.body_arguments = {
            name: [value.encode() for value in values] for name, values in fields.items()
        }
        for name, values in self.request.body_arguments.items():
            self.request.arguments.setdefault(name, []).extend(values)
        self.check_form_token()

    def _show_form(self, notice: str, *, status: int = 200) -> None:
        action = escape(self.context.config.base_url + "login")
        xsrf = escape(self.xsrf_token.decode())
        self.show(_FORM.format(notice=notice, action=action, xsrf=xsrf), status=status)


class LogoutHandler(PageHandler):
    """``/logout``."""

    is_public = False
    is_harmless = True

    def post(self) -> None:
        """Forget the cookie."""
        self.clear_cookie(COOKIE_NAME, path=self.context.config.base_url)
        self.answer_nothing()
