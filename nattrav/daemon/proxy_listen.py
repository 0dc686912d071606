"""The proxy's sockets: every listening address of the configuration is bound, or none is."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass

from nattrav.config.sip import SipSection
from nattrav.config.sip_values import DEFAULT_PORTS, parse_listen
from nattrav.daemon.runtime import StartRefused
from nattrav.net.address import AddressClass, TransportAddress, classify
from nattrav.net.interfaces import expand
from nattrav.net.options import Take, enlarge, open_udp
from nattrav.proxy.listener import Listener
from nattrav.sip.resolve import Abilities
from nattrav.sip.transport.flow import listener_id

RECEIVE_BUFFER = 4 << 20
"""Room for a registration storm after a power cut, in octets."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A socket that is bound, and the listener it stands for."""

    sock: socket.socket
    listener: Listener


def open_listeners(sip: SipSection, take: Take) -> list[Bound]:
    """Bind every listening address, or take the socket that is bound already; StartRefused with the remedy."""
    bound: list[Bound] = []
    try:
        for text in sip.listen:
            spec = parse_listen(text)
            for transport in spec.transports:
                port = DEFAULT_PORTS[transport] if spec.port is None else spec.port
                shown = spec.advertised or sip.advertised
                bound.extend(_open(transport, host, port, shown, take) for host in expand(spec.host))
    except BaseException:
        for one in bound:
            one.sock.close()
        raise
    if not bound:
        raise StartRefused("[sip] listen names no address of this host: write one of its addresses, or 0.0.0.0")
    return bound


def _open(transport: str, host: str, port: int, advertised: str | None, take: Take) -> Bound:
    address = TransportAddress(host, port)
    try:
        kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
        waiting = take(kind, address)
        if waiting is not None:
            sock = waiting
            if transport == "udp":
                enlarge(sock, receive_buffer=RECEIVE_BUFFER, send_buffer=RECEIVE_BUFFER)
        elif transport == "udp":
            sock = open_udp(address, receive_buffer=RECEIVE_BUFFER, send_buffer=RECEIVE_BUFFER)
        else:
            sock = _open_stream(address)
    except OSError as error:
        raise StartRefused(
            f"cannot listen for SIP on {transport}:{address}: {error.strerror}; "
            "stop the program that has it, or change [sip] listen"
        ) from None
    name = sock.getsockname()
    local = TransportAddress(host, name[1])
    # What the world is told does not hold for loopback, which only programs on this host use.
    shown = host if advertised is None or classify(host) is AddressClass.LOOPBACK else advertised
    return Bound(sock, Listener(listener_id(transport, local), transport, local, shown, local.port))


def _open_stream(address: TransportAddress) -> socket.socket:
    sock = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(1024)
    except BaseException:
        sock.close()
        raise
    return sock


def reachable(bound: Iterable[Bound]) -> Abilities:
    """What next hops may be: transports we listen on (UDP first, as RFC 3263 §4.1 has it) and their families."""
    listeners = [one.listener for one in bound]
    transports = tuple(name for name in DEFAULT_PORTS if any(one.transport == name for one in listeners))
    families = tuple(sorted({6 if ":" in one.bound.host else 4 for one in listeners}))
    return Abilities(transports, families)
