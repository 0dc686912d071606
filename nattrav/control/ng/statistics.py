"""How often which control peer asked what, as ng's `statistics` tells it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from nattrav.control.ng.codec_bencode import Encodable

SHORT_NAMES = {
    "ping": "ping",
    "offer": "offer",
    "answer": "answer",
    "delete": "delete",
    "query": "query",
    "list": "list",
    "statistics": "statistics",
    "block media": "blkmedia",
    "unblock media": "unblkmedia",
}
PEER_LIMIT = 256
LOCAL = "local"
OTHER = "other"


@dataclass(slots=True)
class _Peer:
    requests: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    errors: int = 0


class ControlStatistics:
    """Counts by peer address; peers beyond a bound share one row."""

    def __init__(self) -> None:
        self._peers: dict[str, _Peer] = {}

    def count(self, source: str | None, command: str, *, failed: bool, seconds: float) -> None:
        """Count one request that was carried out."""
        name = source or LOCAL
        peer = self._peers.get(name)
        if peer is None:
            if len(self._peers) >= PEER_LIMIT:
                name = OTHER
            peer = self._peers.setdefault(name, _Peer())
        short = SHORT_NAMES.get(command)
        if short is not None:
            peer.requests[short] += 1
            peer.seconds[short] += seconds  # type: ignore[assignment]
        peer.errors += failed

    def export(self) -> dict[str, Encodable]:
        """Give ng's `controlstatistics`."""
        proxies: list[dict[str, Encodable]] = []
        totals: Counter[str] = Counter()
        for name, peer in self._peers.items():
            row: dict[str, Encodable] = {"proxy": name}
            for short in SHORT_NAMES.values():
                row[f"{short}count"] = peer.requests[short]
                row[f"{short}duration"] = f"{peer.seconds[short]:.6f}"
                totals[short] += peer.requests[short]
            row["errorcount"] = peer.errors
            proxies.append(row)
        return {"proxies": proxies, **{f"total{short}count": totals[short] for short in SHORT_NAMES.values()}}
