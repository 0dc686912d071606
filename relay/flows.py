"""The flow table: one row per flow, one numpy column per fact, so that a batch reads and writes it with few calls.

Columns are reserved at full capacity. The kernel gives memory only to pages that are touched, and rows are
handed out lowest first, so the table costs what is used, never moves, and its addresses may stand in kernel requests.

A flow has two ways out, numbered `2 * slot` for RTP and datagrams and `2 * slot + 1` for RTCP: its routes.
"""

from __future__ import annotations

import enum
import heapq
import mmap
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nattrav.net.address import SOCKADDR_IN, SOCKADDR_IN6, SOCKADDR_ROW, TransportAddress, to_row
from nattrav.net.frames import PAYLOAD
from nattrav.net.headers import AHEAD_AT, ROW, ahead_of, fit
from nattrav.net.uring import OP_SEND, SQE, SQE_FIXED_FILE, SQE_SKIP_SUCCESS, SQE_WORDS
from relay.plane import DropReason, FlowFigures, Learned, ReportFigures, RtpFigures
from relay.rtp import Kind

REASONS = tuple(DropReason)
CODE = {reason: index + 1 for index, reason in enumerate(REASONS)}
"""Drop reasons as small numbers; 0 is none."""

CAPACITY = 1 << 17

NOWHERE = 0xFFFF
"""Address family that no packet has: a flow that expects it recognises no source."""

MSG_DONTWAIT = 0x40
_SEND = OP_SEND | (SQE_FIXED_FILE | SQE_SKIP_SUCCESS) << 8
_RTP = int(Kind.RTP)

SENT = 1 << 40
"""Marks what the kernel reports about a send; the lower bits are the route."""


class Flag(enum.IntFlag):
    """State bits of a flow that decide about packets from sources it does not expect."""

    OPEN = 1
    PUBLIC = 2
    GUARDED = 4
    """Latched and strict: other sources are refused without thought."""
    OPEN_TO_ALL = 8
    """Any source passes and none teaches."""
    LIMITED = 16
    """Over its packet rate for the current second."""
    REPORTED = 32
    """A refused source has been told about since the last latch."""
    SELECTED = 64
    EXIT = 128
    """Packets to the party leave by a way of its own."""


# One row holds all of a flow side by side: the first cache line is what every packet asks, the rest what is counted.
_ROW = np.dtype(
    {
        "names": [
            # which source passes without thought, as socket address words; six = all ones for IPv6
            *("expect0", "expect1", "expect2", "six"),
            # bits of rtp.Kind: what the flow can pass on now, and what it may carry at all
            *("size_limit", "accept", "valid", "flags"),
            "file",
            # expect0 while media passes, else nowhere: all that most packets ask
            "road",
            # limits
            *("rate_limit", "rate_count", "rate_second"),
            # counters
            *("packets_in", "bytes_in", "packets_out", "bytes_out", "rtcp_in"),
            *("first_in", "last_in", "last_accepted"),
            # RFC 3550 state of the stream that arrives; sequence numbers are extended to 64 bits
            *("ssrc", "timestamp", "arrival", "clock_rate", "jitter"),
            *("base_sequence", "max_sequence", "last_sequence", "expected_before"),
            *("received", "reordered", "duplicates"),
            *("payload_type", "started"),
            # payload types 64 to 127 that a block lets through, as bits
            "events",
        ],
        "formats": [
            *("u8", "u8", "u8", "u8"),
            *("i4", "u1", "u1", "u1"),
            "i4",
            "u8",
            *("u4", "u4", "i8"),
            *("u8", "u8", "u8", "u8", "u8"),
            *("f8", "f8", "f8"),
            *("u4", "u4", "f8", "f8", "f8"),
            *("i8", "i8", "i8", "i8"),
            *("u8", "u8", "u8"),
            *("u1", "?"),
            "u8",
        ],
        "offsets": [
            *(0, 8, 16, 24),
            *(32, 36, 37, 38),
            40,
            48,
            *(224, 228, 232),
            *(64, 72, 80, 88, 96),
            *(104, 112, 120),
            *(128, 132, 136, 144, 152),
            *(160, 168, 176, 184),
            *(192, 200, 208),
            *(216, 217),
            240,
        ],
        "itemsize": 256,
    }
)


_WORDS = struct.Struct("=3Q")
_WAY_OUT = struct.Struct("=8Q")
_REASONS_OCTETS = 8 * len(REASONS)
_NO_DROPS = bytes(_REASONS_OCTETS)
_NO_EGRESS = struct.pack("=ii", -1, -1)
_NO_PEER = bytes((CODE[DropReason.NO_PEER],)) * 2


