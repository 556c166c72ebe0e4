"""A gateway that answers with lies: nothing is written that should not be, no key leaves, and the
user gets a sentence."""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests import needs
from tests.hostile.client import KEY, assert_harmless, files_of, run, run_many
from tests.hostile.server import KERNEL, Answer, HostileServer, kernel_model

from clouditia.errors import RemoteProtocolError
from clouditia.kernelspecs import MAX_SPECS
from clouditia.rest import GatewayClient
from clouditia.settings import Target, load_target, save_target, store_key
from clouditia.testing.home import IsolatedHome

DEEP = b"[" * 1_000_000 + b"]" * 1_000_000
ANSI = "\x1b]0;owned\x07\x1b[2J\x9b6n\u202ecod.exe\x1b]52;c;ZXZpbA==\x07"

#: What comes for every request, and the exit codes of a clear end.
ANSWERS: dict[str, tuple[Answer, tuple[int, ...]]] = {
    "a web page": (Answer(b"<html><script>alert(1)</script></html>"), (2, 12)),
    "nothing": (Answer(b""), (2, 12)),
    "JSON a million deep": (Answer(DEEP), (2, 12)),
    "8 MiB of empty lists": (Answer(b"[" + b"[]," * 2_800_000 + b"[]]"), (2, 12)),
    "4 MiB of empty lists": (Answer(b"[" + b"[]," * 1_390_000 + b"[]]"), (2, 12)),
    "a number": (Answer(7), (2, 12)),
    "lists of numbers": (Answer([1, None, "x"]), (2, 12)),
    "a length that is a lie": (Answer(b"{}", length=2**40), (2, 6, 12)),
    "less than it said": (Answer(b"{}", length=1000), (2, 6, 12)),
    "an error with orders": (
        Answer({"code": "quota_exceeded", "message": ANSI * 1000, "hint": ANSI}, 429),
        (14,),
    ),
    "an error of a strange kind": (
        Answer({"code": ["x"], "message": {"a": 1}, "details": [1], "request_id": {}}, 500),
        (1, 6, 12),
    ),
}


