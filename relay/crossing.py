"""What the crossbar keeps of one flow, apart from the columns of the table."""

from __future__ import annotations

from dataclasses import dataclass, field

from nattrav.net.address import TransportAddress
from relay.latching import Latch
from relay.plane import FlowSettings, Learned, ReportFigures
from relay.rtcp import RoundTrip


@dataclass(frozen=True, slots=True)
class Exit:
    """A way of its own by which packets leave a flow for one party.

    file    what sends name the socket by: a second one connected to the party, or a packet socket
    header  with a packet socket, what goes before each payload (`nattrav.net.headers`)
    """

    file: int
    peer: TransportAddress
    header: bytes = b""


@dataclass(slots=True)
class Flow:
    """One open flow, apart from what is in the table's columns."""

    number: int
    slot: int
    local: TransportAddress
    settings: FlowSettings
    latch: Latch
    feeders: set[int] = field(default_factory=set)
    """Slots whose packets leave by this flow."""
    followers: set[int] = field(default_factory=set)
    """Slots of RTCP flows whose companion this is."""
    learned: Learned = field(default_factory=Learned)
    valid: int = 0
    """Bits of `Kind` that the flow may carry."""
    expected: TransportAddress | None = None
    aimed: TransportAddress | None = None
    sendable: bool = False
    """`aimed` is the target in the table, and packets may go there."""
    trip: RoundTrip = field(default_factory=RoundTrip)
    reported: ReportFigures = field(default_factory=ReportFigures)
    severed: list[int] = field(default_factory=list)
    """Slots of ways out that were closed since the rules were set."""
    connected: dict[int, int] = field(default_factory=dict)
    """Route → slot it leaves by, as the table has it."""
    through: dict[int, Exit | None] = field(default_factory=dict)
    """Route → that slot's exit, if packets leave by it."""
    exit: Exit | None = None
    exit_failed: TransportAddress | None = None
    """The party of an exit that reported an error."""


@dataclass(frozen=True, slots=True)
class Pierce:
    """Ask the shell to send an opening packet from a flow's socket."""

    slot: int
    target: TransportAddress
