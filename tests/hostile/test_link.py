"""A gateway that speaks the link wrongly, against our commands: a clear end, little memory."""

from __future__ import annotations

import json
import struct
from collections.abc import Awaitable, Callable

import pytest
from tests.hostile.client import assert_harmless, files_of, run, run_many, run_program
from tests.hostile.server import BINARY, CONTINUATION, KERNEL, TEXT, HostileServer, Peer

from clouditia.kernelspecs import bridge_program
from clouditia.protocol import frames
from clouditia.protocol.handshake import Welcome
from clouditia.protocol.messages import Message, encode_json, encode_v1
from clouditia.testing.home import IsolatedHome

ANSI = "\x1b]0;owned\x07\x9b6n\u202e"
DEEP = b"[" * 1_000_000 + b"]" * 1_000_000
MIB = 1024 * 1024
WELCOME = Welcome(KERNEL, 1, 0, 1, 8 * MIB, {"execution_state": "busy"})

Attack = Callable[[Peer], Awaitable[None]]


def data(seq: int, payload: bytes, *, total: int | None = None, offset: int = 0) -> bytes:
    size = len(payload) if total is None else total
    return b"".join(bytes(part) for part in frames.encode_data(seq, 0, size, offset, [payload]))


def message(channel: str, header: bytes, content: bytes = b"{}") -> bytes:
    return b"".join(encode_v1(Message(channel, header, b"{}", b"{}", content)))


def iopub(msg_type: str, content: object) -> bytes:
    header = encode_json({"msg_type": msg_type, "msg_id": "x"})
    return message("iopub", header, content if isinstance(content, bytes) else encode_json(content))


async def greeted(peer: Peer, *raw: bytes) -> None:
    """A right welcome first; the rest is the attack."""
    await peer.receive()
    await peer.send(WELCOME.encode())
    for frame in raw:
        await peer.send(frame)


def after_welcome(*raw: bytes) -> Attack:
    return lambda peer: greeted(peer, *raw)


def instead_of_welcome(*raw: bytes, opcode: int = BINARY) -> Attack:
    async def attack(peer: Peer) -> None:
        await peer.receive()
        for frame in raw:
            await peer.send(frame, opcode=opcode)

    return attack


async def tiny_fragments(peer: Peer) -> None:
    """A message in as many pieces of one byte as its limit allows, and then some."""
    await greeted(peer)
    await peer.send(b"", fin=False)
    piece = bytes([CONTINUATION, 1, 0x41])
    for _ in range(140):
        await peer.send_raw(piece * 65536)


async def half_a_million_fragments(peer: Peer) -> None:
    await greeted(peer)
    await peer.send(b"", fin=False)
    for _ in range(8):
        await peer.send_raw(bytes([CONTINUATION, 1, 0x41]) * 65536)


async def empty_fragments(peer: Peer) -> None:
    """Pieces of nothing count against no limit of sizes."""
    await greeted(peer)
    await peer.send(b"", fin=False)
    for _ in range(8):
        await peer.send_raw(bytes([CONTINUATION, 0]) * 65536)
    await peer.send(b"\xff", opcode=CONTINUATION)


async def a_frame_of_an_exabyte(peer: Peer) -> None:
    await greeted(peer)
    await peer.send_raw(bytes([0x82, 127]) + struct.pack("!Q", 2**60) + b"x" * MIB)


EXIT_PROTOCOL = (12,)
#: The attack, and the exit codes of a clear end.
FINAL: dict[str, tuple[Attack, tuple[int, ...]]] = {
    "rubbish for a welcome": (instead_of_welcome(b"\xff" * 100), EXIT_PROTOCOL),
    "text": (instead_of_welcome(b"hello", opcode=TEXT), EXIT_PROTOCOL),
    "data before the welcome": (instead_of_welcome(data(1, b"x")), EXIT_PROTOCOL),
    "a welcome with forged numbers": (
        instead_of_welcome(bytes([frames.WELCOME]) + b'{"kernel_id": 1, "epoch": -1}'),
        EXIT_PROTOCOL,
    ),
    "a deep welcome": (instead_of_welcome(bytes([frames.WELCOME]) + DEEP[:60_000]), EXIT_PROTOCOL),
    "a welcome of a megabyte": (instead_of_welcome(bytes([frames.WELCOME]) + DEEP), EXIT_PROTOCOL),
    "an unknown kind": (after_welcome(b"\x77" * 20), EXIT_PROTOCOL),
    "wrong sequence": (after_welcome(data(7, b"x")), EXIT_PROTOCOL),
    "a gap in the future": (after_welcome(frames.encode_gap(9, 2**63, {})), EXIT_PROTOCOL),
    "a piece beyond its total": (after_welcome(data(1, b"x" * 9, total=5)), EXIT_PROTOCOL),
    "a total of 4 GiB": (after_welcome(data(1, b"x", total=2**32 - 1)), EXIT_PROTOCOL),
    "pieces out of turn": (
        after_welcome(data(1, b"x", total=100), data(1, b"x", total=100, offset=50)),
        EXIT_PROTOCOL,
    ),
    "a bundle with a forged length": (
        after_welcome(bytes([frames.BUNDLE]) + struct.pack(">I", 2**31) + b"x"),
        EXIT_PROTOCOL,
    ),
    "a close with orders": (
        after_welcome(
            frames.encode_json_frame(
                frames.CLOSE, {"code": "permission_denied", "message": ANSI * 500, "hint": ANSI}
            )
        ),
        (4,),
    ),
}


