"""Looks at every session once per interval: quality of its streams, and whether media flows both ways."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from relay.diagnosis import Cause, condition, directions
from relay.legs import Condition, Leg, Port, Session
from relay.plane import FlowFigures, RtpFigures
from relay.policy import Policy
from relay.quality import StreamQuality, measure
from relay.rules import partner_leg
from relay.session import Carriage
from relay.streams import Streams

_SILENCE = RtpFigures()


@dataclass(frozen=True, slots=True)
class Findings:
    """What is wrong now, over all sessions, as of each one's last survey."""

    conditions: Mapping[Condition, int]
    causes: Mapping[Cause, int]


_REPORT_AGE = 30.0
"""Seconds after which a party's last RTCP report says nothing of now."""


class Readings:
    """Counters of ports, each read once."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._read: dict[int, FlowFigures] = {}

    def of(self, port: Port) -> FlowFigures:
        """Counters of one port at its first reading."""
        found = self._read.get(id(port))
        if found is None:
            found = self._read[id(port)] = self._streams.of(port)
        return found


class Survey:
    """Spreads the work evenly: each call of `look` takes its share of the sessions."""

    def __init__(self, streams: Streams, policy: Policy) -> None:
        self._streams = streams
        self.policy = policy
        self._waiting: list[str] = []
        self._share = 0
        self._begun = -math.inf
        self._causes: dict[str, tuple[Cause, ...]] = {}

    def look(self, sessions: Mapping[str, Session], now: float, span: float) -> list[StreamQuality]:
        """Survey the sessions that are due. `span` is the time in seconds since the last call."""
        if not self._waiting and now - self._begun >= self.policy.quality_interval:
            self._begun = now
            self._waiting = list(sessions)
            self._share = max(1, math.ceil(len(self._waiting) * max(span, 0.001) / self.policy.quality_interval))
        due = self._waiting[-self._share :]
        del self._waiting[-self._share :]
        found: list[StreamQuality] = []
        for call_id in due:
            session = sessions.get(call_id)
            if session is not None:
                found += self._session(session, now)
        return found

    def findings(self, sessions: Mapping[str, Session]) -> Findings:
        """Count conditions and their causes."""
        conditions: Counter[Condition] = Counter()
        causes: Counter[Cause] = Counter()
        for session in sessions.values():
            if session.condition is not None:
                conditions[session.condition] += 1
                causes.update(self._causes.get(session.call_id, ()))
        return Findings(conditions, causes)

    def forget(self, session: Session) -> None:
        """A session has ended."""
        self._causes.pop(session.call_id, None)

    def last_look(self, legs: Iterable[Leg], now: float) -> list[StreamQuality]:
        """Measure what the legs of a session that ends carried since they were surveyed."""
        readings = Readings(self._streams)
        return [quality for leg in legs if (quality := self._leg(leg, readings, now)) is not None]

    def judge(self, session: Session, now: float) -> None:
        """Bring a session's condition, and what causes it, up to date: whoever asks need not wait for the survey."""
        self._judge(session, Readings(self._streams), now)

    def _session(self, session: Session, now: float) -> list[StreamQuality]:
        readings = Readings(self._streams)
        self._judge(session, readings, now)
        return [quality for leg in session.legs() if (quality := self._leg(leg, readings, now)) is not None]

    def _judge(self, session: Session, readings: Readings, now: float) -> None:
        session.condition = condition(session, readings, now, self.policy.one_way_grace)
        if session.condition is None:
            self._causes.pop(session.call_id, None)
        else:
            causes = (direction.cause for direction in directions(session, readings, now))
            self._causes[session.call_id] = tuple(cause for cause in causes if cause is not None)

    def _leg(self, leg: Leg, readings: Readings, now: float) -> StreamQuality | None:
        if leg.ports is None:
            return None
        port = leg.ports.rtp
        figures = readings.of(port)
        before = port.seen.rtp if port.seen is not None else _SILENCE
        port.seen = figures
        if leg.carriage is not Carriage.RTP or figures.rtp.expected == before.expected:
            return None
        partner = partner_leg(leg)
        media = leg.media or (None if partner is None else partner.media)
        codec = None if media is None else media.codecs.get(figures.rtp.payload_type)
        control = figures if leg.mux or leg.ports.rtcp is None else readings.of(leg.ports.rtcp)
        reported = control.reported
        round_trip = reported.round_trip if now - reported.at < _REPORT_AGE else 0.0
        quality = measure(before, figures.rtp, "audio" if media is None else media.media, codec, round_trip)
        if quality is not None:
            leg.quality = leg.quality.with_sample(quality, now)
        return quality
