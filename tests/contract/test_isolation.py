"""Two users and an admin on one gateway: every route and method of its own description is tried
with every id that belongs to somebody else, in the path, the query and the body."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from tests.contract.http import Answer, Client
from tests.contract.test_routes import METHODS, PUBLIC
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from clouditia.protocol.handshake import Hello
from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.waiting import wait_until
from clouditia_gateway.openapi import openapi_document

DOCUMENT = openapi_document()
OPERATIONS = [
    (method.upper(), path, item[method])
    for path, item in DOCUMENT["paths"].items()
    for method in METHODS
    if method in item
]
NAMES = [f"{method} {path}" for method, path, _ in OPERATIONS]
#: What each path parameter stands for; a new one must be added here or the tests fail.
KINDS = {
    "kernel_id": "kernel",
    "session_id": "session",
    "name": "kernelspec",
    "file_name": "file",
    "connection_id": "connection",
}
OWNED = {"kernel", "session"}
OWNER = "ada-lovelace"


class World(NamedTuple):
    """What ada owns, and everybody's way to the gateway."""

    nobody: Client
    ada: Client
    bob: Client
    admin: Client
    looker: Client
    revoked: Client
    expired: Client
    ids: dict[str, str]


@pytest.fixture(scope="module")
def world(module_gateway: GatewayProcess) -> Iterator[World]:
    url = module_gateway.url
    ada = Client(url, module_gateway.create_key(OWNER))
    bob = Client(url, module_gateway.create_key("bob"))
    admin = Client(url, module_gateway.admin_key)
    looker = Client(url, made(module_gateway, OWNER, "--read-only"))
    expired = Client(url, made(module_gateway, OWNER, "--expires-days", "0.00001"))
    revoked = Client(url, module_gateway.create_key(OWNER))
    state = ("--state-dir", str(module_gateway.state_dir))
    module_gateway.run("keys", "revoke", str(revoked.key), *state)
    session = ada("POST", "/api/sessions", {"path": "ada.ipynb", "kernel": {"name": "python3"}})
    assert session.status == 201, session.body
    ids = {
        "kernel": session.json["kernel"]["id"],
        "session": session.json["id"],
        "kernelspec": "python3",
        "file": "logo-64x64.png",
        "connection": "0" * 32,
    }
    wait_until(
        lambda: ada("GET", f"/api/kernels/{ids['kernel']}").json["execution_state"] == "idle", 30
    )
    wait_until(lambda: expired("GET", "/api/me").status in (401, 429), 30)
    yield World(Client(url), ada, bob, admin, looker, revoked, expired, ids)
    ada("DELETE", f"/api/kernels/{ids['kernel']}")


def made(gateway: GatewayProcess, user: str, *options: str) -> str:
    """A key with options."""
    state = ("--state-dir", str(gateway.state_dir))
    return gateway.run("keys", "create", "--user", user, *options, *state).strip()


def parameters(path: str) -> list[str]:
    return re.findall(r"\{(\w+)\}", path)


def filled(path: str, ids: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: ids[KINDS[found.group(1)]], path)


