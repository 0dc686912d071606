"""Frames: the fields that a data plane reads lie where a receiver puts them."""

from __future__ import annotations

import pytest

from nattrav.net.address import TransportAddress, to_sockaddr
from nattrav.net.frames import PAYLOAD, Frames

FOUR, SIX = TransportAddress("192.0.2.1", 4000), TransportAddress("2001:db8::1", 4001)


@pytest.mark.parametrize("source", [FOUR, SIX])
def test_what_is_put_in_comes_out(source: TransportAddress) -> None:
    frames = Frames(3)
    frames.put(1, b"\x80\x60payload", to_sockaddr(source))
    assert frames.payload(1, 9) == b"\x80\x60payload"
    assert frames.source(1) == source
    assert int(frames.start[1]) == 0x6080
    assert frames.head[[1]].tobytes()[:9] == b"\x80\x60payload"


def test_words_of_the_source_are_those_of_the_socket_address() -> None:
    frames = Frames(2)
    raw = to_sockaddr(SIX)
    frames.put(0, b"", raw)
    words = b"".join(int(word[0]).to_bytes(8, "little") for word in (frames.source0, frames.source1, frames.source2))
    assert words == raw[:24]


def test_addresses_point_at_the_payloads() -> None:
    frames = Frames(2, 128)
    assert frames.room == 128 - PAYLOAD
    assert int(frames.address[1] - frames.base[0]) == 128 + PAYLOAD


def test_a_stride_is_whole_words() -> None:
    with pytest.raises(ValueError, match="64-bit"):
        Frames(2, 100)
