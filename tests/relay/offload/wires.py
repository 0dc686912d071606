"""Two hosts on a wire, as network namespaces, and frames written by hand."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from nattrav.net.address import TransportAddress
from nattrav.net.bpf.device import mac_of
from tests.natlab.namespaces import RUN_DIRECTORY, execute

NEAR, FAR = "near0", "far0"
RELAY, RELAY6 = "10.91.0.1", "2001:db8:91::1"
PARTIES = ("10.91.0.2", "10.91.0.3", "10.91.0.66")
PARTIES6 = ("2001:db8:91::2", "2001:db8:91::3")

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Wire:
    """Names of the two namespaces and MAC addresses of the two ends."""

    here: str
    there: str
    near_mac: bytes
    far_mac: bytes


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Be in a namespace with this thread and those it starts."""
    before = os.open("/proc/self/ns/net", os.O_RDONLY)
    after = os.open(RUN_DIRECTORY / namespace, os.O_RDONLY)
    try:
        _enter(after)
        yield
    finally:
        _enter(before)
        os.close(before)
        os.close(after)


def _enter(handle: int) -> None:
    if _libc.setns(handle, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@contextlib.contextmanager
def wire() -> Iterator[Wire]:
    """A relay's host, with this thread inside, and the parties' host with all their addresses behind a veth pair."""
    here, there = (f"natlab-xdp-{name}-{os.getpid()}" for name in ("relay", "party"))
    try:
        for namespace in (here, there):
            execute("ip", "netns", "add", namespace)
            execute("ip", "-n", namespace, "link", "set", "lo", "up")
        execute("ip", "link", "add", NEAR, "netns", here, "type", "veth", "peer", "name", FAR, "netns", there)
        for namespace, device, hosts, hosts6 in (
            (here, NEAR, (RELAY,), (RELAY6,)),
            (there, FAR, PARTIES, PARTIES6),
        ):
            for host in hosts:
                execute("ip", "-n", namespace, "addr", "add", f"{host}/24", "dev", device)
            for host in hosts6:
                execute("ip", "-n", namespace, "addr", "add", f"{host}/64", "dev", device, "nodad")
            execute("ip", "-n", namespace, "link", "set", device, "up")
            # A socket's datagrams have their checksum written by the device, and this one has none.
            execute("ip", "netns", "exec", namespace, "ethtool", "-K", device, "tx", "off", "gro", "on")
        with inside(there):
            far_mac = mac_of(FAR)
        for host in (*PARTIES, *PARTIES6):
            execute("ip", "-n", here, "neigh", "replace", host, "lladdr", far_mac.hex(":"), "dev", NEAR)
        with inside(here):
            yield Wire(here, there, mac_of(NEAR), far_mac)
    finally:
        for namespace in (here, there):
            with contextlib.suppress(Exception):
                execute("ip", "netns", "del", namespace)


@dataclass(frozen=True)
class Frame:
    """A UDP datagram on the wire; fields that are None are written right."""

    wire: Wire
    source: TransportAddress
    target: TransportAddress
    payload: bytes
    ttl: int = 61
    tos: int = 0xB9
    options: bytes = b""
    fragment: int = 0x4000
    checksum: int | None = None
    header_checksum: int | None = None
    udp_length: int | None = None
    protocol: int = 17
    mac: bytes | None = None

    def but(self, **changes: object) -> Frame:
        return replace(self, **changes)  # type: ignore[arg-type]

    def octets(self) -> bytes:
        """Write it."""
        length = 8 + len(self.payload) if self.udp_length is None else self.udp_length
        ports = struct.pack("!HH", self.source.port, self.target.port)
        source = socket.inet_pton(self.source.family, self.source.host)
        target = socket.inet_pton(self.target.family, self.target.host)
        sum_ = checksum(
            source + target + struct.pack("!HH", 17, length) + ports + struct.pack("!H", length) + self.payload
        )
        udp = (
            ports
            + struct.pack("!HH", length, (sum_ or 0xFFFF) if self.checksum is None else self.checksum)
            + self.payload
        )
        ethernet = (self.wire.near_mac if self.mac is None else self.mac) + self.wire.far_mac
        if ":" in self.source.host:
            head = struct.pack("!IHBB", 6 << 28 | self.tos << 20 | 0x12345, len(udp), self.protocol, self.ttl)
            return ethernet + b"\x86\xdd" + head + source + target + udp
        size = 20 + len(self.options)
        head = struct.pack(
            "!BBHHHBBH", 0x40 | size // 4, self.tos, size + len(udp), 0x1234, self.fragment, self.ttl, self.protocol, 0
        )
        whole = head + source + target + self.options
        sum_ = checksum(whole) if self.header_checksum is None else self.header_checksum
        return ethernet + b"\x08\x00" + whole[:10] + struct.pack("!H", sum_) + whole[12:] + udp


@dataclass(frozen=True)
class Seen:
    """What a frame says after the program was at it; `sound` = every checksum holds."""

    macs: bytes
    source: TransportAddress
    target: TransportAddress
    ttl: int
    tos: int
    payload: bytes
    checksum: int
    sound: bool


def read(frame: bytes) -> Seen:
    """Read a frame back."""
    ip = frame[14:]
    if frame[12:14] == b"\x86\xdd":
        (first,) = struct.unpack_from("!I", ip)
        ttl, tos, source, target, udp = ip[7], first >> 20 & 0xFF, ip[8:24], ip[24:40], ip[40:]
        sound = True
    else:
        tos, ttl, source, target, udp = ip[1], ip[8], ip[12:16], ip[16:20], ip[20:]
        sound = checksum(ip[:20]) == 0
    sport, dport, length, sum_ = struct.unpack_from("!HHHH", udp)
    udp = udp[:length]
    if sum_:
        sound &= checksum(source + target + struct.pack("!HH", 17, length) + udp) == 0
    family = socket.AF_INET if len(source) == 4 else socket.AF_INET6
    ends = (TransportAddress(socket.inet_ntop(family, host), port) for host, port in ((source, sport), (target, dport)))
    return Seen(frame[:12], *ends, ttl, tos, udp[8:], sum_, sound)


def checksum(octets: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    octets += b"\0" * (len(octets) % 2)
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF
