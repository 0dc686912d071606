"""What happens in a service, streamed to one listener: a bounded queue that counts what it lost."""

from __future__ import annotations

import math
from typing import Any

import trio

from nattrav.control.socket.messages import VerbError

WAITING = 1024
"""Items kept for a listener that does not read; further ones are lost to it, and it is told how many."""

LONGEST_RUN = 86_400.0

Item = dict[str, Any]


class Feed:
    """One listener's queue. `put` never waits; `next` is None after `seconds`."""

    def __init__(self, seconds: float | None) -> None:
        self._send, self._receive = trio.open_memory_channel[Item](WAITING)
        self._lost = 0
        self._until = math.inf if seconds is None else trio.current_time() + seconds

    def put(self, item: Item) -> None:
        """Queue an item, or count it as lost."""
        try:
            self._send.send_nowait(item)
        except trio.WouldBlock:
            self._lost += 1

    async def next(self) -> Item | None:
        """Wait for the next item; it has `lost`, how many were lost since the one before. None at the end."""
        with trio.move_on_at(self._until):
            item = await self._receive.receive()
            lost, self._lost = self._lost, 0
            return item | {"lost": lost}
        return None


def seconds_of(args: dict[str, Any]) -> float | None:
    """How long a stream runs; None for until the client leaves. VerbError when it is no such number."""
    seconds = args.get("seconds")
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= LONGEST_RUN:
        raise VerbError("invalid", f"seconds: give a number up to {LONGEST_RUN:g}")
    return float(seconds)
