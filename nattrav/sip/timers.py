"""The timers of RFC 3261 table 4 (with RFC 6026), and the queue that holds every armed one."""

from __future__ import annotations

import heapq
import math
from typing import Generic, Protocol, TypeVar

NEVER = math.inf


class Timers:
    """Seconds. T1 is the round-trip estimate, T2 the longest retransmission interval, T4 the life of a datagram.

    `datagram` and `stream` give the first duration of each timer by its letter: NEVER or 0 where a reliable
    transport makes it needless.
    """

    __slots__ = ("c", "datagram", "stream", "t1", "t2", "t4")

    def __init__(self, t1: float = 0.5, t2: float = 4.0, t4: float = 5.0, c: float = 185.0) -> None:
        self.t1, self.t2, self.t4, self.c = t1, t2, t4, c
        long = 64 * t1
        always = {"B": long, "F": long, "H": long, "L": long, "M": long, "C": c}
        retransmitting = dict.fromkeys("AEG", t1)
        absorbing = {"D": max(32.0, long), "I": t4, "J": long, "K": t4}
        self.datagram: dict[str, float] = {**always, **retransmitting, **absorbing}
        self.stream: dict[str, float] = {**always, **dict.fromkeys("AEG", NEVER), **dict.fromkeys("DIJK", 0.0)}


DEFAULT_TIMERS = Timers()


class Timed(Protocol):
    """Something with a deadline that may move at any time."""

    queued: float
    """The earliest entry the queue holds for it; the queue's own."""

    def next_timeout(self) -> float:
        """When `handle_timeout` wants to be called; NEVER for not at all."""


Item = TypeVar("Item", bound=Timed)


class TimerQueue(Generic[Item]):
    """Deadlines of many items in one heap. Moving a deadline later costs nothing until the old one passes."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Item]] = []
        self._number = 0

    def __len__(self) -> int:
        return len(self._heap)

    def watch(self, item: Item) -> None:
        """Look at the item's deadline again: call it after anything that may have made it earlier."""
        deadline = item.next_timeout()
        if deadline < item.queued:
            item.queued = deadline
            self._number += 1
            heapq.heappush(self._heap, (deadline, self._number, item))

    def next_timeout(self) -> float:
        """Not later than the earliest deadline; NEVER when nothing is armed."""
        return self._heap[0][0] if self._heap else NEVER

    def due(self, now: float, limit: int = 10_000) -> list[Item]:
        """Take out the items whose deadline has come, at most `limit`; `watch` them again after handling."""
        heap = self._heap
        items: list[Item] = []
        while heap and heap[0][0] <= now and len(items) < limit:
            deadline, _, item = heapq.heappop(heap)
            if deadline != item.queued:
                continue
            item.queued = NEVER
            if item.next_timeout() <= now:
                items.append(item)
            else:
                self.watch(item)
        return items
