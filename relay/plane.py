"""The seam between deciding and carrying: what the engine tells a data plane, and what it reads back.

A flow is one component's local socket with its ingress rules and its way out. The engine lives in the control
thread; each data thread owns its flows' learned state. Instructions are queued and carried out in order between
two batches, counters are read without asking.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import field
from typing import Protocol

from nattrav.net.address import TransportAddress
from nattrav.net.immutable import immutable
from nattrav.net.options import Socket
from relay.session import Learning


class DropReason(enum.Enum):
    """Why a datagram was not passed on: metric label, counter and the word in `explain`."""

    NO_PEER = "no_peer"
    SOURCE_MISMATCH = "source_mismatch"
    WORSE_CANDIDATE = "worse_candidate"
    NOT_RTP = "not_rtp"
    MALFORMED = "malformed"
    NOT_ANSWERED = "not_answered"
    WRONG_LOCAL = "wrong_local"
    ON_HOLD = "on_hold"
    BLOCKED = "blocked"
    NAT_WAIT = "nat_wait"
    LATE = "late"
    TOO_BIG = "too_big"
    RATE_LIMITED = "rate_limited"
    SEND_ERROR = "send_error"
    QUEUE_FULL = "queue_full"
    LOOP = "loop"

    __hash__ = object.__hash__


class Rank(enum.IntEnum):
    """How close a source is to what signalling said, best first; the latch never prefers a worse one."""

    EXACT = 0
    SAME_HOST = 1
    SIGNALLING_HOST = 2
    SAME_PORT = 3
    NEITHER = 4


class Content(enum.Enum):
    """What a flow's datagrams must be (RFC 7983, RFC 5761)."""

    RTP = "rtp"
    RTCP = "rtcp"
    MUX = "mux"
    DATAGRAM = "datagram"

    __hash__ = object.__hash__


@immutable
class FlowSettings:
    """Rules of one flow. `egress` carries RTP and datagrams on, `egress_rtcp` RTCP; None = nowhere yet.

    advertised          where this party's SDP wants packets for this component; also rank EXACT of its source
    signalling_host     where its SIP came from, when the driver said so
    public              our address of this flow was handed out to the party: packets may be learned from
    may_send            the party's direction and no block let RTP from it through (RTCP always passes)
    asymmetric          packets go to `advertised`, whatever was learned
    selected            this local address is the one the party's SDP was last given; packets elsewhere teach nothing
    continuity          a source that carries the stream on (same SSRC, next sequence numbers) may replace a silent one
    events              payload types of telephone events (RFC 4733), which a block lets through
    companion           on an RTCP flow: the same party's RTP flow, whose latched host ranks as SAME_HOST here
    """

    content: Content
    advertised: TransportAddress | None = None
    signalling_host: str | None = None
    learning: Learning = Learning.HEURISTIC
    strict: bool = True
    handover: bool = False
    asymmetric: bool = False
    public: bool = False
    selected: bool = True
    continuity: bool = False
    companion: int | None = None
    may_send: bool = True
    blocked: bool = False
    nat_wait: bool = False
    pierce: bool = False
    validate: bool = True
    payload_types: frozenset[int] = frozenset()
    clock_rates: tuple[tuple[int, int], ...] = ()
    events: frozenset[int] = frozenset()
    secured: bool = False
    egress: int | None = None
    egress_rtcp: int | None = None
    packet_rate_limit: int = 1000
    size_limit: int = 1500
    window: float = 3.0
    tos: int | None = None


@immutable
class KernelMark:
    """Where the kernel's own counters of an offloaded flow stood when its figures were read.

    `serial` tells one offloading of the flow from the next; `run` is what the run of sequence numbers so far spans.
    """

    serial: int
    packets: int
    bytes: int
    limited: int
    duplicates: int
    reordered: int
    expected_before: int
    run: int


@immutable
class Learned:
    """What a flow knows of its party's real address; also what a snapshot stores and a restart gives back.

    `mark` comes with a restart only: from there on the kernel's counters have not been counted yet.
    """

    target: TransportAddress | None = None
    source: TransportAddress | None = None
    latched: bool = False
    rank: Rank | None = None
    since: float = 0.0
    mark: KernelMark | None = None


@immutable
class RtpFigures:
    """RFC 3550 figures of one received RTP stream. Jitter is in seconds."""

    ssrc: int = 0
    payload_type: int = 0
    expected: int = 0
    received: int = 0
    lost: int = 0
    reordered: int = 0
    duplicates: int = 0
    jitter: float = 0.0
    highest_sequence: int = 0
    timestamp: int = 0


@immutable
class ReportFigures:
    """What a party's RTCP last said of the stream we send it, and the way there and back (seconds; 0 = not measured).

    `fraction_lost` is 0 to 1 since its report before, `jitter` in seconds.
    """

    fraction_lost: float = 0.0
    cumulative_lost: int = 0
    jitter: float = 0.0
    round_trip: float = 0.0
    at: float = 0.0


@immutable
class FlowFigures:
    """Counters of one flow. Times are monotonic seconds; 0 = never. With a `mark` the kernel forwards its RTP now."""

    packets_in: int = 0
    bytes_in: int = 0
    packets_out: int = 0
    bytes_out: int = 0
    rtcp_in: int = 0
    first_in: float = 0.0
    last_in: float = 0.0
    last_accepted: float = 0.0
    drops: dict[DropReason, int] = field(default_factory=dict)
    learned: Learned = Learned()
    rtp: RtpFigures = RtpFigures()
    reported: ReportFigures = ReportFigures()
    mark: KernelMark | None = None

    @property
    def offloaded(self) -> bool:
        """The kernel forwards its RTP now."""
        return self.mark is not None


class FlowEventKind(enum.Enum):
    """What a data thread tells about a flow without being asked."""

    LEARNED = "learned"
    LATCHED = "latched"
    RELEARNED = "relearned"
    REJECTED = "rejected"

    __hash__ = object.__hash__


@immutable
class FlowEvent:
    """One learning event, for `explain`: which source, how close to signalling, when."""

    flow: int
    kind: FlowEventKind
    source: TransportAddress
    rank: Rank
    at: float
    reason: DropReason | None = None


class Plane(Protocol):
    """A data plane, as the engine uses it. Flow numbers are unique over all threads and never reused while open."""

    def room(self, shard: int) -> int:
        """Count the flows that data thread `shard` can still take; ask before `open`."""

    def open(
        self,
        sock: Socket,
        local: TransportAddress,
        settings: FlowSettings,
        *,
        shard: int,
        learned: Learned | None = None,
    ) -> int:
        """Take over a bound socket as a new flow of data thread `shard`; return its number."""

    def set(self, flow: int, settings: FlowSettings, *, relearn: bool) -> None:
        """Change a flow's rules. `relearn` opens a new learning window, as accepted signalling does."""

    def close(self, flow: int) -> FlowFigures:
        """Stop a flow, close its socket, and give its last figures."""

    def figures(self, flow: int) -> FlowFigures:
        """Read one flow's counters."""

    def last_accepted(self, flows: Sequence[int]) -> float:
        """Latest time any of these flows received a packet that was not dropped; 0 if never."""

    def received(self, flows: Sequence[int]) -> list[int]:
        """Count the packets that came to each of many flows, cheaply."""

    def sums(self, flows: Sequence[int] | None = None) -> FlowFigures:
        """Add up the counters of some flows, or of all open ones; times, latches and the like are left out."""

    def events(self) -> list[FlowEvent]:
        """Take the events since the last call (bounded; the oldest are lost first)."""

    @property
    def shards(self) -> int:
        """Number of data threads."""