def test_a_command_ends_clearly_whatever_is_answered(
    module_home: IsolatedHome, evil_gateway: HostileServer
) -> None:
    def scene(answer: Answer) -> Callable[[], None]:
        def set_up() -> None:
            evil_gateway.answers, evil_gateway.default = {}, answer

        return set_up

    lying = login(evil_gateway)
    commands = [
        words for _ in ANSWERS for words in (("kernels", "list", "--target", "evil"), lying)
    ]
    evil_gateway.scenes = [scene(answer) for answer, _ in ANSWERS.values() for _ in "12"]
    before = files_of(module_home)
    ended = run_many(module_home, evil_gateway.url, commands)
    for number, ran in enumerate(ended):
        assert_harmless(ran, exit_codes=list(ANSWERS.values())[number // 2][1])
        assert "clouditia: " in ran.err
    assert files_of(module_home) == before


def login(server: HostileServer, name: str = "again") -> tuple[str, ...]:
    key_file = Path.home() / "c" / "keys" / "evil.key"
    return ("login", server.url, "--name", name, "--key-file", str(key_file))


def test_names_and_states_of_kernels_give_the_terminal_no_orders(
    module_home: IsolatedHome, evil_gateway: HostileServer
) -> None:
    model = kernel_model(name=ANSI * 50, execution_state=ANSI, last_activity=ANSI, connections=ANSI)
    evil_gateway.answers["GET /api/kernels"] = Answer([model])
    for options in ((), ("--json",)):
        ran = run(module_home, "kernels", "list", "--target", "evil", *options)
        assert_harmless(ran, exit_codes=(0,))
        assert not set("\x1b\x07\x9b\u202e") & set(ran.out)
        assert "owned" in ran.out
    assert json.loads(ran.out)[0]["name"] == ANSI * 50


@pytest.mark.parametrize(
    "kernel_id",
    ["../../api/shutdown", "x\nshutdown", "", "x" * 200, "a b", "\x1b[2J", 7, None],
    ids=repr,
)
def test_an_id_that_is_no_plain_word_is_used_for_nothing(
    module_home: IsolatedHome, evil_gateway: HostileServer, kernel_id: object
) -> None:
    """It would go into URLs, notes on disk, and the standard input of the bridge."""
    evil_gateway.answers["GET /api/kernels"] = Answer([kernel_model(id=kernel_id)])
    evil_gateway.answers["POST /api/kernels"] = Answer(kernel_model(id=kernel_id), 201)
    evil_gateway.answers[f"GET /api/kernels/{KERNEL}"] = Answer(kernel_model(id=kernel_id))
    client = GatewayClient(load_target("evil"))
    for ask in (
        client.list_kernels,
        lambda: client.get_kernel(KERNEL),
        lambda: client.start_kernel("python3", env={}, path=""),
    ):
        with pytest.raises(RemoteProtocolError, match="kernel"):
            ask()


NAMES = ["../../evil", "/etc/evil", "..", "a/b", "a\\b", "a\x00b", "con:", "x" * 300, ANSI]


def test_a_kernelspec_cannot_leave_its_folder_nor_bring_files(
    module_home: IsolatedHome, evil_gateway: HostileServer
) -> None:
    spec = {"display_name": ANSI, "language": ANSI, "metadata": {"debugger": ANSI}}
    logos = {"logo-64x64": "../../../../evil", "kernel.js": "/kernelspecs/x/kernel.js"}
    specs = {name: {"spec": spec, "resources": logos} for name in [*NAMES, "fine"]}
    evil_gateway.answers["GET /api/kernelspecs"] = Answer({"kernelspecs": specs})
    before = set(files_of(module_home))
    ran = run(module_home, *login(evil_gateway, "specs"))
    assert_harmless(ran, exit_codes=(0,))
    folders = ("j/kernels/clouditia-specs-fine", "j/kernels/clouditia-specs-..")
    files = ("kernel.json", "logo-32x32.png", "logo-64x64.png", "logo-svg.svg")
    specs_of = {f"{folder}/{file}" for folder in folders for file in files}
    new = {"c/targets/specs.json", "c/keys/specs.key"}
    assert set(files_of(module_home)) - before == specs_of | new
    written = json.loads((module_home.directory / folders[0] / "kernel.json").read_text())
    words = ["--target", "specs", "--kernel", "fine", "-f", "{connection_file}"]
    assert written["argv"][1:] == words
    assert not set("\x1b\x07\x9b\u202e") & set(written["display_name"] + written["language"])
    assert written["metadata"]["debugger"] in (True, False)
    assert not any("kernelspecs/" in path for _, path, _ in evil_gateway.seen)


def test_a_gateway_cannot_fill_the_menus(
    module_home: IsolatedHome, evil_gateway: HostileServer
) -> None:
    specs: dict[str, object] = {f"k{number}": {"spec": {}} for number in range(MAX_SPECS + 1)}
    evil_gateway.answers["GET /api/kernelspecs"] = Answer({"kernelspecs": specs})
    before = files_of(module_home)
    ran = run(module_home, *login(evil_gateway, "many"))
    assert_harmless(ran, exit_codes=(12,))
    assert f"offers {MAX_SPECS + 1} kernels, at most {MAX_SPECS}" in ran.err
    assert set(files_of(module_home)) - set(before) <= {"c/targets/many.json", "c/keys/many.key"}


# --- the key goes nowhere else ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "status"), [("list", 302), ("login", 308), ("attach", 301), ("attach", 307)]
)
def test_no_redirect_takes_the_key_to_another_host(
    module_home: IsolatedHome,
    evil_gateway: HostileServer,
    evil_stock: HostileServer,
    command: str,
    status: int,
) -> None:
    """The websocket library follows redirects with all headers; http.client follows none."""
    scheme = "ws" if command == "attach" else "http"
    away = Answer(b"", status, {"Location": f"{scheme}{evil_stock.url[4:]}/stolen"})
    if command == "attach":
        evil_gateway.answers[f"GET /api/kernels/{KERNEL}/channels"] = away
    else:
        evil_gateway.answers, evil_gateway.default = {}, away
    words: dict[str, tuple[str, ...]] = {
        "list": ("kernels", "list", "--target", "evil"),
        "attach": ("attach", KERNEL, "--target", "evil"),
        "login": login(evil_gateway),
    }
    evil_stock.seen.clear()
    ran = run(module_home, *words[command])
    assert_harmless(ran, exit_codes=(2,))
    assert "redirects to" in ran.err or "neither" in ran.err
    assert evil_stock.seen == []


def test_a_gateway_that_becomes_something_else_gets_one_request_and_an_error(
    module_home: IsolatedHome, evil_gateway: HostileServer
) -> None:
    evil_gateway.default = Answer({"version": "2.21"}, headers={"X-Clouditia-Protocol": ""})
    evil_gateway.answers = {}
    evil_gateway.is_gateway = False
    try:
        evil_gateway.default = Answer([])
        ran = run(module_home, "kernels", "list", "--target", "evil")
    finally:
        evil_gateway.is_gateway = True
    assert_harmless(ran, exit_codes=(2,))
    assert "is not the Clouditia gateway that it was" in ran.err


def test_a_pinned_certificate_that_changes_ends_before_the_key_is_sent(
    module_home: IsolatedHome, tmp_path: Path
) -> None:
    needs.program("openssl")
    first, second = (context(tmp_path / name) for name in ("first", "second"))
    with HostileServer().running(first[0]) as server:
        pinned = Target("pinned", server.url, key_file=store_key("pinned", KEY), pin=first[1])
        save_target(pinned)
        assert run(module_home, "kernels", "list", "--target", "pinned").code == 0
    with HostileServer().running(second[0]) as other:
        save_target(Target("pinned", other.url, key_file=pinned.key_file, pin=first[1]))
        for words in (("kernels", "list"), ("attach", KERNEL)):
            ran = run(module_home, *words, "--target", "pinned")
            assert_harmless(ran, exit_codes=(2,))
            assert "not the pinned gateway" in ran.err
        assert other.seen == []


def context(path: Path) -> tuple[ssl.SSLContext, str]:
    """A server's TLS with a fresh certificate, and its pin."""
    import hashlib

    subject = ["-subj", "/CN=localhost", "-days", "2"]
    made = ["-keyout", f"{path}.key", "-out", f"{path}.crt"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command = ["openssl", "req", "-x509", *curve, *subject, *made]
    subprocess.run(command, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(f"{path}.crt", f"{path}.key")
    der = ssl.PEM_cert_to_DER_cert(Path(f"{path}.crt").read_text())
    return tls, hashlib.sha256(der).hexdigest()
