"""What the kernel program and we agree on: map entries as octets, its counters as numpy columns (see relay.bpf.c)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from nattrav.net.address import TransportAddress, to_sockaddr

REASONS = ("not_plain", "not_sound", "too_long", "other_source", "no_way", "foreign_device", "abandoned")
"""Why packets of an offloaded flow went to its socket all the same; the program's `enum reason`."""

ROW = np.dtype(
    [
        *((name, "u8") for name in ("packets", "bytes", "limited", "last", "duplicates", "reordered")),
        ("expected_before", "u8"),
        *((name, "i8") for name in ("base_sequence", "max_sequence", "last_sequence")),
        *((name, "u8") for name in ("arrival", "jitter", "tick", "window")),
        *((name, "u4") for name in ("window_count", "ssrc", "timestamp")),
        *((name, "u1") for name in ("payload_type", "started")),
        ("pad", "2u1"),
    ]
)
"""Counters of one flow. Times are monotonic nanoseconds, `jitter` nanoseconds times 16, `tick` times 1024.

`last` is written before the RFC 3550 state and `arrival` after it: where they differ, the row was read half-way.
"""

_KEY = struct.Struct("!16sH2x")
_FLOW = struct.Struct("=16s16s16s2s2s2sHIIIHBx")
_HOP = bytes(28)
"""The next hop of a flow, which the program fills in."""
_SERIAL = struct.Struct("=I")
_ROW_AT = 60
KEY_SIZE, FLOW_SIZE = _KEY.size, _FLOW.size + len(_HOP) + _SERIAL.size

SETTINGS = np.dtype(
    [
        *((name, "u8") for name in ("hop_time", "alive_until", "build")),
        ("route_from", "u4"),
        *((name, "u1") for name in ("ttl", "hop_limit")),
        ("pad", "2u1"),
    ]
)
"""The program's settings; times in nanoseconds. Nothing is forwarded after `alive_until`, monotonic.

`build` tells objects apart: what another one left is not taken over.
"""

_MAPPED = bytes(10) + b"\xff\xff"
_UDP_WORD = 17 << 8
"""The protocol in the pseudo header, as a 16-bit word in memory."""


@dataclass(frozen=True, slots=True)
class Way:
    """How one flow's RTP goes: it comes from `remote` to `local`, and leaves from `source` to `target`."""

    local: TransportAddress
    remote: TransportAddress
    source: TransportAddress
    target: TransportAddress
    size_limit: int
    rate_limit: int
    tos: int


def key(local: TransportAddress) -> bytes:
    """Give the map key of a flow."""
    return _KEY.pack(_host(local), local.port)


def flow(way: Way, row: int, serial: int = 0) -> bytes:
    """Give the map value of a flow that counts in `row`; its next hop is not known yet."""
    old = _words(way.remote) + _words(way.local)
    new = _words(way.source) + _words(way.target)
    ports = [struct.pack("!H", port) for port in (way.remote.port, way.local.port, way.source.port, way.target.port)]
    remote_port, local_port, source_port, target_port = (int.from_bytes(port, "little") for port in ports)
    change = sum(new) + source_port + target_port
    change += sum(word ^ 0xFFFF for word in (*old, remote_port, local_port))
    value = _FLOW.pack(
        _host(way.remote),
        _host(way.source),
        _host(way.target),
        ports[0],
        ports[2],
        ports[3],
        min(way.size_limit, 0xFFFF),
        min(way.rate_limit, 0xFFFFFFFF),
        row,
        sum(old) + _UDP_WORD,
        _fold(change),
        way.tos,
    )
    return value + _HOP + _SERIAL.pack(serial)


def row_of(value: bytes) -> int:
    """Read from a map value which row its flow counts in."""
    (row,) = _SERIAL.unpack_from(value, _ROW_AT)
    return int(row)


def serial_of(value: bytes) -> int:
    """Read from a map value which offloading of its flow it is."""
    (serial,) = _SERIAL.unpack_from(value, FLOW_SIZE - _SERIAL.size)
    return int(serial)


def same_way(one: bytes, other: bytes) -> bool:
    """Tell whether two map values have a flow go the same way, wherever it is counted and however it hops."""
    return one[:_ROW_AT] + one[_ROW_AT + 4 : _FLOW.size] == other[:_ROW_AT] + other[_ROW_AT + 4 : _FLOW.size]


def _packed(address: TransportAddress) -> bytes:
    sockaddr = to_sockaddr(address)
    return sockaddr[8:24] if ":" in address.host else sockaddr[4:8]


def _host(address: TransportAddress) -> bytes:
    packed = _packed(address)
    return packed if len(packed) == 16 else _MAPPED + packed


def _words(address: TransportAddress) -> tuple[int, ...]:
    packed = _packed(address)
    return struct.unpack(f"<{len(packed) // 2}H", packed)


def _fold(total: int) -> int:
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total
