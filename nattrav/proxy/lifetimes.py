"""How long the NATs in front of our phones keep a mapping: learned once per address and kind of phone, used for all.

One flow per NAT is the probe. It starts at the safe interval and waits half as long again each time; the longest wait
that was answered is `good`, the shortest that was not is `bad`, and the gap is halved until it is small.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

KNOWN_LIMIT = 50_000
RETEST = 7 * 86400.0
GAP = 0.1
MARGIN = 0.8


@dataclass(slots=True)
class Lifetime:
    """What is known of one NAT. `trying` is the wait under test now, `settled` when the search ended."""

    good: float
    bad: float | None = None
    trying: float | None = None
    prober: object = None
    settled: float | None = None


class Lifetimes:
    """All of them, by NAT (public host and first word of the User-Agent). `start` and `longest` in seconds."""

    def __init__(self, start: float, longest: float) -> None:
        self.start = start
        self.longest = longest
        self._known: OrderedDict[tuple[str, str], Lifetime] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def of(self, key: tuple[str, str]) -> Lifetime:
        """What is known of a NAT, from now on remembered."""
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = Lifetime(self.start)
            if len(self._known) > KNOWN_LIMIT:
                self._known.popitem(last=False)
        return found

    def interval(self, key: tuple[str, str], flow: object, now: float, *, may_probe: bool) -> tuple[float, bool]:
        """How long to wait before the next keepalive of a flow, and whether that wait is a test.

        `may_probe`: the phone will come back soon by itself, so that a lost mapping costs little.
        """
        known = self._known.get(key)
        if known is None:
            if not may_probe:
                return self.start, False
            known = self.of(key)
        usual = self.start if known.settled is None and known.bad is None else max(self.start, MARGIN * known.good)
        if known.settled is not None:
            if now - known.settled < RETEST:
                return usual, False
            known.settled = known.bad = None
        if not may_probe or known.prober not in (None, flow):
            return usual, False
        known.prober = flow
        ceiling = self.longest if known.bad is None else known.bad
        step = min(1.5 * known.good, self.longest) if known.bad is None else (known.good + known.bad) / 2
        if ceiling - known.good <= GAP * known.good or step <= known.good:
            known.settled, known.prober, known.trying = now, None, None
            return max(self.start, MARGIN * known.good if known.bad is not None else known.good), False
        known.trying = step
        return step, True

    def answered(self, key: tuple[str, str], flow: object) -> None:
        """The test wait was survived."""
        known = self.of(key)
        if known.prober == flow and known.trying is not None:
            known.good, known.trying = known.trying, None

    def lost(self, key: tuple[str, str], flow: object) -> bool:
        """The phone did not answer after a wait; True when that was the test and not the phone."""
        known = self.of(key)
        if known.prober != flow or known.trying is None:
            return False
        known.bad, known.trying, known.prober = known.trying, None, None
        return True

    def disturbed(self, key: tuple[str, str], flow: object) -> None:
        """Other traffic passed during the test: it proves nothing."""
        known = self.of(key)
        if known.prober == flow:
            known.trying = known.prober = None
