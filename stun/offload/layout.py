"""What the kernel program and we agree on: map entries as octets and numpy columns (see stun.bpf.c)."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nattrav.net.address import TransportAddress, to_sockaddr
from stun.admission import Limits
from stun.fastpath import Template
from stun.message import HEADER
from stun.shape import WITH_FINGERPRINT, Shape

SHAPES = 4
"""Shapes the program knows at a time."""

TAIL_WORDS, REPLY_SIZE, VARYING = 16, 128, 30

KEY = np.dtype([("host", "16u1"), ("port", "2u1"), ("place", "u2")])
"""A transport address, IPv4 as mapped; `place` is the endpoint a client asks, 0 for an endpoint of ours."""
CLIENT = np.dtype([("until", "u8"), ("hop_until", "u8"), ("hops", "12u1"), ("exempt", "u4")])
"""Until when (monotonic nanoseconds) a client is answered, its next hop, whether source limits leave it alone."""
TEMPLATE = np.dtype(
    [
        *((name, "u4") for name in ("length", "mapped", "xored", "width", "constant", "pad")),
        ("bytes", f"{REPLY_SIZE}u1"),
        ("tables", f"{VARYING * 256}u4"),
    ]
)
SHAPE = np.dtype(
    [
        *((name, "u4") for name in ("length", "words", "fingerprint", "constant")),
        ("tail", f"{TAIL_WORDS}u4"),
        ("tables", f"{12 * 256}u4"),
    ]
)
COUNT = np.dtype([(name, "u8") for name in ("answered", "received", "sent", "limited")])

_SETTINGS = struct.Struct("=QQQQQIBB2x")
_MAPPED = np.frombuffer(bytes(10) + b"\xff\xff", np.uint8)

Keys = NDArray[Any]


def settings(limits: Limits, *, hop_time: int, route_from: int, ttl: int, hop_limit: int) -> bytes:
    """Write the program's settings; `hop_time` in nanoseconds."""
    return _SETTINGS.pack(
        *_limit(limits.source_rate, limits.source_burst),
        *_limit(limits.network_rate, limits.network_burst),
        *(hop_time, route_from, ttl, hop_limit),
    )


def _limit(rate: float, burst: float) -> tuple[int, int]:
    """Nanoseconds one token takes to grow, and all of them."""
    if not rate:
        return 0, 0
    interval = max(1, round(1e9 / rate))
    return interval, round(interval * max(1.0, burst))


def endpoint(address: TransportAddress) -> bytes:
    """Write the key of one of our endpoints."""
    raw = to_sockaddr(address)
    host = raw[8:24] if ":" in address.host else _MAPPED.tobytes() + raw[4:8]
    return host + raw[2:4] + bytes(2)


def clients(peers: NDArray[np.uint8], ipv6: bool, place: int) -> Keys:
    """Write the keys of clients, given as socket address rows (n, 32), that ask one endpoint."""
    keys = np.zeros(len(peers), KEY)
    if ipv6:
        keys["host"] = peers[:, 8:24]
    else:
        keys["host"][:, :12] = _MAPPED
        keys["host"][:, 12:] = peers[:, 4:8]
    keys["port"] = peers[:, 2:4]
    keys["place"] = place
    return keys


def template(source: Template | None) -> bytes:
    """Write a template; one without length, for replies that are too long, is used for nothing."""
    row = np.zeros((), TEMPLATE)
    if source is None or source.length > REPLY_SIZE:
        return row.tobytes()
    row["length"] = source.length
    row["mapped"], row["xored"] = source.mapped or 0, source.xored or 0
    row["bytes"][: source.length] = source.reply[: source.length]
    if source.tables is not None:
        row["width"] = len(source.tables) // 256
        row["constant"] = source.constant
        row["tables"][: len(source.tables)] = source.tables
    return row.tobytes()


def shape(source: Shape) -> bytes | None:
    """Write a shape; None when it is too long, or changes where the reply comes from."""
    if source.kind & ~WITH_FINGERPRINT or len(source.tail) > TAIL_WORDS or source.length <= HEADER:
        return None
    row = np.zeros((), SHAPE)
    row["length"], row["words"] = source.length, len(source.tail)
    row["tail"][: len(source.tail)] = source.tail
    if source.tables is not None:
        row["fingerprint"] = 1
        row["constant"] = source.constant
        row["tables"] = source.tables
    return row.tobytes()
