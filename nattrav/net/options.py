"""Opening sockets the way this project wants them."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Callable

from nattrav.net.address import TransportAddress

Socket = socket.socket
"""For rooms that hand sockets on without touching them."""

Take = Callable[[int, TransportAddress], socket.socket | None]
"""Gives a socket of a type that is bound to an address since before this process, if there is one."""


def nothing_waits(kind: int, local: TransportAddress) -> socket.socket | None:
    """There is none."""
    return None


_SO_MEMINFO = 55
_MEMINFO_DROPS = 8
IPV6_TCLASS = 67
IP_MTU_DISCOVER = 10
IP_PMTUDISC_DONT = 0


def open_udp(
    local: TransportAddress,
    *,
    receive_buffer: int | None = None,
    send_buffer: int | None = None,
    reuse_port: bool = False,
    reuse_address: bool = False,
    tos: int | None = None,
) -> socket.socket:
    """Open a non-blocking UDP socket bound to `local`.

    IPv6 sockets are IPv6-only, so that IPv4 clients never appear as mapped addresses. Buffers are in bytes and
    limited by the kernel's `net.core.rmem_max`. Raises OSError when the address cannot be bound.
    """
    sock = socket.socket(local.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if local.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        else:
            # Large SIP messages and video frames may be fragmented; path MTU discovery would turn them into EMSGSIZE.
            sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if reuse_address:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if send_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        if tos is not None:
            set_tos(sock, tos)
        sock.bind(local)
    except BaseException:
        sock.close()
        raise
    return sock


def open_connected_twin(sock: socket.socket, local: TransportAddress, peer: TransportAddress) -> socket.socket:
    """Open a second socket on the local address of `sock`, connected to `peer`, with the same TOS.

    From then on the kernel gives it the peer's datagrams and `sock` those of everybody else. Until it is connected, for
    some microseconds, it may get anybody's: whoever reads it looks at the source all the same. Raises OSError.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        twin = open_udp(local, reuse_address=True, tos=get_tos(sock) or None)
    finally:
        # Only these two share the address: with the option left on, any local program could join them.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    try:
        twin.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        twin.connect(peer)
    except BaseException:
        twin.close()
        raise
    return twin


def get_tos(sock: socket.socket) -> int:
    """Read the IPv4 TOS or IPv6 traffic class octet."""
    if sock.family == socket.AF_INET6:
        return sock.getsockopt(socket.IPPROTO_IPV6, IPV6_TCLASS)
    return sock.getsockopt(socket.IPPROTO_IP, socket.IP_TOS)


def enlarge(sock: socket.socket, *, receive_buffer: int, send_buffer: int) -> None:
    """Give a socket that another process opened the buffers that `open_udp` gives."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)


def set_tos(sock: socket.socket, tos: int) -> None:
    """Set the IPv4 TOS or IPv6 traffic class octet (DSCP in its upper six bits)."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TCLASS, tos)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)


def force_receive_buffer(sock: socket.socket, size: int) -> int:
    """Ask for `size` bytes past the kernel's limit where allowed (CAP_NET_ADMIN); return what was granted."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_RCVBUFFORCE", 33), size)
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def dropped_by_kernel(sock: socket.socket) -> int:
    """Datagrams the kernel dropped at this socket because nobody fetched them in time (SO_MEMINFO); 0 if unknown."""
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 64)
    except OSError:
        return 0
    place = _MEMINFO_DROPS * 4
    return int.from_bytes(raw[place : place + 4], sys.byteorder)
