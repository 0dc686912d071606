"""Looks at all datagram sockets of a process together: at once while little comes, on a grid of moments under load.

A wake-up of the event loop costs more than a datagram. Under load one round therefore reads what has come on every
socket, and what the readers leave to be sent goes out at its end.
"""

from __future__ import annotations

import contextlib
import math
import select
import time
from collections.abc import Callable

import trio

from nattrav.net.clock import monotonic
from nattrav.net.options import Socket

GRID = 0.01
"""Distance of the moments, in seconds: the longest that a datagram waits."""

BUSY = 0.004
"""Work that follows other work within this time is load."""

SOON = 0.001
"""Seconds to the next round when a peer's queue was full; the peer needs the processor to empty it."""

HASTE = 0.002
"""Seconds after a round in which an urgent socket is read at once; what comes later waits for the next moment."""

PATIENCE = 4
"""Rounds under load after which the event loop's other tasks get their turn while none of them is in a hurry."""


class Rounds:
    """The sockets, who reads each of them, and who sends when all have been read. Uses Linux's epoll."""

    def __init__(self) -> None:
        self.reading = False
        """A round is on: what is to be sent may wait for its end."""
        self.hurried: Callable[[], bool] = _always
        """Asked under load: do other tasks of the event loop carry what somebody waits for?"""
        self.awaited: Callable[[], bool] = _never
        """Asked under load: is somebody stopped until an urgent socket brings an answer?"""
        self._poll = select.epoll()
        self._urgent = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._endings: list[Callable[[], bool | None]] = []
        self._left = False
        self._worked = -math.inf

    def add(self, sock: Socket, read: Callable[[], None], *, urgent: bool = False) -> None:
        """Call `read` in every round that finds the socket readable; it may leave datagrams for the next one.

        What is awaited from an `urgent` one is read as soon as it comes, also between two moments.
        """
        self._readers[sock.fileno()] = read
        self._poll.register(sock.fileno(), select.EPOLLIN)
        if urgent:
            self._urgent.register(sock.fileno(), select.EPOLLIN)

    def remove(self, sock: Socket) -> None:
        """Look at the socket no more; call it before closing the socket."""
        if self._readers.pop(sock.fileno(), None) is not None and not self._poll.closed:
            self._poll.unregister(sock.fileno())
            with contextlib.suppress(FileNotFoundError):
                self._urgent.unregister(sock.fileno())

    def at_end(self, send: Callable[[], bool | None]) -> None:
        """Call `send` at the end of every round; when it says True something is left and the next round comes soon."""
        self._endings.append(send)

    def look(self) -> bool:
        """Do one round; False when nothing had come."""
        ready = self._poll.poll(0)
        if not ready and not self._left:
            return False
        self._read(ready)
        return True

    def _read(self, ready: list[tuple[int, int]]) -> None:
        self.reading = True
        try:
            for descriptor, _ in ready:
                # A reader may have removed another socket.
                read = self._readers.get(descriptor)
                if read is not None:
                    read()
        finally:
            self.reading = False
        self._left = False
        for send in self._endings:
            if send():
                self._left = True

    async def run(self) -> None:
        """Look until cancelled."""
        rounds = 0
        try:
            while True:
                begun = monotonic()
                if self.look():
                    busy = begun - self._worked < BUSY + GRID
                    self._worked = begun
                    if busy:
                        self._wait((math.floor(begun / GRID) + 1) * GRID)
                        rounds += 1
                        if rounds % PATIENCE == 0 or self.hurried():
                            await trio.lowlevel.checkpoint()
                        continue
                await trio.lowlevel.wait_readable(self._poll.fileno())
        finally:
            self._poll.close()
            self._urgent.close()

    def _wait(self, moment: float) -> None:
        # The whole event loop sleeps, not this task alone: that costs a fifth of a timed wait of trio's (measured), and
        # whatever else there is to do under load is better done once in each round, too.
        now = monotonic()
        patience = min(now + HASTE, moment)
        while now < patience and self.awaited() and not self._left:
            ready = self._urgent.poll(patience - now)
            if ready:
                self._read(ready)
            now = monotonic()
        if now < moment:
            time.sleep(min(moment - now, SOON) if self._left else moment - now)


def _always() -> bool:
    return True


def _never() -> bool:
    return False
