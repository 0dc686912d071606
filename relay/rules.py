"""From a leg's state to the rules of its flows: who may be learned, what passes, and where it goes."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address, ip_network

from nattrav.net.address import NON_PUBLIC, TransportAddress, classify
from relay.interfaces import LocalAddress, usable_target
from relay.legs import Leg, Party, Port, PortSet, Session
from relay.plane import Content, FlowSettings
from relay.policy import Policy
from relay.session import Carriage, Learning, SideOptions

_NOTHING: frozenset[int] = frozenset()


@lru_cache(maxsize=65536)
def _private(host: str, reachable: tuple[str, ...]) -> bool:
    """An address of a private network that is not among the reachable ones."""
    if classify(host) not in NON_PUBLIC:
        return False
    return not any(ip_address(host) in ip_network(network) for network in reachable)


def proven_only(target: TransportAddress, local: LocalAddress, policy: Policy) -> bool:
    """A private address signalled to a public interface is unlikely to be reachable: wait for its first packet."""
    return not local.private and _private(target.host, policy.reachable)


def _learns(options: SideOptions, policy: Policy) -> bool:
    return not options.asymmetric and (options.learning or policy.learning) is not Learning.OFF


def partner_leg(leg: Leg) -> Leg | None:
    """The leg that hears this one."""
    partner = leg.party.partner
    return None if partner is None else partner.leg(leg.index)


def may_send(leg: Leg, partner: Leg | None) -> bool:
    """Both directions let RTP from this leg through."""
    if not leg.direction.sends:
        return False
    return partner is None or (partner.direction.receives and not partner.null_address)


def blocked(session: Session, party: Party) -> bool:
    """A block of the call, of the party, or of its flow to its partner holds its media back."""
    if session.blocked or party.blocked:
        return True
    if not session.blocked_flows or party.partner is None:
        return False
    return (session.parties.index(party), session.parties.index(party.partner)) in session.blocked_flows


def payload_types(leg: Leg, partner: Leg | None) -> frozenset[int]:
    """Types that may come: of the latest two descriptions of either side; none known = any."""
    return _union(leg.heard, _UNHEARD if partner is None else partner.heard)


_UNHEARD = (_NOTHING, _NOTHING)


@lru_cache(maxsize=4096)
def _union(one: tuple[frozenset[int], frozenset[int]], other: tuple[frozenset[int], frozenset[int]]) -> frozenset[int]:
    return one[0] | one[1] | other[0] | other[1]


def clock_rates(leg: Leg, partner: Leg | None) -> tuple[tuple[int, int], ...]:
    """Clock rate by payload type, the leg's own description before its partner's."""
    own = {} if leg.media is None else leg.media.clock_rates
    others = {} if partner is None or partner.media is None else partner.media.clock_rates
    return _rates(frozenset((others | own if others else own).items()))


@lru_cache(maxsize=4096)
def _rates(items: frozenset[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted(items))


def events(leg: Leg, partner: Leg | None) -> frozenset[int]:
    """Payload types of telephone events that either side named."""
    found = _NOTHING
    for one in (leg, partner):
        if one is not None and one.media is not None and one.media.codecs:
            found |= _events(tuple(one.media.codecs.items()))
    return found


@lru_cache(maxsize=4096)
def _events(codecs: tuple[tuple[int, str], ...]) -> frozenset[int]:
    return frozenset(number for number, codec in codecs if codec.lower() == "telephone-event")


def _egress(partner: Leg | None, pair: int, *, rtcp: bool) -> int | None:
    """The flow through whose socket the partner is reached; None while it is unknown or has a null address."""
    if partner is None or partner.ports is None:
        return None
    if not rtcp:
        return partner.ports.flow(pair, rtcp=False)
    if partner.carriage is not Carriage.RTP or partner.null_address:
        return None
    return partner.ports.flow(pair, rtcp=not partner.mux)


def flow_settings(session: Session, leg: Leg, ports: PortSet, port: Port, policy: Policy) -> FlowSettings:
    """Give the rules of one port of one port set of a leg."""
    rtcp, pair = port.rtcp, port.pair
    party = leg.party
    options = party.options
    partner = partner_leg(leg)
    datagram = leg.carriage is Carriage.DATAGRAM
    advertised = leg.signalled(port)
    nat_wait = options.nat_wait
    if advertised is not None:
        if advertised.port == 0 or not usable_target(advertised.host, ports.local):
            advertised = None
        elif _learns(options, policy) and proven_only(advertised, ports.local, policy):
            nat_wait = True
    if datagram:
        content = Content.DATAGRAM
    elif rtcp:
        content = Content.RTCP
    else:
        content = Content.MUX if leg.mux or leg.offered_mux else Content.RTP
    strict = policy.strict_source or bool(options.strict_source)
    media = leg.media or (None if partner is None else partner.media)
    public = party.public
    held_back = blocked(session, party)
    return FlowSettings(
        content=content,
        advertised=advertised,
        signalling_host=options.signalling_source,
        learning=options.learning or policy.learning,
        strict=strict and not options.media_handover,
        handover=options.media_handover,
        asymmetric=options.asymmetric,
        public=public,
        may_send=may_send(leg, partner),
        blocked=held_back,
        nat_wait=nat_wait,
        pierce=options.pierce_nat,
        validate=policy.validate and not leg.changing and not (partner is not None and partner.changing),
        payload_types=_NOTHING if datagram or rtcp else payload_types(leg, partner),
        clock_rates=() if datagram or rtcp else clock_rates(leg, partner),
        events=events(leg, partner) if held_back and not rtcp else _NOTHING,
        secured=media is not None and media.secured,
        egress=_egress(partner, pair, rtcp=False) if public and not rtcp else None,
        egress_rtcp=_egress(partner, pair, rtcp=True) if public and not datagram else None,
        packet_rate_limit=policy.video_packet_rate
        if media is not None and media.media == "video"
        else policy.audio_packet_rate,
        size_limit=policy.size_limit,
        window=policy.window,
        tos=policy.tos if session.tos is None else session.tos,
        selected=ports is leg.ports or ports is leg.pending,
        companion=ports.flow(pair, rtcp=False) if rtcp else None,
        continuity=policy.continuity,
    )
