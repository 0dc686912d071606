"""Offer, answer, delete, query: the relay's sessions and the rules they give to the data plane.

An offer opens the ports of both legs of every stream and returns those that its receiver will use. Ports are taken
before anything is changed, so a refused message leaves a running session as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple

from relay.dialogue import Match, match_answer, match_delete, match_offer
from relay.effects import CloseReason, Effect, SessionClosed, Warned
from relay.interfaces import FAMILY_WORDS, Interfaces
from relay.legs import Party, Session, SessionState
from relay.limits import Limits
from relay.negotiation import Negotiation
from relay.plane import FlowFigures, Plane
from relay.policy import Policy
from relay.ports import NoSocket, Opener
from relay.quality import StreamQuality
from relay.report import SessionReport, report_session
from relay.selection import Selection, set_block
from relay.session import CallKey, PartyMedia, Placement, Refusal, SideOptions
from relay.snapshot import Record, UnreadableRecord, freeze, freeze_learned, thaw
from relay.statistics import Statistics, Totals
from relay.streams import Streams
from relay.survey import Survey
from relay.timeouts import TimeOutWheel, earliest, verdict

Effects = list[Effect]
Parties = list[Party]
Qualities = list[StreamQuality]
Records = list[Record]
Texts = list[str]

QUALITIES = 10_000
"""Last intervals of ended sessions kept until somebody asks for them."""

UNKNOWN = "Unknown call-id"
UNKNOWN_BLOCK = "Unknown call-ID"
UNKNOWN_DELETE = "Call-ID not found or tags didn't match"


class Changes(NamedTuple):
    """What a snapshot has to write: changed sessions, Call-IDs of ended ones, and what ports of others learned."""

    records: Records
    gone: Texts
    learned: Records


class Engine:
    """All sessions of one relay.

    epoch   Unix time at monotonic zero, for reports
    """

    def __init__(
        self,
        interfaces: Interfaces,
        plane: Plane,
        opener: Opener,
        *,
        policy: Policy | None = None,
        epoch: float = 0.0,
        started: float = 0.0,
    ) -> None:
        self.interfaces = interfaces
        self.policy = policy or Policy()
        self.plane = plane
        self.epoch = epoch
        self.sessions: dict[str, Session] = {}
        self.totals = Totals(started=started)
        self.limits = Limits(self.policy.limits)
        self.streams = Streams(interfaces, plane, opener, self.policy)
        self.changed: set[str] = set()
        """Call-IDs of sessions that changed since the snapshot last took them."""
        self._learned: set[int] = set()
        """Flows that learned something since."""
        self.survey = Survey(self.streams, self.policy)
        self._due = TimeOutWheel()
        self._effects: Effects = []
        self._qualities: Qualities = []

    def offer(self, key: CallKey, media: Sequence[PartyMedia], options: SideOptions, now: float) -> list[Placement]:
        """Carry out an offer or re-offer: one placement per stream, for the SDP that its receiver gets."""
        if not key.from_tag:
            raise Refusal("No from-tag in message")
        session = self.sessions.get(key.call_id)
        if session is not None:
            return self._negotiate(session, match_offer(session, key, now), key, media, options, now, answer=False)
        refused = self.limits.refusal(len(self.sessions), self.interfaces.pools)
        if refused is not None:
            self.totals.rejected += 1
            raise Refusal(refused, load_limit=True)
        self.totals.opened += 1
        session = Session(key.call_id, now, shard=self.totals.opened % self.plane.shards)
        try:
            placed = self._negotiate(session, match_offer(session, key, now), key, media, options, now, answer=False)
        except Refusal:
            self.totals.opened -= 1
            self.totals.rejected += 1
            raise
        self.sessions[key.call_id] = session
        self._schedule(session, now)
        self._warn(key.call_id, options)
        return placed

    def _warn(self, call_id: str, options: SideOptions) -> None:
        for word in (options.from_interface, options.to_interface):
            if word is not None and not self.interfaces.named(word) and word not in FAMILY_WORDS:
                text = f"the driver asks for interface {word!r}, which is not configured: the default one is used"
                self._effects.append(Warned(call_id, text))
        if options.media_handover:
            self._effects.append(Warned(call_id, "media handover: any source may take over the caller's media"))

    def answer(self, key: CallKey, media: Sequence[PartyMedia], options: SideOptions, now: float) -> list[Placement]:
        """Carry out an answer: one placement per stream, for the SDP that the offerer gets."""
        if not key.from_tag:
            raise Refusal("No from-tag in message")
        if not key.to_tag:
            raise Refusal("No to-tag in message")
        session = self.sessions.get(key.call_id)
        if session is None:
            raise Refusal(UNKNOWN)
        match = match_answer(session, key, options, now)
        return self._negotiate(session, match, key, media, options, now, answer=True)

    def _negotiate(
        self,
        session: Session,
        match: Match,
        key: CallKey,
        media: Sequence[PartyMedia],
        options: SideOptions,
        now: float,
        *,
        answer: bool,
    ) -> list[Placement]:
        plan = Negotiation(session, match, media, options, self.streams, answer=answer)
        try:
            plan.take_ports(now)
        except NoSocket:
            plan.give_back()
            raise Refusal("Ran out of ports") from None
        except Refusal:
            plan.give_back()
            raise
        match.apply(session, key.via_branch)
        placed = plan.commit(now)
        session.signals += 1
        session.last_signal = now
        if answer and session.state is SessionState.OFFERED:
            session.state = SessionState.ANSWERED
            session.answered_at = now
        self.changed.add(session.call_id)
        if session.call_id in self.sessions:
            self._schedule(session, now)
        return placed

    def delete(
        self,
        key: CallKey,
        *,
        honour_to_tag: bool = False,
        fatal: bool = False,
        delay: float | None = None,
        now: float,
    ) -> SessionReport:
        """End a dialogue, or the whole call; the report covers what went. Refusal when nothing matches.

        `fatal` only matters to the caller: whether the refusal is an error or a warning there.
        """
        session = self.sessions.get(key.call_id)
        gone = None if session is None else match_delete(session, key, honour_to_tag=honour_to_tag)
        if session is None or not gone:
            raise Refusal(UNKNOWN_DELETE)
        asked = (party.options.delete_delay for party in gone) if delay is None else (delay,)
        wait = next((seconds for seconds in asked if seconds is not None), self.policy.delete_delay)
        if wait > 0:
            for party in gone:
                party.going = now + wait
            self.changed.add(session.call_id)
            self._schedule(session, now)
            return report_session(session, gone, self.streams, self.epoch)
        return self._remove(session, gone, CloseReason.DELETED, now)

    def kick(self, call_id: str, now: float) -> SessionReport:
        """End a session because an operator says so. Refusal when it is unknown."""
        session = self.sessions.get(call_id)
        if session is None:
            raise Refusal(UNKNOWN)
        return self._remove(session, list(session.parties), CloseReason.ADMIN, now)

    def block(self, selection: Selection) -> None:
        """Hold the selected media back; it is still received, counted and learned from. Refusal in ng's words."""
        self._set_block(selection, blocked=True)

    def unblock(self, selection: Selection) -> None:
        """Let blocked media pass again. Refusal in ng's words."""
        self._set_block(selection, blocked=False)

    def _set_block(self, selection: Selection, *, blocked: bool) -> None:
        session = self.sessions.get(selection.call_id)
        if session is None:
            raise Refusal(UNKNOWN_BLOCK)
        set_block(session, selection, blocked=blocked)
        self.changed.add(session.call_id)
        for party in session.parties:
            self.streams.refresh(session, party)

    def query(
        self, call_id: str, from_tag: str | None = None, to_tag: str | None = None, *, now: float
    ) -> SessionReport:
        """Describe a session: one party by tag and those it is connected to, or all."""
        session = self.sessions.get(call_id)
        if session is None:
            raise Refusal(UNKNOWN)
        self._take_events()
        tag = to_tag or from_tag
        shown: Iterable[Party] = session.parties
        if tag:
            party = session.by_tag.get(tag)
            shown = () if party is None else dict.fromkeys([party, *session.partners_of(party)])
        return report_session(session, shown, self.streams, self.epoch)

    def list(self, limit: int = 32) -> list[str]:
        """Give up to `limit` Call-IDs. Refusal when it is negative."""
        if limit < 0:
            raise Refusal("invalid limit, must be >= 0")
        return [call_id for call_id, _ in zip(self.sessions, range(limit), strict=False)]

    def statistics(self, now: float, *, traffic: bool = False) -> Statistics:
        """Give the relay's counters; with `traffic` also those of each pool, which looks at every flow."""
        return self.totals.statistics(
            self.sessions.values(),
            self.interfaces,
            now=now,
            sums=self.sums(),
            by_pool=self.streams.by_pool() if traffic else {},
            draining=self.limits.draining,
            packet_rate=self.limits.packet_rate,
            byte_rate=self.limits.byte_rate,
        )

    def received(self) -> dict[str, int]:
        """Count the packets that came to the open flows of each session, by Call-ID."""
        found: dict[str, int] = {}
        flows = list(self.streams.owners)
        for flow, count in zip(flows, self.plane.received(flows), strict=True):
            call_id = self.streams.owners[flow][0].call_id
            found[call_id] = found.get(call_id, 0) + count
        return found

    def sums(self) -> FlowFigures:
        """Add up the counters of every flow since the start."""
        self._take_events()
        return self.streams.sums()

    def handle_timeout(self, now: float) -> Effects:
        """Judge the sessions that are due; return everything the shell should hear of."""
        for session in self._due.take(now):
            self._judge(session, now)
        return self.take_effects()

    def look_at_quality(self, now: float, span: float) -> Qualities:
        """Survey the share of sessions that is due when `span` seconds have passed since the last call.

        The last intervals of sessions that ended since then come with it.
        """
        ended, self._qualities = self._qualities, []
        found = ended + self.survey.look(self.sessions, now, span)
        for quality in found:
            self.totals.quality.add(quality)
        return found

    def next_timeout(self) -> float | None:
        """When `handle_timeout` should be called again."""
        return self._due.next()

    def follow(self, interfaces: Interfaces, policy: Policy, now: float) -> None:
        """Go by other settings: limits and time-outs at once, the rest in new sessions and at the next offer."""
        self.interfaces = self.streams.interfaces = interfaces
        self.policy = self.streams.policy = self.survey.policy = policy
        self.limits.settings = policy.limits
        for session in self.sessions.values():
            self._due.put(session, now)

    def restore(self, records: Iterable[Record], now: float) -> tuple[int, Texts]:
        """Take up sessions that another process left: (how many, reasons why others could not be).

        Their ports are bound again and their learned addresses hold; media flows without signalling.
        """
        restored = 0
        lost: Texts = []
        for record in records:
            try:
                session = thaw(record, self.interfaces, (self.totals.opened + 1) % self.plane.shards, self.epoch)
                self.streams.reopen(session, now)
            except (UnreadableRecord, Refusal, NoSocket) as error:
                lost.append(f"{record.get('call_id')}: {error}")
                continue
            session.resumed = now
            self.sessions[session.call_id] = session
            self.totals.opened += 1
            self.changed.add(session.call_id)
            self._schedule(session, now)
            restored += 1
        return restored, lost

    def take_changes(self, limit: int | None = None, also: Iterable[str] = ()) -> Changes:
        """Take what a snapshot has to write: at most `limit` changed sessions, the others wait, and those of `also`."""
        self._take_events()
        chosen = set(islice(self.changed, limit))
        self.changed -= chosen
        chosen.update(also)
        records: Records = []
        gone: Texts = []
        learned: Records = []
        for flow in self._learned:
            owner = self.streams.owners.get(flow)
            if owner is not None and owner[0].call_id not in chosen and owner[0].call_id not in self.changed:
                news = freeze_learned(*owner, self.streams, self.epoch)
                if news is not None:
                    learned.append(news)
        self._learned.clear()
        for call_id in chosen:
            session = self.sessions.get(call_id)
            if session is None:
                gone.append(call_id)
            else:
                records.append(freeze(session, self.streams, self.epoch))
        return Changes(records, gone, learned)

    def forget_changes(self) -> None:
        """Nobody writes a snapshot: what changed since is of no interest."""
        self.changed.clear()
        self._learned.clear()

    def take_effects(self) -> Effects:
        """Take what happened since the last call."""
        effects, self._effects = self._effects, []
        return effects

    def _judge(self, session: Session, now: float) -> None:
        going = [party for party in session.parties if party.going is not None and party.going <= now]
        if going:
            self._remove(session, going, CloseReason.DELETED, now)
            if session.call_id not in self.sessions:
                return
        found = verdict(session, self.plane, self.policy.time_outs, now)
        if isinstance(found, CloseReason):
            self._remove(session, list(session.parties), found, now)
        else:
            self._due.put(session, found)

    def _schedule(self, session: Session, now: float) -> None:
        self._due.put(session, max(now, earliest(session, self.policy.time_outs)))

    def _remove(self, session: Session, gone: Parties, reason: CloseReason, now: float) -> SessionReport:
        whole = len(gone) >= len(session.parties)
        for party in gone:
            for leg in party.legs:
                self.streams.stop_leg(leg, now)
            measured = self.survey.last_look(party.legs, now)
            if len(self._qualities) < QUALITIES:
                self._qualities += measured
        report = report_session(session, gone, self.streams, self.epoch)
        self.totals.closed_flows(report)
        self.changed.add(session.call_id)
        if whole:
            self._finish(session, reason, now)
        else:
            self._leave(session, gone)
        for party in gone:
            party.untie()
        return report

    def _leave(self, session: Session, gone: Parties) -> None:
        blocked = [(session.parties[a], session.parties[b]) for a, b in session.blocked_flows]
        session.parties = [party for party in session.parties if party not in gone]
        session.by_tag = {tag: party for tag, party in session.by_tag.items() if party not in gone}
        session.blocked_flows = {
            (session.parties.index(a), session.parties.index(b)) for a, b in blocked if a not in gone and b not in gone
        }
        for party in session.parties:
            if party.partner in gone:
                others = [other for other in session.parties if other.partner is party]
                party.partner = others[-1] if others else None
            self.streams.refresh(session, party)

    def _finish(self, session: Session, reason: CloseReason, now: float) -> None:
        del self.sessions[session.call_id]
        self._due.remove(session)
        self.survey.forget(session)
        duration = now - session.created
        ill = None if session.condition is None else session.condition.value
        self.totals.closed_session(reason, duration, ill)
        tags = tuple(party.tag for party in session.parties if party.tag is not None)
        self._effects.append(SessionClosed(session.call_id, tags, reason, duration, ill))

    def _take_events(self) -> None:
        self._learned.update(self.streams.note_events(self.plane.events()))
