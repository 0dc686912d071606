"""The timers of RFC 3261 table 4, with those of RFC 6026."""

from __future__ import annotations

import math

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