def _blank() -> bytes:
    row = np.zeros((), _ROW)
    row["clock_rate"] = 8000.0
    row["expect0"] = row["road"] = NOWHERE
    return row.tobytes()


_BLANK = _blank()
_ROW_OCTETS = len(_BLANK)


class TableFull(Exception):
    """Every row is in use."""


class Cells:
    """Columns for whoever works on one row at a time: indexing these costs a third of what numpy's indexing does."""

    __slots__ = ("accept", "expect0", "expect1", "expect2", "file", "flags", "hold", "rate_limit", "road", "valid")

    def __init__(self, table: FlowTable) -> None:
        self.flags = table.flags.data
        self.valid = table.valid.data
        self.accept = table.accept.data
        self.expect0 = table.expect0.data
        self.expect1 = table.expect1.data
        self.expect2 = table.expect2.data
        self.road = table.road.data
        self.file = table.file.data
        self.rate_limit = table.rate_limit.data
        self.hold = table.hold.data


class FlowTable:
    """Rows of flows, each field of `_ROW` as an array over all rows.

    `drops` is (capacity, reasons); `hold` (a drop reason's code, 0 = free), `egress` (slot or -1), `routes` (ready
    made sends) and `headers` (rows of `nattrav.net.headers`, for routes whose packets leave as frames) are per route.
    """

    expect0: NDArray[np.uint64]
    expect1: NDArray[np.uint64]
    expect2: NDArray[np.uint64]
    six: NDArray[np.uint64]
    road: NDArray[np.uint64]
    valid: NDArray[np.uint8]
    accept: NDArray[np.uint8]
    flags: NDArray[np.uint8]
    size_limit: NDArray[np.int32]
    rate_limit: NDArray[np.uint32]
    rate_count: NDArray[np.uint32]
    rate_second: NDArray[np.int64]
    file: NDArray[np.int32]
    hold: NDArray[np.uint8]
    egress: NDArray[np.int32]
    packets_in: NDArray[np.uint64]
    bytes_in: NDArray[np.uint64]
    packets_out: NDArray[np.uint64]
    bytes_out: NDArray[np.uint64]
    rtcp_in: NDArray[np.uint64]
    first_in: NDArray[np.float64]
    last_in: NDArray[np.float64]
    last_accepted: NDArray[np.float64]
    started: NDArray[np.bool_]
    ssrc: NDArray[np.uint32]
    payload_type: NDArray[np.uint8]
    events: NDArray[np.uint64]
    clock_rate: NDArray[np.float64]
    timestamp: NDArray[np.uint32]
    arrival: NDArray[np.float64]
    base_sequence: NDArray[np.int64]
    max_sequence: NDArray[np.int64]
    last_sequence: NDArray[np.int64]
    expected_before: NDArray[np.int64]
    received: NDArray[np.uint64]
    reordered: NDArray[np.uint64]
    duplicates: NDArray[np.uint64]
    jitter: NDArray[np.float64]

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self._rows: NDArray[np.void] = _reserve(capacity, _ROW)
        for name in _ROW.names or ():
            setattr(self, name, self._rows[name])
        self.hold = _reserve(2 * capacity, np.dtype("u1"))
        self.egress = _reserve(2 * capacity, np.dtype("i4"))
        self.drops: NDArray[np.uint64] = _reserve(capacity * len(REASONS), np.dtype("u8")).reshape(capacity, -1)
        self.targets: NDArray[np.uint8] = _reserve(capacity * SOCKADDR_ROW, np.dtype("u1")).reshape(capacity, -1)
        self._targets_at = int(self.targets.ctypes.data)
        self.route_words: NDArray[np.uint64] = _reserve(2 * capacity * SQE_WORDS, np.dtype("u8")).reshape(-1, SQE_WORDS)
        self.routes: NDArray[np.void] = self.route_words.reshape(-1).view(SQE)
        self.headers: NDArray[np.void] = _reserve(2 * capacity, ROW)
        self.framed: set[int] = set()
        """Routes whose packets leave as frames."""
        self.cells = Cells(self)
        self._row_octets = _octets(self._rows)
        self._drop_octets = _octets(self.drops)
        self._target_octets = _octets(self.targets)
        self._route_octets = _octets(self.route_words)
        self._egress_octets = _octets(self.egress)
        self._header_octets = _octets(self.headers)
        self._free: list[int] = []
        self._high = 0
        self.least_limit = 1500
        """The smallest size limit of any flow so far: what is not longer needs no look at its flow's own."""
        self.wide = 0
        """Open IPv6 flows: only with them are whole IPv6 addresses compared."""

    def take(self) -> int:
        """Reserve the lowest free row, made ready for a new flow. Raises TableFull."""
        if self._free:
            slot = heapq.heappop(self._free)
        elif self._high < self.capacity:
            slot = self._high
            self._high += 1
        else:
            raise TableFull(f"{self.capacity} flows are open, this data thread has room for no more")
        self.begin(slot)
        return slot

    @property
    def room(self) -> int:
        """Rows that are free."""
        return self.capacity - self._high + len(self._free)

    def give_back(self, slot: int) -> None:
        """Make a row free again."""
        heapq.heappush(self._free, slot)

    def begin(self, slot: int) -> None:
        """Make a row ready for a new flow."""
        self.framed.difference_update((2 * slot, 2 * slot + 1))
        self._row_octets[_ROW_OCTETS * slot : _ROW_OCTETS * (slot + 1)] = _BLANK
        self._drop_octets[_REASONS_OCTETS * slot : _REASONS_OCTETS * (slot + 1)] = _NO_DROPS
        self._egress_octets[8 * slot : 8 * slot + 8] = _NO_EGRESS
        self.cells.hold[2 * slot : 2 * slot + 2] = _NO_PEER

    def expect(self, slot: int, source: TransportAddress | None) -> None:
        """Say which source passes without thought."""
        cells = self.cells
        if source is None:
            cells.expect0[slot] = NOWHERE
        else:
            cells.expect0[slot], cells.expect1[slot], cells.expect2[slot] = source_words(source)
        self._set_road(slot)

    def accept_kinds(self, slot: int, kinds: int) -> None:
        """Say what the flow can pass on now, as bits of `rtp.Kind`."""
        self.cells.accept[slot] = kinds
        self._set_road(slot)

    def _set_road(self, slot: int) -> None:
        cells = self.cells
        cells.road[slot] = cells.expect0[slot] if cells.accept[slot] & _RTP else NOWHERE

    def set_target(self, slot: int, target: TransportAddress) -> None:
        """Say where packets that leave by this flow go."""
        self._target_octets[SOCKADDR_ROW * slot : SOCKADDR_ROW * (slot + 1)] = to_row(target)

    def connect(self, route: int, egress: int, address_length: int, file: int | None = None) -> None:
        """Make a route leave by flow `egress` to that flow's target: by its socket, or by its connected twin `file`."""
        self.egress[route] = egress
        self.framed.discard(route)
        if file is None:
            self._write(route, self.cells.file[egress], self._targets_at + egress * SOCKADDR_ROW, address_length)
        else:
            self._write(route, file, 0, 0)

    def connect_framed(self, route: int, egress: int, file: int, header: bytes) -> None:
        """Make packets of a route leave as frames through the packet socket `file`, behind `header`.

        Only what fits `header` does; the rest goes as `connect` would have it.
        """
        self.egress[route] = egress
        self.framed.add(route)
        # Before the route says that it is to be used.
        self._header_octets[PAYLOAD * route : PAYLOAD * (route + 1)] = header
        self._write(route, file, 0, 0, header[AHEAD_AT])

    def fit_headers(self, routes: NDArray[np.intp], lengths: NDArray[np.int32]) -> None:
        """Have the headers of routes be for payloads of these lengths from now on; the last of several counts."""
        rows = self.headers[routes]
        written = ahead_of(rows) != 0
        rows, routes = rows[written], routes[written]
        fit(rows, lengths[written])
        self.headers[routes] = rows

    def by_socket(self, routes: NDArray[np.intp]) -> NDArray[np.uint64]:
        """Give sends, as in `routes`, by the sockets of the flows that routes lead to, whatever exits these have."""
        egress = self.egress[routes]
        found = self.route_words[routes]
        found[:, 0] = np.uint64(_SEND) | self.file[egress].astype(np.uint64) << np.uint64(32)
        found[:, 1] = np.uint64(self._targets_at) + egress.astype(np.uint64) * np.uint64(SOCKADDR_ROW)
        found[:, 2:4] = 0, MSG_DONTWAIT << 32
        six = self.six[egress] != 0
        found[:, 5] = np.where(six, SOCKADDR_IN6 << 32, SOCKADDR_IN << 32)
        return found

    def _write(self, route: int, file: int, address: int, address_length: int, ahead: int = 0) -> None:
        # Whoever sends adds the payload's address to word 2 and its length to word 3.
        _WAY_OUT.pack_into(
            self._route_octets,
            8 * SQE_WORDS * route,
            _SEND | file << 32,
            address,
            -ahead & 0xFFFFFFFFFFFFFFFF,
            MSG_DONTWAIT << 32 | ahead,
            SENT | route,
            address_length << 32,
            0,
            0,
        )

    def drop(self, slot: int, reason: DropReason, count: int = 1) -> None:
        """Count datagrams that were not passed on."""
        self.drops[slot, CODE[reason] - 1] += np.uint64(count)

    def drop_totals(self) -> dict[DropReason, int]:
        """Sum the drops of all rows; a row keeps its drops until it is taken again."""
        sums = self.drops[: self._high].sum(axis=0).tolist()
        return {reason: int(count) for reason, count in zip(REASONS, sums, strict=True) if count}

    def sums(self, rows: NDArray[np.intp] | None = None) -> FlowFigures:
        """Add up the counters of some rows, or of all open ones."""
        if rows is None:
            rows = np.flatnonzero(self.flags[: self._high] & np.uint8(Flag.OPEN))
        heard = rows[self.started[rows]]
        expected = int((self.expected_before[heard] + self.max_sequence[heard] - self.base_sequence[heard] + 1).sum())
        received, duplicates = int(self.received[heard].sum()), int(self.duplicates[heard].sum())
        drops = self.drops[rows].sum(axis=0).tolist()
        return FlowFigures(
            packets_in=int(self.packets_in[rows].sum()),
            bytes_in=int(self.bytes_in[rows].sum()),
            packets_out=int(self.packets_out[rows].sum()),
            bytes_out=int(self.bytes_out[rows].sum()),
            rtcp_in=int(self.rtcp_in[rows].sum()),
            drops={reason: int(count) for reason, count in zip(REASONS, drops, strict=True) if count},
            rtp=RtpFigures(
                expected=expected,
                received=received,
                lost=max(0, expected - (received - duplicates)),
                reordered=int(self.reordered[heard].sum()),
                duplicates=duplicates,
            ),
        )

    def figures(self, slot: int, learned: Learned, reported: ReportFigures) -> FlowFigures:
        """Read one row."""
        found: dict[DropReason, int] = {}
        if self._drop_octets[_REASONS_OCTETS * slot : _REASONS_OCTETS * (slot + 1)] != _NO_DROPS:
            found = {reason: count for reason, count in zip(REASONS, self.drops[slot].tolist(), strict=True) if count}
        if not (self.packets_in[slot] or self.packets_out[slot]):
            return FlowFigures(drops=found, learned=learned, reported=reported)
        row = dict(zip(_FIELDS, self._rows[slot].item(), strict=True))
        return FlowFigures(
            packets_in=row["packets_in"],
            bytes_in=row["bytes_in"],
            packets_out=row["packets_out"],
            bytes_out=row["bytes_out"],
            rtcp_in=row["rtcp_in"],
            first_in=row["first_in"],
            last_in=row["last_in"],
            last_accepted=row["last_accepted"],
            drops=found,
            learned=learned,
            rtp=_rtp(row) if row["started"] else _UNHEARD,
            reported=reported,
        )


_FIELDS = _ROW.names or ()
_UNHEARD = RtpFigures()


def _rtp(row: dict[str, Any]) -> RtpFigures:
    expected = row["expected_before"] + row["max_sequence"] - row["base_sequence"] + 1
    received, duplicates = row["received"], row["duplicates"]
    return RtpFigures(
        ssrc=row["ssrc"],
        payload_type=row["payload_type"],
        expected=expected,
        received=received,
        lost=max(0, expected - (received - duplicates)),
        reordered=row["reordered"],
        duplicates=duplicates,
        jitter=row["jitter"],
        highest_sequence=row["max_sequence"],
        timestamp=row["timestamp"],
    )


def source_words(source: TransportAddress) -> tuple[int, int, int]:
    """Give a socket address as the three words that frames show of it."""
    return _WORDS.unpack_from(to_row(source))


def _octets(columns: NDArray[Any]) -> memoryview:
    return columns.reshape(-1).view(np.uint8).data


def _reserve(count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.frombuffer(mmap.mmap(-1, max(1, count * dtype.itemsize)), dtype, count)
