"""What a browser can be tricked into: every route and method, with a good cookie or a good key,
from every kind of foreign page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
from tests.contract.http import Client
from tests.contract.test_isolation import NAMES, OPERATIONS, ask, is_for_hosts
from tests.contract.test_routes import PUBLIC

from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.waiting import wait_until

FOREIGN: dict[str, dict[str, str]] = {
    "another site": {"Origin": "https://evil.example"},
    "a sandboxed page": {"Origin": "null"},
    "a page whose name only begins right": {"Origin": "HOST.evil.example"},
    "another port": {"Origin": "http://127.0.0.1:1"},
    "an image on another site": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    "a neighbouring site": {"Sec-Fetch-Site": "same-site"},
}
FORMS = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]


class Login(NamedTuple):
    """A browser that is logged in."""

    url: str
    key: str
    cookie: str
    xsrf: str
    ids: dict[str, str]


@pytest.fixture(scope="module")
def login(module_gateway: GatewayProcess) -> Iterator[Login]:
    key = module_gateway.create_key("ada")
    nobody = Client(module_gateway.url)
    form = nobody("GET", "/login")
    xsrf = re.findall(r'_xsrf="?([^;"]+)', form.headers["set-cookie"])[0]
    origin = {"Origin": module_gateway.url, "Sec-Fetch-Site": "same-origin"}
    sent = {"Content-Type": FORMS[1], "Cookie": f"_xsrf={xsrf}", **origin}
    body = urlencode({"_xsrf": xsrf, "password": key}).encode()
    done = nobody("POST", "/login", raw=body, headers=sent)
    assert done.status == 302
    cookie = f"_xsrf={xsrf}; {done.headers['set-cookie'].split(';')[0]}"
    ada = Client(module_gateway.url, key)
    session = ada("POST", "/api/sessions", {"path": "a.ipynb", "kernel": {"name": "python3"}}).json
    ids = {"kernel": session["kernel"]["id"], "session": session["id"], "kernelspec": "python3"}
    ids |= {"file": "logo-64x64.png", "connection": "0" * 32}
    model = f"/api/kernels/{ids['kernel']}"
    wait_until(lambda: ada("GET", model).json["execution_state"] == "idle", 60)
    yield Login(module_gateway.url, key, cookie, xsrf, ids)
    assert ada("DELETE", f"/api/sessions/{ids['session']}").status == 204


class Page(Client):
    """A browser's request from some page: headers that go with every request."""

    def __init__(self, url: str, **headers: str) -> None:
        super().__init__(url)
        host = f"http://{self.host}:{self.port}"
        self.sent = {name: value.replace("HOST", host) for name, value in headers.items()}

    def __call__(self, method: str, path: str, body: object = None, **options: Any) -> Any:
        headers = {**self.sent, **(options.pop("headers", None) or {})}
        return super().__call__(method, path, body, headers=headers, **options)


def is_closed(method: str, path: str, operation: dict[str, Any]) -> bool:
    """Whether a foreign page must be refused: whatever needs a key, and the login's form."""
    return not is_for_hosts(operation) and not (path in PUBLIC and method == "GET")


CLOSED = [one for one in OPERATIONS if is_closed(*one)]
IDS = [name for name, one in zip(NAMES, OPERATIONS, strict=True) if is_closed(*one)]


@pytest.mark.parametrize("page", FOREIGN)
@pytest.mark.parametrize("via", ["cookie", "key"])
def test_no_foreign_page_gets_anywhere(login: Login, page: str, via: str) -> None:
    """All routes in one test: 6 pages x 2 credentials x 18 operations are 216 requests."""
    credential = (
        {"Cookie": login.cookie, "X-XSRFToken": login.xsrf}
        if via == "cookie"
        else {"Authorization": f"Bearer {login.key}"}
    )
    client = Page(login.url, **credential, **FOREIGN[page])
    passed = {}
    for name, (method, path, operation) in zip(IDS, CLOSED, strict=True):
        answer = ask(client, method, path, operation, login.ids)
        if answer.status != 403:
            passed[name] = answer.status
        assert "access-control-allow-origin" not in answer.headers
    assert passed == {}
    still = Client(login.url, login.key)("GET", f"/api/sessions/{login.ids['session']}")
    assert still.status == 200


def test_without_the_form_token_a_cookie_changes_nothing_whatever_the_content_type(
    login: Login,
) -> None:
    for content_type in [*FORMS, "application/json"]:
        client = Page(login.url, Cookie=login.cookie, **{"Content-Type": content_type})
        for name, (method, path, operation) in zip(IDS, CLOSED, strict=True):
            if method != "GET" and path != "/login":
                answer = ask(client, method, path, operation, login.ids)
                assert answer.status == 403, (content_type, name, answer.body)
                assert "_xsrf" in answer.json["message"]


def test_own_pages_programs_and_typed_addresses_do_get_in(login: Login) -> None:
    own = {"Origin": "HOST", "Sec-Fetch-Site": "same-origin"}
    for headers in (own, {"Sec-Fetch-Site": "none"}, {}):
        client = Page(login.url, Cookie=login.cookie, **headers)
        assert client("GET", "/api/kernels").status == 200
        channels = f"/api/kernels/{login.ids['kernel']}/channels"
        assert client.upgrade(channels).status == 101
    linked = Page(login.url, Cookie=login.cookie, **{"Sec-Fetch-Site": "cross-site"})
    assert linked("GET", "/").status == 200  # a link on another page may lead to the first page


def test_no_redirect_leads_to_another_host(module_gateway: GatewayProcess) -> None:
    nobody = Client(module_gateway.url)
    for path in (
        "//evil.example/",
        "/login?next=https://evil.example",
        "/tree?next=//evil.example",
    ):
        answer = nobody("GET", path)
        assert answer.headers.get("location", "/").startswith("/")
        assert not answer.headers.get("location", "/").startswith("//")
        assert "evil" not in answer.headers.get("location", "")
