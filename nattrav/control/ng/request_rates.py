"""How many requests a second each control peer may make."""

from __future__ import annotations

BURST = 2.0
"""Seconds of the rate that may come at once."""

SOURCE_LIMIT = 4096


class RequestRates:
    """One token bucket a source. When too many sources are known, all begin anew with full buckets."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._full = max(1.0, rate * BURST)
        self._buckets: dict[str, tuple[float, float]] = {}

    def admit(self, source: str, now: float) -> bool:
        """Take one token of a source; False when it has none left."""
        tokens, since = self._buckets.get(source, (self._full, now))
        tokens = min(self._full, tokens + (now - since) * self._rate)
        admitted = tokens >= 1.0
        if source not in self._buckets and len(self._buckets) >= SOURCE_LIMIT:
            self._buckets.clear()
        self._buckets[source] = (tokens - 1.0 if admitted else tokens, now)
        return admitted
