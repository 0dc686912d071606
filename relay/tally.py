"""Counters and RFC 3550 figures, kept for many packets at a time.

A batch is only noted (a few array copies); `settle` then works through everything noted since, sorted by flow, so that
its cost is shared by thousands of packets even when batches are small.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nattrav.net.frames import Frames
from relay.flows import Flag, FlowTable
from relay.rtp import MAX_DROPOUT, MAX_MISORDER, Kind, kinds_of

ROOM = 16384

RIPE_SHIFT = 6
RIPE_EVERY = 1 << RIPE_SHIFT
"""Packets after which a flow without an exit is looked at again: 1.3 seconds of speech."""

RIPE_MAX = 4096
"""Flows that wait for that look; of more, the others come at their next turn."""

_RATE_CHANGES = 64
_TRANSIT_JUMP = 2.0
"""Seconds by which two packets' transit may differ; more is a new timeline (hold, clock change), not jitter."""

Rows = NDArray[np.intp]
ClockRate = Callable[[int, int], float]
"""(slot, payload type) → Hz."""


class Tally:
    """Packets noted and not yet counted, and the counting."""

    def __init__(self, table: FlowTable, frames: Frames, clock_rate: ClockRate, room: int = ROOM) -> None:
        self._table = table
        self._frames = frames
        self._clock_rate = clock_rate
        self._room = room
        self.noted = 0
        self.limited: set[int] = set()
        self.seek = False
        """Look for flows that an exit might pay for."""
        self.ripe: list[int] = []
        """Slots of such flows, to be taken from here."""
        self._routes: list[Rows] = []
        self._lengths: list[NDArray[np.int32]] = []
        self._heads: list[NDArray[np.complex128]] = []
        self._marks: list[tuple[int, float, bool]] = []
        """(packets, time, forwarded) of each batch noted."""

    def note(self, routes: Rows, frames: Rows, lengths: NDArray[np.int32], now: float, *, forwarded: bool) -> None:
        """Remember accepted packets. A route says both the flow they came to and, when forwarded, the way out.

        The arrays are kept: nobody may write to them any more.
        """
        count = len(routes)
        self._routes.append(routes)
        self._lengths.append(lengths)
        self._heads.append(self._frames.head[frames])
        self._marks.append((count, now, forwarded))
        self.noted += count
        if self.noted >= self._room:
            self.settle()

    def holds(self, slot: int) -> bool:
        """Tell whether packets of a flow, in or out, wait to be counted."""
        if self.noted == 0:
            return False
        routes = np.concatenate(self._routes)
        self._routes[:] = [routes]
        return bool(np.count_nonzero((routes >> 1) == slot) or np.count_nonzero(self._table.egress[routes] == slot))

    def settle(self) -> None:
        """Count everything noted."""
        count = self.noted
        if count == 0:
            return
        self.noted = 0
        sizes, moments, outs = zip(*self._marks, strict=True)
        arrived = np.repeat(moments, sizes)
        head, routes, octets = (
            np.concatenate(self._heads),
            np.concatenate(self._routes),
            np.concatenate(self._lengths),
        )
        for noted in (self._heads, self._routes, self._lengths, self._marks):
            noted.clear()
        kind = kinds_of(head.view(np.uint16)[::8], octets)
        table = self._table
        slots = routes >> 1
        order = _sorting(slots)
        slots = slots[order]
        begins = _begins(slots)
        ends = np.append(begins[1:], count) - 1
        flows = slots[begins]
        lengths, times = octets[order].astype(np.int64), arrived[order]
        counts = (ends - begins + 1).astype(np.uint64)
        before = table.packets_in[flows]
        total = before + counts
        table.packets_in[flows] = total
        if self.seek:
            crossed = (before ^ total) >> RIPE_SHIFT != 0
            crossed &= (table.flags[flows] & Flag.EXIT) == 0
            self.ripe += flows[crossed].tolist()
            del self.ripe[RIPE_MAX:]
        table.bytes_in[flows] += np.add.reduceat(lengths, begins).astype(np.uint64)
        latest = times[ends]
        table.last_in[flows] = np.maximum(table.last_in[flows], latest)
        table.last_accepted[flows] = np.maximum(table.last_accepted[flows], latest)
        first = table.first_in[flows]
        table.first_in[flows] = np.where(first == 0, times[begins], first)
        self._limit(flows, counts, float(latest.max()))
        if all(outs):
            self._count_out(routes, octets)
        else:
            out = np.repeat(outs, sizes)
            self._count_out(routes[out], octets[out])
        kinds = kind[order]
        rtcp = kinds == Kind.RTCP
        if np.count_nonzero(rtcp):
            table.rtcp_in[flows] += np.add.reduceat(rtcp.astype(np.uint64), begins)
        rtp = kinds == Kind.RTP
        if np.count_nonzero(rtp) < count:
            order, slots, times = order[rtp], slots[rtp], times[rtp]
        if len(order):
            self._follow(head[order], slots, times)

    def ease(self, now: float) -> None:
        """Let flows send again whose second is over."""
        table = self._table
        for slot in [slot for slot in self.limited if int(now) > table.rate_second[slot]]:
            self.limited.discard(slot)
            table.flags[slot] &= ~np.uint8(Flag.LIMITED)

    def _limit(self, flows: Rows, counts: NDArray[np.uint64], now: float) -> None:
        table = self._table
        second = int(now)
        fresh = table.rate_second[flows] != second
        total = np.where(fresh, 0, table.rate_count[flows]) + counts
        table.rate_second[flows] = second
        table.rate_count[flows] = np.minimum(total, 0xFFFFFFFF)
        over = flows[total > table.rate_limit[flows]]
        if len(over):
            table.flags[over] |= np.uint8(Flag.LIMITED)
            self.limited.update(over.tolist())

    def _count_out(self, routes: Rows, lengths: NDArray[np.int32]) -> None:
        table = self._table
        egress = table.egress[routes]
        known = egress >= 0
        if np.count_nonzero(known) < len(egress):
            egress, lengths = egress[known], lengths[known]
        np.add.at(table.packets_out, egress, np.uint64(1))
        np.add.at(table.bytes_out, egress, lengths.astype(np.uint64))

    def _follow(self, head: NDArray[np.complex128], slots: Rows, times: NDArray[np.float64]) -> None:
        """RFC 3550 appendices A.1, A.3 and A.8 for RTP packets sorted by flow, in order of arrival within each.

        A run is a stretch of one flow's packets that continue each other; it ends at a change of SSRC and at a jump
        of the sequence. Extended sequence numbers grow along a run by the signed 16-bit steps between packets.
        """
        table = self._table
        total = len(head)
        halves, words = head.view(np.uint16).reshape(total, 8), head.view(np.uint32).reshape(total, 4)
        sequence = halves[:, 1].byteswap().astype(np.int64)
        timestamp = words[:, 1].byteswap()
        ssrc = words[:, 2].byteswap()
        begins = _begins(slots)
        ends = np.append(begins[1:], total) - 1
        flows = slots[begins]
        self._retune(flows, (halves[ends, 0] >> 8 & 0x7F).astype(np.uint8))

        started = table.started[flows]
        old_base, old_max, old_last = (
            table.base_sequence[flows],
            table.max_sequence[flows],
            table.last_sequence[flows],
        )
        previous = _shifted(sequence, begins, old_last)
        step = (sequence - previous).astype(np.int16).astype(np.int64)
        fresh = (_shifted(ssrc, begins, table.ssrc[flows]) != ssrc) | (step > MAX_DROPOUT) | (step < -MAX_MISORDER)
        fresh[begins] |= ~started
        continuing = ~fresh[begins]

        heads = fresh.copy()
        heads[begins] = True
        run_begins = np.flatnonzero(heads)
        run_ends = np.append(run_begins[1:], total) - 1
        run = np.cumsum(heads) - 1
        first_run = run[begins]
        last_run = run[ends]

        origin = sequence[run_begins]
        origin[first_run[continuing]] = (old_last + step[begins])[continuing]
        climbed = np.cumsum(np.where(heads, 0, step))
        extended = origin[run] + climbed - climbed[run_begins][run]

        ceiling = np.full(len(run_begins), np.iinfo(np.int64).min)
        ceiling[first_run[continuing]] = old_max[continuing]
        lift = run.astype(np.int64) << 40
        highest = np.maximum.accumulate(extended + lift) - lift
        before = np.empty(total, np.int64)
        before[1:] = highest[:-1]
        before[run_begins] = ceiling
        before = np.maximum(before, ceiling[run])
        table.duplicates[flows] += np.add.reduceat((extended == before).astype(np.uint64), begins)
        table.reordered[flows] += np.add.reduceat((extended < before).astype(np.uint64), begins)
        table.received[flows] += (ends - begins + 1).astype(np.uint64)

        top = np.maximum(highest[run_ends], ceiling)
        base = origin.copy()
        base[first_run[continuing]] = old_base[continuing]
        closed = top - base + 1
        closed[last_run] = 0
        table.expected_before[flows] += np.add.reduceat(closed, first_run)
        replaced = started & ~continuing
        table.expected_before[flows[replaced]] += (old_max - old_base + 1)[replaced]
        table.base_sequence[flows] = base[last_run]
        table.max_sequence[flows] = top[last_run]
        table.last_sequence[flows] = extended[ends]

        elapsed = times - _shifted(times, begins, table.arrival[flows])
        ticks = (timestamp - _shifted(timestamp, begins, table.timestamp[flows])).view(np.int32)
        differs = np.abs(elapsed - ticks / table.clock_rate[slots])
        differs[fresh | (differs > _TRANSIT_JUMP)] = 0.0
        # J += (|D| - J)/16 for each packet in turn, written as one weighted sum per flow.
        counts = ends - begins + 1
        faded = np.power(15 / 16, np.arange(int(counts.max()) + 1))
        weight = faded[np.repeat(ends, counts) - np.arange(total)]
        kept = faded[counts]
        table.jitter[flows] = table.jitter[flows] * kept + np.add.reduceat(differs * weight, begins) / 16
        table.timestamp[flows] = timestamp[ends]
        table.arrival[flows] = times[ends]
        table.ssrc[flows] = ssrc[ends]
        table.started[flows] = True

    def _retune(self, flows: Rows, payload_types: NDArray[np.uint8]) -> None:
        table = self._table
        changed = (payload_types != table.payload_type[flows]) | ~table.started[flows]
        if not np.count_nonzero(changed):
            return
        for slot, payload_type in zip(
            flows[changed][:_RATE_CHANGES].tolist(), payload_types[changed][:_RATE_CHANGES].tolist(), strict=True
        ):
            table.clock_rate[slot] = self._clock_rate(slot, payload_type)
        table.payload_type[flows] = payload_types


def _sorting(slots: Rows) -> Rows:
    """Order of slots, stable: by halves of 16 bits, which numpy sorts by radix, in a fiftieth of the time."""
    order = np.argsort(slots.astype(np.uint16), kind="stable")
    above = slots >> 16
    if np.count_nonzero(above):
        order = order[np.argsort(above[order].astype(np.uint16), kind="stable")]
    return order


def _begins(sorted_values: NDArray[np.signedinteger]) -> Rows:
    """Index of the first element of each group of equal values."""
    return np.append(0, np.flatnonzero(sorted_values[1:] != sorted_values[:-1]) + 1)


def _shifted(values: NDArray[Any], begins: Rows, carried: NDArray[Any]) -> NDArray[Any]:
    """Give each element's predecessor in its group; for the first one what was carried over from earlier."""
    found = np.empty_like(values)
    found[1:] = values[:-1]
    found[begins] = carried
    return found
