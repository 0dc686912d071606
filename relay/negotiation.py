"""One offer or answer carried out on a session: first every port it needs, then the change itself.

Taking ports may fail and touches nothing but the pools. Committing cannot fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nattrav.net.address import TransportAddress
from relay.dialogue import Match
from relay.interfaces import LocalAddress
from relay.legs import NOT_OPEN, Leg, Party, Port, PortSet, Session
from relay.mux import MuxOffer, mux_answer, mux_offer
from relay.session import Carriage, Direction, PartyMedia, Placement, Refusal, SideOptions
from relay.streams import EXHAUSTED, Streams

MAX_PAIRS = 8
"""Pairs of ports that one `m=` line may ask for."""

MAX_PORT_SETS = 8
"""Port sets of one leg; a party whose address changes more often keeps the last one."""

_NO_MUX = MuxOffer(offered=False, fallback=False, settled=False)


@dataclass(slots=True)
class _Row:
    """What a message does to one stream. `sender_mux` and `receiver_mux` are an answer's outcome."""

    media: PartyMedia
    sender: Leg
    receiver: Leg
    closed: bool
    offer: MuxOffer = _NO_MUX
    sender_mux: bool = False
    receiver_mux: bool = False
    sender_ports: PortSet | None = None
    receiver_ports: PortSet | None = None


