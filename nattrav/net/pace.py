"""When to look at a socket again: at once while little comes, a moment later while much comes.

A wake-up of the event loop costs more than a datagram. Under load all sockets of a process are therefore looked at on
one grid of moments, so that one wake-up serves what has come on all of them.
"""

from __future__ import annotations

import math

import trio

from nattrav.net.options import Socket

GRID = 0.004
"""Distance of the moments, in seconds: the longest that a datagram waits."""

BUSY = 0.004
"""Work that follows other work within this time is load."""


class Pace:
    """One reader's pace."""

    def __init__(self) -> None:
        self._last = -math.inf

    async def after_work(self, sock: Socket) -> None:
        """Wait until it is worth reading again."""
        now = trio.current_time()
        busy = now - self._last < BUSY + GRID
        self._last = now
        if busy:
            await trio.sleep_until((math.floor(now / GRID) + 1) * GRID)
        else:
            await trio.lowlevel.wait_readable(sock)
