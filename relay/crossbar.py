"""Keeps the flow table in step with rules and latches: whom each flow expects, and where each route leads.

Everything that happens per call or per learned address happens here, in plain Python; `steer` then needs only the
columns. One crossbar belongs to one data thread.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping

from nattrav.net.address import SOCKADDR_IN, SOCKADDR_IN6, AddressClass, TransportAddress, classify
from relay.crossing import Exit, Flow, Pierce
from relay.flows import CODE, Flag, FlowTable
from relay.latching import CONTINUITY_SILENCE, Arrival, Latch, Verdict
from relay.plane import Content, DropReason, FlowEvent, FlowEventKind, FlowSettings, Learned, ReportFigures
from relay.rtcp import reports
from relay.rtp import DEFAULT_CLOCK_RATE, HEADER, STATIC_CLOCK_RATES, Kind, MalformedMessage

EVENTS_MAX = 4096
HOPS_MAX = 8
PIERCE_EVERY = 1.0

_NEVER = frozenset({AddressClass.UNSPECIFIED, AddressClass.MULTICAST, AddressClass.BROADCAST, AddressClass.LINK_LOCAL})

_VALID = {
    # RTCP on the RTP port of a leg without mux is passed on and teaches nothing.
    Content.RTP: int(Kind.RTP | Kind.RTCP),
    Content.RTCP: int(Kind.RTCP),
    Content.MUX: int(Kind.RTP | Kind.RTCP),
    Content.DATAGRAM: int(Kind.ANY),
}

# Plain integers: the operators of flag enumerations cost more than all else in here.
_RTCP, _MEDIA = int(Kind.RTCP), int(Kind.ANY & ~Kind.RTCP)
_OPEN, _PUBLIC, _SELECTED = int(Flag.OPEN), int(Flag.PUBLIC), int(Flag.SELECTED)
_OPEN_TO_ALL, _GUARDED = int(Flag.OPEN_TO_ALL), int(Flag.GUARDED)
_NO_PEER = CODE[DropReason.NO_PEER]
_LIMITED, _REPORTED, _EXIT = int(Flag.LIMITED), int(Flag.REPORTED), int(Flag.EXIT)


class Crossbar:
    """The flows of one data thread.

    `slot_of` gives the slot of a flow number of this thread (None for another's or none). `locals` maps local
    addresses of all threads to the crossbar and slot that own them, to see loops.
    """

    def __init__(
        self,
        table: FlowTable,
        *,
        shard: int = 0,
        shards: int = 1,
        locals_: dict[TransportAddress, tuple[Crossbar, int]] | None = None,
    ) -> None:
        self.table = table
        self.flows: dict[int, Flow] = {}
        self.events: deque[FlowEvent] = deque(maxlen=EVENTS_MAX)
        self._shard = shard
        self._shards = shards
        self._locals: dict[TransportAddress, tuple[Crossbar, int]] = {} if locals_ is None else locals_
        self._windows: list[tuple[float, int, int]] = []
        self._piercing: list[tuple[float, int, int]] = []
        self._pierced: set[int] = set()
        self._serial = 0
        self._gathering = False
        self._waiting: dict[int, bool] = {}
        """Slots whose columns are to be written when gathering ends, and whether the latch changed as well."""
        self.stale: list[int] = []
        """Slots whose exit has lost its use, to be taken from here."""
        self.touched: set[int] | None = None
        """Slots whose columns were written anew, for whoever puts a set here and empties it."""

    @property
    def locals(self) -> Mapping[TransportAddress, tuple[Crossbar, int]]:
        """Local addresses of all flows of all threads."""
        return self._locals

    def slot_of(self, number: int | None) -> int | None:
        """Give the slot of a flow number, if the flow is open here."""
        if number is None or number % self._shards != self._shard:
            return None
        slot = number // self._shards
        return slot if slot in self.flows else None

    def gather(self) -> None:
        """Write no columns until `scatter`: what several changes in a row touch is written once."""
        self._gathering = True

    def scatter(self, now: float) -> None:
        """Write what changed since `gather`; until then no packet may be steered."""
        self._gathering = False
        while self._waiting:
            slot, learned = self._waiting.popitem()
            flow = self.flows.get(slot)
            if flow is not None:
                self._refresh(flow, now if learned else None)

    def open(
        self,
        slot: int,
        local: TransportAddress,
        settings: FlowSettings,
        file: int,
        now: float,
        learned: Learned | None = None,
    ) -> None:
        """Begin a flow in a reserved row. `file` is what the shell's sends name the socket by.

        Ways out name flows that are open already: two flows that feed each other are opened first, then `set`.
        """
        table = self.table
        table.cells.file[slot] = file
        if ":" in local.host:
            table.six[slot] = 0xFFFFFFFFFFFFFFFF
            table.wide += 1
        flow = Flow(slot * self._shards + self._shard, slot, local, settings, Latch(settings, now, learned))
        self.flows[slot] = flow
        self._locals[local] = (self, slot)
        self._apply(flow, now)

    def set(self, slot: int, settings: FlowSettings, now: float, *, relearn: bool) -> None:
        """Change a flow's rules; `relearn` opens a new learning window."""
        flow = self.flows[slot]
        self._untie(flow)
        flow.settings = settings
        flow.severed.clear()
        if relearn:
            flow.latch.signal(settings, now)
        else:
            flow.latch.set(settings)
        self._apply(flow, now)

    def close(self, slot: int) -> None:
        """End a flow: nothing passes in, and nothing leaves by it any more."""
        flow = self.flows.pop(slot)
        if flow.exit is not None:
            self.stale.append(slot)
        self._untie(flow)
        if self.touched is not None:
            self.touched.add(slot)
        cells = self.table.cells
        cells.flags[slot] = cells.valid[slot] = cells.accept[slot] = 0
        self.table.expect(slot, None)
        if ":" in flow.local.host:
            self.table.wide -= 1
        if self._locals.get(flow.local, (None, 0)) == (self, slot):
            del self._locals[flow.local]
        for feeder in flow.feeders:
            other = self.flows.get(feeder)
            if other is not None:
                # The row may soon be another flow's, which is none of this one's business.
                other.severed.append(slot)
                other.connected.clear()
                self._renew(other)
        for follower in flow.followers:
            if follower in self.flows:
                self.flows[follower].latch.companion_host = None

    def wants_exit(self, slot: int) -> TransportAddress | None:
        """Give the party that an exit would be for: one that has latched, and that packets come from and go to."""
        flow = self.flows.get(slot)
        if flow is None or flow.exit is not None or not flow.sendable or not flow.learned.latched:
            return None
        peer = flow.latch.target
        settled = peer is not None and peer == flow.learned.source == flow.aimed and peer != flow.exit_failed
        return peer if settled else None

    def adopt(self, slot: int, exit_: Exit) -> None:
        """Let packets leave by a flow's exit, or by another one than before, as long as they go to its party."""
        flow = self.flows[slot]
        flow.exit = exit_
        self.table.flags[slot] |= _EXIT
        self._reconnect(flow)

    def disown(self, slot: int, *, failed: bool = False) -> None:
        """Let packets leave by the flow's own socket again; after a failure there is no other exit for that party."""
        flow = self.flows.get(slot)
        if flow is None or flow.exit is None:
            return
        if failed:
            flow.exit_failed = flow.exit.peer
        flow.exit = None
        self.table.flags[slot] &= 0xFF ^ _EXIT
        self._reconnect(flow)

    def _reconnect(self, flow: Flow) -> None:
        for feeder in flow.feeders:
            if feeder in self.flows:
                self._renew(self.flows[feeder])

    def think(self, slot: int, arrival: Arrival, now: float) -> Verdict:
        """Take one datagram that the columns alone do not decide through the flow's latch."""
        flow = self.flows[slot]
        was_heard = flow.latch.heard
        verdict = flow.latch.receive(arrival, now)
        if verdict.event is not None:
            if verdict.event is FlowEventKind.REJECTED:
                self.reject(slot, arrival.source, now, verdict.reason)
            else:
                self._tell(flow, verdict.event, arrival.source, now)
                if verdict.event is not FlowEventKind.LEARNED:
                    self.table.flags[slot] &= 0xFF ^ _REPORTED
        if verdict.event is not None or flow.latch.heard != was_heard:
            self._update(flow, now)
        return verdict

    def reject(self, slot: int, source: TransportAddress, now: float, reason: DropReason | None) -> None:
        """Tell about a refused source, once until the next latch."""
        if int(self.table.flags[slot]) & _REPORTED:
            return
        self.table.flags[slot] |= _REPORTED
        self._tell(self.flows[slot], FlowEventKind.REJECTED, source, now, reason)

    def continues(self, slot: int, ssrc: int, sequence: int, now: float) -> bool:
        """Tell whether an RTP packet carries on the stream last accepted, and that stream's source fell silent."""
        table = self.table
        if not self.flows[slot].settings.continuity or not table.started[slot]:
            return False
        ahead = sequence - int(table.last_sequence[slot]) & 0xFFFF
        silent = now - float(table.last_accepted[slot]) >= CONTINUITY_SILENCE
        return silent and ssrc == int(table.ssrc[slot]) and 0 < ahead <= 536

    def teaches(self, slot: int, payload_type: int) -> bool:
        """Tell whether an RTP packet of this payload type may teach: the SDP names it, or no SDP named any."""
        types = self.flows[slot].settings.payload_types
        return not types or payload_type in types

    def clock_rate(self, slot: int, payload_type: int) -> float:
        """Give the RTP clock of a payload type on this flow."""
        flow = self.flows.get(slot)
        rates = () if flow is None else flow.settings.clock_rates
        rate = next((rate for number, rate in rates if number == payload_type), 0)
        return float(rate or STATIC_CLOCK_RATES.get(payload_type, DEFAULT_CLOCK_RATE))

    def read_report(self, slot: int, payload: bytes, now: float) -> None:
        """Take from RTCP that is passed on what it says: sender reports start a round trip, report blocks end it."""
        flow = self.flows.get(slot)
        if flow is None or flow.settings.secured:
            return
        egress = self.slot_of(flow.settings.egress_rtcp)
        try:
            found = reports(payload)
        except MalformedMessage:
            return
        for report in found:
            if report.ntp is not None and egress is not None:
                self.flows[egress].trip.passed_on(report.ntp, now)
            for block in report.blocks:
                flow.trip.answered(block, now)
                flow.reported = ReportFigures(
                    block.fraction_lost / 256,
                    block.cumulative_lost,
                    block.jitter / self._reported_clock(egress),
                    flow.trip.seconds,
                    now,
                )

    def _reported_clock(self, egress: int | None) -> float:
        """RTP clock of the stream that a party reports on: what comes in on the other side."""
        if egress is None:
            return float(DEFAULT_CLOCK_RATE)
        rtp = self.slot_of(self.flows[egress].settings.companion)
        return float(self.table.clock_rate[egress if rtp is None else rtp])

    def reported(self, slot: int) -> ReportFigures:
        """What a party's RTCP said last; safe to call from another thread."""
        flow = self.flows.get(slot)
        return ReportFigures() if flow is None else flow.reported

    def learned(self, slot: int) -> Learned:
        """What is known of a party's address; safe to call from another thread."""
        flow = self.flows.get(slot)
        return Learned() if flow is None else flow.learned

    def due(self, now: float) -> bool:
        """Tell whether `handle_timeout` has something to do; to be asked before each batch."""
        windows, piercing = self._windows, self._piercing
        return bool(windows and windows[0][0] <= now) or bool(piercing and piercing[0][0] <= now)

    def handle_timeout(self, now: float) -> list[Pierce]:
        """Let windows end and give the opening packets that are due."""
        while self._windows and self._windows[0][0] <= now:
            _, _, slot = heapq.heappop(self._windows)
            flow = self.flows.get(slot)
            if flow is not None and not flow.latch.latched and flow.latch.window_end <= now:
                # From here on the next packet must be thought about: it latches.
                flow.expected = None
                self.table.expect(slot, None)
        due: list[Pierce] = []
        while self._piercing and self._piercing[0][0] <= now:
            _, serial, slot = heapq.heappop(self._piercing)
            flow = self.flows.get(slot)
            if flow is None or not flow.settings.pierce or flow.latch.heard:
                self._pierced.discard(slot)
                continue
            heapq.heappush(self._piercing, (now + PIERCE_EVERY, serial, slot))
            target = flow.settings.advertised
            if target is not None and self._sendable(target, flow):
                due.append(Pierce(slot, target))
        return due

    def next_timeout(self) -> float | None:
        """When `handle_timeout` must be called though nothing arrives.

        The end of a learning window is not such a time: it matters to the next packet only, and is seen to before it.
        """
        return self._piercing[0][0] if self._piercing else None

    def _apply(self, flow: Flow, now: float) -> None:
        settings, slot, table = flow.settings, flow.slot, self.table
        table.size_limit[slot] = settings.size_limit
        if settings.size_limit < table.least_limit:
            table.least_limit = max(HEADER, settings.size_limit)
        table.cells.rate_limit[slot] = settings.packet_rate_limit
        flow.valid = _VALID[settings.content] if settings.validate else int(Kind.ANY)
        if settings.secured:
            flow.valid |= int(Kind.DTLS)
        table.cells.valid[slot] = flow.valid
        if settings.blocked:
            passing = settings.events if settings.may_send else ()
            table.events[slot] = sum(1 << number - 64 for number in passing if number >= 64)
        self._tie(flow)
        self._serial += 1
        heapq.heappush(self._windows, (flow.latch.window_end, self._serial, slot))
        if settings.pierce and not flow.latch.heard and slot not in self._pierced:
            self._pierced.add(slot)
            heapq.heappush(self._piercing, (now, self._serial, slot))
        self._update(flow, now)

    def _tie(self, flow: Flow) -> None:
        settings, flows = flow.settings, self.flows
        for number in (settings.egress, settings.egress_rtcp):
            if number is not None and (slot := self.slot_of(number)) is not None:
                flows[slot].feeders.add(flow.slot)
        companion = self.slot_of(settings.companion)
        if companion is not None:
            rtp = flows[companion]
            rtp.followers.add(flow.slot)
            flow.latch.companion_host = rtp.latch.source.host if rtp.latch.latched and rtp.latch.source else None

    def _untie(self, flow: Flow) -> None:
        settings, flows = flow.settings, self.flows
        for number in (settings.egress, settings.egress_rtcp):
            if number is not None and (slot := self.slot_of(number)) is not None:
                flows[slot].feeders.discard(flow.slot)
        companion = self.slot_of(settings.companion)
        if companion is not None:
            flows[companion].followers.discard(flow.slot)

    def _update(self, flow: Flow, now: float) -> None:
        """Carry a change of the latch into the columns, here and where packets leave by this flow."""
        before, flow.learned = flow.learned, flow.latch.learned
        self._renew(flow, now)
        if flow.learned.latched != before.latched or flow.learned.source != before.source:
            source = flow.learned.source
            if flow.exit is not None and flow.learned.latched and source != flow.exit.peer:
                self.stale.append(flow.slot)
            for follower in flow.followers:
                if follower in self.flows:
                    host = source.host if flow.learned.latched and source is not None else None
                    self.flows[follower].latch.companion_host = host
        for feeder in flow.feeders:
            if feeder in self.flows and feeder != flow.slot:
                self._renew(self.flows[feeder])

    def _renew(self, flow: Flow, now: float | None = None) -> None:
        """See to it that a flow's columns are written: at once, or with others when gathering ends."""
        if not self._gathering:
            self._refresh(flow, now)
        elif now is not None or flow.slot not in self._waiting:
            self._waiting[flow.slot] = now is not None

    def _refresh(self, flow: Flow, now: float | None = None) -> None:
        """Write what a flow's rules and latch say into its columns; with `now` also whom it expects."""
        table, settings, slot = self.table, flow.settings, flow.slot
        if self.touched is not None:
            self.touched.add(slot)
        if now is not None:
            self._write_latch(flow, now)
        accept = 0
        hold = table.cells.hold
        if flow.valid & ~_RTCP:
            hold[2 * slot] = held = self._obstacle(flow, 2 * slot, settings.egress, media=True)
            if not held:
                accept = _MEDIA
        if flow.valid & _RTCP:
            as_datagram = settings.content is Content.DATAGRAM
            egress = settings.egress if as_datagram else settings.egress_rtcp
            hold[2 * slot + 1] = held = self._obstacle(flow, 2 * slot + 1, egress, media=as_datagram)
            if not held:
                accept |= _RTCP
        table.accept_kinds(slot, accept & flow.valid)

    def _write_latch(self, flow: Flow, now: float) -> None:
        table, settings, latch, slot = self.table, flow.settings, flow.latch, flow.slot
        # A party that unlocks sending by being heard must be noticed once.
        unheard = settings.nat_wait and not latch.heard
        flags = table.cells.flags[slot] & (_LIMITED | _REPORTED | _EXIT) | _OPEN
        if settings.public:
            flags |= _PUBLIC
        if settings.selected:
            flags |= _SELECTED
        if not unheard:
            if latch.open_to_all:
                flags |= _OPEN_TO_ALL
            if latch.latched and settings.strict and not settings.handover and not settings.continuity:
                flags |= _GUARDED
        table.cells.flags[slot] = flags
        known = latch.known if settings.public and settings.selected and not unheard else None
        until = latch.known_until
        if until is not None and until <= now:
            known = None
        if known != flow.expected or known is None:
            flow.expected = known
            table.expect(slot, known)

    def _obstacle(self, flow: Flow, route: int, number: int | None, *, media: bool) -> int:
        """Set one route, and give the code of what stands in its way; 0 when nothing does."""
        egress = None if number is None else self.slot_of(number)
        if egress is None or egress in flow.severed:
            return _NO_PEER
        out = self.flows[egress]
        target = out.latch.target
        if target is None:
            return _NO_PEER
        if target != out.aimed:
            out.sendable = self._sendable(target, out)
            out.aimed = target
            if out.sendable:
                self.table.set_target(egress, target)
        if not out.sendable:
            return _NO_PEER
        through = out.exit if out.exit is not None and out.exit.peer == target else None
        if flow.connected.get(route) != egress or flow.through[route] != through:
            flow.connected[route], flow.through[route] = egress, through
            if through is not None and through.header:
                self.table.connect_framed(route, egress, through.file, through.header)
            else:
                length = SOCKADDR_IN6 if ":" in target.host else SOCKADDR_IN
                self.table.connect(route, egress, length, None if through is None else through.file)
        settings = flow.settings
        if not settings.may_send and media:
            return CODE[DropReason.BLOCKED if settings.blocked else DropReason.ON_HOLD]
        if out.settings.nat_wait and not out.latch.heard:
            return CODE[DropReason.NAT_WAIT]
        if target in self._locals and self._loops(flow, target):
            return CODE[DropReason.LOOP]
        # Last: telephone events pass a block, but nothing else that stands in the way.
        return CODE[DropReason.BLOCKED] if settings.blocked and media else 0

    def _sendable(self, target: TransportAddress, flow: Flow) -> bool:
        kind = classify(target.host)
        if target.port == 0 or kind in _NEVER or (":" in target.host) != (":" in flow.local.host):
            return False
        return kind is not AddressClass.LOOPBACK or classify(flow.local.host) is AddressClass.LOOPBACK

    def _loops(self, flow: Flow, target: TransportAddress) -> bool:
        """Follow packets that go to one of our own sockets; True when they come back to this flow."""
        for _ in range(HOPS_MAX):
            owner = self._locals.get(target)
            if owner is None:
                return False
            crossbar, slot = owner
            hop = crossbar.flows.get(slot)
            if hop is None:
                return False
            if hop is flow:
                return True
            egress = crossbar.slot_of(hop.settings.egress)
            following = None if egress is None else crossbar.flows.get(egress)
            if following is None or following.latch.target is None:
                return False
            target = following.latch.target
        return True

    def _tell(
        self,
        flow: Flow,
        kind: FlowEventKind,
        source: TransportAddress,
        now: float,
        reason: DropReason | None = None,
    ) -> None:
        rank = flow.latch.rank_of(source)
        self.events.append(FlowEvent(flow.number, kind, source, rank, now, reason))
