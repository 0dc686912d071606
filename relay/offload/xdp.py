"""Decides which flows the kernel forwards, and keeps their counters one with the plane's.

A flow is offloaded when both its ends are latched and nothing about its next RTP packet is left to decide; what
changes that withdraws it in the same breath. The flow table stays what everybody reads: what the kernel counted is
added to it now and then, so a flow that moves between the paths is counted by both, and by each for its own packets.

Flows that the kernel still forwards for a process before this one are taken over as they are, once the same flow
would be offloaded the same way again; what it counted since the figures that the restart brought back is added.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from relay.crossbar import Crossbar
from relay.crossing import Flow
from relay.flows import CODE, Flag, FlowTable
from relay.offload.layout import ROW, Way, flow, key, row_of, same_way, serial_of
from relay.plane import Content, DropReason, KernelMark
from relay.rtp import Kind

NANO = 1_000_000_000
_TICK_UNIT = 1024
_JITTER_UNIT = 16

_SETTLED = int(Flag.OPEN | Flag.PUBLIC | Flag.SELECTED | Flag.GUARDED)
_LIMITED = CODE[DropReason.RATE_LIMITED] - 1
_CARRIED = (Content.RTP, Content.MUX)

_WHOLE = np.dtype((np.void, ROW.itemsize))

Rows = NDArray[np.intp]


class KernelFlows(Protocol):
    """The kernel's side. One for all data threads; every call but reading `rows` is safe from any of them."""

    rows: NDArray[Any]
    """Array of `layout.ROW`, shared with the kernel."""

    @property
    def hosts(self) -> Container[str]:
        """Local addresses whose packets pass the program."""

    def take(self) -> int | None:
        """Reserve a row; None when all are taken."""

    def give_back(self, row: int) -> None:
        """Make a row free again."""

    def put(self, entry: bytes, value: bytes) -> bool:
        """Make the kernel forward; False when it does not want to."""

    def remove(self, entry: bytes) -> None:
        """Make the kernel leave it to us again."""

    def serial(self) -> int:
        """Give a number that no other offloading has, 32 bits."""

    @property
    def inherited(self) -> Mapping[bytes, bytes]:
        """Entries and values of what the kernel still forwards for a process before this one."""

    def adopt(self, entry: bytes) -> bool:
        """Take such a flow over; False when it was disowned meanwhile."""

    def disown(self, entry: bytes) -> None:
        """Make the kernel forward such a flow no more."""

    @property
    def stays(self) -> bool:
        """The kernel shall go on when this process ends, for the next one to take over."""


@dataclass(slots=True)
class Sums:
    """What the offloaded path did since the start.

    `full` counts flows that found no room in the kernel, `adopted` those that it forwarded before we began.
    """

    packets: int = 0
    bytes: int = 0
    offloaded: int = 0
    withdrawn: int = 0
    full: int = 0
    adopted: int = 0


def add_sums(many: Iterable[Sums]) -> Sums:
    """Add up what several data threads offloaded."""
    total = Sums()
    for one in many:
        total.packets += one.packets
        total.bytes += one.bytes
        total.offloaded += one.offloaded
        total.withdrawn += one.withdrawn
        total.full += one.full
        total.adopted += one.adopted
    return total


@dataclass(frozen=True, slots=True)
class _Entry:
    way: Way
    row: int
    egress: int
    serial: int


