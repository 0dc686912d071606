"""Binds the relay's ports."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Protocol

from nattrav.net.address import TransportAddress
from nattrav.net.options import Socket, open_udp
from relay.ports import NoSocket, PortTaken


class Resting(Protocol):
    """Sockets of ended flows that are still bound."""

    def claim(self, local: TransportAddress) -> Socket | None:
        """Give the socket that rests at a local address, for a flow that is about to begin."""

    def disclaim(self, local: TransportAddress) -> bool:
        """Let a claimed socket rest again; False when none was claimed there."""


class UdpOpener:
    """`Opener` over the system's UDP sockets, with receive buffers of the system's default size.

    A socket that rests in the data plane is taken from there instead of bound anew.
    """

    def __init__(
        self, plane: Resting | None = None, inherited: Callable[[TransportAddress], Socket | None] | None = None
    ) -> None:
        """`inherited` gives sockets that are bound since before the process began."""
        self._plane = plane
        self._inherited = inherited

    def open(self, local: TransportAddress) -> Socket:
        """Bind a socket; PortTaken when another program has the port, NoSocket when none can be had."""
        rested = None if self._plane is None else self._plane.claim(local)
        if rested is not None:
            return rested
        if self._inherited is not None and (waiting := self._inherited(local)) is not None:
            return waiting
        try:
            return open_udp(local)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                raise PortTaken(str(local)) from None
            raise NoSocket(f"{local}: {error.strerror}") from None

    def give_back(self, local: TransportAddress, sock: Socket) -> None:
        """Close a socket that never became a flow, or leave it resting."""
        if self._plane is None or not self._plane.disclaim(local):
            sock.close()


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
