"""Latching: learning where a party's packets really come from (RFC 7362), by rank of closeness to signalling.

A `Latch` belongs to one flow. Each arriving datagram walks down `TABLE`; the first row whose condition holds decides
whether it may pass and what is learned. Signalling calls `signal`, which alone opens a learning window.

Why the rows stand as they do:
* An off-path attacker knows the port range, not the SDP. A source is therefore ranked by what it shares with the
  signalled address, and packets never go to a source that ranks below the best one seen.
* An exact match proves as much as can be proven without keys, so it ends learning at once; anything else waits for the
  window to end, in which a better source may still show up.
* Only accepted signalling opens a window. If packets could, every packet would be a new chance for the attacker.
* After a re-INVITE with an unchanged address the party most likely still sends from where it did: the old source keeps
  its place until it has been silent, so a renegotiation is no new race.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from nattrav.net.address import AddressClass, TransportAddress, classify
from nattrav.net.immutable import immutable
from relay.plane import DropReason, FlowEventKind, FlowSettings, Learned, Rank
from relay.session import Learning

EQUAL_RANK_SILENCE = 0.2
"""A kept source must be this long silent before another of its rank may take its place (seconds)."""

HANDOVER_PAUSE = 1.0
"""Least time between two handovers of one flow (seconds)."""

CONTINUITY_SILENCE = 1.0
CONTINUITY_PAUSE = 5.0


@immutable
class Arrival:
    """One datagram as far as learning is concerned.

    fault       why it is not what this flow carries, None when it is
    teaches     its header is good enough to learn from
    rtcp_aside  RTCP that came to an RTP or shared port
    continues   it carries on the RTP stream that was last accepted: same SSRC, close sequence, old source silent
    """

    source: TransportAddress
    fault: DropReason | None = None
    teaches: bool = True
    rtcp_aside: bool = False
    continues: bool = False


class Verdict(NamedTuple):
    """Whether a datagram passes, by which row, and what was learned by it."""

    row: int
    reason: DropReason | None = None
    event: FlowEventKind | None = None

    @property
    def passes(self) -> bool:
        """The source rules let the datagram through."""
        return self.reason is None


@dataclass(slots=True)
class _Kept:
    """A source that was latched before the last signalling, holding its place in the new window."""

    source: TransportAddress
    rank: Rank


def rank_of(
    source: TransportAddress,
    advertised: TransportAddress,
    signalling_host: str | None = None,
    companion_host: str | None = None,
) -> Rank:
    """Rank a source by what it shares with signalling. `companion_host` is the latched host of the RTP flow."""
    if source == advertised:
        return Rank.EXACT
    if source.host == advertised.host or source.host == companion_host:
        return Rank.SAME_HOST
    if source.host == signalling_host:
        return Rank.SIGNALLING_HOST
    if source.port == advertised.port:
        return Rank.SAME_PORT
    return Rank.NEITHER


def usable(address: TransportAddress | None) -> bool:
    """Tell whether an SDP address names a place at all; `0.0.0.0` (old hold, trickle ICE) and port 0 do not."""
    return address is not None and address.port != 0 and classify(address.host) is not AddressClass.UNSPECIFIED


class Latch:
    """What one flow knows of its party's address, and how it came to know it."""

    __slots__ = (
        "_changed_at",
        "_kept",
        "_mode",
        "_place",
        "_slots",
        "companion_host",
        "heard",
        "latched",
        "rank",
        "settings",
        "since",
        "source",
        "target",
        "window_end",
        "window_start",
    )

    def __init__(self, settings: FlowSettings, now: float, learned: Learned | None = None) -> None:
        self.settings = settings
        self.source: TransportAddress | None = None
        self._place: TransportAddress | None = settings.advertised if usable(settings.advertised) else None
        """The last SDP address that named a place: a hold with a null address does not open the leg to everybody."""
        self.target = self._place
        self.rank: Rank | None = None
        self.latched = False
        self.heard = False
        """A packet of this party was accepted since the flow was opened."""
        self.since = now
        self.window_start = now
        self.window_end = now + settings.window
        self.companion_host: str | None = None
        self._slots: dict[Rank, TransportAddress] = {}
        self._kept: _Kept | None = None
        self._changed_at = float("-inf")
        self._mode = settings.learning
        self._choose_mode()
        if learned is not None and learned.source is not None and learned.latched:
            rank = Rank.NEITHER if learned.rank is None else learned.rank
            self._latch(learned.source, rank, learned.since)
            self.heard = True
        if learned is not None and learned.target is not None and not settings.asymmetric:
            self.target = learned.target

    @property
    def learned(self) -> Learned:
        """The state as others may see and store it."""
        return Learned(self.target, self.source, self.latched, self.rank, self.since)

    @property
    def known(self) -> TransportAddress | None:
        """The source whose packets pass and teach nothing until `known_until`: they need no thought."""
        if self.latched:
            return self.source
        if self._kept is None and not self.unsignalled and self._mode is not Learning.OFF:
            return self.source
        return None

    @property
    def known_until(self) -> float | None:
        """When `known` wants thought again because the window ends; None = not by time."""
        return None if self.latched or self.source is None else self.window_end

    @property
    def open_to_all(self) -> bool:
        """Any source passes without teaching (rows 3 and 10): no address signalled yet, or latched and not strict."""
        if self.unsignalled:
            return True
        return self.latched and not (self.settings.strict or self.settings.handover or self.settings.continuity)

    @property
    def unsignalled(self) -> bool:
        """No SDP of the party has come yet."""
        return self.settings.advertised is None and self._place is None

    def set(self, settings: FlowSettings) -> None:
        """Take new rules that are no new signalling of this party; the mode takes effect at once."""
        address_changed = usable(settings.advertised) and settings.advertised != self._place
        mode_changed = settings.learning is not self.settings.learning
        self.settings = settings
        if address_changed:
            self._readdress()
        if mode_changed or address_changed:
            self._choose_mode()
        self._aim()

    def signal(self, settings: FlowSettings, now: float) -> None:
        """Accepted signalling: un-latch, clear the slots, open a new window; keep what is still worth keeping."""
        # A hold with a null address names no new place: what was learned waits for the resume.
        unchanged = settings.advertised == self._place or not usable(settings.advertised)
        best, rank = self.source, self.rank
        proven = self.latched or self._kept is not None
        self.settings = settings
        self.latched = False
        self._slots.clear()
        self._kept = None
        self.window_start = now
        self.window_end = now + settings.window
        if not unchanged:
            self._readdress()
        elif proven and best is not None and rank is not None:
            self._kept = _Kept(best, rank)
            self._slots[rank] = best
        else:
            self.source = self.rank = None
        self._choose_mode()
        self._aim()

    def receive(self, arrival: Arrival, now: float) -> Verdict:
        """Walk one datagram down the table."""
        for row in TABLE:
            if row.holds(self, arrival, now):
                verdict = row.decide(self, arrival, now)
                if verdict.passes:
                    self.heard = True
                return verdict
        raise AssertionError("the last row holds for every datagram")

    def rank_of(self, source: TransportAddress) -> Rank:
        """Rank a source against what signalling said of this flow."""
        if self._place is None:
            return Rank.NEITHER
        return rank_of(source, self._place, self.settings.signalling_host, self.companion_host)

    def _choose_mode(self) -> None:
        self._mode = self.settings.learning
        if self._mode is Learning.HEURISTIC and self._place is None:
            self._mode = Learning.DELAYED
        if self._mode is Learning.OFF and self._place is not None:
            self.source, self.rank, self.latched, self._kept = self._place, Rank.EXACT, True, None
            self.target = self._place

    def _readdress(self) -> None:
        """The party's SDP names a new place: what was learned about the old one is void."""
        self.target = self._place = self.settings.advertised
        self.source = self.rank = None
        self.latched = False
        self._slots.clear()

    def _aim(self) -> None:
        if self.settings.asymmetric and self._place is not None:
            self.target = self._place

    def _follow(self, source: TransportAddress, rank: Rank, now: float) -> bool:
        """Make `source` the best one seen; True when that is news."""
        news = source != self.source
        self.source, self.rank = source, rank
        if not self.settings.asymmetric:
            self.target = source
        if news:
            self.since = now
        self._kept = None
        return news

    def _latch(self, source: TransportAddress, rank: Rank, now: float) -> None:
        self._follow(source, rank, now)
        self.latched = True
        self.since = now
        self._slots.clear()

    def _best_slot(self) -> Rank | None:
        return min(self._slots, default=None)


