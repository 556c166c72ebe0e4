"""The gateway's REST interface, for programs: one method per call, errors as our own classes.

Standard library only, one connection per request, safe to use from several threads. The bridge
loads this before anything heavy, so that the kernel starts while its own imports go on.
"""

from __future__ import annotations

import http.client
import json as jsonlib
import ssl
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from clouditia import __version__
from clouditia.errors import (
    AuthenticationError,
    ClouditiaError,
    ConfigError,
    GatewayUnreachable,
    KernelNotFound,
    PermissionDeniedError,
    RemoteProtocolError,
    error_from_wire,
)
from clouditia.rest_answers import MAX_ANSWER_BYTES, checked_kernel, read_answer
from clouditia.settings import authorization
from clouditia.transport.tls import PinMismatch, policy_for

if TYPE_CHECKING:
    from clouditia.settings import Kind, Target

__all__ = ["API_PREFIX", "GatewayClient"]

#: Our own routes; everything else is Jupyter's.
API_PREFIX = "/clouditia/api/v1"
#: Every answer of a Clouditia gateway carries it, and of no other server.
PROTOCOL_HEADER = "X-Clouditia-Protocol"


class GatewayClient:
    """One user's view of one gateway.

    Args:
        target: Where the gateway is and which key and certificate belong to it.
        timeout: Seconds to wait for a connection, and for each piece of an answer.
        key: The key, where it is not (yet) the target's own.

    Raises:
        AuthenticationError: the target has no key, or it is none of ours.
        ConfigError: the URL is plain http to another machine, or the CA file or pin is wrong.
    """

    def __init__(self, target: Target, timeout: float = 30.0, *, key: str | None = None) -> None:
        self._target = target
        self._timeout = timeout
        self._tls = policy_for(target.url, ca_file=target.ca_file, pin=target.pin)
        self._key = target.read_key() if key is None else key
        parts = urlsplit(target.url)
        self._host = parts.hostname or ""
        self._port = parts.port
        self._base_path = parts.path.rstrip("/")
        #: Seconds by which the gateway's clock is ahead, from its last answer; None if unknown.
        self.clock_offset_s: float | None = None

    def __repr__(self) -> str:
        """Without the key."""
        return f"GatewayClient({self._target.url!r})"

    # --- which kind of server -------------------------------------------------------------------

    def find_kind(self) -> Kind:
        """What answers at the URL, asked without the key: it may not be meant for that server.

        Raises:
            ConfigError: it is no Jupyter server of any kind.
        """
        _, headers, _ = self._exchange("GET", f"{API_PREFIX}/info", None, key="")
        if headers.get(PROTOCOL_HEADER) is not None:
            return "clouditia"
        status, _, answer = self._exchange("GET", "/api", None, key="")
        if status not in (401, 403):  # some tell their version only to those who have a token
            self._stock_version_of(status, answer)
        return "plain"

    def stock_version(self) -> str:
        """What a stock server calls itself, such as ``jupyter_server 2.21.1``.

        Raises:
            ConfigError: it is no Jupyter server of any kind.
            AuthenticationError: it wants another token.
        """
        status, headers, answer = self._exchange("GET", "/api", None)
        if status in (401, 403):
            raise self._error("GET", "/api", status, headers, answer)
        return self._stock_version_of(status, answer)

    def _stock_version_of(self, status: int, answer: bytes) -> str:
        try:
            fields = jsonlib.loads(answer) if status == 200 else None
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict) or "version" not in fields:
            raise ConfigError(
                f"{self._target.url} answers, but it is neither a Clouditia gateway nor a Jupyter "
                f"server (GET /api: {status})",
                hint="Check the URL: a server behind a proxy may have a prefix.",
            )
        if "gateway_version" in fields:
            return f"Enterprise Gateway {fields['gateway_version']}"
        return f"jupyter_server {fields['version']}"

    # --- calls ----------------------------------------------------------------------------------

    def info(self) -> dict[str, Any]:
        """Version, protocol, features and limits of the gateway."""
        return self._object("GET", f"{API_PREFIX}/info")

    def me(self) -> dict[str, Any]:
        """Who the gateway takes us for."""
        return self._object("GET", "/api/me")

    def kernelspecs(self) -> dict[str, Any]:
        """Jupyter's model: ``{"default": name, "kernelspecs": {name: {"name", "spec", …}}}``."""
        return self._object("GET", "/api/kernelspecs")

    def start_kernel(
        self, name: str, *, env: dict[str, str], path: str, kernel_id: str | None = None
    ) -> dict[str, Any]:
        """Start a kernel; returns its model.

        Args:
            name: Kernelspec on the gateway.
            env: Environment variables for the kernel; the gateway decides which it takes.
            path: Notebook path or folder, as the front end sees it.
            kernel_id: Id that the kernel shall have; makes a repeated call harmless. Of stock
                servers, some give it another: the model's counts.
        """
        if self._target.kind == "plain":
            env = {**_enterprise_gateway_env(kernel_id), **env}
        body: dict[str, object] = {"name": name, "env": env, "path": path}
        if kernel_id is not None:
            body["kernel_id"] = kernel_id
        return checked_kernel(self.request("POST", "/api/kernels", body), "POST /api/kernels")

    def list_kernels(self) -> list[dict[str, Any]]:
        """Models of all kernels that this key may see."""
        kernels = self.request("GET", "/api/kernels")
        if not isinstance(kernels, list):
            raise self._no_jupyter("GET", "/api/kernels", "no list")
        return [checked_kernel(kernel, "GET /api/kernels") for kernel in kernels]

    def get_kernel(self, kernel_id: str) -> dict[str, Any]:
        """The kernel's model."""
        path = _kernel_path(kernel_id)
        return checked_kernel(self.request("GET", path), f"GET {path}")

    def interrupt(self, kernel_id: str) -> None:
        """Interrupt what the kernel runs."""
        self.request("POST", _kernel_path(kernel_id) + "/interrupt")

    def restart(self, kernel_id: str) -> dict[str, Any]:
        """Restart the kernel in place: same id, higher epoch, empty namespace."""
        return self._object("POST", _kernel_path(kernel_id) + "/restart")

    def shutdown(self, kernel_id: str) -> None:
        """End the kernel for good."""
        self.request("DELETE", _kernel_path(kernel_id))

    # --- one request ----------------------------------------------------------------------------

    def request(self, method: str, path: str, json: object = None) -> Any:
        """Send one request and return the decoded answer, None where it is empty.

        Args:
            method: HTTP method.
            path: Path below the target's URL, with a slash in front.
            json: Body; None sends none.

        Raises:
            GatewayUnreachable: no connection, or it broke, or no answer came in time. Then
                ``details["sent"]`` says whether the request had left this machine.
            ConfigError: the gateway's certificate is not the expected one.
            ClouditiaError: what the gateway answered, as the class that belongs to its code;
                ``details["http_status"]`` holds the status.
        """
        body = None if json is None else jsonlib.dumps(json).encode()
        status, headers, answer = self._exchange(method, path, body)
        if self._target.kind == "clouditia" and status < 500:
            self._require_gateway(headers)
        if 200 <= status < 300:
            return self._decode(method, path, answer)
        raise self._error(method, path, status, headers, answer)

    def _object(self, method: str, path: str, json: object = None) -> dict[str, Any]:
        answer = self.request(method, path, json)
        if not isinstance(answer, dict):
            raise self._no_jupyter(method, path, "no JSON object")
        return answer

    def _exchange(
        self, method: str, path: str, body: bytes | None, *, key: str | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = self._connection()
        sent = False
        try:
            connection.connect()
            connection.request(
                method,
                self._base_path + path,
                body,
                self._headers(body, self._key if key is None else key),
            )
            sent = True
            response = connection.getresponse()
            answer = read_answer(response, self._timeout)
        except ssl.SSLError as exc:
            raise self._tls_error(exc) from exc
        except (OSError, http.client.HTTPException) as exc:
            raise self._unreachable(method, path, exc, sent=sent) from exc
        finally:
            connection.close()
        if answer is None:
            raise self._no_jupyter(method, path, f"more than {MAX_ANSWER_BYTES} bytes")
        self.clock_offset_s = _clock_offset(response.headers.get("Date"))
        return response.status, response.headers, answer

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=self._timeout, context=self._tls.context
        )

    def _headers(self, body: bytes | None, key: str) -> dict[str, str]:
        headers = {
            **authorization(key),
            "Accept": "application/json",
            "User-Agent": f"clouditia/{__version__}",
            PROTOCOL_HEADER: "1",
        }
        if body is not None:
            headers["Content-Type"] = "application/json"
        return headers

    # --- answers and errors ---------------------------------------------------------------------

    def _require_gateway(self, headers: http.client.HTTPMessage) -> None:
        """A target that was a gateway at login is never quietly taken for something less."""
        if headers.get(PROTOCOL_HEADER) is None:
            raise ConfigError(
                f"{self._target.url} is not the Clouditia gateway that it was at login: its answer "
                f"lacks the header {PROTOCOL_HEADER}",
                hint="Has something else taken its address, or a proxy its place? If that is "
                f"wanted, log in again: clouditia login {self._target.url} --name "
                f"{self._target.name}",
            )

    def _decode(self, method: str, path: str, answer: bytes) -> Any:
        if not answer:
            return None
        try:
            return jsonlib.loads(answer)
        except (ValueError, RecursionError):
            raise self._no_jupyter(method, path, "no JSON") from None

    def _error(
        self, method: str, path: str, status: int, headers: http.client.HTTPMessage, answer: bytes
    ) -> ClouditiaError:
        try:
            wire = jsonlib.loads(answer)
        except (ValueError, RecursionError):
            wire = None
        if not isinstance(wire, dict):
            wire = {}
        error = error_from_wire(wire) if wire.get("code") else None
        if error is None:
            error = self._error_of_status(method, path, status, headers, wire)
        error.details.setdefault("http_status", status)
        return error

    def _error_of_status(
        self,
        method: str,
        path: str,
        status: int,
        headers: http.client.HTTPMessage,
        wire: dict[str, Any],
    ) -> ClouditiaError:
        """The error for an answer that is not in our own form (a stock server, a proxy)."""
        said = str(wire.get("message") or wire.get("reason") or http.client.responses.get(status))
        seen = f"{method} {self._target.url}{path} was answered with {status}: {said}"
        if status == 401 and self._target.kind == "plain":
            return self._wrong_token(status)
        if status == 401:
            return AuthenticationError(
                f"{self._target.url} does not know this key (401)",
                hint="It may be mistyped, expired or revoked; run clouditia login again.",
            )
        if status == 403 and self._target.kind == "plain":
            return self._refused_by_stock_server(method, path, said)
        if status == 403:
            return PermissionDeniedError(seen)
        if status == 404 and path.startswith("/api/kernels/"):
            return KernelNotFound(seen)
        if 300 <= status < 400:
            return ConfigError(
                f"{self._target.url} redirects to {headers.get('Location')}",
                hint="Use that URL as the target's.",
            )
        if status in (502, 503, 504):
            return GatewayUnreachable(seen, retryable=True, details={"sent": True})
        return ClouditiaError(seen, retryable=status == 429)

    def _refused_by_stock_server(self, method: str, path: str, said: str) -> ClouditiaError:
        """Stock servers answer 403 to a wrong token, and to much else."""
        if method == "GET" and path == "/api/kernels":
            return PermissionDeniedError(
                f"{self._target.url} does not list its kernels, or knows this token no more (403)",
                hint="Enterprise Gateway lists them with EnterpriseGatewayApp.list_kernels = True.",
            )
        if said != "Forbidden" and "_xsrf" not in said:
            return PermissionDeniedError(f"{method} {self._target.url}{path} was refused: {said}")
        return self._wrong_token(403)  # what it says of a missing _xsrf argument means just that

    def _wrong_token(self, status: int) -> AuthenticationError:
        return AuthenticationError(
            f"{self._target.url} does not accept this token ({status})",
            hint="Its token changes at each start unless one is configured; run clouditia login "
            "again.",
        )

    def _unreachable(
        self, method: str, path: str, exc: Exception, *, sent: bool
    ) -> GatewayUnreachable:
        if isinstance(exc, TimeoutError):
            seen = f"no answer within {self._timeout:g} s"
        else:
            seen = str(exc) or type(exc).__name__
        return GatewayUnreachable(
            f"{method} {self._target.url}{path}: {seen}",
            hint="Check the URL and the network; kernels on the gateway are not affected.",
            retryable=True,
            details={"sent": sent},
        )

    def _tls_error(self, exc: ssl.SSLError) -> ClouditiaError:
        if isinstance(exc, PinMismatch):
            return ConfigError(
                f"{self._target.url} is not the pinned gateway: {exc.args[1]}",
                hint="If its certificate was renewed, log in again with the new --pin.",
            )
        if isinstance(exc, ssl.SSLCertVerificationError):
            return ConfigError(
                f"the certificate of {self._target.url} is not trusted: {exc.verify_message}",
                hint="Log in with --ca-file FILE or --pin SHA256.",
            )
        return GatewayUnreachable(
            f"no TLS connection to {self._target.url}: {exc.reason or exc}",
            hint="Is it an https port?",
            details={"sent": False},
        )

    def _no_jupyter(self, method: str, path: str, seen: str) -> RemoteProtocolError:
        return RemoteProtocolError(
            f"{method} {self._target.url}{path} was answered with {seen}",
            hint="Is this the URL of a gateway?",
        )


def _enterprise_gateway_env(kernel_id: str | None) -> dict[str, str]:
    """What an Enterprise Gateway takes from the environment: whose kernel, and its id."""
    import getpass  # no start on our own gateways needs it

    try:
        env = {"KERNEL_USERNAME": getpass.getuser()}
    except (KeyError, OSError):
        env = {}  # a user id without a name, as in some containers
    return env if kernel_id is None else {**env, "KERNEL_ID": kernel_id}


def _kernel_path(kernel_id: str) -> str:
    return f"/api/kernels/{quote(kernel_id, safe='')}"


def _clock_offset(date: str | None) -> float | None:
    from email.utils import parsedate_to_datetime  # http.client has loaded email already

    try:
        return parsedate_to_datetime(date or "").timestamp() - time.time()
    except ValueError:
        return None
