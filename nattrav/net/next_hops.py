"""Where the kernel would send a datagram: interface and hardware addresses of its next hop, and news of changes."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import socket
from dataclasses import dataclass, field

from nattrav.net.address import TransportAddress
from nattrav.net.bpf.routes import sysctl_number
from nattrav.net.rtnetlink import (
    DELETE_LINK,
    DELETE_NEIGHBOUR,
    ERROR,
    ETHERNET,
    GROUPS,
    NEW_LINK,
    NEW_NEIGHBOUR,
    NEW_ROUTE,
    UNICAST,
    Link,
    Message,
    error_of,
    link_question,
    messages,
    neighbour_question,
    read_link,
    read_neighbour,
    read_route,
    route_question,
)

_ADD_MEMBERSHIP = 1
_SOL_NETLINK = 270
_ROOM = 1 << 16
_NEWS_BUFFER = 1 << 20
_PATIENCE = 1.0
_MAC = 6


@dataclass(frozen=True, slots=True)
class Hop:
    """How frames to one target leave: the interface, its own and the next hop's hardware address.

    `neighbour` is the next hop's host: the gateway, or the target itself on the link; `mtu` counts the IP packet.
    """

    interface: int
    neighbour: str
    source: bytes
    destination: bytes
    mtu: int
    hop_limit: int


@dataclass(slots=True)
class News:
    """What changed. `everything`: routes, rules, addresses, or nobody knows; interfaces and neighbours by name."""

    everything: bool = False
    interfaces: set[int] = field(default_factory=set)
    neighbours: dict[tuple[int, str], bytes] = field(default_factory=dict)
    """(interface, host) → hardware address; empty when the kernel would not send there now."""


class NextHops:
    """Asks the kernel, and listens to it. For one thread."""

    def __init__(self) -> None:
        """Raises OSError where netlink is forbidden."""
        self._sequence = itertools.count(1)
        with contextlib.ExitStack() as opened:
            self._asking = opened.enter_context(_netlink(0))
            self._asking.settimeout(_PATIENCE)
            self._listening = opened.enter_context(_netlink(socket.SOCK_NONBLOCK))
            self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _NEWS_BUFFER)
            self._listening.bind((0, 0))
            for group in GROUPS:
                with contextlib.suppress(OSError):
                    self._listening.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
            opened.pop_all()
        self._links: dict[int, Link] = {}
        self._limits: dict[tuple[str, bool], int] = {}
        """Hop limits by interface and whether for IPv6, as long as nothing changes."""

    def find(self, source: TransportAddress, target: TransportAddress, tos: int, interface: int = 0) -> Hop | None:
        """Give the next hop of a UDP datagram; None when it leaves by no Ethernet, or the kernel must find out first.

        `interface` restricts it to one, as a socket may be.
        """
        try:
            question = route_question(source, target, tos, next(self._sequence), interface=interface)
            route = read_route(self._ask(question, NEW_ROUTE))
            if route.type != UNICAST or route.encapsulated:
                return None
            link = self._link(route.interface)
            if not link.works or link.type != ETHERNET or len(link.mac) != _MAC:
                return None
            host = route.gateway or target.host
            question = neighbour_question(link.interface, host, next(self._sequence))
            neighbour = read_neighbour(self._ask(question, NEW_NEIGHBOUR))
        except OSError:
            return None
        if neighbour is None or len(neighbour.mac) != _MAC:
            return None
        mtu = min(route.mtu or link.mtu, link.mtu)
        limit = route.hop_limit or self._hop_limit(link.name, ":" in target.host)
        return Hop(link.interface, host, link.mac, neighbour.mac, mtu, limit)

    def news(self) -> News:
        """Tell what changed since the last call."""
        found = News()
        while True:
            try:
                datagram = self._listening.recv(_ROOM)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                # The kernel had more to tell than there was room for.
                found.everything = True
                self._links.clear()
                continue
            for message in messages(datagram):
                self._note(message, found)
        if found.everything:
            self._limits.clear()
        return found

    def close(self) -> None:
        """Close the sockets."""
        self._asking.close()
        self._listening.close()

    def _note(self, message: Message, found: News) -> None:
        if message.type in (NEW_NEIGHBOUR, DELETE_NEIGHBOUR):
            neighbour = read_neighbour(message)
            if neighbour is not None:
                found.neighbours[neighbour.interface, neighbour.host] = neighbour.mac
        elif message.type in (NEW_LINK, DELETE_LINK):
            # The kernel tells of links for many reasons that are none for us; bridges tell of their ports besides.
            link = read_link(message)
            if message.body[0] == socket.AF_UNSPEC and self._links.get(link.interface, link) != link:
                found.interfaces.add(link.interface)
                self._links[link.interface] = link
        else:
            found.everything = True

    def _link(self, interface: int) -> Link:
        link = self._links.get(interface)
        if link is None:
            link = read_link(self._ask(link_question(interface, next(self._sequence)), NEW_LINK))
            self._links[interface] = link
        return link

    def _hop_limit(self, interface: str, six: bool) -> int:
        found = self._limits.get((interface, six))
        if found is None:
            name = f"net/ipv6/conf/{interface}/hop_limit" if six else "net/ipv4/ip_default_ttl"
            found = self._limits[interface, six] = sysctl_number(name, 64)
        return found

    def _ask(self, question: bytes, wanted: int) -> Message:
        self._asking.send(question)
        sequence = question[8:12]
        while True:
            answer = self._asking.recv(_ROOM)
            if answer[8:12] != sequence:
                continue
            for message in messages(answer):
                if message.type == wanted:
                    return message
                if message.type == ERROR:
                    code = error_of(message)
                    raise OSError(code, os.strerror(code))


def _netlink(flags: int) -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | flags, 0)
