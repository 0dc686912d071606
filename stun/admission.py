"""Who may have how many replies: token buckets per source prefix, in fixed tables, a batch at a time.

A source draws from the bucket of its address (IPv4 /32, IPv6 /64) and of its network (/24, /48). Buckets are slots of
a table addressed by a keyed hash, so nothing is allocated per source and nobody can aim at another's slot. Over the
limit there is silence, never a penalty: a spoofer could lock out whom he names.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nattrav.net.address import TransportAddress, to_row

Mask = NDArray[np.bool_]
Keys = NDArray[np.uint64]

_TABLE_BITS = 16
_NETWORK_IPV4 = np.uint64(0x00FFFFFF)
_NETWORK_IPV6 = np.uint64(0x0000FFFFFFFFFFFF)


@dataclass(frozen=True)
class Limits:
    """Replies per second and how many may come at once; a rate of 0 means no limit."""

    source_rate: float = 50.0
    source_burst: float = 200.0
    network_rate: float = 2000.0
    network_burst: float = 8000.0
    guarded_rate: float = 20.0
    """Error responses, and replies to a port the request chose."""
    guarded_burst: float = 100.0
    guarded_pause: float = 10.0
    """Seconds of silence once the guarded bucket is empty: outlasts clients that answer errors by sending again."""
    total_rate: float = 0.0
    exempt: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Prefixes free of the first two limits, never of the guarded one."""


UNLIMITED = Limits(source_rate=0, network_rate=0, guarded_rate=0)


class Buckets:
    """Token buckets in a table of 65536 slots."""

    def __init__(self, rate: float, burst: float, multiplier: int) -> None:
        """`multiplier` keys the hash: a random odd 64-bit number."""
        self.rate = rate
        self.burst = burst
        self._multiplier = np.uint64(multiplier | 1)
        self.tokens: NDArray[np.float64] = np.full(1 << _TABLE_BITS, float(burst))
        self.stamp: NDArray[np.float64] = np.zeros(1 << _TABLE_BITS)

    def slots(self, keys: Keys) -> NDArray[np.intp]:
        """Hash prefixes to slots."""
        return ((keys * self._multiplier) >> np.uint64(64 - _TABLE_BITS)).astype(np.intp)

    def take(self, keys: Keys, now: float) -> Mask | None:
        """Take one token per key, in order. None when every one was granted, else the mask of those that were."""
        slots = self.slots(keys)
        available = self.tokens[slots]
        available += (now - self.stamp[slots]) * self.rate
        np.minimum(available, self.burst, out=available)
        self.tokens[slots] = available
        self.stamp[slots] = now
        short = available < len(slots)
        if not short.any():
            np.subtract.at(self.tokens, slots, 1.0)
            return None
        granted = ~short
        rows = np.flatnonzero(short)
        # The k-th row of one slot is granted while k tokens are there.
        order = rows[np.argsort(slots[rows], kind="stable")]
        ordered = slots[order]
        starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
        counts = np.diff(np.append(starts, len(ordered)))
        rank = np.arange(len(ordered)) - np.repeat(starts, counts)
        granted[order] = rank + 1 <= available[order]
        np.subtract.at(self.tokens, slots[granted], 1.0)
        return granted

    def in_use(self, now: float) -> int:
        """How many buckets are not full."""
        return int(np.count_nonzero(self.tokens + (now - self.stamp) * self.rate < self.burst))


class Admission:
    """All limits of one server; data threads share it under the server's lock."""

    def __init__(self, limits: Limits, multipliers: Sequence[int]) -> None:
        """`multipliers`: three random odd 64-bit numbers."""
        self.limits = limits
        self._source = Buckets(limits.source_rate, limits.source_burst, multipliers[0])
        self._network = Buckets(limits.network_rate, limits.network_burst, multipliers[1])
        self._guarded = Buckets(limits.guarded_rate, limits.guarded_burst, multipliers[2])
        self._closed_until: NDArray[np.float64] = np.zeros(1 << _TABLE_BITS)
        self._total = limits.total_rate
        self._total_stamp = 0.0
        self._exempt = {4: _masks(limits.exempt, 4), 6: _masks(limits.exempt, 6)}

    @property
    def limits_sources(self) -> bool:
        """False when nothing but the guarded bucket can refuse."""
        return bool(self.limits.source_rate or self.limits.network_rate or self.limits.total_rate)

    def admit(self, peers: NDArray[np.uint8], ipv6: bool, now: float) -> Mask | None:
        """Decide on the senders of one batch: socket address rows (n, 32). None when all are admitted."""
        if not self.limits_sources or not len(peers):
            return None
        if ipv6:
            keys = peers.view(np.uint64)[:, 1]
        else:
            keys = peers.view(np.uint32)[:, 1].astype(np.uint64)
        subject = np.ones(len(keys), np.bool_)
        for mask, prefix in self._exempt[6 if ipv6 else 4]:
            subject &= (keys & mask) != prefix
        granted = ~subject
        rows = np.flatnonzero(subject)
        if len(rows):
            rows = self._through(self._source, keys, rows, now)
            rows = self._through(self._network, keys & (_NETWORK_IPV6 if ipv6 else _NETWORK_IPV4), rows, now)
            granted[rows] = True
        if self.limits.total_rate:
            self._under_ceiling(granted, now)
        return None if granted.all() else granted

    @staticmethod
    def _through(buckets: Buckets, keys: Keys, rows: NDArray[np.intp], now: float) -> NDArray[np.intp]:
        if not buckets.rate or not len(rows):
            return rows
        mask = buckets.take(keys[rows], now)
        return rows if mask is None else rows[mask]

    def _under_ceiling(self, granted: Mask, now: float) -> None:
        rate = self.limits.total_rate
        self._total = min(rate, self._total + (now - self._total_stamp) * rate)
        self._total_stamp = now
        rows = np.flatnonzero(granted)
        allowed = int(self._total)
        granted[rows[allowed:]] = False
        self._total -= min(allowed, len(rows))

    def admit_one(self, source: TransportAddress, now: float) -> bool:
        """Decide on one sender (streams)."""
        row = np.frombuffer(to_row(source), np.uint8).reshape(1, -1)
        return self.admit(row, ":" in source.host, now) is None

    def admit_guarded(self, source: TransportAddress, now: float) -> bool:
        """Decide on an error response or on a reply to a chosen port; an empty bucket stays shut for a while."""
        if not self.limits.guarded_rate:
            return True
        row = np.frombuffer(to_row(source), np.uint8)
        key = row.view(np.uint64)[1:2] if ":" in source.host else row.view(np.uint32)[1:2].astype(np.uint64)
        slot = int(self._guarded.slots(key)[0])
        if now < self._closed_until[slot]:
            return False
        if self._guarded.take(key, now) is None:
            return True
        self._closed_until[slot] = now + self.limits.guarded_pause
        return False

    def size(self) -> int:
        """Slots of the source table."""
        return len(self._source.tokens)

    def in_use(self, now: float) -> int:
        """Source buckets that are not full."""
        return self._source.in_use(now) if self.limits.source_rate else 0


def _masks(prefixes: Sequence[str], version: int) -> list[tuple[np.uint64, np.uint64]]:
    """Prefixes as (mask, value) over the key: the IPv4 address or the upper half of the IPv6 address, as loaded."""
    found = []
    for text in prefixes:
        network = ipaddress.ip_network(text, strict=False)
        if network.version == version:
            mask, value = network.netmask.packed[:8], network.network_address.packed[:8]
            found.append((np.uint64(int.from_bytes(mask, "little")), np.uint64(int.from_bytes(value, "little"))))
    return found
