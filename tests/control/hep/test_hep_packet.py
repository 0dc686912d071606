from __future__ import annotations

import socket
import struct

import pytest

from nattrav.control.hep.packet import LONGEST, Capture, MessageCopy, encode, find_call_id
from nattrav.net.address import TransportAddress

OPTIONS = b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nCall-ID: abc@h\r\nCSeq: 1 OPTIONS\r\n\r\n"
CAPTURE = Capture(2001, "edge-1")


def chunks(packet: bytes) -> dict[int, bytes]:
    """Read a packet as a collector does."""
    assert packet[:4] == b"HEP3"
    assert struct.unpack("!H", packet[4:6])[0] == len(packet)
    found, at = {}, 6
    while at < len(packet):
        vendor, kind, length = struct.unpack("!HHH", packet[at : at + 6])
        assert vendor == 0
        found[kind] = packet[at + 6 : at + length]
        at += length
    return found


def test_a_copy_carries_addresses_time_call_and_payload() -> None:
    copy = MessageCopy(
        "udp", TransportAddress("192.0.2.1", 5060), TransportAddress("198.51.100.2", 40001), 1700000000.25, OPTIONS
    )
    found = chunks(encode(copy, CAPTURE))
    assert (found[1][0], found[2][0], found[11][0]) == (socket.AF_INET, 17, 1)
    assert (socket.inet_ntoa(found[3]), socket.inet_ntoa(found[4])) == ("192.0.2.1", "198.51.100.2")
    assert struct.unpack("!HH", found[7] + found[8]) == (5060, 40001)
    assert struct.unpack("!II", found[9] + found[10]) == (1700000000, 250000)
    assert struct.unpack("!I", found[12])[0] == 2001
    assert (found[17], found[19], found[15]) == (b"abc@h", b"edge-1", OPTIONS)
    assert 14 not in found


def test_ipv6_and_the_key_are_written() -> None:
    copy = MessageCopy("tcp", TransportAddress("2001:db8::1", 5060), TransportAddress("::", 0), 0.0, OPTIONS)
    found = chunks(encode(copy, Capture(1, "n", "secret")))
    assert found[5] == socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    assert (found[2][0], found[14]) == (6, b"secret")


@pytest.mark.parametrize(
    ("message", "call_id"),
    [
        (OPTIONS, b"abc@h"),
        (b"X\r\ni : short\r\n\r\n", b"short"),
        (b"garbage", b""),
        (b"", b""),
        (b"X\r\n\r\nCall-ID: body", b""),
    ],
)
def test_the_call_id_is_found_without_a_parser(message: bytes, call_id: bytes) -> None:
    assert find_call_id(message) == call_id


def test_oversized_messages_are_cut_to_what_a_datagram_carries() -> None:
    here = TransportAddress("192.0.2.1", 1)
    packet = encode(MessageCopy("udp", here, here, 0.0, b"x" * 100_000), CAPTURE)
    assert len(packet) < 65_507
    assert chunks(packet)[15] == b"x" * LONGEST
