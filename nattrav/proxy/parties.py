"""Which party of a known call sends a request, and where the responses to it go."""

from __future__ import annotations

from nattrav.net.address import TransportAddress
from nattrav.proxy.call_facts import CallState
from nattrav.proxy.calls import Call
from nattrav.proxy.routing import Sender
from nattrav.sip.errors import MalformedMessage
from nattrav.sip.message import Request
from nattrav.sip.transport.flow import Flow
from nattrav.sip.via import Via


def reply_flow(flow: Flow, via: Via, *, symmetric: bool) -> Flow:
    """Where responses go (RFC 3261 §18.2.2, RFC 3581 §4); always from the socket that received the request."""
    if flow.reliable or symmetric:
        return flow
    return flow._replace(remote=TransportAddress(flow.remote.host, via.port or 5060))


def party_facts(call: Call | None, request: Request, sender: Sender) -> bool | None:
    """Tell whether the sender is an access-side party; None when the call is not known or both sides are (N4)."""
    if call is None:
        return None
    party = call.sender(request)
    if not call.access[party]:
        return False
    sender.upstream = None
    sender.verdict = call.nat[party]
    return True if not call.access[party.other] else None


def contact_of(request: Request) -> str | None:
    """The URI of the first Contact."""
    try:
        contacts = request.contacts
    except MalformedMessage:
        return None
    return contacts[0].uri if contacts and contacts != "*" else None


def other_party(call: Call | None, request: Request, sender: Sender) -> Flow | None:
    """Where the other side of a known call is, when the request comes from where its sender was last."""
    if call is None or call.state is not CallState.CONFIRMED:
        return None
    party = call.sender(request)
    known = call.flows[party]
    return call.flows[party.other] if known is not None and known.remote.host == sender.flow.remote.host else None
