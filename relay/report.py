"""What can be told about a session: values for ng `query` and `delete`, for the command line and for logs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from nattrav.net.address import TransportAddress
from nattrav.net.immutable import immutable
from relay.legs import Leg, Party, Port, PortSet, Session
from relay.plane import FlowEvent, FlowFigures, FlowSettings
from relay.quality import NO_QUALITY, QualityHistory
from relay.session import Carriage


@immutable
class ComponentReport:
    """One local port of a leg. `settings` are its flow's rules; `local` is bound, `shown` stands in SDP."""

    rtcp: bool
    local: TransportAddress
    shown: TransportAddress
    advertised: TransportAddress | None
    settings: FlowSettings | None
    figures: FlowFigures
    current: bool = True


@immutable
class LegReport:
    """One party of one stream. `index` counts from 1. `components` lists RTP then RTCP, current ports first."""

    index: int
    media: str
    protocol: str
    carriage: Carriage
    direction: str
    codec: str | None
    mux: bool
    initialized: bool
    components: tuple[ComponentReport, ...]
    quality: QualityHistory = NO_QUALITY
    history: tuple[FlowEvent, ...] = ()


@immutable
class PartyReport:
    """One side of a dialogue; `partners` are the tags of those it is connected to."""

    tag: str | None
    branch: str | None
    aliases: tuple[str, ...]
    label: str | None
    created: float
    public: bool
    blocked: bool
    interface: str | None
    partners: tuple[str | None, ...]
    legs: tuple[LegReport, ...]


@immutable
class SessionReport:
    """A session as it is now, or was when it ended. Times are Unix seconds."""

    call_id: str
    state: str
    created: float
    last_signal: float
    metadata: str | None
    tos: int | None
    blocked: bool
    condition: str | None
    parties: tuple[PartyReport, ...]

    def totals(self, *, rtcp: bool) -> tuple[int, int, int]:
        """Sum packets, octets and drops received by RTP or RTCP components of the legs shown."""
        packets = octets = errors = 0
        for component in self.components():
            if component.rtcp == rtcp:
                packets += component.figures.packets_in
                octets += component.figures.bytes_in
                errors += sum(component.figures.drops.values())
        return packets, octets, errors

    def components(self) -> Iterable[ComponentReport]:
        """Every component of every leg."""
        for party in self.parties:
            for leg in party.legs:
                yield from leg.components


class Figures(Protocol):
    """Where a report finds the counters of a port."""

    def of(self, port: Port) -> FlowFigures:
        """Counters of one port, those from before a restart included."""


def report_session(session: Session, parties: Iterable[Party], figures: Figures, epoch: float) -> SessionReport:
    """Describe some parties of a session. `epoch` is Unix time at monotonic zero."""
    return SessionReport(
        session.call_id,
        session.state.value,
        session.created + epoch,
        session.last_signal + epoch,
        session.metadata,
        session.tos,
        session.blocked,
        None if session.condition is None else session.condition.value,
        tuple(_party(session, party, figures, epoch) for party in parties),
    )


def _party(session: Session, party: Party, figures: Figures, epoch: float) -> PartyReport:
    return PartyReport(
        party.tag,
        party.branch,
        tuple(party.aliases),
        party.label,
        party.created + epoch,
        party.public,
        party.blocked,
        party.interface,
        tuple(dict.fromkeys(other.tag for other in session.partners_of(party))),
        tuple(_leg(leg, figures) for leg in party.legs),
    )


def _leg(leg: Leg, figures: Figures) -> LegReport:
    partner = leg.party.partner
    heard = partner.leg(leg.index) if partner is not None else None
    media = leg.media or (heard.media if heard is not None else None)
    components: list[ComponentReport] = []
    codec = None
    for ports in leg.sets():
        for port in ports.ports():
            component = _component(leg, ports, port, figures.of(port), current=ports is leg.ports)
            components.append(component)
            if codec is None and media is not None and not port.rtcp and component.figures.rtp.received:
                codec = media.codecs.get(component.figures.rtp.payload_type)
    return LegReport(
        leg.index + 1,
        "audio" if media is None else media.media,
        "RTP/AVP" if media is None else media.protocol,
        leg.carriage,
        leg.direction.value,
        codec,
        leg.mux,
        leg.media is not None,
        tuple(components),
        leg.quality,
        tuple(leg.history),
    )


def _component(leg: Leg, ports: PortSet, port: Port, figures: FlowFigures, *, current: bool) -> ComponentReport:
    return ComponentReport(
        port.rtcp,
        TransportAddress(ports.local.host, port.number),
        TransportAddress(ports.local.advertised, port.number),
        leg.signalled(port),
        port.settings,
        figures,
        current,
    )
