"""The headers of UDP datagrams that leave as whole Ethernet frames, as rows that lie before payloads.

A row is as long as what lies before a frame's payload (`nattrav.net.frames`), and ends where the payload begins:

octets 0-3    the length of the payload it is for
octets 4-5    the longest payload that may leave with it
octet 6       how many octets of the row are sent; 0 in a blank row
right-aligned what is sent: struct virtio_net_hdr, Ethernet, IPv4 or IPv6, UDP

The UDP checksum is left to the interface, as for a socket: the field holds the sum of the pseudo header
(VIRTIO_NET_HDR_F_NEEDS_CSUM). IPv4 packets are small enough to need no fragmenting anywhere, and atomic (RFC 6864 §4):
DF set, identification 0.
"""

from __future__ import annotations

import socket
import struct

import numpy as np
from numpy.typing import NDArray

from nattrav.net.address import TransportAddress
from nattrav.net.frames import PAYLOAD

ROW = np.dtype(f"V{PAYLOAD}")

AHEAD, AHEAD6 = 52, 72
"""Octets that are sent before the payload."""

LARGEST, LARGEST6 = 576, 1280
"""IP packets that every path takes whole: RFC 791 §2.3 has hosts accept as much, RFC 8200 §5 links."""

USUAL = 172
"""Payload octets of 20 ms of G.711."""

AHEAD_AT = 6
"""Where a row says how many octets of it are sent."""

_UDP = 17
_MARKS = struct.Struct("=IHBx")
_OFFLOAD = struct.Struct("=BBHHHH")
_NEEDS_CHECKSUM = 1
_IP = struct.Struct("!BBHHHBBH4s4s")
_IP6 = struct.Struct("!IHBB16s16s")
_PORTS = struct.Struct("!HHHH")
_ETHERNET = 14
_DONT_FRAGMENT = 0x4000
# Fields of 16 bits, by their index in a row.
_IP_LENGTH, _IP_CHECKSUM, _IP6_LENGTH, _UDP_LENGTH, _UDP_CHECKSUM = 27, 31, 18, 38, 39


def header(
    source: TransportAddress,
    target: TransportAddress,
    *,
    from_mac: bytes,
    to_mac: bytes,
    tos: int,
    hop_limit: int,
    mtu: int,
    length: int = USUAL,
) -> bytes:
    """Write a row for payloads of `length` octets. ValueError when the interface's `mtu` has no room for any."""
    here, there = (socket.inet_pton(one.family, one.host) for one in (source, target))
    six = len(here) == 16
    size = 8 + length
    over = (40 if six else 20) + 8
    longest = min(mtu, LARGEST6 if six else LARGEST) - over
    if longest <= 0:
        raise ValueError(f"an MTU of {mtu} octets is too small")
    if six:
        ip = _IP6.pack(6 << 28 | tos << 20, size, _UDP, hop_limit, here, there)
    else:
        ip = _IP.pack(0x45, tos, 20 + size, 0, _DONT_FRAGMENT, hop_limit, _UDP, 0, here, there)
        ip = ip[:10] + (0xFFFF ^ _sum(ip)).to_bytes(2, "big") + ip[12:]
    start = _ETHERNET + len(ip)
    pseudo = _sum(here + there, _UDP + size)
    sent = _OFFLOAD.pack(_NEEDS_CHECKSUM, 0, start + 8, 0, start, 6)
    sent += to_mac + from_mac + (b"\x86\xdd" if six else b"\x08\x00")
    sent += ip + _PORTS.pack(source.port, target.port, size, pseudo)
    return _MARKS.pack(length, longest, len(sent)) + bytes(PAYLOAD - _MARKS.size - len(sent)) + sent


def lengths_of(rows: NDArray[np.void]) -> NDArray[np.int32]:
    """Payload lengths that rows are for."""
    found: NDArray[np.int32] = rows.view(np.int32).reshape(len(rows), -1)[:, 0]
    return found


def longest_of(rows: NDArray[np.void]) -> NDArray[np.uint16]:
    """Longest payloads that may leave with rows; 0 for blank ones."""
    found: NDArray[np.uint16] = rows.view(np.uint16).reshape(len(rows), -1)[:, 2]
    return found


def ahead_of(rows: NDArray[np.void]) -> NDArray[np.uint8]:
    """How many octets of rows are sent; 0 for blank ones."""
    found: NDArray[np.uint8] = rows.view(np.uint8).reshape(len(rows), -1)[:, AHEAD_AT]
    return found


def fit(rows: NDArray[np.void], lengths: NDArray[np.int32]) -> None:
    """Change rows, in place, to be for payloads of other lengths (RFC 1624); none of them may be blank."""
    halves = rows.view(">u2").reshape(len(rows), -1)
    change = (lengths - lengths_of(rows)).astype(np.int64)
    size = lengths + 8
    halves[:, _UDP_LENGTH] = size
    halves[:, _UDP_CHECKSUM] = _changed(halves[:, _UDP_CHECKSUM], change)
    six = ahead_of(rows) == AHEAD6
    four = ~six
    halves[six, _IP6_LENGTH] = size[six]
    halves[four, _IP_LENGTH] = size[four] + 20
    halves[four, _IP_CHECKSUM] = 0xFFFF - _changed(0xFFFF - halves[four, _IP_CHECKSUM], change[four])
    lengths_of(rows)[:] = lengths


def refit(rows: NDArray[np.void], lengths: NDArray[np.int32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Fit rows where they are not for these lengths; give the indices of such, and of those that are too long for it.

    Blank rows are left alone.
    """
    odd = np.flatnonzero(lengths_of(rows) != lengths)
    longest = longest_of(rows)[odd]
    written = longest > 0
    short = lengths[odd] <= longest
    fitted = odd[written & short]
    if len(fitted):
        some = rows[fitted]
        fit(some, lengths[fitted])
        rows[fitted] = some
    return fitted, odd[written & ~short]


def _changed(sums: NDArray[np.uint16], change: NDArray[np.int64]) -> NDArray[np.int64]:
    """One's complement sums of 16 bits, of which one summand has changed by less than 65535."""
    found = sums.astype(np.int64) + change
    found += np.where(found <= 0, 0xFFFF, 0)
    found -= np.where(found > 0xFFFF, 0xFFFF, 0)
    return found


def _sum(octets: bytes, total: int = 0) -> int:
    total += sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total
