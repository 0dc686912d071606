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
    """Token buckets in fixed tables of 65536 slots, one table a level; a datagram takes a token on every level."""

    def __init__(self, levels: Sequence[tuple[float, float]], multiplier: int) -> None:
        """`levels`: (rate, burst) each; `multiplier` keys the hash: a random odd 64-bit number."""
        self.set(levels)
        self._multiplier = np.uint64(multiplier | 1)
        self._starts = (np.arange(len(levels)) << _TABLE_BITS)[:, None]
        self.tokens: NDArray[np.float64] = np.repeat(self.bursts.ravel(), 1 << _TABLE_BITS)
        self.stamp: NDArray[np.float64] = np.zeros(len(levels) << _TABLE_BITS)

    def set(self, levels: Sequence[tuple[float, float]]) -> None:
        """Fill by these rates up to these bursts from now on."""
        self.rates: NDArray[np.float64] = np.array([[rate] for rate, _ in levels], np.float64)
        self.bursts: NDArray[np.float64] = np.array([[burst] for _, burst in levels], np.float64)

    def slots(self, keys: Keys) -> NDArray[np.intp]:
        """Hash prefixes (level, n) to slots of the level's table."""
        hashed = ((keys * self._multiplier) >> np.uint64(64 - _TABLE_BITS)).astype(np.intp)
        hashed += self._starts
        return hashed

    def take(self, keys: Keys, now: float) -> Mask | None:
        """Take a token per level for each key column, in order. None when all were granted, else who was."""
        slots = self.slots(keys)
        available = self.tokens[slots]
        available += (now - self.stamp[slots]) * self.rates
        np.minimum(available, self.bursts, out=available)
        self.tokens[slots] = available
        self.stamp[slots] = now
        if available.min() >= slots.shape[1]:
            np.subtract.at(self.tokens, slots, 1.0)
            return None
        granted = np.ones(slots.shape[1], np.bool_)
        for level in range(len(slots)):
            _grant_in_order(slots[level], available[level], granted)
            np.subtract.at(self.tokens, slots[level][granted], 1.0)
        return None if granted.all() else granted

    def in_use(self, now: float) -> int:
        """How many buckets of the first level are not full."""
        first = slice(0, 1 << _TABLE_BITS)
        filled = self.tokens[first] + (now - self.stamp[first]) * self.rates[0]
        return int(np.count_nonzero(filled < self.bursts[0]))


def _grant_in_order(slots: NDArray[np.intp], available: NDArray[np.float64], granted: Mask) -> None:
    """Clear `granted` where a slot's tokens are spent: its k-th candidate needs k tokens."""
    rows = np.flatnonzero(granted)
    order = rows[np.argsort(slots[rows], kind="stable")]
    if not len(order):
        return
    ordered = slots[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    rank = np.arange(len(ordered)) - np.repeat(starts, np.diff(np.append(starts, len(ordered))))
    granted[order] = rank + 1 <= available[order]


def _levels(limits: Limits) -> list[tuple[float, float]]:
    unlimited = (1e12, 1e12)
    return [
        (limits.source_rate, limits.source_burst) if limits.source_rate else unlimited,
        (limits.network_rate, limits.network_burst) if limits.network_rate else unlimited,
    ]


class Admission:
    """All limits of one server; data threads share it under the server's lock."""

    def __init__(self, limits: Limits, multipliers: Sequence[int]) -> None:
        """`multipliers`: two random odd 64-bit numbers."""
        self._buckets = Buckets(_levels(limits), multipliers[0])
        self._guarded = Buckets([(limits.guarded_rate, limits.guarded_burst)], multipliers[1])
        self._closed_until: NDArray[np.float64] = np.zeros(1 << _TABLE_BITS)
        self._total_stamp = 0.0
        self.follow(limits)

    def follow(self, limits: Limits) -> None:
        """Go by these limits; what sources have used up stays used up."""
        self.limits = limits
        self._buckets.set(_levels(limits))
        self._guarded.set([(limits.guarded_rate, limits.guarded_burst)])
        self._total = limits.total_rate
        self._exempt = {4: _masks(limits.exempt, 4), 6: _masks(limits.exempt, 6)}

    @property
    def limits_sources(self) -> bool:
        """False when nothing but the guarded bucket can refuse."""
        return bool(self.limits.source_rate or self.limits.network_rate or self.limits.total_rate)

    def admit(self, peers: NDArray[np.uint8], ipv6: bool, now: float) -> Mask | None:
        """Decide on the senders of one batch: socket address rows (n, 32). None when all are admitted."""
        if not self.limits_sources or not len(peers):
            return None
        keys = _keys(peers, ipv6)
        prefixes = np.empty((2, len(keys)), np.uint64)
        prefixes[0] = keys
        np.bitwise_and(keys, _NETWORK_IPV6 if ipv6 else _NETWORK_IPV4, out=prefixes[1])
        granted = self._take(prefixes, self._exempted(keys, ipv6), now)
        if self.limits.total_rate:
            granted = np.ones(len(peers), np.bool_) if granted is None else granted
            self._under_ceiling(granted, now)
        return granted

    def exempted(self, peers: NDArray[np.uint8], ipv6: bool) -> Mask | None:
        """Which senders of a batch the limits leave alone; None when there are none."""
        return self._exempted(_keys(peers, ipv6), ipv6)

    def _take(self, keys: Keys, exempted: Mask | None, now: float) -> Mask | None:
        if exempted is None:
            return self._buckets.take(keys, now)
        subject = np.flatnonzero(~exempted)
        taken = self._buckets.take(keys[:, subject], now) if len(subject) else None
        if taken is None:
            return None
        exempted[subject] = taken
        return exempted

    def _exempted(self, keys: Keys, ipv6: bool) -> Mask | None:
        """Which senders the limits leave alone; None when there are none."""
        found: Mask | None = None
        for mask, prefix in self._exempt[6 if ipv6 else 4]:
            same = (keys & mask) == prefix
            if same.any():
                found = same if found is None else found | same
        return found

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
        key = key.reshape(1, 1)
        slot = int(self._guarded.slots(key)[0, 0])
        if now < self._closed_until[slot]:
            return False
        if self._guarded.take(key, now) is None:
            return True
        self._closed_until[slot] = now + self.limits.guarded_pause
        return False

    def size(self) -> int:
        """Slots of the source table."""
        return 1 << _TABLE_BITS

    def in_use(self, now: float) -> int:
        """Source buckets that are not full."""
        return self._buckets.in_use(now) if self.limits.source_rate else 0


def _keys(peers: NDArray[np.uint8], ipv6: bool) -> Keys:
    """The IPv4 address or the upper half of the IPv6 address, as loaded, of socket address rows (n, 32)."""
    if ipv6:
        return peers.view(np.uint64)[:, 1]
    return peers.view(np.uint32)[:, 1].astype(np.uint64)


def _masks(prefixes: Sequence[str], version: int) -> list[tuple[np.uint64, np.uint64]]:
    """Prefixes as (mask, value) over the key: the IPv4 address or the upper half of the IPv6 address, as loaded."""
    found = []
    for text in prefixes:
        network = ipaddress.ip_network(text, strict=False)
        if network.version == version:
            mask, value = network.netmask.packed[:8], network.network_address.packed[:8]
            found.append((np.uint64(int.from_bytes(mask, "little")), np.uint64(int.from_bytes(value, "little"))))
    return found