class Offloader:
    """Offloads the flows of one data thread."""

    def __init__(self, table: FlowTable, crossbar: Crossbar, kernel: KernelFlows) -> None:
        self._table = table
        self._crossbar = crossbar
        self._kernel = kernel
        self._entries: dict[int, _Entry] = {}
        self._marks: dict[int, KernelMark] = {}
        """Where flows of a restart stood in the kernel."""
        self._leaving: list[int] = []
        """Rows of withdrawn flows: a packet may still be on its way through the program."""
        self._left: list[int] = []
        """The same, a merge ago."""
        self._live: Rows | None = None
        count = len(kernel.rows)
        self._slot: Rows = np.full(count, -1, np.intp)
        self._egress: Rows = np.full(count, -1, np.intp)
        # Whole rows are copied as plain octets: field by field it takes thirty times as long.
        self._rows: NDArray[np.void] = kernel.rows.view(_WHOLE)
        self._seen: NDArray[np.void] = np.zeros(count, _WHOLE)
        self._merged: NDArray[Any] = self._seen.view(ROW)
        self.sums = Sums()
        self.merged_at = float("-inf")
        crossbar.touched = set()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, slot: int) -> bool:
        return slot in self._entries

    @property
    def slots(self) -> Collection[int]:
        """The flows that the kernel forwards now."""
        return self._entries.keys()

    @property
    def busy(self) -> bool:
        """There is something to merge now and then."""
        return bool(self._entries or self._leaving or self._left)

    def review(self) -> None:
        """Look at flows whose rules or latches changed; the tally must be settled."""
        touched, self._crossbar.touched = self._crossbar.touched, set()
        for slot in touched or ():
            entry = self._entries.get(slot)
            found = self._way(self._crossbar.flows.get(slot))
            if entry is not None:
                if found == (entry.way, entry.egress):
                    continue
                self._withdraw(slot, entry)
            if found is not None:
                self._offload(slot, *found)
            elif entry is None and self._kernel.inherited:
                self._disown(self._crossbar.flows.get(slot))

    def expect(self, slot: int, mark: KernelMark) -> None:
        """Go on from a mark if the kernel still forwards the flow that is about to begin."""
        self._marks[slot] = mark

    def mark(self, slot: int) -> KernelMark:
        """Say where the kernel stood with an offloaded flow when it was merged last."""
        entry = self._entries[slot]
        seen = self._merged[entry.row].item()
        return KernelMark(*[entry.serial, *_counted(seen), _run(seen)])

    def end(self) -> None:
        """Take every flow out of the kernel, unless it shall go on without us."""
        if self._kernel.stays:
            return
        for slot, entry in list(self._entries.items()):
            self._withdraw(slot, entry)

    def merge(self, now: float) -> None:
        """Add what the kernel counted to the flow table."""
        self.merged_at = now
        if self._left or self._leaving:
            self._count(np.array(self._left + self._leaving, np.intp))
            for row in self._left:
                self._slot[row] = self._egress[row] = -1
                self._kernel.give_back(row)
            self._left, self._leaving = self._leaving, []
        if self._live is None:
            self._live = np.array(sorted(entry.row for entry in self._entries.values()), np.intp)
        self._merge(self._live)

    def merge_flow(self, slot: int) -> None:
        """The same for one flow and those that leave by it."""
        slots = [slot]
        if (found := self._crossbar.flows.get(slot)) is not None:
            slots += found.feeders
        self._merge(np.array([self._entries[one].row for one in slots if one in self._entries], np.intp))

    def _way(self, found: Flow | None) -> tuple[Way, int] | None:
        """Say how the kernel may forward a flow's RTP; None when user space must see it."""
        if found is None or found.settings.content not in _CARRIED or not found.settings.validate:
            return None
        table, slot, local = self._table, found.slot, found.local
        remote, egress = found.expected, found.connected.get(2 * slot)
        if remote is None or egress is None or not found.latch.latched or local.host not in self._kernel.hosts:
            return None
        if int(table.flags[slot]) & _SETTLED != _SETTLED or not int(table.accept[slot]) & Kind.RTP:
            return None
        out = self._crossbar.flows.get(egress)
        target = None if out is None else out.aimed
        if out is None or target is None or not out.latch.latched or target in self._crossbar.locals:
            return None
        if (":" in remote.host) != (":" in target.host):
            # Bridging between the families needs another header.
            return None
        rules = found.settings
        way = Way(local, remote, out.local, target, rules.size_limit, rules.packet_rate_limit, out.settings.tos or 0)
        return way, egress

    def _offload(self, slot: int, way: Way, egress: int) -> None:
        entry, mark = key(way.local), self._marks.pop(slot, None)
        value = self._kernel.inherited.get(entry)
        if value is not None:
            if same_way(value, flow(way, 0)) and self._kernel.adopt(entry):
                self._adopt(slot, way, egress, value, mark)
                return
            self._kernel.disown(entry)
        row, serial = self._kernel.take(), self._kernel.serial()
        if row is None:
            self.sums.full += 1
            return
        self._begin(slot, row)
        if not self._kernel.put(entry, flow(way, row, serial)):
            self._kernel.give_back(row)
            self.sums.full += 1
            return
        self._enter(slot, _Entry(way, row, egress, serial))
        self.sums.offloaded += 1

    def _enter(self, slot: int, entry: _Entry) -> None:
        self._slot[entry.row], self._egress[entry.row] = slot, entry.egress
        self._entries[slot] = entry
        self._live = None

    def _adopt(self, slot: int, way: Way, egress: int, value: bytes, mark: KernelMark | None) -> None:
        """Take over a flow that the kernel forwards already: what it counted after the mark is new."""
        row, serial = row_of(value), serial_of(value)
        seen = self._rows[row : row + 1].view(ROW).copy()
        if mark is not None and mark.serial == serial:
            for name in _COUNTED:
                seen[name] = getattr(mark, name)
            spanned = mark.run
        else:
            # It was offloaded after the figures were written: all of it is new, and what was lost before is unknown.
            now = seen[0].item()
            spanned = _run(now) - now[_PACKETS]
            for name in ("packets", "bytes", "limited", "duplicates", "reordered"):
                seen[name] = 0
        seen["arrival"] = seen["started"] = 0
        self._seen[row] = seen.view(_WHOLE)[0]
        self._table.expected_before[slot] = -spanned
        self._enter(slot, _Entry(way, row, egress, serial))
        self.sums.adopted += 1

    def _disown(self, found: Flow | None) -> None:
        """A new flow on a port is none of those that the kernel may know by it."""
        if found is not None and not found.latch.latched:
            self._kernel.disown(key(found.local))

    def _withdraw(self, slot: int, entry: _Entry) -> None:
        self._kernel.remove(key(entry.way.local))
        del self._entries[slot]
        self._live = None
        self._merge(np.array([entry.row], np.intp))
        if slot not in self._crossbar.flows:
            # Nobody is left to count for; the row of the table may soon be another flow's.
            self._slot[entry.row] = -1
        if entry.egress not in self._crossbar.flows:
            self._egress[entry.row] = -1
        self._leaving.append(entry.row)
        self.sums.withdrawn += 1

    def _begin(self, slot: int, row: int) -> None:
        """Let the kernel carry on where the table is."""
        table = self._table
        fresh = np.zeros(1, ROW)
        for name in ("base_sequence", "max_sequence", "last_sequence", "ssrc", "timestamp", "payload_type", "started"):
            fresh[name] = getattr(table, name)[slot]
        fresh["arrival"] = int(table.arrival[slot] * NANO)
        fresh["jitter"] = int(table.jitter[slot] * NANO * _JITTER_UNIT)
        fresh["tick"] = _tick(float(table.clock_rate[slot]))
        self._rows[row] = self._seen[row] = fresh.view(_WHOLE)[0]

    def _merge(self, rows: Rows) -> None:
        current = self._count(rows)
        if current is None:
            return
        rows, now, before = current
        heard = np.flatnonzero(now["arrival"] != before["arrival"])
        if not len(heard):
            return
        if len(heard) < len(rows):
            rows, now, before = rows[heard], _some(now, heard), _some(before, heard)
        table, slots = self._table, self._slot[rows]
        table.expected_before[slots] += (now["expected_before"] - before["expected_before"]).astype(np.int64)
        table.duplicates[slots] += now["duplicates"] - before["duplicates"]
        table.reordered[slots] += now["reordered"] - before["reordered"]
        same = (table.ssrc[slots] == now["ssrc"]) & (table.base_sequence[slots] == now["base_sequence"])
        # Packets that took the other path meanwhile may have been ahead.
        highest = np.where(same, np.maximum(table.max_sequence[slots], now["max_sequence"]), now["max_sequence"])
        table.max_sequence[slots] = highest
        table.base_sequence[slots] = now["base_sequence"]
        table.last_sequence[slots] = now["last_sequence"]
        table.ssrc[slots] = now["ssrc"]
        table.timestamp[slots] = now["timestamp"]
        table.arrival[slots] = now["arrival"] / NANO
        table.jitter[slots] = now["jitter"] / (_JITTER_UNIT * NANO)
        table.started[slots] = True
        changed = np.flatnonzero((table.payload_type[slots] != now["payload_type"]) | (before["started"] == 0))
        for index in changed.tolist():
            self._retune(int(slots[index]), int(rows[index]), int(now["payload_type"][index]))

    def _count(self, rows: Rows) -> tuple[Rows, NDArray[Any], NDArray[Any]] | None:
        """Add packets and octets of rows that moved; give those rows, as they are and as they were."""
        if not len(rows):
            return None
        octets, seen = self._rows[rows], self._seen[rows]
        now, before = octets.view(ROW), seen.view(ROW)
        moved = np.flatnonzero(
            (now["packets"] != before["packets"])
            | (now["arrival"] != before["arrival"])
            | (now["limited"] != before["limited"])
        )
        if not len(moved):
            return None
        if len(moved) < len(rows):
            rows, octets, before = rows[moved], octets[moved], _some(before, moved)
            now = octets.view(ROW)
        self._seen[rows] = octets
        packets, amount = now["packets"] - before["packets"], now["bytes"] - before["bytes"]
        self.sums.packets += int(packets.sum())
        self.sums.bytes += int(amount.sum())
        table, slots, egress = self._table, self._slot[rows], self._egress[rows]
        open_ = np.flatnonzero(slots >= 0)
        slots = slots[open_]
        # A flow may have a row that is leaving beside its new one, and several flows may leave by the same.
        np.add.at(table.packets_in, slots, packets[open_])
        np.add.at(table.bytes_in, slots, amount[open_])
        np.add.at(table.received, slots, packets[open_])
        np.add.at(table.drops[:, _LIMITED], slots, (now["limited"] - before["limited"])[open_])
        heard = now["last"][open_] / NANO
        np.maximum.at(table.last_in, slots, heard)
        np.maximum.at(table.last_accepted, slots, heard)
        unheard = slots[table.first_in[slots] == 0]
        table.first_in[unheard] = table.last_in[unheard]
        out = np.flatnonzero(egress >= 0)
        np.add.at(table.packets_out, egress[out], packets[out])
        np.add.at(table.bytes_out, egress[out], amount[out])
        return rows, now, before

    def _retune(self, slot: int, row: int, payload_type: int) -> None:
        """The payload type changed, and with it perhaps the clock that jitter is reckoned by."""
        rate = self._crossbar.clock_rate(slot, payload_type)
        self._table.payload_type[slot] = payload_type
        self._table.clock_rate[slot] = rate
        self._kernel.rows["tick"][row] = _tick(rate)


def _some(rows: NDArray[Any], chosen: Rows) -> NDArray[Any]:
    return rows.view(_WHOLE)[chosen].view(ROW)


_COUNTED = ("packets", "bytes", "limited", "duplicates", "reordered", "expected_before")
_NAMES = ROW.names or ()
_counted = itemgetter(*map(_NAMES.index, _COUNTED))
_PACKETS, _BASE, _MAX, _STARTED = map(_NAMES.index, ("packets", "base_sequence", "max_sequence", "started"))


def _run(row: tuple[int, ...]) -> int:
    """What the present run of sequence numbers spans."""
    return row[_MAX] - row[_BASE] + 1 if row[_STARTED] else 0


def _tick(clock_rate: float) -> int:
    return round(NANO * _TICK_UNIT / clock_rate)
