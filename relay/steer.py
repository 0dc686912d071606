"""The decision on a whole batch of media datagrams at once: who sent it, what is it, where does it go.

The main road is a handful of array operations: a datagram from the source its flow expects, of a kind that the flow
can pass on now, goes out by its route. What falls beside it is sorted by reason, still as arrays; only datagrams that
may teach an address (or that open a state) are looked at one by one, and those are bounded per batch and per flow.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nattrav.net.frames import Frames
from relay import rtcp
from relay.crossbar import Crossbar
from relay.flows import CODE, REASONS, Flag, FlowTable
from relay.latching import Arrival
from relay.plane import Content, DropReason
from relay.rtp import HEADER, KINDS, Kind, kinds_of
from relay.tally import Tally

THOUGHTS_MAX = 1024
"""Datagrams of one batch that are looked at one by one."""

THOUGHTS_PER_FLOW = 8
"""As many of one flow, so that a flood on one cannot keep another from learning."""

REPORTS_MAX = 4
"""RTCP packets of one batch whose reports are read."""

Rows = NDArray[np.intp]
Lengths = NDArray[np.int32]

_NONE: Rows = np.empty(0, np.intp)


class Departures(NamedTuple):
    """What to send: by which route, from which frame, how many octets. Arrays of one length."""

    routes: Rows
    frames: Rows
    lengths: Lengths


class Steer:
    """Steers the batches of one data thread."""

    def __init__(self, table: FlowTable, frames: Frames, crossbar: Crossbar) -> None:
        self._table = table
        self._frames = frames
        self._crossbar = crossbar
        self.tally = Tally(table, frames, crossbar.clock_rate)
        self.late = 0
        """Datagrams for flows that were closed meanwhile."""
        self.rtcp: NDArray[np.uint64] = np.zeros((2, 256), np.uint64)
        """RTCP datagrams that came (row 0) and that passed (row 1), by the type of their first packet."""

    def steer(self, slots: Rows, frames: Rows, lengths: Lengths, now: float) -> Departures:
        """Decide on datagrams that came to flows `slots`, lie in `frames` and are `lengths` octets long."""
        table = self._table
        starts = self._frames.start[frames]
        unusual = np.count_nonzero((lengths - _HEADER).view(np.uint32) > table.least_limit - HEADER)
        if not unusual and not self.tally.limited and np.count_nonzero(_IS_RTP[starts]) == len(slots):
            passes = self._expected(slots, frames, table.road)
            if np.count_nonzero(passes) == len(slots):
                routes = slots << 1
                self.tally.note(routes, frames, lengths, now, forwarded=True)
                return Departures(routes, frames, lengths)
        return self._sort(slots, frames, lengths, starts, now)

    def _sort(self, slots: Rows, frames: Rows, lengths: Lengths, starts: NDArray[np.uint16], now: float) -> Departures:
        """Decide on a batch in which not everything is RTP on the main road."""
        table = self._table
        kinds = kinds_of(starts, lengths)
        passes = self._expected(slots, frames, table.expect0)
        passes &= lengths <= table.size_limit[slots]
        np.logical_and(passes, table.accept[slots] & kinds, out=passes)
        if self.tally.limited:
            passes &= (table.flags[slots] & Flag.LIMITED) == 0
        is_rtcp = kinds == _RTCP
        routes = (slots << 1) + is_rtcp
        if np.count_nonzero(is_rtcp):
            self._count_rtcp(starts, is_rtcp, passes)
            self._read_reports(np.flatnonzero(is_rtcp & passes), slots, frames, lengths, now)
        beside = np.flatnonzero(~passes)
        on = np.flatnonzero(passes)
        also = self._beside(slots[beside], frames[beside], lengths[beside], kinds[beside], routes[beside], now)
        if len(also):
            on = np.concatenate((on, beside[also]))
        if len(on):
            self.tally.note(routes[on], frames[on], lengths[on], now, forwarded=True)
        return Departures(routes[on], frames[on], lengths[on])

    def settle(self, now: float) -> None:
        """Bring the counters up to date."""
        self.tally.settle()
        if self.tally.limited:
            self.tally.ease(now)

    def _count_rtcp(self, starts: NDArray[np.uint16], is_rtcp: NDArray[np.bool_], passes: NDArray[np.bool_]) -> None:
        types = starts >> np.uint16(8)
        for row, chosen in enumerate((is_rtcp, is_rtcp & passes)):
            self.rtcp[row] += np.bincount(types[chosen], minlength=256).astype(np.uint64)

    def _read_reports(self, chosen: Rows, slots: Rows, frames: Rows, lengths: Lengths, now: float) -> None:
        """Read a sample of the RTCP that passes."""
        for index in chosen[:REPORTS_MAX].tolist():
            payload = self._frames.payload(int(frames[index]), int(lengths[index]))
            self._crossbar.read_report(int(slots[index]), payload, now)

    def _expected(self, slots: Rows, frames: Rows, first_words: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which datagrams come from the source their flow expects, by its first word as in a column of the table."""
        table, source = self._table, self._frames
        same: NDArray[np.bool_] = source.source0[frames] == first_words[slots]
        if table.wide:
            six = table.six[slots]
            same &= ((source.source1[frames] ^ table.expect1[slots]) & six) == 0
            same &= ((source.source2[frames] ^ table.expect2[slots]) & six) == 0
        return same

    def _beside(
        self, slots: Rows, frames: Rows, lengths: Lengths, kinds: NDArray[np.uint8], routes: Rows, now: float
    ) -> Rows:
        """Sort out what is not on the main road; give the indices of those that pass all the same."""
        table, source = self._table, self._frames
        flags = table.flags[slots]
        known = self._expected(slots, frames, table.expect0)
        hold = table.hold[routes]
        # Later lines take precedence over earlier ones.
        code = np.full(len(slots), _THINK, np.uint8)
        code[(flags & Flag.GUARDED) != 0] = CODE[DropReason.SOURCE_MISMATCH]
        free = known | ((flags & Flag.OPEN_TO_ALL) != 0)
        code[free] = np.where(hold[free] == 0, _PASS, hold[free])
        code[(flags & Flag.SELECTED) == 0] = CODE[DropReason.WRONG_LOCAL]
        code[(flags & Flag.PUBLIC) == 0] = CODE[DropReason.NOT_ANSWERED]
        invalid = (table.valid[slots] & kinds) == 0
        code[invalid] = CODE[DropReason.NOT_RTP]
        code[invalid & (kinds == Kind.SHORT)] = CODE[DropReason.MALFORMED]
        code[(flags & Flag.LIMITED) != 0] = CODE[DropReason.RATE_LIMITED]
        code[(lengths > table.size_limit[slots]) | (lengths >= source.room)] = CODE[DropReason.TOO_BIG]
        code[(flags & Flag.OPEN) == 0] = _LATE
        thought = np.flatnonzero(code == _THINK)
        if len(thought):
            self._think(thought, slots, frames, lengths, kinds, code, now)
        blocked = np.flatnonzero(code == _BLOCKED)
        if len(blocked):
            code[blocked[self._events(slots[blocked], frames[blocked])]] = _PASS
        return self._book(code, slots, frames, lengths, routes, now)

    def _events(self, slots: Rows, frames: Rows) -> NDArray[np.bool_]:
        """Which RTP packets are telephone events."""
        types = (self._frames.start[frames] >> np.uint16(8)).astype(np.uint64) & np.uint64(0x7F)
        # Those below 64 are all assigned to codecs.
        bits = self._table.events[slots] >> (types & np.uint64(0x3F))
        found: NDArray[np.bool_] = (types >= 64) & ((bits & np.uint64(1)) != 0)
        return found

    def _book(
        self,
        code: NDArray[np.uint8],
        slots: Rows,
        frames: Rows,
        lengths: Lengths,
        routes: Rows,
        now: float,
    ) -> Rows:
        table = self._table
        late = code == _LATE
        self.late += int(np.count_nonzero(late))
        dropped = np.flatnonzero((code != _PASS) & ~late)
        if len(dropped):
            np.add.at(table.drops, (slots[dropped], code[dropped].astype(np.intp) - 1), np.uint64(1))
            # Refused by the way out, not for their source: the party is alive, and counted.
            alive = dropped[_ACCEPTED[code[dropped]]]
            if len(alive):
                self.tally.note(routes[alive], frames[alive], lengths[alive], now, forwarded=False)
            for index in np.flatnonzero(code == CODE[DropReason.SOURCE_MISMATCH])[:THOUGHTS_PER_FLOW].tolist():
                slot = int(slots[index])
                if not int(table.flags[slot]) & Flag.REPORTED:
                    self._crossbar.reject(
                        slot, self._frames.source(int(frames[index])), now, DropReason.SOURCE_MISMATCH
                    )
        return np.flatnonzero(code == _PASS)

    def _think(
        self,
        thought: Rows,
        slots: Rows,
        frames: Rows,
        lengths: Lengths,
        kinds: NDArray[np.uint8],
        code: NDArray[np.uint8],
        now: float,
    ) -> None:
        """Take the bounded rest through the latches, and write what came of it into `code`."""
        chosen = _first_of_each(slots[thought], THOUGHTS_PER_FLOW)[:THOUGHTS_MAX]
        table, crossbar = self._table, self._crossbar
        for index in thought[chosen].tolist():
            slot, frame, kind = int(slots[index]), int(frames[index]), Kind(int(kinds[index]))
            arrival = self._arrival(slot, frame, int(lengths[index]), kind, now)
            verdict = crossbar.think(slot, arrival, now)
            if verdict.reason is not None:
                code[index] = CODE[verdict.reason]
                continue
            obstacle = int(table.hold[2 * slot + (kind is Kind.RTCP)])
            code[index] = obstacle or _PASS
        if len(chosen) < len(thought):
            rest = np.delete(thought, chosen)
            flows = slots[rest]
            # What was learned a moment ago may have settled the matter for the others of a burst.
            fate = np.full(len(rest), CODE[DropReason.QUEUE_FULL], np.uint8)
            fate[(table.flags[flows] & Flag.GUARDED) != 0] = CODE[DropReason.SOURCE_MISMATCH]
            hold = table.hold[2 * flows + (kinds[rest] == Kind.RTCP)]
            known = self._expected(flows, frames[rest], table.expect0)
            fate[known] = np.where(hold[known] == 0, _PASS, hold[known])
            code[rest] = fate

    def _arrival(self, slot: int, frame: int, length: int, kind: Kind, now: float) -> Arrival:
        crossbar = self._crossbar
        settings = crossbar.flows[slot].settings
        source = self._frames.source(frame)
        if settings.content is Content.DATAGRAM or not settings.validate:
            return Arrival(source, teaches=length > 0)
        if kind is Kind.RTCP:
            aside = settings.content is not Content.RTCP
            sound = rtcp.consistent(self._frames.payload(frame, length), secured=settings.secured)
            return Arrival(source, teaches=sound, rtcp_aside=aside)
        if kind is not Kind.RTP:
            return Arrival(source, teaches=False)
        payload_type = int(self._frames.start[frame]) >> 8 & 0x7F
        continues = False
        if settings.continuity:
            if self.tally.holds(slot):
                self.tally.settle()
            header = self._frames.payload(frame, HEADER)
            ssrc, sequence = int.from_bytes(header[8:12], "big"), int.from_bytes(header[2:4], "big")
            continues = crossbar.continues(slot, ssrc, sequence, now)
        return Arrival(source, teaches=crossbar.teaches(slot, payload_type), continues=continues)


_HEADER, _RTCP = np.int32(HEADER), np.uint8(Kind.RTCP)
_IS_RTP = KINDS == Kind.RTP

_PASS = 0
_THINK = len(REASONS) + 1
_LATE = len(REASONS) + 2
_BLOCKED = CODE[DropReason.BLOCKED]

_ACCEPTED = np.zeros(256, np.bool_)
_ACCEPTED[
    [
        CODE[r]
        for r in (DropReason.NO_PEER, DropReason.ON_HOLD, DropReason.BLOCKED, DropReason.NAT_WAIT, DropReason.LOOP)
    ]
] = True


def _first_of_each(values: Rows, limit: int) -> Rows:
    """Give, in order, the indices of the first `limit` occurrences of each value."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    begins = np.append(0, np.flatnonzero(ordered[1:] != ordered[:-1]) + 1)
    position = np.arange(len(values)) - np.repeat(begins, np.diff(np.append(begins, len(values))))
    return np.sort(order[position < limit])
