"""What a source may use before anything of it is parsed: a rate per address, bans for scanners and guessers.

Every table is bounded: the address heard of longest ago is forgotten first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

from nattrav.config.sip import SipLimits
from nattrav.proxy.effects import DropReason

SOURCES = 50_000
LONGEST_AGENT = 256
"""Octets of a User-Agent that are looked at."""
WINDOW = 60.0


@dataclass(frozen=True, slots=True)
class Ban:
    """One banned address. `until` is on the core's clock."""

    host: str
    until: float
    reason: str


class Admission:
    """Decides by source address. `trusted` hosts (upstreams) are never limited."""

    def __init__(self, limits: SipLimits) -> None:
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._bans: dict[str, Ban] = {}
        self._faults: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self.follow(limits)

    def follow(self, limits: SipLimits) -> None:
        """Decide by these limits from now on; bans in force keep their end."""
        self.limits = limits
        self._rate = limits.requests_per_source
        self._burst = float(limits.burst)
        self._scanners = tuple(word.lower() for word in limits.scanners)
        self._scanner_bytes = tuple(word.encode("latin-1", "replace") for word in self._scanners)
        self._names_scanner = lru_cache(maxsize=4096)(self._is_scanner)

    def refuses(self, host: str, now: float) -> DropReason | None:
        """Charge one datagram or message to its source; None when it may go on."""
        if self._bans:
            ban = self._bans.get(host)
            if ban is not None:
                if ban.until > now:
                    return DropReason.BANNED
                del self._bans[host]
        bucket = self._buckets.get(host)
        if bucket is None:
            tokens = self._burst
            if len(self._buckets) >= SOURCES:
                self._buckets.popitem(last=False)
        else:
            tokens = min(self._burst, bucket[0] + (now - bucket[1]) * self._rate)
            if tokens < 1.0:
                return DropReason.RATE_LIMITED
        self._buckets[host] = (tokens - 1.0, now)
        return None

    def is_scanner(self, user_agent: str | None) -> bool:
        """The User-Agent is that of a known scanner."""
        if not user_agent:
            return False
        return self._names_scanner(user_agent[:LONGEST_AGENT])

    def _is_scanner(self, user_agent: str) -> bool:
        text = user_agent.lower()
        return any(word in text for word in self._scanners)

    def ban(self, host: str, reason: str, now: float, seconds: float | None = None) -> Ban:
        """Hear nothing from an address for a while."""
        ban = Ban(host, now + (self.limits.ban if seconds is None else seconds), reason)
        if len(self._bans) >= SOURCES:
            self._bans.pop(next(iter(self._bans)))
        self._bans[host] = ban
        return ban

    def unban(self, host: str) -> bool:
        """Hear an address again; False when it was not banned."""
        self._faults.pop(host, None)
        return self._bans.pop(host, None) is not None

    def fault(self, host: str, reason: str, now: float) -> Ban | None:
        """Count a failed authentication, a forged token or a refused target; too many within a minute ban."""
        since, count = self._faults.get(host, (now, 0))
        if now - since > WINDOW:
            since, count = now, 0
        count += 1
        self._faults[host] = (since, count)
        self._faults.move_to_end(host)
        if len(self._faults) > SOURCES:
            self._faults.popitem(last=False)
        if count >= self.limits.failures_before_ban:
            del self._faults[host]
            return self.ban(host, reason, now)
        return None

    def bans(self, now: float) -> Collection[Ban]:
        """Every ban in force."""
        return [ban for ban in self._bans.values() if ban.until > now]
