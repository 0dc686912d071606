"""Headers of whole frames: sound on the wire for every length, and only for packets that fit."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nattrav.net.address import TransportAddress
from nattrav.net.frames import PAYLOAD
from nattrav.net.headers import AHEAD, AHEAD6, ROW, ahead_of, fit, header, lengths_of, longest_of, refit

FOUR = TransportAddress("198.51.100.7", 30000), TransportAddress("192.0.2.9", 4000)
SIX = TransportAddress("2001:db8::7", 30000), TransportAddress("2001:db8:1::9", 4000)
OURS, THEIRS = b"\x02\x00\x00\x00\x00\x01", b"\x02\x00\x00\x00\x00\x02"


def row(ends: tuple[TransportAddress, TransportAddress] = FOUR, length: int = 172, mtu: int = 1500) -> bytes:
    return header(*ends, from_mac=OURS, to_mac=THEIRS, tos=0xB8, hop_limit=64, mtu=mtu, length=length)


def rows(*octets: bytes) -> np.ndarray:
    return np.frombuffer(b"".join(octets), ROW).copy()


def folded(octets: bytes, total: int = 0) -> int:
    total += sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_a_row_ends_where_the_payload_begins_and_says_what_of_it_is_sent() -> None:
    for ends, ahead, longest in ((FOUR, AHEAD, 576 - 28), (SIX, AHEAD6, 1280 - 48)):
        found = rows(row(ends))
        assert found.itemsize == PAYLOAD
        assert (lengths_of(found)[0], longest_of(found)[0], ahead_of(found)[0]) == (172, longest, ahead)


def test_an_ipv4_frame_says_what_a_socket_would() -> None:
    sent = row()[-AHEAD:]
    flags, gso, _, _, start, offset = struct.unpack("=BBHHHH", sent[:10])
    assert (flags, gso, start, offset) == (1, 0, 34, 6)
    assert sent[10:24] == THEIRS + OURS + b"\x08\x00"
    ip = sent[24:44]
    assert ip[0] == 0x45
    assert ip[1] == 0xB8
    assert struct.unpack_from("!H", ip, 2) == (20 + 8 + 172,)
    assert ip[8:10] == bytes([64, 17])
    assert folded(ip) == 0xFFFF
    source, target, size, pseudo = struct.unpack("!HHHH", sent[44:])
    assert (source, target, size) == (30000, 4000, 180)
    assert pseudo == folded(ip[12:], 17 + 180)


def test_an_ipv6_frame_says_what_a_socket_would() -> None:
    sent = row(SIX)[-AHEAD6:]
    assert struct.unpack("=BBHHHH", sent[:10])[4:] == (54, 6)
    assert sent[22:24] == b"\x86\xdd"
    first, size, following, limit = struct.unpack("!IHBB", sent[24:32])
    assert (first >> 20 & 0xFF, size, following, limit) == (0xB8, 180, 17, 64)
    assert struct.unpack("!HHHH", sent[64:])[2:] == (180, folded(sent[32:64], 17 + 180))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 548), st.integers(0, 548)), min_size=1, max_size=20))
def test_a_fitted_row_is_the_row_for_that_length(cases: list[tuple[bool, int, int]]) -> None:
    found = rows(*(row(SIX if six else FOUR, before) for six, before, _ in cases))
    fit(found, np.array([after for _, _, after in cases], np.int32))
    assert found.tobytes() == b"".join(row(SIX if six else FOUR, after) for six, _, after in cases)


def test_only_what_differs_is_fitted_and_what_is_too_long_is_told() -> None:
    found = rows(row(), row(), row(), bytes(PAYLOAD))
    fitted, long = refit(found, np.array([172, 40, 549, 100], np.int32))
    assert (fitted.tolist(), long.tolist()) == ([1], [2])
    assert found.tobytes() == b"".join((row(), row(length=40), row(), bytes(PAYLOAD)))


def test_a_small_mtu_bounds_the_payload_and_a_tiny_one_is_refused() -> None:
    assert longest_of(rows(row(mtu=300)))[0] == 272
    with pytest.raises(ValueError, match="MTU"):
        row(mtu=28)
