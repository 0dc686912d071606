"""What an operator decides once for every session: defaults of learning, time-outs, limits."""

from __future__ import annotations

from dataclasses import dataclass, field

from relay.session import Learning


@dataclass(frozen=True, slots=True)
class TimeOuts:
    """Seconds of silence or age that end a session; 0 switches one off.

    media       nothing from any party that should send
    silent      the same while every party is on hold
    offer       an offer that nobody answers
    final       age, whatever happens
    """

    media: float = 60.0
    silent: float = 3600.0
    offer: float = 240.0
    final: float = 0.0


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """Above these no new session is accepted; 0 switches one off. Running sessions are never touched.

    sockets     media sockets that the process may open
    ports       share of a pool in use, so that re-offers of running calls still find ports
    packets     received packets per second over all sessions
    bytes       received bytes per second
    """

    sessions: int = 0
    sockets: int = 0
    ports: float = 0.95
    packets: float = 0.0
    bytes: float = 0.0


@dataclass(frozen=True, slots=True)
class Policy:
    """The relay's defaults. `strict_source` makes strict the default; a driver can only add it, not clear it."""

    learning: Learning = Learning.HEURISTIC
    strict_source: bool = True
    window: float = 3.0
    continuity: bool = False
    validate: bool = True
    audio_packet_rate: int = 1000
    video_packet_rate: int = 10000
    size_limit: int = 1500
    tos: int | None = None
    delete_delay: float = 0.0
    one_way_grace: float = 10.0
    quality_interval: float = 10.0
    reachable: tuple[str, ...] = ()
    """Private networks, in CIDR form, that relay addresses in public networks reach."""
    time_outs: TimeOuts = field(default_factory=TimeOuts)
    limits: LimitSettings = field(default_factory=LimitSettings)
