"""RTP's header and the demultiplexing of a media port."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.rtp import KINDS, PIERCE, Kind, MalformedMessage, decode_header, encode_header, kind_of


@given(
    payload_type=st.integers(0, 127),
    sequence=st.integers(0, 0xFFFF),
    timestamp=st.integers(0, 0xFFFFFFFF),
    ssrc=st.integers(0, 0xFFFFFFFF),
    marker=st.booleans(),
    payload=st.binary(max_size=40),
)
def test_a_header_comes_back_as_written(
    payload_type: int, sequence: int, timestamp: int, ssrc: int, marker: bool, payload: bytes
) -> None:
    packet = encode_header(payload_type, sequence, timestamp, ssrc, marker=marker) + payload
    assert decode_header(packet) == (marker, payload_type, sequence, timestamp, ssrc, 12)


def test_contributing_sources_and_extension_count_into_the_header() -> None:
    packet = bytes.fromhex("92 00 0001 00000000 00000007 0000000A 0000000B BEDE 0001 10AA0000") + b"payload"
    assert decode_header(packet).header_length == 12 + 8 + 8


@pytest.mark.parametrize(
    ("packet", "complaint"),
    [
        (b"\x80\x00", "shorter"),
        (b"\x40" + bytes(11), "version"),
        (b"\x81" + bytes(11), "header past"),
        (b"\x90" + bytes(12), "extension"),
        (b"\xa0" + bytes(11), "padding"),
    ],
)
def test_headers_that_do_not_hold_together_are_refused(packet: bytes, complaint: str) -> None:
    with pytest.raises(MalformedMessage, match=complaint):
        decode_header(packet)


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        (0x80, 0, Kind.RTP),
        (0x80, 0x80 | 127, Kind.RTP),
        (0x81, 200, Kind.RTCP),
        (0x80, 192, Kind.RTCP),
        (0x80, 223, Kind.RTCP),
        (0x80, 191, Kind.RTP),
        (0x80, 224, Kind.RTP),
        (0x00, 1, Kind.STUN),
        (0x01, 1, Kind.STUN),
        (22, 254, Kind.DTLS),
        (63, 0, Kind.DTLS),
        (64, 0, Kind.OTHER),
        (0xC0, 0, Kind.OTHER),
        (5, 0, Kind.OTHER),
    ],
)
def test_kinds_follow_the_first_octets(first: int, second: int, kind: Kind) -> None:
    assert Kind(int(KINDS[first | second << 8])) is kind
    assert kind_of(bytes((first, second)) + bytes(20)) is kind


def test_what_is_too_short_for_its_header_is_short() -> None:
    assert kind_of(b"\x80\x00" + bytes(9)) is Kind.SHORT
    assert kind_of(b"\x80\xc8" + bytes(5)) is Kind.SHORT
    assert kind_of(b"\x80\xc8" + bytes(6)) is Kind.RTCP


def test_a_piercing_packet_is_a_bare_header() -> None:
    assert decode_header(PIERCE) == (False, 127, 65535, 0, 0, 12)
    assert len(PIERCE) == 12
