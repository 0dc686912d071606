"""Binds the relay's ports."""

from __future__ import annotations

import errno
import os

from nattrav.net.address import TransportAddress
from nattrav.net.options import Socket, open_udp
from relay.ports import NoSocket, PortTaken


class UdpOpener:
    """`Opener` over the system's UDP sockets, with receive buffers of the system's default size."""

    def open(self, local: TransportAddress) -> Socket:
        """Bind a socket; PortTaken when another program has the port, NoSocket when none can be had."""
        try:
            return open_udp(local)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                raise PortTaken(str(local)) from None
            raise NoSocket(f"{local}: {error.strerror}") from None


BLOCK = 1024


class Unpredictable:
    """Numbers that nobody can foretell, from the system's generator in blocks: one system call for many calls."""

    def __init__(self) -> None:
        self._block = b""
        self._at = 0

    def __call__(self, below: int) -> int:
        """Give a number from 0 up to, not including, `below` (at most 2**16)."""
        if self._at >= len(self._block):
            self._block = os.urandom(BLOCK)
            self._at = 0
        self._at += 4
        # 32 bits scaled to 16: the bias of one in 65536 helps no one to guess a port.
        return int.from_bytes(self._block[self._at - 4 : self._at], "little") * below >> 32
