"""What a client keeps until the host has it, and misuse of the machines by ourselves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clouditia.errors import LocalProtocolError, PackageTooLarge
from clouditia.protocol.handshake import Hello, Welcome
from clouditia.protocol.link import Link, Omitted, Outbox, Role
from clouditia.protocol.outbox import parts_size, slice_parts


def test_the_outbox_refuses_what_it_cannot_hold_and_says_when_it_is_full() -> None:
    box = Outbox(max_bytes=10)
    fullness = []
    for number in (1, 2):
        assert box.append([b"12345678"]) == number
        fullness.append(box.is_full)
    assert fullness == [False, True]
    with pytest.raises(PackageTooLarge, match="16 bytes wait"):
        box.append([b"12345678"])
    box.release(1)
    assert (box.first_seq, box.next_seq, box.pending_bytes, len(box)) == (2, 3, 8, 1)
    assert box.read(1) == Omitted(1, 1, "acknowledged before")
    assert box.read(2) == [b"12345678"]


@given(
    parts=st.lists(st.binary(max_size=20), min_size=1, max_size=6),
    offset=st.integers(0, 60),
    length=st.integers(1, 60),
)
def test_slices_of_parts_are_slices_of_the_whole(
    parts: list[bytes], offset: int, length: int
) -> None:
    whole = b"".join(parts)
    assert parts_size(parts) == len(whole)
    sliced = b"".join(bytes(piece) for piece in slice_parts(parts, offset, length))
    assert sliced == whole[offset : offset + length]


def test_misuse_of_our_own_is_told_at_once() -> None:
    with pytest.raises(LocalProtocolError):
        Link(Role.CLIENT, Outbox())
    with pytest.raises(LocalProtocolError):
        Link(Role.HOST, Outbox(), hello=Hello("c"))
    link = Link(Role.HOST, Outbox())
    with pytest.raises(LocalProtocolError):
        link.handled(1)
    with pytest.raises(LocalProtocolError):
        link.accept(Welcome("k", 1, 0, 1, 64, {}), 0.0)
