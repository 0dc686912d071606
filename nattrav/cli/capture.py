"""Captures for other tools: SIP messages as a pcap file, whatever transport they came by."""

from __future__ import annotations

import socket
import struct

from nattrav.net.address import TransportAddress

_RAW_IP = 101
_UDP = 17
_LONGEST = 65_507 - 40


def pcap_head() -> bytes:
    """Give the head of a file: little-endian, microseconds, packets that begin with their IP header."""
    return struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, _RAW_IP)


def pcap_packet(at: float, source: TransportAddress, destination: TransportAddress, payload: bytes) -> bytes:
    """Give one message as a UDP packet. `at` is wall-clock time; both addresses are of one family."""
    packet = _ip(source, destination, payload[:_LONGEST])
    micros = round(at * 1_000_000)
    return struct.pack("<IIII", *divmod(micros, 1_000_000), len(packet), len(packet)) + packet


def _ip(source: TransportAddress, destination: TransportAddress, payload: bytes) -> bytes:
    ends = socket.inet_pton(source.family, source.host.partition("%")[0])
    ends += socket.inet_pton(source.family, destination.host.partition("%")[0])
    length = 8 + len(payload)
    pseudo = ends + struct.pack("!II", length, _UDP)
    head = struct.pack("!HHHH", source.port, destination.port, length, 0)
    datagram = head[:6] + struct.pack("!H", _checksum(pseudo + head + payload) or 0xFFFF) + payload
    if source.family == socket.AF_INET6:
        return struct.pack("!IHBB", 6 << 28, length, _UDP, 64) + ends + datagram
    front = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0, 64, _UDP, 0)
    return front[:10] + struct.pack("!H", _checksum(front + ends)) + ends + datagram


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
