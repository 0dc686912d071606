"""Binds the relay's ports."""

from __future__ import annotations

import errno

from nattrav.net.address import TransportAddress
from nattrav.net.options import Socket, open_udp
from relay.ports import NoSocket, PortTaken

RECEIVE_BUFFER = 128 * 1024
"""Holds bursts after a stall: 50 packets/s of 200 octets need little, a second of video more."""


class UdpOpener:
    """`Opener` over the system's UDP sockets."""

    def __init__(self, *, receive_buffer: int = RECEIVE_BUFFER) -> None:
        self._receive_buffer = receive_buffer

    def open(self, local: TransportAddress) -> Socket:
        """Bind a socket; PortTaken when another program has the port, NoSocket when none can be had."""
        try:
            return open_udp(local, receive_buffer=self._receive_buffer)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                raise PortTaken(str(local)) from None
            raise NoSocket(f"{local}: {error.strerror}") from None
