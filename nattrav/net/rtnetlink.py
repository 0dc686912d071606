"""rtnetlink messages (rtnetlink(7)): questions about routes, links and neighbours, and the kernel's news of them."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nattrav.net.address import canonical

ERROR = 2
NEW_LINK, DELETE_LINK, GET_LINK = 16, 17, 18
NEW_ADDRESS, DELETE_ADDRESS = 20, 21
NEW_ROUTE, DELETE_ROUTE, GET_ROUTE = 24, 25, 26
NEW_NEIGHBOUR, DELETE_NEIGHBOUR, GET_NEIGHBOUR = 28, 29, 30
NEW_RULE, DELETE_RULE = 32, 33
NEW_NEXT_HOP, DELETE_NEXT_HOP = 104, 105

GROUPS = (1, 3, 5, 7, 8, 9, 11, 19, 32)
"""Links, neighbours, then addresses, routes and rules of both families, and next hop objects."""

UNICAST = 1
ETHERNET = 1

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_ROUTE = struct.Struct("=8BI")
_LINK = struct.Struct("=BxHiII")
_NEIGHBOUR = struct.Struct("=BxxxiHBB")
_ERRNO = struct.Struct("=i")
_REQUEST = 1
_UDP = 17

_DESTINATION, _SOURCE, _OUT, _GATEWAY, _METRICS, _VIA, _ENCAPSULATION = 1, 2, 4, 5, 8, 18, 21
_PROTOCOL, _SOURCE_PORT, _DESTINATION_PORT = 27, 28, 29
_MTU_METRIC, _HOP_LIMIT_METRIC = 2, 10
_HARDWARE_ADDRESS, _LINK_NAME, _LINK_MTU = 1, 3, 4
_NEIGHBOUR_HOST, _NEIGHBOUR_MAC = 1, 2

_UP, _NO_ARP, _LOWER_UP = 1 << 0, 1 << 7, 1 << 16
# Reachable, stale, delayed, probed or permanent: the kernel itself would send there now.
_USABLE = 0x02 | 0x04 | 0x08 | 0x10 | 0x80


@dataclass(frozen=True, slots=True)
class Message:
    """One netlink message: its type, and what follows its header."""

    type: int
    body: memoryview


@dataclass(frozen=True, slots=True)
class Route:
    """Where one packet would go. `gateway` is None on the link; `mtu` and `hop_limit` are 0 unless the route says."""

    type: int
    interface: int
    gateway: str | None
    mtu: int
    hop_limit: int
    encapsulated: bool


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface. `works` = it is up, has a carrier, and neighbours on it have hardware addresses."""

    interface: int
    name: str
    type: int
    works: bool
    mac: bytes
    mtu: int


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A neighbour's hardware address; empty while the kernel would not send there."""

    interface: int
    host: str
    mac: bytes


def route_question(
    source: tuple[str, int], target: tuple[str, int], tos: int, sequence: int, *, interface: int = 0
) -> bytes:
    """Ask how a UDP datagram would leave. Hosts are numeric, with ports; `interface` restricts the answer to one."""
    from_, to = _packed(source[0]), _packed(target[0])
    family = _family(to)
    body = _ROUTE.pack(family, 8 * len(to), 8 * len(from_), tos & 0xFC, 0, 0, 0, 0, 0)
    body += _attribute(_DESTINATION, to) + _attribute(_SOURCE, from_)
    body += _attribute(_PROTOCOL, bytes([_UDP]))
    body += _attribute(_SOURCE_PORT, source[1].to_bytes(2, "big"))
    body += _attribute(_DESTINATION_PORT, target[1].to_bytes(2, "big"))
    if interface:
        body += _attribute(_OUT, struct.pack("=I", interface))
    return _request(GET_ROUTE, body, sequence)


def link_question(interface: int, sequence: int) -> bytes:
    """Ask about an interface."""
    return _request(GET_LINK, _LINK.pack(0, 0, interface, 0, 0), sequence)


