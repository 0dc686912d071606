"""What the engine remembers of a session: its parties, their legs, and the ports of each leg.

A leg's ports are those its party sends to. `PortSet` is one RTP port with its RTCP mate; a leg has several when the
party it hears moved to another address and the ports shown follow that address (relay without port latching).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from nattrav.net.address import TransportAddress
from nattrav.net.options import Socket
from relay.interfaces import LocalAddress
from relay.plane import FlowEvent, FlowFigures, FlowSettings, Learned
from relay.quality import NO_QUALITY, QualityHistory
from relay.session import Carriage, Direction, PartyMedia, RtcpMux, SideOptions

NOT_OPEN = -1


@dataclass(slots=True, eq=False)
class Port:
    """One bound local port. `before` are figures from before a restart, `last` those at its closing.

    `pair` counts the pairs of an `m=` line with a port count, from 0.
    """

    number: int
    sock: Socket | None
    rtcp: bool = False
    pair: int = 0
    flow: int = NOT_OPEN
    settings: FlowSettings | None = None
    learned: Learned | None = None
    before: FlowFigures | None = None
    last: FlowFigures | None = None
    seen: FlowFigures | None = None
    """Its figures when the session was surveyed last."""


@dataclass(slots=True, eq=False)
class PortSet:
    """The ports of one leg at one local address, shown while the other party's media came from `peer`."""

    local: LocalAddress
    rtp: Port
    rtcp: Port | None
    peer: TransportAddress | None = None
    more: tuple[Port, ...] = ()
    """RTP and RTCP ports of further pairs, next to each other."""

    def ports(self) -> tuple[Port, ...]:
        """RTP, then RTCP if it is open, then those of further pairs."""
        return ((self.rtp,) if self.rtcp is None else (self.rtp, self.rtcp)) + self.more

    @property
    def pairs(self) -> int:
        """How many pairs of ports there are."""
        return 1 + self.more[-1].pair if self.more else 1

    def flow(self, pair: int, *, rtcp: bool) -> int | None:
        """The open flow of one pair's RTP or RTCP; RTP carries both where there is no RTCP port."""
        found: Port | None = (self.rtcp or self.rtp) if rtcp else self.rtp
        if pair:
            of_pair = [port for port in self.more if port.pair == pair]
            found = next((port for port in of_pair if port.rtcp == rtcp), of_pair[0]) if of_pair else None
        return None if found is None or found.flow == NOT_OPEN else found.flow


@dataclass(slots=True, eq=False)
class Leg:
    """One party of one stream.

    ports           what the party sends to now; None while the stream is rejected
    pending         what it was told to use by an offer that is not answered yet
    retired         ports it was moved away from, kept because an earlier address gets its ports back
    offered_mux     rtcp-mux was offered to the party and it has not answered yet
    mux             RTP and RTCP share the RTP port on this leg
    heard           payload types of the party's latest two descriptions
    """

    index: int
    party: Party
    media: PartyMedia | None = None
    advertised: TransportAddress | None = None
    advertised_rtcp: TransportAddress | None = None
    null_address: bool = False
    direction: Direction = Direction.SENDRECV
    carriage: Carriage = Carriage.RTP
    changing: bool = False
    ports: PortSet | None = None
    pending: PortSet | None = None
    retired: list[PortSet] = field(default_factory=list)
    offered_mux: bool = False
    mux: bool = False
    muxing: frozenset[RtcpMux] = frozenset()
    heard: tuple[frozenset[int], frozenset[int]] = (frozenset(), frozenset())
    answered_in: int = -1
    history: list[FlowEvent] = field(default_factory=list)
    quality: QualityHistory = NO_QUALITY

    @property
    def shown(self) -> PortSet | None:
        """The ports the party was told last."""
        return self.pending or self.ports

    def signalled(self, port: Port) -> TransportAddress | None:
        """Where the party's SDP wants what one of its ports hears: two ports further on with each pair."""
        address = self.advertised_rtcp if port.rtcp else self.advertised
        if port.pair == 0 or address is None:
            return address
        number = address.port + 2 * port.pair
        counted = self.media is not None and port.pair < self.media.port_count and number <= 65535
        return address._replace(port=number) if counted else None

    def forget_ports(self) -> None:
        """Drop ports that were closed; the stream may come back with others."""
        self.ports = self.pending = None
        self.retired.clear()
        self.mux = self.offered_mux = self.changing = False

    def sets(self) -> list[PortSet]:
        """Every open port set, the current one first."""
        found = [] if self.ports is None else [self.ports]
        if self.pending is not None:
            found.append(self.pending)
        return found + self.retired


@dataclass(slots=True, eq=False)
class Party:
    """One side of a dialogue, named by its tag once it has one.

    partner     the party its media goes to now
    branch      via-branch of the offer that was forked to it
    offers      how many offers it made
    final       it sent a final response: a further tag is another party, not an alias
    going       monotonic time at which a delayed delete takes it away
    """

    tag: str | None
    created: float
    branch: str | None = None
    aliases: list[str] = field(default_factory=list)
    partner: Party | None = None
    interface: str | None = None
    family: int | None = None
    options: SideOptions = field(default_factory=SideOptions)
    label: str | None = None
    public: bool = False
    answered: bool = False
    offers: int = 0
    final: bool = False
    blocked: bool = False
    going: float | None = None
    legs: list[Leg] = field(default_factory=list)

    def untie(self) -> None:
        """Break the reference cycles of a party that has left, so that it is freed without a garbage collection."""
        self.partner = None
        self.legs.clear()

    def leg(self, index: int) -> Leg | None:
        """The leg of the stream number `index` (from 0), if there is one."""
        return self.legs[index] if index < len(self.legs) else None


class Condition(enum.Enum):
    """What is wrong with an answered session's media as a whole."""

    ONE_WAY = "one_way"
    NO_MEDIA = "no_media"


class SessionState(enum.Enum):
    """How far a session's signalling has come."""

    OFFERED = "offered"
    ANSWERED = "answered"


@dataclass(slots=True, eq=False)
class Session:
    """One call: its parties in the order they appeared, found by tag, alias or via-branch."""

    call_id: str
    created: float
    shard: int
    parties: list[Party] = field(default_factory=list)
    by_tag: dict[str, Party] = field(default_factory=dict)
    state: SessionState = SessionState.OFFERED
    answered_at: float | None = None
    last_signal: float = 0.0
    resumed: float = 0.0
    """When this process took it over from another one; counts as a packet."""
    signals: int = 0
    tos: int | None = None
    metadata: str | None = None
    blocked: bool = False
    blocked_flows: set[tuple[int, int]] = field(default_factory=set)
    """Positions in `parties` of sender and receiver whose flow is blocked on its own."""
    condition: Condition | None = None
    due: int | None = None
    """Second in which its time-outs are judged next."""

    def by_branch(self, branch: str | None) -> Party | None:
        """The party that an offer with this via-branch was forked to."""
        if branch is None:
            return None
        for party in self.parties:
            if party.branch == branch:
                return party
        return None

    def partners_of(self, party: Party) -> list[Party]:
        """The parties whose media goes to `party`, and the one its own goes to."""
        return [other for other in self.parties if other.partner is party or party.partner is other]

    def media(self, index: int) -> str:
        """The media type of stream number `index`, from 0."""
        for party in self.parties:
            leg = party.leg(index)
            if leg is not None and leg.media is not None:
                return leg.media.media
        return "other"

    def legs(self) -> list[Leg]:
        """Every leg of every party."""
        return [leg for party in self.parties for leg in party.legs]
