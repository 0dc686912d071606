"""The relay's counters: what happened since it started, and what is going on now."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from relay.effects import CloseReason
from relay.interfaces import Interfaces
from relay.legs import Session, SessionState
from relay.plane import FlowFigures, RtpFigures
from relay.ports import PortPool
from relay.quality import StreamQuality
from relay.report import SessionReport


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """One port pool."""

    interface: str
    address: str
    low: int
    high: int
    total: int
    used: int
    free: int
    quarantined: int
    aside: int
    allocated: int
    exhausted: int
    bind_errors: int
    packets_in: int = 0
    bytes_in: int = 0
    packets_out: int = 0
    bytes_out: int = 0
    errors: int = 0


@dataclass(slots=True)
class Spread:
    """Values seen so far: how many, their sum and the sum of their squares."""

    samples: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, value: float) -> None:
        """Take in one value."""
        self.samples += 1
        self.total += value
        self.squares += value * value

    @property
    def average(self) -> float:
        """Mean; 0 without values."""
        return self.total / self.samples if self.samples else 0.0

    @property
    def deviation(self) -> float:
        """Standard deviation; 0 without values."""
        if not self.samples:
            return 0.0
        return math.sqrt(max(0.0, self.squares / self.samples - self.average**2))


@dataclass(slots=True)
class QualitySums:
    """Every stream's intervals taken together: MOS, jitter and round trip in seconds, loss from 0 to 1."""

    mos: Spread = field(default_factory=Spread)
    jitter: Spread = field(default_factory=Spread)
    round_trip: Spread = field(default_factory=Spread)
    loss: Spread = field(default_factory=Spread)

    def add(self, quality: StreamQuality) -> None:
        """Take in one stream's interval."""
        if quality.mos is not None:
            self.mos.add(quality.mos)
        self.jitter.add(quality.jitter)
        self.loss.add(quality.loss)
        if quality.round_trip:
            self.round_trip.add(quality.round_trip)


@dataclass(frozen=True, slots=True)
class Statistics:
    """A reading of every counter. Durations in seconds; rates are of received packets and bytes per second."""

    uptime: float
    sessions: int
    offered: int
    answered: int
    draining: bool
    opened: int
    rejected: int
    closed: dict[CloseReason, int]
    closed_one_way: int
    closed_no_media: int
    packets: int
    bytes: int
    errors: int
    zero_way_streams: int
    average_duration: float
    duration_total: float
    packet_rate: float
    byte_rate: float
    pools: tuple[PoolStatistics, ...]
    quality: QualitySums
    rtp: RtpFigures


_NO_TRAFFIC = FlowFigures()


@dataclass(slots=True)
class Totals:
    """Counters of sessions."""

    started: float
    opened: int = 0
    rejected: int = 0
    closed: Counter[CloseReason] = field(default_factory=Counter)
    conditions: Counter[str] = field(default_factory=Counter)
    duration: float = 0.0
    silent_streams: int = 0
    quality: QualitySums = field(default_factory=QualitySums)

    def closed_session(self, reason: CloseReason, duration: float, condition: str | None) -> None:
        """Count a session that ended."""
        self.closed[reason] += 1
        self.duration += duration
        if condition is not None:
            self.conditions[condition] += 1

    def closed_flows(self, report: SessionReport) -> None:
        """Count streams that ended without having heard anything."""
        for component in report.components():
            if not component.rtcp and not component.figures.packets_in:
                self.silent_streams += 1

    def statistics(
        self,
        sessions: Iterable[Session],
        interfaces: Interfaces,
        *,
        now: float,
        sums: FlowFigures,
        by_pool: Mapping[PortPool, FlowFigures],
        draining: bool,
        packet_rate: float,
        byte_rate: float,
    ) -> Statistics:
        """Read every counter."""
        states = Counter(session.state for session in sessions)
        ended = sum(self.closed.values())
        names = {address.pool: address.interface for address in reversed(interfaces.addresses)}
        return Statistics(
            uptime=now - self.started,
            sessions=sum(states.values()),
            offered=states[SessionState.OFFERED],
            answered=states[SessionState.ANSWERED],
            draining=draining,
            opened=self.opened,
            rejected=self.rejected,
            closed=dict(self.closed),
            closed_one_way=self.conditions["one_way"],
            closed_no_media=self.conditions["no_media"],
            packets=sums.packets_in,
            bytes=sums.bytes_in,
            errors=sum(sums.drops.values()),
            zero_way_streams=self.silent_streams,
            average_duration=self.duration / ended if ended else 0.0,
            duration_total=self.duration,
            packet_rate=packet_rate,
            byte_rate=byte_rate,
            pools=tuple(
                PoolStatistics(
                    interface=names[pool],
                    address=pool.host,
                    low=pool.low,
                    high=pool.high,
                    total=pool.total,
                    used=pool.used,
                    free=pool.free,
                    quarantined=pool.quarantined,
                    aside=pool.aside,
                    allocated=pool.allocated,
                    exhausted=pool.exhausted,
                    bind_errors=pool.bind_errors,
                    packets_in=traffic.packets_in,
                    bytes_in=traffic.bytes_in,
                    packets_out=traffic.packets_out,
                    bytes_out=traffic.bytes_out,
                    errors=sum(traffic.drops.values()),
                )
                for pool in interfaces.pools
                for traffic in (by_pool.get(pool, _NO_TRAFFIC),)
            ),
            quality=self.quality,
            rtp=sums.rtp,
        )
