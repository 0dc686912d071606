"""Streams cut into messages by Content-Length, however the octets arrive."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nattrav.sip.framer import PING, StreamFramer
from nattrav.sip.transport.codec import StreamCodec
from tests.vectors.rfc4475 import VECTORS

HEAD = b"OPTIONS sip:b@h SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bKa\r\nCall-ID: x\r\n"
FRAMED = [
    vector.octets
    for vector in VECTORS
    if vector.well_formed and vector.name not in ("dblreq", "inv2543") and len(vector.octets) < 4096
]


def message(length: str = "0", body: bytes = b"") -> bytes:
    return HEAD + f"Content-Length: {length}\r\n\r\n".encode() + body


@given(st.lists(st.sampled_from(FRAMED), min_size=1, max_size=4), st.lists(st.integers(0, 10_000), max_size=8))
def test_frames_do_not_depend_on_where_the_stream_is_cut(octets: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(octets)
    places = sorted({cut % (len(stream) + 1) for cut in cuts} | {0, len(stream)})
    framer = StreamFramer()
    frames = []
    for start, end in itertools.pairwise(places):
        frames += framer.feed(stream[start:end])
    assert frames == octets
    assert framer.fault is None
    assert not framer.partial


@pytest.mark.parametrize("octets", FRAMED[:8], ids=range(8))
def test_a_message_may_be_cut_at_any_octet(octets: bytes) -> None:
    for place in range(len(octets)):
        framer = StreamFramer()
        assert framer.feed(octets[:place]) + framer.feed(octets[place:]) == [octets]


def test_double_crlf_is_a_ping_and_single_ones_are_skipped() -> None:
    framer = StreamFramer()
    assert framer.feed(b"\r\n\r\n") == [PING]
    assert framer.feed(b"\r\n") == []
    assert framer.partial
    assert framer.feed(b"\r\n") == [PING]
    assert framer.feed(b"\r\n" + message()) == [message()]
    assert framer.feed(b"\r\n\r\n\r\n\r\n\r\n" + message()) == [PING, PING, message()]
    assert not framer.partial


def test_pings_are_answered_once_for_all_that_came_together() -> None:
    codec = StreamCodec()
    assert codec.receive(b"\r\n\r\n\r\n\r\n" + message()) == ([message()], b"\r\n", 2)
    assert codec.receive(message()) == ([message()], b"", 0)


@pytest.mark.parametrize("length", ["-1", "five", "", "1 2", "1, 1", "9" * 12, "0x10"])
def test_a_length_that_is_none_is_a_fault_with_what_could_be_read(length: str) -> None:
    framer = StreamFramer()
    assert framer.feed(message() + message(length)) == [message()]
    assert framer.fault is not None
    assert framer.fault.status == 400
    assert framer.fault.message is not None
    assert framer.fault.message.call_id == "x"
    assert framer.feed(message()) == []


def test_lengths_may_be_compact_folded_repeated_but_not_different() -> None:
    for line in (b"l:3", b"CONTENT-LENGTH :\r\n 3", b"l: 3\r\nContent-Length: 3"):
        octets = HEAD + line + b"\r\n\r\nabc"
        assert StreamFramer().feed(octets) == [octets]
    framer = StreamFramer()
    framer.feed(HEAD + b"l: 3\r\nContent-Length: 4\r\n\r\nabcd")
    assert framer.fault is not None
    framer = StreamFramer()
    framer.feed(HEAD + b"\r\n")
    assert framer.fault is not None
    assert framer.fault.reason == "no Content-Length"


def test_a_message_beyond_the_limit_is_refused_before_it_is_buffered() -> None:
    framer = StreamFramer(limit=1000)
    assert framer.feed(message("1001")) == []
    assert framer.fault is not None
    assert framer.fault.status == 513
    framer = StreamFramer(limit=1000)
    for _ in range(20):
        framer.feed(b"x" * 100)
    assert framer.fault is not None
    assert framer.fault.status == 513


def test_a_tls_hello_on_a_plain_port_is_told() -> None:
    framer = StreamFramer()
    framer.feed(bytes([0x16, 3, 1, 0, 50]))
    assert framer.fault is not None
    assert "TLS" in framer.fault.reason
