"""The link machine against a network that cuts, splits and stalls at random."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.protocol.link_network import SMALL, Network, Side, data_frame, online_pair, payload

from clouditia.errors import (
    ConnectionLostError,
    LocalProtocolError,
    RemoteProtocolError,
)
from clouditia.protocol import frames
from clouditia.protocol.handshake import Hello, Welcome
from clouditia.protocol.link import (
    ClosedByPeer,
    Failed,
    Link,
    LinkState,
    Online,
    Outbox,
    Role,
)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    down=st.lists(st.integers(8, 300), max_size=25),
    up=st.lists(st.integers(8, 300), max_size=15),
    cut_every=st.integers(5, 60),
)
def test_every_message_arrives_once_and_in_order_whatever_is_cut(
    seed: int, down: list[int], up: list[int], cut_every: int
) -> None:
    net = Network(seed)
    net.connect()
    waiting = [("down", i, size) for i, size in enumerate(down)]
    waiting += [("up", i, size) for i, size in enumerate(up)]
    net.random.shuffle(waiting)
    waiting.sort(key=lambda item: item[1])
    sent: dict[str, list[bytes]] = {"down": [], "up": []}
    for step in range(600):
        if waiting and net.random.random() < 0.2:
            direction, number, size = waiting.pop(0)
            parts = payload(number, size)
            (net.journal if direction == "down" else net.outbox).append(parts)
            sent[direction].append(b"".join(parts))
        net.step()
        if step % cut_every == cut_every - 1:
            net.connect()
        assert not net.client.errors, net.client.errors
        assert not net.host.errors, net.host.errors
    for direction, number, size in waiting:
        parts = payload(number, size)
        (net.journal if direction == "down" else net.outbox).append(parts)
        sent[direction].append(b"".join(parts))
    net.settle()
    assert [seq for seq, _ in net.client.got] == list(range(1, len(down) + 1))
    assert [seq for seq, _ in net.host.got] == list(range(1, len(up) + 1))
    assert [data for _, data in net.client.got] == sent["down"]
    assert [data for _, data in net.host.got] == sent["up"]
    assert len(net.outbox) == 0
    assert net.outbox.pending_bytes == 0
    assert net.host.acks == sorted(set(net.host.acks))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 25),
    gaps=st.lists(st.tuples(st.integers(1, 25), st.integers(0, 5)), max_size=3),
    cut_every=st.integers(7, 60),
)
def test_what_retention_took_is_reported_and_nothing_else_is_missing(
    seed: int, count: int, gaps: list[tuple[int, int]], cut_every: int
) -> None:
    net = Network(seed)
    missing: set[int] = set()
    for number in range(count):
        net.journal.append(payload(number, 20))
    for first, length in gaps:
        last = min(count, first + length)
        span = set(range(first, last + 1))
        if first <= last and not span & missing:
            net.journal.omit(first, last)
            missing |= span
    net.connect()
    for step in range(300):
        net.step()
        if step % cut_every == cut_every - 1:
            net.connect()
    net.settle()
    assert not net.client.errors
    reported = [n for first, last in net.client.gaps for n in range(first, last + 1)]
    assert reported == sorted(missing)
    assert [seq for seq, _ in net.client.got] == [
        n for n in range(1, count + 1) if n not in missing
    ]


def test_a_reader_that_stops_holds_at_most_one_window() -> None:
    net = Network(1)
    for number in range(100):
        net.journal.append(payload(number, 50))
    net.connect()
    for _ in range(50):
        net.exchange()
        net.now += 0.1
    held = sum(len(data) for _, data in net.client.got)
    assert held <= SMALL.window_bytes + 50
    net.settle()
    assert len(net.client.got) == 100


def test_reconnecting_gives_a_reader_that_stopped_no_more_credit() -> None:
    net = Network(1)
    for number in range(100):
        net.journal.append(payload(number, 50))
    for _ in range(20):
        net.connect()
        for _ in range(5):
            net.exchange()
    held = sum(len(data) for _, data in net.client.got)
    assert held <= SMALL.window_bytes + 50
    net.settle()
    assert len(net.client.got) == 100


def test_a_message_larger_than_the_window_gets_through() -> None:
    net = Network(2)
    net.journal.append(payload(1, 900))
    net.connect()
    net.settle()
    assert [len(data) for _, data in net.client.got] == [900]


@pytest.mark.parametrize(
    ("frame", "saying"),
    [
        (b"", "1 to"),
        (bytes([99]), "unknown frame kind"),
        (data_frame(1, 0, 5, 3, b"abc"), "does not fit"),
        (data_frame(1, 0, 5, 0, b""), "holds no data"),
        (data_frame(2, 0, 3, 0, b"abc"), "message 2 arrived, 1"),
        (data_frame(1, 0, 2000, 0, b"abc"), "at most 1000"),
        (data_frame(1, 0, 9, 3, b"abc"), "a piece at 3"),
        (
            data_frame(1, 0, 90, 0, b"x" * 90),
            "only 64 were allowed",
        ),
        (data_frame(1, 7, 3, 0, b"abc"), "7 was acknowledged"),
        (frames.encode_ack(5, 100), "5 was acknowledged"),
        (frames.encode_ack(1, 100), "1 was acknowledged, but only 0"),
        (frames.encode_ack(0, 100)[:-1], "has 17 bytes"),
        (frames.encode_gap(5, 6, {}), "a gap 5 to 6"),
        (frames.encode_gap(1, 0, {}), "a gap 1 to 0"),
        (frames.encode_gap(1, 1, {})[:10], "too short"),
        (bytes([frames.WELCOME]) + b"[]", "must be an object"),
        (bytes([frames.WELCOME]) + b"{", "not valid"),
        (bytes([frames.WELCOME]) + b" " * 70_000, "at most 65536"),
        (bytes([frames.WELCOME]) + b"{}", "after the handshake"),
        (bytes([frames.HELLO]) + b"{}", "after the handshake"),
    ],
)
def test_what_the_protocol_forbids_is_refused_with_a_sentence(frame: bytes, saying: str) -> None:
    _, client, _ = online_pair()
    client.link.receive(frame, 1000.0)
    client.pump_events(1000.0)
    (error,) = client.errors
    assert isinstance(error, RemoteProtocolError)
    assert saying in str(error)
    assert client.link.state is LinkState.OFFLINE
    (close,) = client.link.data_to_send()
    assert bytes(close[0])[0] == frames.CLOSE


@given(sizes=st.lists(st.sampled_from([1, 100, 16_384, 16_385, 30_000]), max_size=12))
def test_small_frames_travel_together_and_come_apart_in_order(sizes: list[int]) -> None:
    wholes = [bytes([40 + number]) * size for number, size in enumerate(sizes)]
    sent = [
        b"".join(parts) for parts in frames.bundle([[whole[:1], whole[1:]] for whole in wholes])
    ]
    assert [bytes(piece) for message in sent for piece in frames.unbundle(message)] == wholes
    assert all(len(message) <= 5 * frames.MAX_BUNDLED_BYTES for message in sent)
    if sum(size <= 100 for size in sizes) == len(sizes) > 1:
        assert len(sent) == 1


@pytest.mark.parametrize(
    ("tail", "saying"),
    [(b"\0\0", "ends inside"), (b"\0\0\0\5abc", "cannot hold"), (b"\0\0\0\1\x09", "kind 9")],
)
def test_a_bundle_that_does_not_fit_or_is_nested_is_refused(tail: bytes, saying: str) -> None:
    _, client, _ = online_pair()
    client.link.receive(bytes([frames.BUNDLE]) + tail, 1.0)
    client.pump_events(1.0)
    assert saying in str(client.errors[0])


def test_a_message_that_comes_again_is_dropped_and_costs_no_credit() -> None:
    net, client, _ = online_pair()
    net.journal.append(payload(1, 10))
    net.settle()
    for _ in range(20):
        client.link.receive(data_frame(1, 0, 10, 0, b"0123456789"), net.now)
        client.pump_events(net.now)
        client.link.data_to_send()
    assert len(client.got) == 1
    assert client.errors == []


def test_only_what_the_application_has_handled_is_acknowledged() -> None:
    net, client, _ = online_pair()
    for number in (1, 2, 3):
        client.link.receive(data_frame(number, 0, 3, 0, b"abc"), net.now)
    client.pump_events(net.now)
    client.handle(2)
    client.link.tick(net.now + 0.06)
    (ack,) = client.link.data_to_send()
    assert frames.parse(bytes(ack[0])) == frames.Ack(2, SMALL.window_bytes + 6)


def test_a_piece_that_does_not_go_on_where_the_last_one_ended_is_refused() -> None:
    _, client, _ = online_pair()
    client.link.receive(data_frame(1, 0, 9, 0, b"abc"), 1.0)
    client.link.receive(data_frame(1, 0, 10, 3, b"abc"), 1.0)
    client.pump_events(1.0)
    assert "a piece at 3" in str(client.errors[0])


def test_a_close_of_the_peer_is_reported_with_its_error() -> None:
    net, client, host = online_pair()
    host.link.close(ConnectionLostError("superseded").to_wire())
    for frame in host.link.data_to_send():
        client.link.receive(b"".join(frame), net.now)
    client.pump_events(net.now)
    assert [str(error) for error in client.errors] == ["superseded"]
    with pytest.raises(LocalProtocolError):
        host.link.connection_made(0.0)
    assert host.link.is_closed
    host.link.receive(frames.encode_ping(1), 0.0)
    assert host.link.data_to_send() == []


def test_a_client_that_leaves_for_good_says_so_and_one_that_fails_does_not() -> None:
    for is_goodbye in (True, False):
        net, client, host = online_pair()
        if is_goodbye:
            client.link.say_goodbye()
        else:
            client.link.receive(b"nonsense", net.now)
        assert client.link.is_closed is is_goodbye
        for frame in client.link.data_to_send():
            host.link.receive(b"".join(frame), net.now)
        closed = host.link.events()[-1]
        assert isinstance(closed, ClosedByPeer)
        assert closed.is_goodbye is is_goodbye


def test_a_silent_peer_is_pinged_after_10_s_and_given_up_after_20() -> None:
    net, client, host = online_pair()
    start = net.now
    deadline = client.link.next_deadline()
    assert deadline is not None
    assert deadline <= start + 10.0
    client.link.tick(start + 10.1)
    (ping,) = client.link.data_to_send()
    client.link.tick(start + 10.2)
    assert client.link.data_to_send() == []
    host.link.receive(bytes(ping[0]), net.now)
    (pong,) = host.link.data_to_send()
    assert bytes(pong[0])[0] == frames.PONG
    assert client.link.next_deadline() == pytest.approx(start + 20.0, abs=1.0)
    client.link.tick(start + 20.1)
    client.pump_events(0.0)
    assert isinstance(client.errors[0], ConnectionLostError)
    assert client.link.next_deadline() is None


def test_a_pong_keeps_the_connection() -> None:
    net, client, _ = online_pair()
    client.link.tick(net.now + 11)
    client.link.receive(frames.encode_pong(1), net.now + 12)
    client.link.tick(net.now + 21)
    assert client.link.state is LinkState.ONLINE


def test_a_handshake_without_answer_is_given_up_after_its_own_limit() -> None:
    link = Link(Role.CLIENT, Outbox(), hello=Hello("c"), config=SMALL)
    assert link.next_deadline() is None
    link.connection_made(0.0)
    link.tick(59.0)
    assert link.next_deadline() == 60.0
    link.tick(60.0)
    assert link.next_deadline() is None
    (event,) = link.events()
    assert isinstance(event, Failed)


def test_messages_before_the_handshake_are_refused() -> None:
    link = Link(Role.HOST, Outbox(), config=SMALL)
    link.connection_made(0.0)
    link.receive(frames.encode_ack(0, 10), 0.0)
    (event,) = link.events()
    assert isinstance(event, Failed)
    assert "before the handshake" in str(event.error)


@pytest.mark.parametrize("kind", [frames.WELCOME, frames.HELLO])
def test_a_handshake_frame_of_our_own_side_is_refused(kind: int) -> None:
    link = (
        Link(Role.HOST, Outbox(), config=SMALL)
        if kind == frames.WELCOME
        else Link(Role.CLIENT, Outbox(), hello=Hello("c"), config=SMALL)
    )
    link.connection_made(0.0)
    link.receive(frames.encode_json_frame(kind, {}), 0.0)
    (event,) = link.events()
    assert isinstance(event, Failed)
    assert "our own side" in str(event.error)


@pytest.mark.parametrize(
    ("change", "saying"),
    [
        ({"kernel_id": "other"}, "other answered"),
        ({"next": 0}, "goes on at message 0"),
        ({"received": -1}, "received must be"),
        ({"kernel_id": 3}, "kernel_id must be a string"),
        ({"protocol": 9}, "protocol"),
        ({"received": 5}, ""),
    ],
)
def test_a_welcome_that_does_not_fit_is_refused(change: dict[str, object], saying: str) -> None:
    link = Link(Role.CLIENT, Outbox(), hello=Hello("c", kernel_id="k"), config=SMALL)
    link.connection_made(0.0)
    fields = {**Welcome("k", 1, 0, 1, 64, {})._asdict(), **change}
    link.receive(frames.encode_json_frame(frames.WELCOME, fields), 0.0)
    event = link.events()[-1]
    if saying:
        assert isinstance(event, Failed)
        assert saying in str(event.error)
    else:
        assert isinstance(event, Online)


def test_a_host_that_skips_messages_without_a_gap_is_refused() -> None:
    net, client, _ = online_pair()
    net.journal.append(payload(1, 20))
    net.settle()
    client.link.connection_made(net.now)
    welcome = Welcome("k", 1, 0, 5, 64, {})
    client.link.receive(frames.encode_json_frame(frames.WELCOME, dict(welcome._asdict())), net.now)
    client.pump_events(net.now)
    assert "goes on at message 5, 2 was expected" in str(client.errors[0])


def test_a_fresh_client_under_a_known_id_counts_on_where_the_host_stands() -> None:
    net, _, host = online_pair()
    net.outbox.append(payload(1, 20))
    net.settle()
    again = Outbox()
    again.append(payload(2, 20))
    net.client = Side(Link(Role.CLIENT, again, hello=Hello("client", window=64), config=SMALL))
    net.outbox = again
    net.connect()
    net.settle()
    assert [seq for seq, _ in host.got] == [1, 2]
    assert len(again) == 0


def test_acks_wait_a_moment_and_then_go_out() -> None:
    net, client, _ = online_pair()
    net.journal.append(payload(1, 10))
    net.flush(net.host, "down")
    while net.wires["down"]:
        net.deliver(client, "down")
    client.handle(1)
    assert client.link.data_to_send() == []
    due = client.link.next_deadline()
    assert due is not None
    assert due == pytest.approx(net.now + 0.05)
    client.link.tick(due)
    (ack,) = client.link.data_to_send()
    assert frames.parse(bytes(ack[0])) == frames.Ack(1, SMALL.window_bytes + 10)
    assert client.link.data_to_send() == []
