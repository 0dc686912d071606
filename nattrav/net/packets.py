"""Packet sockets that whole frames are sent through (packet(7))."""

from __future__ import annotations

import errno
import os
import socket

from nattrav.net.options import Socket

SEND_ROOM = 1 << 22
"""Octets of frames that may be on their way through one interface at a time."""

SENDERS_MAX = 8
"""Sockets that share an interface where one alone may not have so much room."""

_SOL_PACKET = 263
_PACKET_VNET_HDR = 15
_SO_SNDBUFFORCE = 32


def open_sender(interface: int) -> Socket:
    """Open a socket that sends frames, each behind a struct virtio_net_hdr, through one interface. Receives nothing.

    OSError where that is forbidden (CAP_NET_RAW) or there is no such interface.
    """
    name = socket.if_indextoname(interface)
    sock = _open()
    try:
        sock.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, SEND_ROOM)
        except OSError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_ROOM)
        sock.bind((name, 0))
    except BaseException:
        sock.close()
        raise
    return sock


def open_senders(interface: int) -> list[Socket]:
    """Open as many as have `SEND_ROOM` together, or `SENDERS_MAX`. OSError."""
    opened = [open_sender(interface)]
    # The kernel doubles what it grants.
    granted = opened[0].getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2
    while len(opened) < min(SENDERS_MAX, -(-SEND_ROOM // granted)):
        opened.append(open_sender(interface))
    return opened


def refusal() -> str | None:
    """Tell why this process may not send frames; None when it may."""
    try:
        _open().close()
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            return "sending frames needs CAP_NET_RAW"
        if error.errno == errno.EAFNOSUPPORT:
            return "packet sockets are forbidden here: allow AF_PACKET (RestrictAddressFamilies= in the unit)"
        return f"packet sockets cannot be used: {os.strerror(error.errno or 0)}"
    return None


def _open() -> Socket:
    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
