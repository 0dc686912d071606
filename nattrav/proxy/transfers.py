"""Transfers: a request for the Contact of a phone, which leads nowhere from here, with the dialog it is to replace."""

from __future__ import annotations

from nattrav.proxy.call_facts import Party
from nattrav.proxy.rooms import Rooms
from nattrav.proxy.routing import Sender
from nattrav.proxy.ways import Hop
from nattrav.sip.errors import MalformedMessage
from nattrav.sip.grammar import parse_params
from nattrav.sip.message import Request
from nattrav.sip.uri import SipUri


def replaced(rooms: Rooms, request: Request, sender: Sender) -> Hop | None:
    """Give the phone that has the dialog named in Replaces (RFC 3891 §3), where its sender may call at all."""
    if "replaces" not in request.names or not sender.authorised:
        return None
    uri = request.uri
    if not isinstance(uri, SipUri) or rooms.parts.names_us(uri):
        return None
    call_id, _, tags = (request.first("replaces") or "").partition(";")
    try:
        params = parse_params(f";{tags}")
    except MalformedMessage:
        return None
    its_tag = params.get("to-tag")
    call = rooms.calls.find(call_id.strip(), its_tag, params.get("from-tag"))
    if call is None:
        return None
    party = Party.CALLER if its_tag == call.caller_tag else Party.CALLEE
    flow = call.flows[party]
    if flow is None or not call.access[party] or not rooms.routing.is_open(flow):
        return None
    bound = rooms.location.by_flow(flow)
    return Hop(request.request_uri, flow, access=True, binding=bound[0] if bound else None)