def _pass(row: int) -> Callable[[Latch, Arrival, float], Verdict]:
    return lambda latch, arrival, now: Verdict(row)


def _drop(row: int, reason: DropReason) -> Callable[[Latch, Arrival, float], Verdict]:
    event = FlowEventKind.REJECTED if reason is DropReason.SOURCE_MISMATCH else None
    return lambda latch, arrival, now: Verdict(row, reason, event)


def _invalid(latch: Latch, arrival: Arrival, now: float) -> Verdict:
    return Verdict(1, arrival.fault)


def _hand_over(latch: Latch, arrival: Arrival, now: float) -> Verdict:
    pause = HANDOVER_PAUSE if latch.settings.handover else CONTINUITY_PAUSE
    if now - latch._changed_at < pause:
        return Verdict(8, DropReason.SOURCE_MISMATCH if latch.settings.strict else None)
    latch._changed_at = now
    latch._latch(arrival.source, latch.rank_of(arrival.source), now)
    return Verdict(8, None, FlowEventKind.RELEARNED)


def _latch_now(row: int) -> Callable[[Latch, Arrival, float], Verdict]:
    def decide(latch: Latch, arrival: Arrival, now: float) -> Verdict:
        latch._latch(arrival.source, latch.rank_of(arrival.source), now)
        return Verdict(row, None, FlowEventKind.LATCHED)

    return decide


