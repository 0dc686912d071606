"""When a session has been silent, unanswered or alive for too long."""

from __future__ import annotations

import math

from relay.effects import CloseReason
from relay.legs import NOT_OPEN, Leg, Session, SessionState
from relay.plane import Plane
from relay.policy import TimeOuts
from relay.rules import may_send, partner_leg

NEVER = math.inf


class TimeOutWheel:
    """Sessions by the second in which they are to be judged; moving and removing cost nothing that grows."""

    def __init__(self) -> None:
        self._slots: dict[int, dict[str, Session]] = {}

    def put(self, session: Session, due: float) -> None:
        """Judge a session at `due`, instead of when it was due before."""
        second = math.ceil(due) if due != NEVER else None
        if second == session.due:
            return
        self.remove(session)
        if second is not None:
            self._slots.setdefault(second, {})[session.call_id] = session
            session.due = second

    def remove(self, session: Session) -> None:
        """Forget a session."""
        if session.due is None:
            return
        slot = self._slots[session.due]
        del slot[session.call_id]
        if not slot:
            del self._slots[session.due]
        session.due = None

    def take(self, now: float) -> list[Session]:
        """Take out the sessions that are due."""
        found: list[Session] = []
        for second in sorted(second for second in self._slots if second <= now):
            found.extend(self._slots.pop(second).values())
        for session in found:
            session.due = None
        return found

    def next(self) -> float | None:
        """The earliest second with a session in it."""
        return min(self._slots, default=None)


def _listening(legs: list[Leg]) -> tuple[list[int], list[int]]:
    """Flows whose party should be sending, and flows of parties on hold."""
    expected: list[int] = []
    held: list[int] = []
    for leg in legs:
        if leg.ports is None:
            continue
        sends = may_send(leg, partner_leg(leg))
        for ports in leg.sets():
            (expected if sends else held).extend(port.flow for port in ports.ports() if port.flow != NOT_OPEN)
    return expected, held


def earliest(session: Session, limits: TimeOuts) -> float:
    """When a session that was just signalled has to be judged at the soonest."""
    due = NEVER
    for party in session.parties:
        if party.going is not None:
            due = min(due, party.going)
    if limits.final:
        due = min(due, session.created + limits.final)
    if session.state is SessionState.OFFERED:
        limit = limits.offer or NEVER
    else:
        limit = min(limits.media or NEVER, limits.silent or NEVER)
    return min(due, session.last_signal + limit)


def verdict(session: Session, plane: Plane, limits: TimeOuts, now: float) -> CloseReason | float:
    """Judge a session: why it ends now, or when it has to be judged again.

    A session lives while any party that should send is heard, RTCP included; parties on hold count only when no
    other is expected. Every offer and answer counts as a packet.
    """
    due = min((party.going for party in session.parties if party.going is not None), default=NEVER)
    if limits.final:
        end = session.created + limits.final
        if end <= now:
            return CloseReason.FINAL_TIMEOUT
        due = min(due, end)
    if session.state is SessionState.OFFERED:
        if limits.offer:
            end = session.last_signal + limits.offer
            if end <= now:
                return CloseReason.OFFER_TIMEOUT
            due = min(due, end)
        return due
    expected, held = _listening(session.legs())
    limit = limits.media if expected else limits.silent
    if limit:
        end = max(plane.last_accepted(expected or held), session.last_signal, session.resumed) + limit
        if end <= now:
            return CloseReason.TIMEOUT if expected else CloseReason.SILENT_TIMEOUT
        due = min(due, end)
    return due
