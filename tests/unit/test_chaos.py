"""The tools of the fault tests do what they say."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from clouditia.testing.chaos import HEALTHY, ChaosProxy, LineOracle
from clouditia.testing.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def proxy() -> Iterator[ChaosProxy]:
    """A proxy in front of a server that echoes."""
    server = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=_echo_for_ever, args=(server,))
    thread.start()
    with ChaosProxy(*server.getsockname()) as running:
        yield running
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def _echo_for_ever(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_echo, args=(connection,)).start()


def _echo(connection: socket.socket) -> None:
    with connection:
        try:
            while data := connection.recv(4096):
                connection.sendall(data)
        except OSError:
            return


def _dial(proxy: ChaosProxy) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), timeout=5)


def test_bytes_pass_both_ways(proxy: ChaosProxy) -> None:
    with _dial(proxy) as client:
        client.sendall(b"hello")
        assert client.recv(10) == b"hello"
        wait_until(lambda: (proxy.bytes_up, proxy.bytes_down) == (5, 5), 5)


def test_a_cut_resets_old_and_new_connections_until_healed(proxy: ChaosProxy) -> None:
    with _dial(proxy) as client:
        proxy.wait_connected()
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(10)
    # The reset may be there before the dial is over, or only when something is read.
    with pytest.raises(ConnectionResetError), _dial(proxy) as refused:
        refused.recv(10)
    proxy.heal()
    with _dial(proxy) as client:
        client.sendall(b"back")
        assert client.recv(10) == b"back"


def test_cut_once_lets_new_connections_pass(proxy: ChaosProxy) -> None:
    with _dial(proxy) as client:
        proxy.wait_connected()
        proxy.cut_once()
        with pytest.raises(ConnectionResetError):
            client.recv(10)
    with _dial(proxy) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"


def test_a_black_hole_is_silent_and_then_goes_on(proxy: ChaosProxy) -> None:
    with _dial(proxy) as client:
        proxy.wait_connected()
        proxy.black_hole()
        client.sendall(b"late")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(10)
        proxy.heal()
        client.settimeout(5)
        assert client.recv(10) == b"late"


def _stdout(text: str) -> dict[str, object]:
    return {"header": {"msg_type": "stream"}, "content": {"name": "stdout", "text": text}}


REPLY = {"header": {"msg_type": "execute_reply"}, "content": {"status": "ok"}}
IDLE = {"header": {"msg_type": "status"}, "content": {"execution_state": "idle"}}


def test_the_oracle_accepts_a_healthy_cell_cut_anywhere() -> None:
    oracle = LineOracle(3)
    for message in (_stdout("#0\n#"), _stdout("1\n#2\n"), REPLY, IDLE):
        oracle.feed(message)
    assert oracle.verdict() == HEALTHY


def test_the_oracle_sees_loss_repetition_disorder_and_silence() -> None:
    oracle = LineOracle(5)
    oracle.feed(_stdout("#0\n#3\n#2\n#2\n#2\n"))
    assert oracle.verdict() == {
        "lost": 2,
        "duplicated": 2,
        "in_order": False,
        "reply": False,
        "idle": False,
        "state": True,
    }


def test_the_oracles_cell_prints_the_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    exec(LineOracle.code(3))
    assert capsys.readouterr().out == "#0\n#1\n#2\n"
