"""RTP's fixed header (RFC 3550 §5.1), and telling apart what shares a media port (RFC 7983, RFC 5761 §4)."""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

HEADER = 12
"""Octets of the fixed header."""

RTCP_HEADER = 8
"""Octets of the shortest RTCP packet: header and the sender's SSRC."""

MAX_DROPOUT = 3000
MAX_MISORDER = 100
"""Sequence jumps that still belong to one run of a stream (RFC 3550 appendix A.1)."""

DEFAULT_CLOCK_RATE = 8000

# RFC 3551 §6: the static types whose clock is not 8000 Hz.
STATIC_CLOCK_RATES = {6: 16000, 10: 44100, 11: 44100, 14: 90000, 16: 11025, 17: 22050} | dict.fromkeys(
    (25, 26, 28, 31, 32, 33, 34), 90000
)


class Kind(enum.IntFlag):
    """What a datagram on a media port is, one bit each so that a flow can accept several."""

    RTP = 1
    RTCP = 2
    DTLS = 4
    STUN = 8
    OTHER = 16
    SHORT = 32
    """Starts like RTP or RTCP but is too short for its header."""

    ANY = 63


class RtpHeader(NamedTuple):
    """The fixed header, without contributing sources."""

    marker: bool
    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    header_length: int


class MalformedMessage(ValueError):
    """Octets that are not what they should be; the text says how."""


def kind_of(payload: bytes) -> Kind:
    """Tell what one datagram is by its first two octets and its length."""
    if len(payload) < 2:
        return Kind.SHORT if payload[:1] and payload[0] >> 6 == 2 else Kind.OTHER
    kind = Kind(int(KINDS[payload[0] | payload[1] << 8]))
    if kind is Kind.RTP and len(payload) < HEADER:
        return Kind.SHORT
    if kind is Kind.RTCP and len(payload) < RTCP_HEADER:
        return Kind.SHORT
    return kind


def decode_header(payload: bytes) -> RtpHeader:
    """Read the header of an RTP packet; MalformedMessage when it does not hold together."""
    if len(payload) < HEADER:
        raise MalformedMessage(f"{len(payload)} octets are shorter than an RTP header")
    first, second, sequence, timestamp, ssrc = struct.unpack_from("!BBHII", payload)
    if first >> 6 != 2:
        raise MalformedMessage(f"version {first >> 6}")
    length = HEADER + 4 * (first & 0x0F)
    if first & 0x10:
        if len(payload) < length + 4:
            raise MalformedMessage("extension past the end")
        length += 4 + 4 * int.from_bytes(payload[length + 2 : length + 4], "big")
    if len(payload) < length:
        raise MalformedMessage("header past the end")
    if first & 0x20 and not 0 < payload[-1] <= len(payload) - length:
        raise MalformedMessage("padding past the header")
    return RtpHeader(bool(second & 0x80), second & 0x7F, sequence, timestamp, ssrc, length)


def encode_header(
    payload_type: int, sequence: int, timestamp: int = 0, ssrc: int = 0, *, marker: bool = False
) -> bytes:
    """Write a fixed header without contributing sources, extension or padding."""
    return struct.pack("!BBHII", 0x80, payload_type | marker << 7, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc)


PIERCE = encode_header(127, 65535)
"""What opens a NAT towards a party that waits for our first packet: a bare header that no player plays."""


def _kinds() -> NDArray[np.uint8]:
    """Build the table over the first two octets, the first one in the low byte."""
    first = np.arange(65536) & 0xFF
    second = np.arange(65536) >> 8
    table = np.full(65536, Kind.OTHER, np.uint8)
    table[first < 4] = Kind.STUN
    table[(first >= 20) & (first < 64)] = Kind.DTLS
    table[(first >> 6) == 2] = Kind.RTP
    table[((first >> 6) == 2) & (second >= 192) & (second < 224)] = Kind.RTCP
    return table


def kinds_of(starts: NDArray[np.uint16], lengths: NDArray[np.integer]) -> NDArray[np.uint8]:
    """`kind_of` for many: by first octets and length. An empty datagram shows stale octets, and is short."""
    kinds: NDArray[np.uint8] = KINDS[starts]
    if lengths.min() < HEADER:
        kinds[(kinds == Kind.RTP) & (lengths < HEADER)] = Kind.SHORT
        kinds[(kinds == Kind.RTCP) & (lengths < RTCP_HEADER)] = Kind.SHORT
        kinds[lengths < 2] = Kind.SHORT
    return kinds


KINDS = _kinds()
"""`Kind` by the first two octets as a little-endian 16-bit word."""
