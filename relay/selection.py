"""Which media a block is about: the whole call, what one party sends, or what it sends to certain others."""

from __future__ import annotations

from dataclasses import dataclass

from nattrav.net.address import canonical
from relay.legs import Party, Session
from relay.session import Refusal


@dataclass(frozen=True, slots=True)
class Selection:
    """A participant and perhaps a target, in ng's terms; the first of label, address and tag that is given counts.

    directional     only with it `from_tag` selects, for drivers put a from-tag into everything
    every           ng's `all`: none, all, offer-answer, except-offer-answer or flows
    """

    call_id: str
    label: str | None = None
    address: str | None = None
    from_tag: str | None = None
    directional: bool = False
    to_tag: str | None = None
    to_label: str | None = None
    every: str = "none"
    set_label: str | None = None


@dataclass(frozen=True, slots=True)
class Selected:
    """What a selection means in a session: no party = the whole call; targets None = everyone."""

    party: Party | None
    targets: tuple[Party, ...] | None


def select(session: Session, selection: Selection) -> Selected:
    """Find the party and the targets; Refusal in ng's words when there are none."""
    if selection.every == "all":
        return Selected(None, None)
    party = _participant(session, selection)
    if party is None:
        return Selected(None, None)
    if selection.set_label is not None:
        party.label = selection.set_label
    return Selected(party, _targets(session, party, selection))


def _participant(session: Session, selection: Selection) -> Party | None:
    if selection.label is not None:
        for party in session.parties:
            if party.label == selection.label:
                return party
        raise Refusal("No monologue matching the given label")
    if selection.address is not None:
        try:
            host = canonical(selection.address)
        except ValueError:
            raise Refusal("Failed to parse network address") from None
        for party in session.parties:
            for leg in party.legs:
                if leg.media is not None and leg.media.rtp is not None and leg.media.rtp.host == host:
                    return party
        raise Refusal("Failed to match address to any tag")
    if selection.from_tag is not None and selection.directional:
        found = session.by_tag.get(selection.from_tag)
        if found is None:
            raise Refusal("From-tag given, but no such tag exists")
        return found
    return None


def _targets(session: Session, party: Party, selection: Selection) -> tuple[Party, ...] | None:
    if selection.to_tag is not None or selection.to_label is not None:
        target = None
        if selection.to_tag is not None:
            target = session.by_tag.get(selection.to_tag)
            missing = "to-tag not found"
        else:
            target = next((other for other in session.parties if other.label == selection.to_label), None)
            missing = "to-label not found"
        if target is None:
            raise Refusal(f"Media flow not found ({missing})")
        if party.partner is not target:
            raise Refusal("Media flow not found (to-tag not subscribed)")
        return (target,)
    if selection.every in ("offer-answer", "flows"):
        if party.partner is None:
            raise Refusal("No eligible media subscriptions found")
        return (party.partner,)
    if selection.every == "except-offer-answer":
        # Every subscription here comes from an offer and its answer.
        raise Refusal("No eligible media subscriptions found")
    return None


def set_block(session: Session, selection: Selection, *, blocked: bool) -> None:
    """Block or unblock. The call, each party and each flow keep a block of their own; `all` lifts every one."""
    chosen = select(session, selection)
    if chosen.party is None:
        session.blocked = blocked
        if selection.every == "all" and not blocked:
            session.blocked_flows.clear()
            for party in session.parties:
                party.blocked = False
    elif chosen.targets is None:
        chosen.party.blocked = blocked
    else:
        origin = session.parties.index(chosen.party)
        for target in chosen.targets:
            flow = (origin, session.parties.index(target))
            if blocked:
                session.blocked_flows.add(flow)
            else:
                session.blocked_flows.discard(flow)
