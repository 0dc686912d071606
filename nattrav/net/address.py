"""Transport addresses: the value type, its kernel form, and what kind of address it is.

A socket address travels through the data planes as a row of `SOCKADDR_ROW` bytes holding the kernel's own
`sockaddr_in` or `sockaddr_in6`; only people and protocols see a `TransportAddress`.
"""

from __future__ import annotations

import enum
import ipaddress
import socket
import struct
from functools import lru_cache
from typing import NamedTuple

SOCKADDR_ROW = 32
"""Width of one socket address row: `sockaddr_in6` (28 bytes) rounded up to four 64-bit words."""

SOCKADDR_IN = 16
SOCKADDR_IN6 = 28


class TransportAddress(NamedTuple):
    """An IP address and a port (RFC 8489 §4). `host` is the canonical text of a literal address."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, default_port: int | None = None) -> TransportAddress:
        """Read `192.0.2.1:5060`, `[2001:db8::1]:5060` or, with a default port, a bare address.

        Raises ValueError with the reason when the text is none of these.
        """
        host, port_text = _split(text)
        if port_text is None:
            if default_port is None:
                wanted = "[ADDRESS]:PORT" if ":" in host else "ADDRESS:PORT"
                raise ValueError(f"{text!r} has no port: write {wanted}")
            port = default_port
        else:
            if not (port_text.isascii() and port_text.isdigit()) or int(port_text) > 65535:
                raise ValueError(f"{port_text!r} is not a port number (0-65535)")
            port = int(port_text)
        return cls(canonical(host), port)

    @property
    def family(self) -> socket.AddressFamily:
        """AF_INET or AF_INET6."""
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _split(text: str) -> tuple[str, str | None]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is not [IPV6]:PORT")
        return host, rest[1:] if rest else None
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, port
    return text, None


@lru_cache(maxsize=65536)
def canonical(host: str) -> str:
    """Give the one spelling of a literal address; IPv4-mapped IPv6 becomes IPv4. ValueError if it is none."""
    if "%" in host:
        raise ValueError(f"{host!r}: zone identifiers are not supported")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"{host!r} is not an IP address") from None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def is_literal(host: str) -> bool:
    """Tell whether `host` is a literal IPv4 or (unbracketed) IPv6 address."""
    try:
        canonical(host)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=65536)
def to_sockaddr(address: TransportAddress) -> bytes:
    """Give the kernel's sockaddr: 16 bytes for IPv4, 28 for IPv6."""
    if ":" in address.host:
        return struct.pack(
            "=HHI16sI",
            socket.AF_INET6,
            socket.htons(address.port),
            0,
            socket.inet_pton(socket.AF_INET6, address.host),
            0,
        )
    return struct.pack(
        "=HH4s8x", socket.AF_INET, socket.htons(address.port), socket.inet_pton(socket.AF_INET, address.host)
    )


def to_row(address: TransportAddress) -> bytes:
    """Give the sockaddr padded with zeros to `SOCKADDR_ROW` bytes."""
    return to_sockaddr(address).ljust(SOCKADDR_ROW, b"\0")


@lru_cache(maxsize=65536)
def from_sockaddr(raw: bytes) -> TransportAddress:
    """Read a kernel sockaddr or a padded row. IPv4-mapped IPv6 is read as IPv4. ValueError for other families."""
    family = int.from_bytes(raw[:2], "little" if struct.pack("=H", 1)[0] else "big")
    port = int.from_bytes(raw[2:4], "big")
    if family == socket.AF_INET:
        return TransportAddress(socket.inet_ntop(socket.AF_INET, raw[4:8]), port)
    if family == socket.AF_INET6 and len(raw) >= SOCKADDR_IN6:
        return TransportAddress(canonical(socket.inet_ntop(socket.AF_INET6, raw[8:24])), port)
    raise ValueError(f"socket address family {family} is not IP")


class AddressClass(enum.Enum):
    """What an IP address is good for, in the classes that NAT traversal tells apart."""

    PUBLIC = "public"
    PRIVATE = "private"
    CGNAT = "cgnat"
    CLAT = "clat"
    LINK_LOCAL = "link_local"
    LOOPBACK = "loopback"
    ULA = "ula"
    UNSPECIFIED = "unspecified"
    MULTICAST = "multicast"
    BROADCAST = "broadcast"

    __hash__ = object.__hash__


NON_PUBLIC = frozenset(
    {
        AddressClass.PRIVATE,
        AddressClass.CGNAT,
        AddressClass.CLAT,
        AddressClass.LINK_LOCAL,
        AddressClass.LOOPBACK,
        AddressClass.ULA,
    }
)
"""Classes that show a NAT when they appear in signalling (hold's 0.0.0.0 is not among them)."""

_CLASSES: tuple[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, AddressClass], ...] = tuple(
    (ipaddress.ip_network(prefix), kind)
    for prefix, kind in (
        ("0.0.0.0/32", AddressClass.UNSPECIFIED),
        ("255.255.255.255/32", AddressClass.BROADCAST),
        ("10.0.0.0/8", AddressClass.PRIVATE),
        ("172.16.0.0/12", AddressClass.PRIVATE),
        ("192.168.0.0/16", AddressClass.PRIVATE),
        ("100.64.0.0/10", AddressClass.CGNAT),
        ("192.0.0.0/29", AddressClass.CLAT),
        ("169.254.0.0/16", AddressClass.LINK_LOCAL),
        ("127.0.0.0/8", AddressClass.LOOPBACK),
        ("224.0.0.0/4", AddressClass.MULTICAST),
        ("::/128", AddressClass.UNSPECIFIED),
        ("::1/128", AddressClass.LOOPBACK),
        ("fe80::/10", AddressClass.LINK_LOCAL),
        ("fc00::/7", AddressClass.ULA),
        ("ff00::/8", AddressClass.MULTICAST),
    )
)


@lru_cache(maxsize=65536)
def classify(host: str) -> AddressClass:
    """Classify a literal address; IPv4-mapped IPv6 is classed as the IPv4 inside. ValueError if not literal."""
    address = ipaddress.ip_address(canonical(host))
    for network, kind in _CLASSES:
        if address.version == network.version and address in network:
            return kind
    return AddressClass.PUBLIC