def neighbour_question(interface: int, host: str, sequence: int) -> bytes:
    """Ask for a neighbour's hardware address."""
    packed = _packed(host)
    head = _NEIGHBOUR.pack(_family(packed), interface, 0, 0, 0)
    return _request(GET_NEIGHBOUR, head + _attribute(_NEIGHBOUR_HOST, packed), sequence)


def messages(datagram: bytes) -> Iterator[Message]:
    """Take a datagram apart; what is cut off is left out."""
    view = memoryview(datagram)
    while len(view) >= _HEADER.size:
        length, kind, _, _, _ = _HEADER.unpack_from(view)
        if not _HEADER.size <= length <= len(view):
            return
        yield Message(kind, view[_HEADER.size : length])
        view = view[length + 3 & ~3 :]


def error_of(message: Message) -> int:
    """Errno of an ERROR message; 0 for an acknowledgement."""
    return -int(_ERRNO.unpack_from(message.body)[0])


def read_route(message: Message) -> Route:
    """Read NEW_ROUTE or DELETE_ROUTE."""
    head = _ROUTE.unpack_from(message.body)
    found = _attributes(message.body[_ROUTE.size :])
    metrics = _attributes(found.get(_METRICS, _NOTHING))
    gateway = _host(found[_GATEWAY]) if _GATEWAY in found else None
    if _VIA in found:
        gateway = _host(found[_VIA][2:])
    return Route(
        head[7],
        _number(found.get(_OUT)),
        gateway,
        _number(metrics.get(_MTU_METRIC)),
        _number(metrics.get(_HOP_LIMIT_METRIC)),
        _ENCAPSULATION in found,
    )


def read_link(message: Message) -> Link:
    """Read NEW_LINK or DELETE_LINK."""
    _, kind, interface, flags, _ = _LINK.unpack_from(message.body)
    found = _attributes(message.body[_LINK.size :])
    works = message.type == NEW_LINK and bool(flags & _UP and flags & _LOWER_UP) and not flags & _NO_ARP
    name = bytes(found.get(_LINK_NAME, _NOTHING)).rstrip(b"\0").decode("ascii", "replace")
    return Link(
        interface, name, kind, works, bytes(found.get(_HARDWARE_ADDRESS, _NOTHING)), _number(found.get(_LINK_MTU))
    )


def read_neighbour(message: Message) -> Neighbour | None:
    """Read NEW_NEIGHBOUR or DELETE_NEIGHBOUR; None when it is no IP neighbour's."""
    family, interface, state, _, _ = _NEIGHBOUR.unpack_from(message.body)
    found = _attributes(message.body[_NEIGHBOUR.size :])
    if family not in (socket.AF_INET, socket.AF_INET6) or _NEIGHBOUR_HOST not in found:
        return None
    known = message.type == NEW_NEIGHBOUR and state & _USABLE
    return Neighbour(
        interface, _host(found[_NEIGHBOUR_HOST]), bytes(found.get(_NEIGHBOUR_MAC, _NOTHING)) if known else b""
    )


_NOTHING = memoryview(b"")


def _request(kind: int, body: bytes, sequence: int) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST, sequence & 0xFFFFFFFF, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def _attributes(view: memoryview) -> Mapping[int, memoryview]:
    found: dict[int, memoryview] = {}
    while len(view) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(view)
        if not _ATTRIBUTE.size <= length <= len(view):
            break
        found[kind & 0x3FFF] = view[_ATTRIBUTE.size : length]
        view = view[length + 3 & ~3 :]
    return found


def _number(value: memoryview | None) -> int:
    return 0 if value is None or len(value) < 4 else int(struct.unpack_from("=I", value)[0])


def _packed(host: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)


def _family(packed: bytes | memoryview) -> int:
    return socket.AF_INET if len(packed) == 4 else socket.AF_INET6


def _host(packed: memoryview) -> str:
    return canonical(socket.inet_ntop(_family(packed), packed))
