"""Why somebody hears nothing: what came, what was learned, what was sent in each direction, and the cause."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from nattrav.net.address import NON_PUBLIC, TransportAddress, classify
from relay.legs import Condition, Leg, Session, SessionState
from relay.plane import DropReason, FlowFigures
from relay.report import Figures
from relay.rules import may_send, partner_leg
from relay.session import Carriage

HEARING = 10.0
"""A direction is alive while a packet was passed on within this many seconds."""


class Cause(enum.Enum):
    """What stops media in one direction: metric label and JSON value; `explain` says it to people."""

    NOTHING_RECEIVED = "nothing_received"
    STOPPED_SENDING = "stopped_sending"
    WRONG_SOURCE = "wrong_source"
    OLD_PORT = "old_port"
    NOT_RTP = "not_rtp"
    RATE_LIMITED = "rate_limited"
    NO_ADDRESS = "no_address"
    WAITING_FOR_NAT = "waiting_for_nat"
    BLOCKED = "blocked"
    SEND_ERROR = "send_error"
    LOOP = "loop"
    UNREACHABLE_ADDRESS = "unreachable_address"


@dataclass(frozen=True, slots=True)
class DirectionReport:
    """Media of one stream from one party to another. `stream` counts from 1, `silent` seconds, None = never heard.

    received    packets that came to the sender's port
    passed      of them, how many left towards the receiver
    source      where they come from, if it was learned
    target      where they are sent
    """

    stream: int
    sender: str | None
    receiver: str | None
    expected: bool
    received: int
    passed: int
    silent: float | None
    source: TransportAddress | None
    latched: bool
    target: TransportAddress | None
    cause: Cause | None
    explanation: str | None


_DROPS = {
    DropReason.SOURCE_MISMATCH: Cause.WRONG_SOURCE,
    DropReason.WORSE_CANDIDATE: Cause.WRONG_SOURCE,
    DropReason.WRONG_LOCAL: Cause.OLD_PORT,
    DropReason.NOT_RTP: Cause.NOT_RTP,
    DropReason.MALFORMED: Cause.NOT_RTP,
    DropReason.TOO_BIG: Cause.NOT_RTP,
    DropReason.RATE_LIMITED: Cause.RATE_LIMITED,
    DropReason.NO_PEER: Cause.NO_ADDRESS,
    DropReason.NAT_WAIT: Cause.WAITING_FOR_NAT,
    DropReason.BLOCKED: Cause.BLOCKED,
    DropReason.SEND_ERROR: Cause.SEND_ERROR,
    DropReason.QUEUE_FULL: Cause.SEND_ERROR,
    DropReason.LOOP: Cause.LOOP,
}


def directions(session: Session, readings: Figures, now: float) -> list[DirectionReport]:
    """Look at every direction between connected parties."""
    found: list[DirectionReport] = []
    for leg in session.legs():
        partner = partner_leg(leg)
        if leg.ports is not None and partner is not None and partner.ports is not None:
            found.append(_direction(leg, partner, readings, now))
    return found


def condition(session: Session, readings: Figures, now: float, grace: float) -> Condition | None:
    """Say whether an answered session has media in one direction only, or none. Hold and sendonly are as wanted."""
    if session.state is not SessionState.ANSWERED or now - max(session.last_signal, session.resumed) < grace:
        return None
    one_way = silent = False
    heard = False
    for leg in session.legs():
        partner = partner_leg(leg)
        # Fax machines pause; each pair of legs is looked at once, from the side that the other points to.
        if leg.ports is None or partner is None or partner.ports is None or leg.carriage is not Carriage.RTP:
            continue
        if partner_leg(partner) is not leg or id(leg) > id(partner):
            continue
        if not (may_send(leg, partner) and may_send(partner, leg)):
            continue
        here, there = _alive(leg, readings, now), _alive(partner, readings, now)
        heard = heard or here or there
        one_way = one_way or here != there
        silent = silent or not (here or there)
    if one_way:
        return Condition.ONE_WAY
    return Condition.NO_MEDIA if silent and not heard else None


def _alive(leg: Leg, readings: Figures, now: float) -> bool:
    assert leg.ports is not None
    accepted = readings.of(leg.ports.rtp).last_accepted
    return accepted > 0 and now - accepted < HEARING


def _direction(leg: Leg, partner: Leg, readings: Figures, now: float) -> DirectionReport:
    assert leg.ports is not None
    assert partner.ports is not None
    figures, out = readings.of(leg.ports.rtp), readings.of(partner.ports.rtp)
    expected = may_send(leg, partner)
    cause = _cause(leg, partner, figures, out, readings, now) if expected else None
    return DirectionReport(
        stream=leg.index + 1,
        sender=leg.party.tag,
        receiver=partner.party.tag,
        expected=expected,
        received=figures.packets_in,
        passed=out.packets_out,
        silent=now - figures.last_accepted if figures.last_accepted else None,
        source=figures.learned.source,
        latched=figures.learned.latched,
        target=out.learned.target or partner.advertised,
        cause=cause,
        explanation=None if cause is None else explain(cause, leg, partner, figures, out),
    )


def _cause(
    leg: Leg, partner: Leg, figures: FlowFigures, out: FlowFigures, readings: Figures, now: float
) -> Cause | None:
    assert leg.ports is not None
    if _alive(leg, readings, now):
        # Media is passed on; it may still go to an address that only the party's own network reaches.
        target = out.learned.target or partner.advertised
        unheard = not out.packets_in and target is not None and classify(target.host) in NON_PUBLIC
        assert partner.ports is not None
        return Cause.UNREACHABLE_ADDRESS if unheard and not partner.ports.local.private else None
    before = leg.ports.rtp.seen.drops if leg.ports.rtp.seen is not None else {}
    fresh = {reason: count - before.get(reason, 0) for reason, count in figures.drops.items()}
    worst = max(fresh.items(), key=lambda item: item[1], default=None)
    if worst is not None and worst[1] > 0 and worst[0] in _DROPS:
        return _DROPS[worst[0]]
    for ports in leg.retired:
        old = readings.of(ports.rtp)
        if old.drops.get(DropReason.WRONG_LOCAL, 0) and now - old.last_in < HEARING:
            return Cause.OLD_PORT
    if figures.packets_in == 0:
        return Cause.NOTHING_RECEIVED
    if not figures.last_accepted and figures.drops:
        most = max(figures.drops.items(), key=lambda item: item[1])[0]
        return _DROPS.get(most, Cause.STOPPED_SENDING)
    return Cause.STOPPED_SENDING


def explain(cause: Cause, leg: Leg, partner: Leg, figures: FlowFigures, out: FlowFigures) -> str:
    """Say a cause in one sentence, with the addresses to look at."""
    assert leg.ports is not None
    port = f"{leg.ports.local.advertised} port {leg.ports.rtp.number}"
    who = f"party {leg.party.tag or '(no tag yet)'}"
    target = out.learned.target or partner.advertised
    match cause:
        case Cause.NOTHING_RECEIVED:
            said = leg.advertised or "no address"
            return (
                f"no packet from {who} has reached {port} (its SDP said {said}): "
                "a firewall stands between, or the phone did not get or use our address"
            )
        case Cause.STOPPED_SENDING:
            return f"{who} has stopped sending to {port}: phone muted without comfort noise, gone, or its NAT closed"
        case Cause.WRONG_SOURCE:
            return (
                f"packets reach {port} from another address than {figures.learned.source}, which was learned: "
                "the phone changed networks, or somebody else sends; a re-INVITE or media-handover lets it move"
            )
        case Cause.OLD_PORT:
            return f"{who} still sends to a port that it was moved away from: it ignored our last SDP"
        case Cause.NOT_RTP:
            return f"what reaches {port} from {who} is no RTP that its SDP allows, or too large"
        case Cause.RATE_LIMITED:
            return f"{who} sends more packets per second than this stream may have"
        case Cause.NO_ADDRESS:
            return f"there is no address yet to send to: party {partner.party.tag or '(no tag yet)'} gave none"
        case Cause.WAITING_FOR_NAT:
            return (
                f"nothing is sent to party {partner.party.tag or '(no tag yet)'} before its first packet arrives, "
                f"because {target} is behind a NAT"
            )
        case Cause.BLOCKED:
            return "media of this direction is blocked by command"
        case Cause.SEND_ERROR:
            return f"the system refuses to send to {target}: look at routes, firewall and neighbours"
        case Cause.LOOP:
            return f"{target} leads back into this relay"
        case Cause.UNREACHABLE_ADDRESS:
            return f"media is sent to {target}, a private address, and nothing ever came from there"
