"""What jupyter_server itself may know about identity: our keys, and nothing else.

Our handlers ask the :class:`~clouditia_gateway.auth.Authenticator` directly. These two classes
make sure that any part of jupyter_server that still answers a request sees the same users, and
that its authorizer lets nobody do anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jupyter_server.auth import Authorizer
from jupyter_server.auth.identity import IdentityProvider, User

from clouditia.errors import AuthenticationError
from clouditia_gateway.context import SETTING

if TYPE_CHECKING:
    from tornado.web import RequestHandler

    from clouditia_gateway.records import Principal


def user_model(principal: Principal) -> dict[str, Any]:
    """Jupyter's identity model of a key's owner."""
    name = principal.user
    return {
        "username": name,
        "name": name,
        "display_name": name,
        "initials": name[:2].upper(),
        "avatar_url": None,
        "color": None,
    }


class KeyIdentityProvider(IdentityProvider):
    """Users by API key; no generated token, no cookie of its own."""

    def _token_default(self) -> str:
        return ""

    async def get_user_token(self, handler: RequestHandler) -> User | None:
        """The owner of the request's key."""
        authenticator = handler.settings[SETTING].authenticator
        try:
            found = authenticator.authenticate(handler.request)
        except AuthenticationError:
            return None
        return User(**user_model(found.principal))

    def get_user_cookie(self, handler: RequestHandler) -> User | None:
        """Nobody: the login cookie is read above, with its key."""
        return None

    def set_login_cookie(self, handler: RequestHandler, user: User) -> None:
        """Set none: a cookie by user name would outlive the key."""

    def process_login_form(self, handler: RequestHandler) -> User | None:
        """Nobody: ``/login`` is our own handler."""
        return None

    def validate_security(self, app: Any, ssl_options: Any = None) -> None:
        """Checked by :class:`~clouditia_gateway.config.GatewayConfig` before anything started."""


class ClosedAuthorizer(Authorizer):
    """Refuses everything: no core handler of jupyter_server is meant to answer here."""

    def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
        """Never."""
        return False
