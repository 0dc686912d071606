"""One heap of deadlines for everything the proxy waits for.

Setting a later deadline or cancelling leaves the old entry in the heap; it is skipped or pushed on when it comes up.
That makes the common case, a timer that never fires, two cheap assignments.
"""

from __future__ import annotations

import heapq


class Timed:
    """Something with a deadline. `deadline` is None while it waits for nothing."""

    __slots__ = ("deadline", "queued")

    def __init__(self) -> None:
        self.deadline: float | None = None
        self.queued: float | None = None

    def expire(self, now: float) -> None:
        """Called once when the deadline has passed."""
        raise NotImplementedError


class Timers:
    """Deadlines of `Timed` objects. Each has at most one live entry in the heap: the one at its `queued` time."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timed]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._heap)

    def set(self, timed: Timed, deadline: float) -> None:
        """Wait until `deadline`, instead of whatever `timed` waited for. To cancel, set its `deadline` to None."""
        timed.deadline = deadline
        queued = timed.queued
        if queued is None or deadline < queued:
            timed.queued = deadline
            self._count += 1
            heapq.heappush(self._heap, (deadline, self._count, timed))

    def next(self) -> float | None:
        """Give the time to look again; it may be early, never late."""
        return self._heap[0][0] if self._heap else None

    def expire(self, now: float) -> None:
        """Let everything that is due expire, in order."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            at, _, timed = heapq.heappop(heap)
            if timed.queued != at:
                continue
            timed.queued = None
            deadline = timed.deadline
            if deadline is None:
                continue
            if deadline <= now:
                timed.deadline = None
                timed.expire(now)
            else:
                self.set(timed, deadline)
