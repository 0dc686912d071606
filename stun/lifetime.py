"""How long does a NAT keep a UDP binding? A search over silences, many of them at the same time (RFC 5780 §4.6).

One round tests several silences beside each other, each on a binding of its own; the bounds close in. The result is an
interval, never a point, for a NAT may sweep its table now and then.
"""

from __future__ import annotations

from dataclasses import dataclass, field

_PARALLEL = 6


@dataclass
class LifetimeSearch:
    """Ask `round()`, `tell` each silence's result, until there is no round left."""

    shortest: float = 15.0
    longest: float = 300.0
    lower: float | None = None
    """Longest silence that a binding has survived."""
    upper: float | None = None
    """Shortest silence after which one was gone."""
    _asked: set[float] = field(default_factory=set)

    def round(self) -> list[float]:
        """Silences to test next, in seconds, rising; empty when the bounds are close enough."""
        if not self._asked:
            silences = []
            silence = self.shortest
            while silence < self.longest:
                silences.append(silence)
                silence *= 2
            chosen = [*silences, self.longest]
        elif self.upper is None or self._close_enough():
            return []
        else:
            low, high = self.lower or 0.0, self.upper
            step = (high - low) / (_PARALLEL + 1)
            chosen = [round(low + step * (i + 1), 1) for i in range(_PARALLEL)]
        fresh = [silence for silence in chosen if silence not in self._asked]
        self._asked.update(fresh)
        return fresh

    def tell(self, silence: float, alive: bool) -> None:
        """Take one result. A NAT that contradicts itself narrows nothing: the cautious bound stands."""
        if alive:
            if self.upper is None or silence < self.upper:
                self.lower = max(silence, self.lower or 0.0)
        else:
            self.upper = silence if self.upper is None else min(silence, self.upper)
            if self.lower is not None and self.lower >= self.upper:
                self.lower = None

    def expected_seconds(self) -> float:
        """How long all of it may take at most."""
        return self.longest * 2 if self.upper is None else self.upper * 2

    def _close_enough(self) -> bool:
        assert self.upper is not None
        low = self.lower or 0.0
        return self.upper - low <= max(min(5.0, self.shortest / 2), 0.1 * low)

    @property
    def keepalive(self) -> float | None:
        """Seconds between keepalives that are safe: half of what a binding survives, 25 at most; None when unknown."""
        return None if self.lower is None else min(25.0, self.lower / 2)