class Negotiation:
    """Carries out one message from `match.sender` to `match.receiver`."""

    def __init__(
        self,
        session: Session,
        match: Match,
        media: Sequence[PartyMedia],
        options: SideOptions,
        streams: Streams,
        *,
        answer: bool,
    ) -> None:
        self.session = session
        self.match = match
        self.media = media
        self.options = options
        self.streams = streams
        self.answer = answer
        self._rows: list[_Row] = []
        self._taken: list[tuple[LocalAddress, Port]] = []
        self._mates: list[tuple[PortSet, Port]] = []
        self._sender_interface, sender_family = self._interface(match.sender, options.from_interface)
        self._receiver_interface, receiver_family = self._interface(match.receiver, options.to_interface)
        self._sender_family = _family(media) or match.sender.family or sender_family or self._any_family()
        self._receiver_family = (
            options.address_family or match.receiver.family or receiver_family or self._sender_family
        )
        if answer:
            self._receiver_family = match.receiver.family or self._receiver_family

    def _interface(self, party: Party, word: str | None) -> tuple[str, int | None]:
        if party.interface is not None:
            return party.interface, None
        if self.answer and word is None and self.match.receiver.partner is not None:
            known = self.match.receiver.partner.interface
            if known is not None:
                return known, None
        return self.streams.interfaces.resolve(word)

    def _any_family(self) -> int:
        return 4 if self.streams.interfaces.has(self._sender_interface, 4) else 6

    def take_ports(self, now: float) -> None:
        """Open every port that the message needs. Refusal or NoSocket: call `give_back`."""
        if self.answer and len(self.media) > len(self.match.receiver.legs):
            raise Refusal("Incomplete SDP specification")
        for index, media in enumerate(self.media):
            sender = self.match.sender.leg(index) or Leg(index, self.match.sender)
            receiver = self.match.receiver.leg(index) or Leg(index, self.match.receiver)
            closed = media.rejected or media.carriage is Carriage.NONE
            if self.answer and (receiver.media is None or receiver.media.rejected):
                closed = True
            row = _Row(media, sender, receiver, closed)
            self._rows.append(row)
            if not closed:
                (self._answer_ports if self.answer else self._offer_ports)(row, now)
        if self._taken and self.streams.plane.room(self.session.shard) < len(self._taken):
            raise Refusal(EXHAUSTED)

    def give_back(self) -> None:
        """Return what `take_ports` opened."""
        for local, port in self._taken:
            self.streams.put_back(local, port)
        self._taken.clear()

    def _offer_ports(self, row: _Row, now: float) -> None:
        media = row.media
        rtp = media.carriage is Carriage.RTP
        if rtp:
            row.offer = mux_offer(self.options.rtcp_mux, sender_wants=media.rtcp_mux, receiver_has=row.receiver.mux)
        sender_alone = media.rtcp_mux and (row.offer.settled or row.sender.mux)
        pairs = min(media.port_count, MAX_PAIRS) if rtp else 1
        row.sender_ports = self._own_ports(row.sender, now, rtcp=rtp and not sender_alone, pairs=pairs)
        row.receiver_ports = self._shown_ports(row, now, rtcp=rtp and row.offer.fallback, pairs=pairs)

    def _answer_ports(self, row: _Row, now: float) -> None:
        media, sender, receiver = row.media, row.sender, row.receiver
        rtp = media.carriage is Carriage.RTP
        if rtp:
            row.sender_mux, row.receiver_mux = mux_answer(
                receiver.muxing | self.options.rtcp_mux,
                offerer_wants=receiver.media is not None and receiver.media.rtcp_mux,
                offered=sender.offered_mux or sender.mux,
                accepted=media.rtcp_mux,
            )
        row.sender_ports = self._own_ports(sender, now, rtcp=rtp and not row.sender_mux)
        row.receiver_ports = self._shown_ports(row, now, rtcp=rtp and not row.receiver_mux)

    def _own_ports(self, leg: Leg, now: float, *, rtcp: bool, pairs: int = 1) -> PortSet:
        """Ports of the leg that speaks: those it was shown, or new ones."""
        shown = leg.shown if self.answer else leg.ports
        if shown is None or shown.local.family != self._sender_family or shown.pairs < pairs:
            return self._take(self._sender_interface, self._sender_family, now, rtcp=rtcp, pairs=pairs)
        return self._with_rtcp(shown, now, rtcp=rtcp)

    def _shown_ports(self, row: _Row, now: float, *, rtcp: bool, pairs: int = 1) -> PortSet:
        """Ports to show to the receiver: they belong to the address that the sender's media comes from."""
        leg = row.receiver
        peer = self._address(row.media.rtp)
        shown = leg.shown
        if shown is None or shown.local.family != self._receiver_family or shown.pairs < pairs:
            fresh = self._take(self._receiver_interface, self._receiver_family, now, rtcp=rtcp, pairs=pairs)
            fresh.peer = peer
            return fresh
        if shown.peer is None or shown.peer == peer or self._latched(row):
            return self._with_rtcp(shown, now, rtcp=rtcp)
        sets = leg.sets()
        for ports in sets:
            if ports.peer == peer and ports.local.family == self._receiver_family and ports.pairs >= pairs:
                return self._with_rtcp(ports, now, rtcp=rtcp)
        if len(sets) >= MAX_PORT_SETS:
            return self._with_rtcp(shown, now, rtcp=rtcp)
        fresh = self._take(self._receiver_interface, self._receiver_family, now, rtcp=rtcp, pairs=pairs)
        fresh.peer = peer
        return fresh

    def _latched(self, row: _Row) -> bool:
        """The ports shown stay although the sender's address changed."""
        if row.media.rtp is None or row.media.null_address or self.options.port_latching:
            return True
        if self.answer and row.receiver.answered_in == row.receiver.party.offers:
            return row.receiver.party.partner is row.sender.party
        return not row.media.direction.receives and not self.options.no_port_latching

    def _take(self, interface: str, family: int, now: float, *, rtcp: bool, pairs: int = 1) -> PortSet:
        local = self.streams.interfaces.address(interface, family)
        ports = self.streams.take(local, now, pair=rtcp, shard=self.session.shard, pairs=pairs)
        self._taken.extend((local, port) for port in ports.ports())
        return ports

    def _with_rtcp(self, ports: PortSet, now: float, *, rtcp: bool) -> PortSet:
        if rtcp and ports.rtcp is None:
            mate = self.streams.take_rtcp(ports, now)
            self._taken.append((ports.local, mate))
            self._mates.append((ports, mate))
        return ports

    def _address(self, address: TransportAddress | None) -> TransportAddress | None:
        options = self.options
        if address is None:
            return None
        if options.sip_source_address and options.signalling_source is not None:
            address = TransportAddress(options.signalling_source, address.port)
        return self.streams.interfaces.bound(address)

    def commit(self, now: float) -> list[Placement]:
        """Change the session and the flows; give the placements for the receiver's SDP."""
        for ports, mate in self._mates:
            ports.rtcp = mate
        self._connect()
        for row in self._rows:
            for leg in (row.sender, row.receiver):
                if leg.index >= len(leg.party.legs):
                    leg.party.legs.append(leg)
            if row.closed:
                self._close(row, now)
            elif self.answer:
                self._commit_answer(row, now)
            else:
                self._commit_offer(row)
        if self.answer:
            self._close_unanswered(now)
        self._install()
        self._refresh_others()
        return [self._placement(row) for row in self._rows]

    def _connect(self) -> None:
        sender, receiver, options = self.match.sender, self.match.receiver, self.options
        sender.options = options
        sender.interface = self._sender_interface
        receiver.interface = self._receiver_interface
        sender.family = self._sender_family
        receiver.family = self._receiver_family
        sender.label = options.label or sender.label
        receiver.label = options.to_label or receiver.label
        self.session.metadata = options.metadata or self.session.metadata
        if options.tos is None or options.tos >= 0:
            # Every message says it anew; a negative one leaves it as it is.
            self.session.tos = options.tos
        if self.answer:
            sender.public = receiver.public = True
            sender.partner, receiver.partner = receiver, sender
            sender.answered = True
            sender.final = sender.final or options.final_response
        else:
            sender.offers += 1
            forked = sender.partner is not None and not receiver.answered and sender.partner is not receiver
            receiver.public = True
            receiver.partner = sender
            if not forked:
                sender.partner = receiver

    def _describe(self, row: _Row) -> None:
        media, leg = row.media, row.sender
        leg.media = media
        leg.direction = media.direction
        leg.null_address = media.null_address
        if media.rtp is not None and not media.null_address:
            leg.advertised = self._address(media.rtp)
            leg.advertised_rtcp = self._address(media.rtcp)
        if media.payload_types != leg.heard[0]:
            leg.heard = (media.payload_types, leg.heard[0])

    def _commit_offer(self, row: _Row) -> None:
        media, sender, receiver = row.media, row.sender, row.receiver
        answered = sender.media is not None and receiver.media is not None
        if not answered or sender.ports is None:
            sender.carriage = receiver.carriage = media.carriage
        sender.changing = receiver.changing = sender.carriage is not media.carriage
        self._describe(row)
        receiver.direction = Direction.SENDRECV
        receiver.offered_mux = row.offer.offered
        sender.muxing = self.options.rtcp_mux
        if row.offer.settled:
            sender.mux = True
        _move(sender, row.sender_ports)
        shown = row.receiver_ports
        if receiver.ports is None:
            _move(receiver, shown)
        elif shown is not receiver.shown:
            if receiver.pending is not None:
                receiver.retired.append(receiver.pending)
            if shown in receiver.retired:
                receiver.retired.remove(shown)
            receiver.pending = None if shown is receiver.ports else shown

    def _commit_answer(self, row: _Row, now: float) -> None:
        media, sender, receiver = row.media, row.sender, row.receiver
        sender.carriage = receiver.carriage = media.carriage
        sender.changing = receiver.changing = False
        self._describe(row)
        sender.mux, receiver.mux = row.sender_mux, row.receiver_mux
        sender.offered_mux = False
        _move(sender, row.sender_ports)
        _move(receiver, row.receiver_ports)
        if receiver.ports is not None and receiver.ports.peer is None:
            receiver.ports.peer = self._address(media.rtp)
        receiver.answered_in = receiver.party.offers
        for leg in (sender, receiver):
            if leg.mux or leg.carriage is Carriage.DATAGRAM:
                self.streams.stop_rtcp(leg, now)

    def _close(self, row: _Row, now: float) -> None:
        row.sender.media = row.media
        for leg in (row.sender, row.receiver):
            self._stop(leg, now)

    def _stop(self, leg: Leg, now: float) -> None:
        self.streams.stop_leg(leg, now)
        leg.forget_ports()

    def _close_unanswered(self, now: float) -> None:
        for party in (self.match.sender, self.match.receiver):
            for leg in party.legs[len(self._rows) :]:
                self._stop(leg, now)

    def _refresh_others(self) -> None:
        """The rules of a third party, such as another branch, follow those it is connected to."""
        for party in self.session.parties:
            if party is not self.match.sender and party is not self.match.receiver:
                self.streams.refresh(self.session, party)

    def _install(self) -> None:
        session = self.session
        fresh: set[Port] = set()
        whole: set[Leg] = set()
        for party in (self.match.sender, self.match.receiver):
            for leg in party.legs:
                ports = [(ports, port) for ports in leg.sets() for port in ports.ports()]
                new = [(ports, port) for ports, port in ports if port.flow == NOT_OPEN]
                for port_set, port in new:
                    self.streams.start(session, leg, port_set, port)
                    fresh.add(port)
                if len(new) == len(ports):
                    whole.add(leg)
        for party in (self.match.sender, self.match.receiver):
            for leg in party.legs:
                # Ways out of new ports of the sender may lead to ports that were opened after them.
                if leg not in whole or (party.public and party is self.match.sender):
                    self.streams.update(session, leg, relearn=True, fresh=fresh)

    def _placement(self, row: _Row) -> Placement:
        receiver = row.receiver
        shown = receiver.shown
        if row.closed or shown is None:
            return Placement(rejected=True, rtp=None, family=self._receiver_family)
        rtp = TransportAddress(shown.local.advertised, shown.rtp.number)
        if row.media.carriage is Carriage.DATAGRAM:
            return Placement(rejected=False, rtp=rtp, family=shown.local.family)
        muxed = receiver.mux if self.answer else row.offer.offered
        alone = muxed and (self.answer or not row.offer.fallback)
        number = shown.rtp.number if alone or shown.rtcp is None else shown.rtcp.number
        return Placement(
            rejected=False,
            rtp=rtp,
            rtcp=TransportAddress(shown.local.advertised, number),
            rtcp_mux=muxed,
            family=shown.local.family,
            port_count=min(row.media.port_count, shown.pairs),
        )


def _family(media: Sequence[PartyMedia]) -> int | None:
    for stream in media:
        if stream.rtp is not None and not stream.null_address:
            return 6 if ":" in stream.rtp.host else 4
    return None


def _move(leg: Leg, ports: PortSet | None) -> None:
    """Make `ports` the leg's own; the ones before it stay open, retired."""
    if ports is leg.ports:
        if leg.pending is not None:
            leg.retired.append(leg.pending)
            leg.pending = None
        return
    if leg.ports is not None:
        leg.retired.append(leg.ports)
    if leg.pending is not None and leg.pending is not ports:
        leg.retired.append(leg.pending)
    if ports in leg.retired:
        leg.retired.remove(ports)
    leg.ports = ports
    leg.pending = None
