from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from clouditia.errors import AuthenticationError, ConfigError
from clouditia_gateway.auth import COOKIE_NAME, Authenticator
from clouditia_gateway.errors import http_status
from clouditia_gateway.keys import KeyStore
from clouditia_gateway.live import LiveConnections, watch_keys
from clouditia_gateway.logs import redact
from clouditia_gateway.records import Principal
from clouditia_gateway.state_dir import StateDir
from clouditia_gateway.store import Store
from clouditia_gateway.throttle import FAILURES_PER_MINUTE, FailureThrottle

SECRET = b"s" * 32


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "g.sqlite3")) as opened:
        yield opened


def request(uri: str = "/", address: str = "10.0.0.1", **headers: str) -> HTTPServerRequest:
    class Connection:
        context = type("Context", (), {"remote_ip": address, "protocol": "http"})()

    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return HTTPServerRequest(
        start_line=RequestStartLine("GET", uri, "HTTP/1.1"),
        headers=HTTPHeaders({"Host": "gateway"} | names),
        connection=Connection(),  # type: ignore[arg-type]  # as much of one as is asked
    )


def test_a_key_names_its_owner_and_is_stored_only_as_a_hash(store: Store, tmp_path: Path) -> None:
    _, key = KeyStore(store).mint("ada")
    assert KeyStore(store).authenticate(key).user == "ada"
    secret = key.rsplit("_", 1)[1]
    assert len(bytes.fromhex(secret)) == 32
    assert all(secret.encode() not in path.read_bytes() for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "ck_",
        "nonsense",
        "ck_" + "0" * 12 + "_" + "0" * 64,
        "ck_0_0",
        "é" * 80,
        "ck_\n",
        "x" * 999,
    ],
)
def test_what_is_no_key_of_ours_is_refused(store: Store, wrong: str) -> None:
    with pytest.raises(AuthenticationError) as refused:
        KeyStore(store).authenticate(wrong)
    assert "clouditia keys create" in refused.value.hint
    assert not wrong or wrong not in refused.value.message


def test_a_secret_of_another_key_does_not_open_this_one(store: Store) -> None:
    keys = KeyStore(store)
    (_, first), (_, second) = keys.mint("ada"), keys.mint("bob")
    prefix, key_id, _ = first.split("_")
    with pytest.raises(AuthenticationError, match="does not know"):
        keys.authenticate(f"{prefix}_{key_id}_{second.split('_')[2]}")


def test_a_user_key_does_not_become_an_admin_key_by_its_prefix(store: Store) -> None:
    keys = KeyStore(store)
    _, key = keys.mint("ada")
    with pytest.raises(AuthenticationError):
        keys.authenticate("sk" + key[2:])
    _, admin = keys.mint("root", is_admin=True)
    assert admin.startswith("sk_")
    assert keys.authenticate(admin).is_admin


def test_a_revoked_or_expired_key_is_refused_at_the_next_request(store: Store) -> None:
    keys = KeyStore(store)
    record, key = keys.mint("ada")
    with closing(Store(store.path)) as other:  # the command line, in another process
        KeyStore(other).revoke(record.key_id)
    with pytest.raises(AuthenticationError, match="revoked"):
        keys.authenticate(key)
    _, brief = keys.mint("ada", expires_days=1e-9)
    with pytest.raises(AuthenticationError, match="expired"):
        keys.authenticate(brief)


def test_revoking_takes_the_id_or_the_whole_key_and_names_an_unknown_one(store: Store) -> None:
    keys = KeyStore(store)
    record, key = keys.mint("ada")
    assert keys.revoke(key).key_id == record.key_id
    with pytest.raises(ConfigError, match="no key with the id 'abc'"):
        keys.revoke("abc")


@pytest.mark.parametrize("name", ["", " ", "a b", "a/b", "../x", "x" * 65, "-a", "ä"])
def test_odd_user_names_are_refused(store: Store, name: str) -> None:
    with pytest.raises(ConfigError, match="user name"):
        KeyStore(store).mint(name)


def test_the_last_use_is_noted(store: Store) -> None:
    keys = KeyStore(store)
    record, key = keys.mint("ada")
    assert keys.list()[0].last_used_at is None
    keys.authenticate(key)
    used = keys.list()[0]
    assert used.key_id == record.key_id
    assert used.last_used_at is not None


def test_the_admin_key_is_minted_once_and_private(store: Store, tmp_path: Path) -> None:
    state = StateDir(tmp_path / "s")
    state.prepare()
    keys = KeyStore(store)
    keys.mint_admin_key(state)
    key = state.admin_key.read_text()
    keys.mint_admin_key(state)
    assert state.admin_key.read_text() == key
    assert state.admin_key.stat().st_mode & 0o777 == 0o600
    assert keys.authenticate(key.strip()).is_admin


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "token", "Token"])
def test_the_header_takes_both_words(store: Store, scheme: str) -> None:
    keys = KeyStore(store)
    _, key = keys.mint("ada")
    found = Authenticator(keys, SECRET).authenticate(request(Authorization=f"{scheme} {key}"))
    assert (found.principal.user, found.via) == ("ada", "header")


def test_a_token_in_the_url_counts_only_where_it_is_allowed(store: Store) -> None:
    keys = KeyStore(store)
    _, key = keys.mint("ada")
    authenticator = Authenticator(keys, SECRET)
    with pytest.raises(AuthenticationError):
        authenticator.authenticate(request(f"/api/kernels?token={key}"))
    found = authenticator.authenticate(request(f"/?token={key}"), allow_query_token=True)
    assert found.via == "query"