def _worse(latch: Latch, arrival: Arrival, now: float) -> Verdict:
    if latch.settings.strict:
        return Verdict(13, DropReason.WORSE_CANDIDATE, FlowEventKind.REJECTED)
    latch._slots[latch.rank_of(arrival.source)] = arrival.source
    best = latch._best_slot()
    if now >= latch.window_end and best is not None:
        latch._latch(latch._slots[best], best, now)
        return Verdict(13, None, FlowEventKind.LATCHED)
    return Verdict(13)


def _best(latch: Latch, arrival: Arrival, now: float) -> Verdict:
    rank = latch.rank_of(arrival.source)
    if now >= latch.window_end:
        latch._latch(arrival.source, rank, now)
        return Verdict(14, None, FlowEventKind.LATCHED)
    latch._slots[rank] = arrival.source
    return Verdict(14, None, FlowEventKind.LEARNED if latch._follow(arrival.source, rank, now) else None)


def _newest(latch: Latch, arrival: Arrival, now: float) -> Verdict:
    news = latch._follow(arrival.source, latch.rank_of(arrival.source), now)
    return Verdict(15, None, FlowEventKind.LEARNED if news else None)


def _better_filled(latch: Latch, arrival: Arrival, now: float) -> bool:
    """A better slot is filled, or the kept source of this or a better rank has not been silent long enough."""
    rank = latch.rank_of(arrival.source)
    kept = latch._kept
    if kept is not None:
        if rank == kept.rank:
            return now - latch.window_start < EQUAL_RANK_SILENCE
        if rank > kept.rank:
            if now < latch.window_end:
                return True
            # Silent through the whole window: its place is free again.
            latch._slots.pop(kept.rank, None)
            latch._kept = None
    best = latch._best_slot()
    if latch.companion_host is not None and rank > Rank.SAME_HOST:
        # The party's RTP is latched: RTCP from a host that signalling does not name is worse than none.
        return True
    return best is not None and best < rank


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the decision table: the first one that holds decides."""

    number: int
    condition: str
    holds: Callable[[Latch, Arrival, float], bool]
    decide: Callable[[Latch, Arrival, float], Verdict]


TABLE: tuple[Row, ...] = (
    Row(1, "not what this flow carries", lambda it, a, now: a.fault is not None, _invalid),
    Row(
        2,
        "our address was not handed out to the party yet",
        lambda it, a, now: not it.settings.public,
        _drop(2, DropReason.NOT_ANSWERED),
    ),
    Row(3, "no SDP of the party yet: early media", lambda it, a, now: it.unsignalled, _pass(3)),
    Row(
        4,
        "not latched, and nothing to learn from: RTCP on the RTP port, unknown payload type, DTLS",
        lambda it, a, now: not it.latched and (a.rtcp_aside or not a.teaches),
        _pass(4),
    ),
    # With a usable SDP address a latch in mode off is born latched on it; without one there is nothing to learn.
    Row(5, "learning is off", lambda it, a, now: it._mode is Learning.OFF and not it.latched, _pass(5)),
    Row(
        6,
        "not the local address the party was last given",
        lambda it, a, now: not it.settings.selected,
        _drop(6, DropReason.WRONG_LOCAL),
    ),
    Row(
        7,
        "latched, from the latched source",
        lambda it, a, now: it.latched and a.source == it.source,
        _pass(7),
    ),
    Row(
        8,
        "latched, another source, which may take over",
        lambda it, a, now: it.latched and a.teaches and (it.settings.handover or a.continues),
        _hand_over,
    ),
    Row(
        9,
        "latched, another source, strict",
        lambda it, a, now: it.latched and it.settings.strict,
        _drop(9, DropReason.SOURCE_MISMATCH),
    ),
    Row(10, "latched, another source", lambda it, a, now: it.latched, _pass(10)),
    Row(11, "immediate", lambda it, a, now: it._mode is Learning.IMMEDIATE, _latch_now(11)),
    Row(
        12,
        "heuristic, the exact address, or the source that was latched before the last signalling",
        lambda it, a, now: (
            it._mode is Learning.HEURISTIC
            and (a.source == it._place or (it._kept is not None and a.source == it._kept.source))
        ),
        _latch_now(12),
    ),
    Row(
        13,
        "heuristic, a better source has been seen",
        lambda it, a, now: it._mode is Learning.HEURISTIC and _better_filled(it, a, now),
        _worse,
    ),
    Row(14, "heuristic, the best so far", lambda it, a, now: it._mode is Learning.HEURISTIC, _best),
    Row(15, "delayed, inside the window", lambda it, a, now: now < it.window_end, _newest),
    Row(16, "delayed, window over", lambda it, a, now: True, _latch_now(16)),
)
"""Rows 1 to 16, top down."""