def test_a_gateway_that_breaks_the_link_ends_attach_with_a_sentence(
    module_home: IsolatedHome, evil_gateway: HostileServer
) -> None:
    """Every attack on a command of its own; one process, because starting one takes longer."""

    def scene(attack: Attack) -> Callable[[], None]:
        return lambda: setattr(evil_gateway, "script", attack)

    evil_gateway.scenes = [scene(attack) for attack, _ in FINAL.values()]
    before = files_of(module_home)
    attach = ("attach", KERNEL, "--target", "evil")
    ended = run_many(module_home, evil_gateway.url, [attach] * len(FINAL))
    for name, ran in zip(FINAL, ended, strict=True):
        assert_harmless(ran, exit_codes=FINAL[name][1])
        assert ran.out == "", name
        assert "attached to" in ran.err, name
    assert files_of(module_home) == before


#: What breaks the connection only: it is made again, which is right where a network did it.
BREAKING: dict[str, Attack] = {
    "fragments of a byte": half_a_million_fragments,
    "empty fragments": empty_fragments,
    "a frame of an exabyte": a_frame_of_an_exabyte,
    "a message of 256 MiB that never comes": after_welcome(data(1, b"x", total=256 * MIB)),
}


ALL_BREAKING = {**BREAKING, "fragments of a byte up to the limit": tiny_fragments}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in set(ALL_BREAKING) - set(BREAKING)]


@pytest.mark.parametrize("attack", [*BREAKING, *SLOW])
def test_what_only_breaks_the_connection_takes_no_memory(
    module_home: IsolatedHome, evil_gateway: HostileServer, attack: str
) -> None:
    """The second time the server lets the client go, so that the command ends."""
    times = []

    async def script(peer: Peer) -> None:
        times.append(attack)
        if len(times) == 1:
            await ALL_BREAKING[attack](peer)
            raise ConnectionError("enough")
        close = {"code": "permission_denied", "message": "that was all"}
        await greeted(peer, frames.encode_json_frame(frames.CLOSE, close))

    evil_gateway.script = script
    ran = run(module_home, "attach", KERNEL, "--target", "evil")
    assert_harmless(ran, exit_codes=(4, 12))
    if ran.code == 4:
        assert "reconnecting" in ran.err
        assert "that was all" in ran.err


def test_messages_that_cannot_be_read_are_named_and_the_rest_is_shown(
    module_home: IsolatedHome, evil_gateway: HostileServer
) -> None:
    odd = [
        b"",
        struct.pack("<Q", 2**24),
        struct.pack("<Q", 2**63) * 8,
        message("nowhere", b"{}"),
        message("iopub", b"\xff\xff"),
        message("iopub", DEEP),
        iopub("stream", DEEP),
        iopub("stream", {"name": ["x"], "text": {"a": 1}}),
        iopub("error", {"traceback": [ANSI, 1, None, {"x": ANSI}]}),
        iopub("display_data", {"data": {"text/html": "<script>alert(1)</script>"}}),
        iopub("status", {"execution_state": {"a": 1}}),
        message("clouditia", encode_json({"msg_type": "kernel_exited"}), DEEP),
        iopub("stream", {"name": "stdout", "text": "still here\n"}),
    ]
    sent = [data(seq, raw or b"\0", total=None) for seq, raw in enumerate(odd, 1)]
    ended = encode_json({"msg_type": "kernel_exited"})
    death = {"reason": ANSI, "exit_code": "x", "last_stderr": ANSI}
    last = data(len(odd) + 1, message("clouditia", ended, encode_json(death)))
    evil_gateway.script = after_welcome(*sent, last)
    ran = run(module_home, "attach", KERNEL, "--target", "evil", "--json")
    lines = [line for line in ran.out.splitlines() if "still here" in line]
    assert json.loads(lines[0])["content"]["text"] == "still here\n"
    assert ran.code == 5, ran
    assert "the kernel died" in ran.err + ran.out
    assert "a message could not be read" in ran.err
    assert not set("\x1b\x07\x9b\u202e") & set(ran.err + ran.out)
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("attack", ["wrong sequence"])
def test_a_hostile_gateway_ends_a_run_with_a_sentence(
    module_home: IsolatedHome, evil_gateway: HostileServer, attack: str
) -> None:
    """Through nbclient, the provisioner and the bridge, each in its process."""
    (module_home.directory / "a.py").write_text("print(1)\n")
    evil_gateway.script, _ = FINAL[attack]
    before = files_of(module_home)
    ran = run(module_home, "run", "a.py", "--target", "evil")
    assert_harmless(ran, exit_codes=(5, 7, 12))
    assert set(files_of(module_home)) == set(before)


def test_a_bridge_that_a_front_end_started_gives_up_with_its_memory_small(
    module_home: IsolatedHome, evil_gateway: HostileServer
) -> None:
    """As VS Code starts it: the kernelspec's argv on a connection file."""
    evil_gateway.script, _ = FINAL["a total of 4 GiB"]
    connection = module_home.runtime_dir / "kernel-vs.json"
    ports = {"shell_port": 0, "iopub_port": 0, "stdin_port": 0, "control_port": 0, "hb_port": 0}
    fields = {**ports, "ip": "127.0.0.1", "key": "k", "transport": "tcp"}
    fields["signature_scheme"] = "hmac-sha256"
    connection.write_text(json.dumps(fields))
    options = ["--target", "evil", "--kernel", "python3", "-f", str(connection)]
    ran = run_program([str(bridge_program()), *options], module_home)
    assert ran.code not in (0, -9)
    assert ran.rss_bytes < 200 * MIB
    assert "Traceback" not in ran.err
    connection.unlink(missing_ok=True)