def body_for(operation: dict[str, Any], ids: dict[str, str]) -> dict[str, Any] | None:
    """A body in which every id of the schema is ada's."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    return None if content is None else filled_schema(content["schema"], ids)


def filled_schema(schema: dict[str, Any], ids: dict[str, str]) -> Any:
    if schema.get("type") == "object" and "properties" in schema:
        return {
            name: filled_schema(part, ids)
            for name, part in schema["properties"].items()
            if part.get("format") == "uuid" or part.get("type") == "object"
        }
    return ids["kernel"] if schema.get("format") == "uuid" else {}


def ask(client: Client, method: str, path: str, operation: dict[str, Any], ids: Any) -> Answer:
    target = filled(path, ids)
    if operation.get("x-clouditia-websocket"):
        return client.upgrade(target)
    return client(method, target, body_for(operation, ids))


def test_every_path_parameter_has_a_known_kind() -> None:
    assert {name for _, path, _ in OPERATIONS for name in parameters(path)} == set(KINDS)


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=NAMES)
def test_nobody_gets_in_without_a_key(
    world: World, method: str, path: str, operation: dict[str, Any]
) -> None:
    if path in PUBLIC:
        answer = ask(world.nobody, method, path, operation, world.ids)
        assert answer.status in (200, 302, 403)
        assert world.ids["kernel"] not in answer.body.decode()
        return
    for_hosts = operation.get("security") == [{"hostToken": []}]
    answer = ask(world.nobody, method, path, operation, world.ids)
    # Hosts are refused by a close code after the upgrade, see the next test.
    assert answer.status == (101 if for_hosts else 401), answer.body


def is_for_hosts(operation: dict[str, Any]) -> bool:
    return operation.get("security") == [{"hostToken": []}]


#: What needs a key of a user.
CLOSED = [one for one in OPERATIONS if one[1] not in PUBLIC and not is_for_hosts(one[2])]


@pytest.mark.parametrize("who", ["revoked", "expired"])
@pytest.mark.parametrize(
    ("method", "path", "operation"), CLOSED, ids=[f"{one[0]} {one[1]}" for one in CLOSED]
)
def test_a_key_that_is_worth_nothing_any_more_opens_nothing_of_its_owner(
    world: World, who: str, method: str, path: str, operation: dict[str, Any]
) -> None:
    answer = ask(getattr(world, who), method, path, operation, world.ids)
    # Too many wrong keys from this address: the tests try them all within a minute.
    assert answer.status in (401, 429), answer.body
    assert world.ids["session"] not in answer.body.decode()


@pytest.mark.parametrize(
    ("method", "path", "operation"), CLOSED, ids=[f"{one[0]} {one[1]}" for one in CLOSED]
)
def test_a_read_only_key_sees_what_its_owner_sees_and_changes_nothing(
    world: World, method: str, path: str, operation: dict[str, Any]
) -> None:
    answer = ask(world.looker, method, path, operation, world.ids)
    is_read = method == "GET" and not operation.get("x-clouditia-websocket")
    if path == "/logout":
        assert answer.status == 204
    elif is_read:
        assert answer.status == 200, answer.body
    else:
        assert answer.status == 403, answer.body
        is_for_admins = operation.get("x-clouditia-admin")
        assert ("admin" if is_for_admins else "may only look") in answer.json["message"]
    assert_untouched(world)


@pytest.mark.parametrize("subprotocol", ["v1.resume.clouditia", ""], ids=["link", "legacy"])
def test_an_id_of_somebody_else_in_a_websocket_message_or_query_gets_nothing_of_hers(
    world: World, subprotocol: str
) -> None:
    """Bob on his own kernel names ada's: in the HELLO, as the session, in the query."""
    own = world.bob("POST", "/api/kernels", {"name": "python3"}).json["id"]
    query = f"?session_id={world.ids['session']}&kernel_id={world.ids['kernel']}"
    url = f"ws://{world.bob.host}:{world.bob.port}/api/kernels/{own}/channels{query}"
    header = {"msg_id": "1", "session": world.ids["session"], "msg_type": "kernel_info_request"}
    legacy = json.dumps({"channel": "shell", "header": header, "content": {}})
    hello = Hello("c", kernel_id=world.ids["kernel"]).encode()
    try:
        with connect(
            url,
            subprotocols=[Subprotocol(subprotocol)] if subprotocol else None,
            additional_headers={"Authorization": f"token {world.bob.key}"},
        ) as socket:
            socket.send(hello if subprotocol else legacy)
            heard = heard_until(socket, b"kernel_info_reply")
        assert OWNER.encode() not in heard
        if subprotocol:
            assert f"this is kernel {own}, not {world.ids['kernel']}".encode() in heard
        else:
            assert world.ids["kernel"].encode() not in heard
    finally:
        assert world.bob("DELETE", f"/api/kernels/{own}").status == 204
    assert_untouched(world)


def heard_until(socket: ClientConnection, wanted: bytes) -> bytes:
    """All that came until then, or until the other side closed."""
    heard = b""
    try:
        while wanted not in heard:
            message = socket.recv(timeout=60)
            heard += message.encode() if isinstance(message, str) else message
    except ConnectionClosed:
        pass
    return heard


def names_something_owned(path: str, operation: dict[str, Any]) -> bool:
    """Host routes know no users; tests/integration/test_channels_hosts.py has their tokens."""
    for_hosts = operation.get("security") == [{"hostToken": []}]
    return not for_hosts and bool(OWNED & {KINDS[name] for name in parameters(path)})