def test_a_wrong_header_is_not_saved_by_a_good_cookie(store: Store) -> None:
    keys = KeyStore(store)
    record, _ = keys.mint("ada")
    authenticator = Authenticator(keys, SECRET)
    cookie = authenticator.cookie_for(Principal("ada", record.key_id))
    good = request(Cookie=f"{COOKIE_NAME}={cookie}")
    assert authenticator.authenticate(good).via == "cookie"
    with pytest.raises(AuthenticationError):
        authenticator.authenticate(
            request(Cookie=f"{COOKIE_NAME}={cookie}", Authorization="token x")
        )


def test_a_cookie_is_worth_nothing_once_its_key_is_revoked_or_it_is_forged(store: Store) -> None:
    keys = KeyStore(store)
    record, _ = keys.mint("ada")
    principal = Principal("ada", record.key_id)
    forged = Authenticator(keys, b"other" * 8).cookie_for(principal)
    authenticator = Authenticator(keys, SECRET)
    with pytest.raises(AuthenticationError):
        authenticator.authenticate(request(Cookie=f"{COOKIE_NAME}={forged}"))
    cookie = authenticator.cookie_for(principal)
    keys.revoke(record.key_id)
    with pytest.raises(AuthenticationError, match="revoked"):
        authenticator.authenticate(request(Cookie=f"{COOKIE_NAME}={cookie}"))


def test_the_eleventh_failure_of_an_address_has_to_wait_and_nobody_else(
    store: Store,
) -> None:
    keys = KeyStore(store)
    _, key = keys.mint("ada")
    authenticator = Authenticator(keys, SECRET)
    bad = request(Authorization="token ck_nonsense")
    for _ in range(FAILURES_PER_MINUTE):
        with pytest.raises(AuthenticationError) as refused:
            authenticator.authenticate(bad)
        assert "retry_after" not in refused.value.details
    with pytest.raises(AuthenticationError) as refused:
        authenticator.authenticate(bad)
    assert 1 <= refused.value.details["retry_after"] <= 6
    elsewhere = request(address="10.0.0.2", Authorization="token ck_nonsense")
    with pytest.raises(AuthenticationError) as refused:
        authenticator.authenticate(elsewhere)
    assert "retry_after" not in refused.value.details
    assert authenticator.authenticate(request(Authorization=f"token {key}")).principal.user == "ada"


def test_failures_are_forgiven_with_time() -> None:
    now = [0.0]
    throttle = FailureThrottle(lambda: now[0])
    assert [throttle.failed("a") for _ in range(FAILURES_PER_MINUTE)] == [0.0] * FAILURES_PER_MINUTE
    assert throttle.failed("a") == pytest.approx(6.0)
    now[0] = 6.0
    assert throttle.failed("a") == 0.0
    assert throttle.failed("a") > 0


def test_guesses_at_one_key_from_many_addresses_are_slowed_down_and_the_key_still_works(
    store: Store,
) -> None:
    keys = KeyStore(store)
    _, key = keys.mint("ada")
    authenticator = Authenticator(keys, SECRET)
    wrong = key[:-1] + ("0" if key[-1] != "0" else "1")

    def guess(number: int) -> AuthenticationError:
        sent = request(address=f"10.0.1.{number}", Authorization=f"Bearer {wrong}")
        with pytest.raises(AuthenticationError) as refused:
            authenticator.authenticate(sent)
        return refused.value

    refusals = [guess(number) for number in range(FAILURES_PER_MINUTE + 1)]
    assert [http_status(one) for one in refusals] == [401] * FAILURES_PER_MINUTE + [429]
    assert "for this key" in refusals[-1].message
    right = request(address="10.0.1.1", Authorization=f"Bearer {key}")
    assert authenticator.authenticate(right).principal.user == "ada"


def test_a_read_only_key_is_known_as_one_and_no_other_scope_exists(store: Store) -> None:
    keys = KeyStore(store)
    _, key = keys.mint("ada", scope="read")
    assert keys.authenticate(key).is_read_only
    assert not keys.authenticate(keys.mint("ada")[1]).is_read_only
    with pytest.raises(ConfigError, match="one of all, read"):
        keys.mint("ada", scope="write")


def test_revocation_closes_the_connections_of_that_key_only(store: Store) -> None:
    import asyncio

    keys = KeyStore(store)
    (ada, _), (bob, _) = keys.mint("ada"), keys.mint("bob")
    live = LiveConnections()
    closed: list[tuple[str, int, str]] = []

    def register(record_id: str, user: str) -> None:
        live.register(
            Principal(user, record_id), lambda code, why: closed.append((user, code, why))
        )

    async def scenario() -> None:
        register(ada.key_id, "ada")
        register(bob.key_id, "bob")
        watching = asyncio.create_task(watch_keys(live, keys))
        keys.revoke(ada.key_id)
        async with asyncio.timeout(5):
            while not closed:
                await asyncio.sleep(0.05)
        watching.cancel()

    asyncio.run(scenario())
    assert [(user, code) for user, code, _ in closed] == [("ada", 4401)]
    assert len(live) == 1


def test_a_connection_that_ended_is_not_closed_again() -> None:
    live = LiveConnections()
    closed: list[int] = []
    unregister = live.register(Principal("ada", "k"), lambda code, _why: closed.append(code))
    unregister()
    unregister()
    assert live.close_key("k", "revoked") == 0
    assert not closed


def test_no_secret_passes_the_log() -> None:
    key = "ck_" + "a" * 12 + "_" + "b" * 64
    for line in (
        key,
        f"GET /?token={key}",
        f"/x?a=1&token=abc&b={key}",
        "Authorization: token abc",
    ):
        clean = redact(line)
        assert "b" * 64 not in clean
        assert "abc" not in clean
    assert redact("sk_" + "a" * 12 + "_" + "b" * 64).startswith("sk_" + "a" * 12)
