"""Which connections may live: how many, from whom, and for how long without doing anything."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from nattrav.sip.transport.flow import CloseReason, Flow


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Counts of connections, seconds, and octets."""

    connections: int = 20_000
    per_source: int = 256
    """Connections one IP address may hold: many phones share the address of one NAT."""
    greeting: float = 20.0
    """To send the first whole message after connecting, TLS and WebSocket handshakes included."""
    slow: float = 20.0
    """To send the rest of a message once it has begun."""
    idle: float = 3900.0
    """Without any octet. Above the longest registration usual on streams, for its phone may send nothing else."""
    connect: float = 5.0
    """To open a connection of our own, TLS handshake included."""
    backlog: int = 1 << 20
    """Octets that wait for a peer who does not read."""


class _Entry:
    __slots__ = ("heard", "last", "partial_since", "since")

    def __init__(self, now: float, *, heard: bool) -> None:
        self.since = self.last = now
        self.partial_since: float | None = None
        self.heard = heard


class ConnectionTable:
    """The open connections and when each was last heard."""

    def __init__(self, limits: StreamLimits) -> None:
        self.limits = limits
        self._entries: dict[Flow, _Entry] = {}
        self._per_source: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, flow: Flow) -> bool:
        return flow in self._entries

    def admits(self, host: str) -> bool:
        """Tell whether one more connection from that address is allowed."""
        return len(self._entries) < self.limits.connections and self._per_source[host] < self.limits.per_source

    def add(self, flow: Flow, now: float, *, accepted: bool) -> None:
        """Note a new connection; those we opened ourselves owe us no greeting."""
        self._entries[flow] = _Entry(now, heard=not accepted)
        self._per_source[flow.remote.host] += 1

    def heard(self, flow: Flow, now: float, *, message: bool, partial: bool) -> None:
        """Note that octets came; `message`: they completed one; `partial`: a message has begun and not ended."""
        entry = self._entries.get(flow)
        if entry is None:
            return
        entry.last = now
        if message:
            entry.heard = True
        if not partial:
            entry.partial_since = None
        elif message or entry.partial_since is None:
            entry.partial_since = now

    def remove(self, flow: Flow) -> None:
        """Forget a connection."""
        if self._entries.pop(flow, None) is not None:
            host = flow.remote.host
            self._per_source[host] -= 1
            if self._per_source[host] <= 0:
                del self._per_source[host]

    def expired(self, now: float) -> list[tuple[Flow, CloseReason]]:
        """List the connections to be closed now."""
        limits = self.limits
        gone = []
        for flow, entry in self._entries.items():
            if (not entry.heard and now - entry.since >= limits.greeting) or (
                entry.partial_since is not None and now - entry.partial_since >= limits.slow
            ):
                gone.append((flow, CloseReason.SLOW))
            elif now - entry.last >= limits.idle:
                gone.append((flow, CloseReason.IDLE))
        return gone