OF_OWNED = [one for one in OPERATIONS if names_something_owned(one[1], one[2])]


@pytest.mark.parametrize(
    ("method", "path", "operation"), OF_OWNED, ids=[f"{one[0]} {one[1]}" for one in OF_OWNED]
)
def test_an_id_of_somebody_else_in_the_path_is_as_good_as_none(
    world: World, method: str, path: str, operation: dict[str, Any]
) -> None:
    absent = {**world.ids, "kernel": str(uuid.uuid4()), "session": str(uuid.uuid4())}
    foreign = ask(world.bob, method, path, operation, world.ids)
    nothing = ask(world.bob, method, path, operation, absent)
    assert foreign.status == nothing.status == 404
    assert blurred(foreign, world.ids) == blurred(nothing, absent)
    assert_untouched(world)


def blurred(answer: Answer, ids: dict[str, str]) -> str:
    text = answer.body.decode()
    for kind in OWNED:
        text = text.replace(ids[kind], "ID")
    return text


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [one for one in OPERATIONS if body_for(one[2], {"kernel": "x"})],
    ids=[n for n, one in zip(NAMES, OPERATIONS, strict=True) if body_for(one[2], {"kernel": "x"})],
)
def test_an_id_of_somebody_else_in_the_body_is_refused(
    world: World, method: str, path: str, operation: dict[str, Any]
) -> None:
    own = world.bob("POST", "/api/sessions", {"path": "bob.ipynb"}).json
    try:
        target = filled(path, {**world.ids, "kernel": own["kernel"]["id"], "session": own["id"]})
        body = {"path": "x.ipynb", **(body_for(operation, world.ids) or {})}
        answer = world.bob(method, target, body)
        assert answer.status == 404, answer.body
        assert world.bob("GET", f"/api/sessions/{own['id']}").json["path"] == "bob.ipynb"
        assert_untouched(world)
    finally:
        world.bob("DELETE", f"/api/sessions/{own['id']}")


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=NAMES)
def test_no_answer_to_somebody_else_holds_an_id_of_mine(
    world: World, method: str, path: str, operation: dict[str, Any]
) -> None:
    if parameters(path) or operation.get("x-clouditia-admin") or method != "GET":
        return
    query = f"?kernel_id={world.ids['kernel']}&session_id={world.ids['session']}&user={OWNER}"
    for target in (path, path + query):
        text = world.bob("GET", target).body.decode()
        assert OWNER not in text
        assert not any(world.ids[kind] in text for kind in OWNED)


def test_counts_are_of_the_callers_own_kernels(world: World) -> None:
    assert world.ada("GET", "/api/status").json["kernels"] == 1
    assert world.bob("GET", "/api/status").json["kernels"] == 0


def test_the_same_notebook_path_is_not_the_same_session(world: World) -> None:
    mine = world.bob("POST", "/api/sessions", {"path": "ada.ipynb"})
    assert mine.status == 201
    assert mine.json["id"] != world.ids["session"]
    assert mine.json["kernel"]["id"] != world.ids["kernel"]
    assert world.bob("DELETE", f"/api/sessions/{mine.json['id']}").status == 204
    assert_untouched(world)


def test_a_user_key_cannot_do_what_needs_an_admin(world: World) -> None:
    for method, path, operation in OPERATIONS:
        if operation.get("x-clouditia-admin"):
            assert ask(world.bob, method, path, operation, world.ids).status == 403
    assert_untouched(world)


def test_the_admin_sees_and_the_owner_still_owns(world: World) -> None:
    model = world.admin("GET", f"/api/kernels/{world.ids['kernel']}").json
    assert model["clouditia"]["owner"] == OWNER
    assert_untouched(world)


def assert_untouched(world: World) -> None:
    kernel = world.ada("GET", f"/api/kernels/{world.ids['kernel']}")
    assert kernel.status == 200, kernel.body
    assert kernel.json["clouditia"]["epoch"] <= 1
    session = world.ada("GET", f"/api/sessions/{world.ids['session']}")
    assert session.json["path"] == "ada.ipynb"
    assert session.json["kernel"]["id"] == world.ids["kernel"]


def test_the_served_description_is_the_one_tested(world: World) -> None:
    assert world.ada("GET", "/clouditia/api/v1/openapi.json").json == json.loads(
        json.dumps(DOCUMENT)
    )
