"""Delays, rates, half-closed and silent directions, and messages that come twice."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve

from clouditia.testing.chaos import ChaosProxy
from clouditia.testing.chaos.duplicating import Duplicator, Rule
from clouditia.testing.waiting import wait_until

WAIT_S = 10.0
SILENT_S = 0.2


class Line:
    """One connection through a proxy, both ends of it."""

    def __init__(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.proxy = ChaosProxy(*listener.getsockname())
        self.client = socket.create_connection((self.proxy.host, self.proxy.port), WAIT_S)
        self.server, _ = listener.accept()
        self.server.settimeout(WAIT_S)
        listener.close()
        self.proxy.wait_connected()

    def close(self) -> None:
        self.client.close()
        self.server.close()
        self.proxy.close()


@pytest.fixture
def line() -> Iterator[Line]:
    opened = Line()
    yield opened
    opened.close()


def is_silent(end: socket.socket) -> bool:
    """Whether nothing comes for a moment, not even the end."""
    end.settimeout(SILENT_S)
    try:
        end.recv(1)
    except TimeoutError:
        return True
    finally:
        end.settimeout(WAIT_S)
    return False


def read(end: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := end.recv(size - len(data))):
        data += more
    return data


def test_a_black_hole_of_one_direction_lets_the_other_pass(line: Line) -> None:
    line.proxy.black_hole("up")
    line.client.sendall(b"up")
    line.server.sendall(b"down")
    assert read(line.client, 4) == b"down"
    assert is_silent(line.server)
    line.proxy.heal()
    assert read(line.server, 2) == b"up"


def test_nobody_hears_in_a_black_hole_that_the_other_side_has_left(line: Line) -> None:
    line.proxy.black_hole()
    line.client.close()
    assert is_silent(line.server)
    line.proxy.heal()
    assert line.server.recv(1) == b""


def test_a_stranded_connection_stays_silent_for_ever_and_is_not_told(line: Line) -> None:
    line.proxy.strand()
    line.proxy.heal()
    line.client.sendall(b"lost")
    assert is_silent(line.server)
    line.server.close()
    assert is_silent(line.client)
    with socket.create_connection((line.proxy.host, line.proxy.port)):
        wait_until(lambda: line.proxy.accepted == 2, WAIT_S)


def test_a_reset_of_one_side_reaches_the_other(line: Line) -> None:
    line.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    line.client.close()
    with pytest.raises(ConnectionResetError):
        line.server.recv(1)


def test_a_half_closed_connection_ends_in_one_direction_and_goes_on_in_the_other(
    line: Line,
) -> None:
    line.proxy.half_close("down")
    assert line.client.recv(1) == b""
    line.client.sendall(b"still")
    assert read(line.server, 5) == b"still"


def test_a_delay_holds_each_piece_and_overtakes_nothing(line: Line) -> None:
    line.proxy.delay(0.2, jitter_s=0.2, direction="up")
    began = time.monotonic()
    for number in range(50):
        line.client.sendall(bytes([number]))
    assert read(line.server, 50) == bytes(range(50))
    assert time.monotonic() - began > 0.2
    line.server.sendall(b"at once")
    assert read(line.client, 7) == b"at once"


def test_a_heal_ends_a_delay_that_is_under_way(line: Line) -> None:
    line.proxy.delay(3600)
    line.client.sendall(b"x")
    assert is_silent(line.server)
    line.proxy.heal()
    assert read(line.server, 1) == b"x"


def test_a_throttled_connection_keeps_to_its_rate(line: Line) -> None:
    line.proxy.throttle(100_000, direction="down")
    began = time.monotonic()
    sender = threading.Thread(target=line.server.sendall, args=(bytes(50_000),))
    sender.start()
    assert len(read(line.client, 50_000)) == 50_000
    assert time.monotonic() - began > 0.4
    sender.join()


def test_connections_are_counted(line: Line) -> None:
    line.proxy.cut()
    wait_until(lambda: line.proxy.connections == 0, WAIT_S)
    with socket.create_connection((line.proxy.host, line.proxy.port)):
        wait_until(lambda: line.proxy.accepted == 2, WAIT_S)


# --- messages that come twice ---------------------------------------------------------------------


@pytest.fixture
def far_end() -> Iterator[tuple[int, list[str | bytes]]]:
    """A websocket server that answers each message; its port, and what it got."""
    got: list[str | bytes] = []

    def answer(connection: ServerConnection) -> None:
        for message in connection:
            got.append(message)
            connection.send(message)

    with serve(answer, "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.socket.getsockname()[1], got
        server.shutdown()
        thread.join()


def dial(proxy: ChaosProxy) -> ClientConnection:
    return connect(f"ws://{proxy.host}:{proxy.port}", compression=None, proxy=None)


def test_messages_to_the_target_come_twice(far_end: tuple[int, list[str | bytes]]) -> None:
    port, got = far_end
    with ChaosProxy("127.0.0.1", port) as proxy:
        proxy.duplicate(2, after=1, direction="up")
        with dial(proxy) as client:
            sent: list[str | bytes] = [b"hello", b"x" * 100_000, "text", b"", b"y" * 300]
            for message in sent:
                client.send(message)
            wait_until(lambda: len(got) == 7, WAIT_S)
            assert got == [sent[0], sent[1], sent[1], sent[2], sent[3], sent[3], sent[4]]


def test_only_messages_with_a_certain_content_come_twice(
    far_end: tuple[int, list[str | bytes]],
) -> None:
    port, got = far_end
    with ChaosProxy("127.0.0.1", port) as proxy:
        proxy.duplicate(where=lambda payload: payload.startswith(b"tw"))
        with dial(proxy) as client:
            client.send(b"twice")
            client.send(b"once")
            answers = [client.recv(WAIT_S) for _ in range(5)]
            assert got == [b"twice", b"twice", b"once"]
            assert answers == [b"twice"] * 4 + [b"once"]


def test_what_is_no_websocket_passes_as_it_is() -> None:
    duplicator = Duplicator(Rule())
    head = b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n"
    assert duplicator.feed(head[:10]) == b""
    assert duplicator.feed(head[10:] + b"\x82\x01") == head + b"\x82\x01"
    assert duplicator.feed(b"ab") == b"ab"


def test_frames_are_repeated_however_they_are_cut_and_fragments_are_not() -> None:
    head = b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n"
    whole, first, last, ping = b"\x82\x02hi", b"\x02\x01a", b"\x80\x01b", b"\x89\x00"
    duplicator = Duplicator(Rule())
    stream = head + whole + first + last + ping
    out = b"".join(duplicator.feed(stream[i : i + 1]) for i in range(len(stream)))
    assert out == head + whole + whole + first + last + ping
    assert duplicator.repeated == 1
