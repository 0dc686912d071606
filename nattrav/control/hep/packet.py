"""HEP3 packets: `HEP3`, total length, then chunks of vendor, type, length (header included) and value."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import ip_address

from nattrav.net.address import TransportAddress

_CHUNK = struct.Struct("!HHH")
_PROTOCOL = {"udp": 17, "tcp": 6, "tls": 6, "ws": 6, "wss": 6}

FAMILY, PROTOCOL, SOURCE4, DESTINATION4, SOURCE6, DESTINATION6 = 1, 2, 3, 4, 5, 6
SOURCE_PORT, DESTINATION_PORT, SECONDS, MICROSECONDS, KIND = 7, 8, 9, 10, 11
CAPTURE_ID, KEY, PAYLOAD, CORRELATION_ID, NODE_NAME = 12, 14, 15, 17, 19
KIND_SIP = 1
INET, INET6 = 2, 10
LONGEST = 65_000
"""Longest payload copied, in octets; a HEP datagram cannot be longer than UDP allows."""


@dataclass(frozen=True, slots=True)
class MessageCopy:
    """One SIP message on the wire. `at` is the Unix time in seconds."""

    transport: str
    source: TransportAddress
    destination: TransportAddress
    at: float
    payload: bytes


@dataclass(frozen=True, slots=True)
class Capture:
    """Who captures: the agent's number, its name, and the key the collector wants, if any."""

    id: int
    node: str
    key: str = ""


def encode(copy: MessageCopy, capture: Capture) -> bytes:
    """Write one HEP3 packet."""
    six = ":" in copy.source.host or ":" in copy.destination.host
    family = INET6 if six else INET
    seconds, microseconds = divmod(round(copy.at * 1_000_000), 1_000_000)
    call_id = find_call_id(copy.payload)
    chunks = [
        _chunk(FAMILY, bytes((family,))),
        _chunk(PROTOCOL, bytes((_PROTOCOL[copy.transport],))),
        _chunk(SOURCE6 if six else SOURCE4, _octets(copy.source.host, six)),
        _chunk(DESTINATION6 if six else DESTINATION4, _octets(copy.destination.host, six)),
        _chunk(SOURCE_PORT, struct.pack("!H", copy.source.port)),
        _chunk(DESTINATION_PORT, struct.pack("!H", copy.destination.port)),
        _chunk(SECONDS, struct.pack("!I", seconds)),
        _chunk(MICROSECONDS, struct.pack("!I", microseconds)),
        _chunk(KIND, bytes((KIND_SIP,))),
        _chunk(CAPTURE_ID, struct.pack("!I", capture.id)),
        _chunk(NODE_NAME, capture.node.encode()),
    ]
    if capture.key:
        chunks.append(_chunk(KEY, capture.key.encode()))
    if call_id:
        chunks.append(_chunk(CORRELATION_ID, call_id))
    chunks.append(_chunk(PAYLOAD, copy.payload[:LONGEST]))
    body = b"".join(chunks)
    return b"HEP3" + struct.pack("!H", 6 + len(body)) + body


def find_call_id(message: bytes) -> bytes:
    """Give the Call-ID of a message without parsing it; empty when it has none."""
    head = message.partition(b"\r\n\r\n")[0]
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() in (b"call-id", b"i"):
            return value.strip()[:255]
    return b""


def _octets(host: str, six: bool) -> bytes:
    return ip_address(f"::ffff:{host}" if six and ":" not in host else host).packed


def _chunk(kind: int, value: bytes) -> bytes:
    return _CHUNK.pack(0, kind, _CHUNK.size + len(value)) + value
