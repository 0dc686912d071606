"""Which two parties an offer, an answer or a delete is about: tags, via-branches, forks and aliases.

Matching only looks; a `Match` says what is to be created or named, and `apply` does it once ports are certain.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.legs import Party, Session
from relay.session import CallKey, Refusal, SideOptions

INVALID = "Invalid dialogue association"
MAX_PARTIES = 64


@dataclass(slots=True)
class Match:
    """Sender and receiver of a message. New ones are not part of the session until `apply`."""

    sender: Party
    receiver: Party
    sender_tag: str | None = None
    receiver_tag: str | None = None
    alias: str | None = None

    def apply(self, session: Session, branch: str | None) -> None:
        """Take new parties into the session, give names and aliases, and connect the two."""
        for party, tag in ((self.sender, self.sender_tag), (self.receiver, self.receiver_tag)):
            if party not in session.parties:
                session.parties.append(party)
            party.going = None
            if tag is not None and party.tag is None:
                party.tag = tag
            if party.tag is not None:
                session.by_tag[party.tag] = party
        if self.alias is not None:
            self.sender.aliases.append(self.alias)
            session.by_tag[self.alias] = self.sender


def match_offer(session: Session, key: CallKey, now: float) -> Match:
    """Find or plan the two sides of an offer: `from_tag` sends it."""
    assert key.from_tag is not None
    sender = session.by_tag.get(key.from_tag)
    receiver = session.by_tag.get(key.to_tag) if key.to_tag is not None else None
    if sender is None and receiver is not None and receiver.partner is not None and receiver.partner.tag is None:
        # The other side of a known party speaks for the first time: its answers carried no SDP.
        sender = receiver.partner
    if sender is None:
        sender = Party(key.from_tag, now)
        if receiver is None:
            receiver = Party(key.to_tag, now, branch=key.via_branch)
        return _checked(session, Match(sender, receiver, key.from_tag, key.to_tag))
    if receiver is None:
        receiver = session.by_branch(key.via_branch)
        if receiver is sender:
            receiver = None
        if receiver is None and key.to_tag is None and key.via_branch is None:
            receiver = sender.partner or _offered_by(session, sender)
        elif receiver is not None and key.to_tag is not None and receiver.tag is not None:
            receiver = None
        if receiver is None:
            known = session.by_branch(key.via_branch) is not None
            receiver = Party(key.to_tag, now, branch=None if known else key.via_branch)
    return _checked(session, Match(sender, receiver, key.from_tag, key.to_tag))


def match_answer(session: Session, key: CallKey, options: SideOptions, now: float) -> Match:
    """Find the two sides of an answer: `to_tag` sends it, `from_tag` made the offer."""
    assert key.from_tag is not None
    assert key.to_tag is not None
    offerer = session.by_tag.get(key.from_tag)
    if offerer is None:
        raise Refusal(INVALID)
    answerer = session.by_tag.get(key.to_tag)
    if answerer is not None:
        return _checked(session, Match(answerer, offerer))
    found = session.by_branch(key.via_branch)
    if found is None or found is offerer:
        found = _offered_by(session, offerer) or offerer.partner
    if found is None:
        raise Refusal(INVALID)
    if found.tag is None:
        return _checked(session, Match(found, offerer, sender_tag=key.to_tag))
    if options.new_branch or (found.final and not options.provisional):
        return _checked(session, Match(Party(key.to_tag, now), offerer, sender_tag=key.to_tag))
    return _checked(session, Match(found, offerer, alias=key.to_tag))


def _offered_by(session: Session, offerer: Party) -> Party | None:
    """The newest unnamed party that the offerer's offers created."""
    for party in reversed(session.parties):
        if party.tag is None and party.partner is offerer:
            return party
    return None


def _checked(session: Session, match: Match) -> Match:
    if match.sender is match.receiver:
        raise Refusal(INVALID)
    if match.receiver.tag is not None and match.receiver.tag == (match.sender.tag or match.sender_tag):
        raise Refusal(INVALID)
    if len(session.parties) >= MAX_PARTIES and not {match.sender, match.receiver} <= set(session.parties):
        raise Refusal("Ran out of ports")
    return match


def match_delete(session: Session, key: CallKey, *, honour_to_tag: bool) -> list[Party] | None:
    """List the parties that a delete takes away; None when its tags match nothing.

    Without a from-tag that is the whole call. The named branch goes, then everyone left without a partner.
    """
    if key.from_tag is None:
        return list(session.parties)
    to_tag = key.to_tag if honour_to_tag else None
    named: Party | None = None
    if to_tag is None:
        named = session.by_branch(key.via_branch)
    if named is None and to_tag is not None:
        named = session.by_tag.get(to_tag)
        if named is None:
            caller = session.by_tag.get(key.from_tag)
            if caller is not None:
                named = _offered_by(session, caller)
    elif named is None:
        named = session.by_tag.get(key.from_tag)
    if named is None:
        named = session.by_branch(key.via_branch)
    if named is None:
        return None
    return [named] + [party for party in session.parties if party is not named and _alone(session, party, named)]


def _alone(session: Session, party: Party, without: Party) -> bool:
    """Nobody but `without`, and those that are leaving, is connected to the party."""
    return not any(other is not without and other.going is None for other in session.partners_of(party))
