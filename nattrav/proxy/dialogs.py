"""Dialogs in progress: whose source moved (N4), and those that another process set up before it died."""

from __future__ import annotations

from collections.abc import Callable

from nattrav.proxy.call_facts import Party
from nattrav.proxy.calls import Call
from nattrav.proxy.forwarding import Forwarding, nat_of
from nattrav.proxy.nat import NatTest, NatVerdict
from nattrav.proxy.rooms import Rooms
from nattrav.proxy.routing import Sender
from nattrav.proxy.ways import Hop
from nattrav.sip.message import Request
from nattrav.sip.transport.flow import Flow

RESUMES = frozenset(("INVITE", "UPDATE", "BYE"))
"""Methods that show a call in progress."""

Examine = Callable[[Flow, Request, bytes, float], NatVerdict]


class Dialogs:
    """Looks at requests inside dialogs before they are routed, and at those of calls that nobody here knows."""

    def __init__(self, rooms: Rooms, examine: Examine) -> None:
        self._rooms = rooms
        self._parts = rooms.parts
        self._examine = examine

    def follow(self, call: Call, request: Request, flow: Flow, answer: Flow) -> None:
        """Take note of what a request inside a dialog says of its sender: its CSeq, its newest source (N4)."""
        before = call.moves(request, flow, answer)
        if before is not None:
            self._parts.count("nattrav_sip_nat_detections_total", NatTest.SOURCE_MOVED.value)
            self._parts.log("info", "source_moved", call_id=call.call_id, before=str(before), now=str(flow))
            self._repeat_there(call, before, flow)
        party = call.sender(request)
        if request.cseq.number > call.cseq[party]:
            call.cseq[party] = request.cseq.number
            self._rooms.calls.changed(call)

    def _repeat_there(self, call: Call, before: Flow, flow: Flow) -> None:
        """What is on its way to where a party was goes to where it is: both sides may have moved at once."""
        if before.reliable or flow.listener != before.listener:
            return
        for client in list(self._parts.transactions.clients.values()):
            if client.hop == before and isinstance(client.context, Forwarding) and client.context.call is call:
                client.follow(flow)

    def resume(self, request: Request, sender: Sender, hop: Hop, data: bytes, now: float, *, both: bool) -> Call | None:
        """Take up a call of before a restart, which our token in its route set proves; its media stays with the relay.

        Whether its media went through the relay nobody knows any more: it does from its next offer on, which a relay
        that still has the session answers with the ports of before.
        """
        rooms, parts = self._rooms, self._parts
        if len(rooms.calls) >= parts.sip.limits.calls:
            return None
        call = rooms.calls.resume(request, now)
        if call is None:
            return None
        call.access[Party.CALLER] = both or not hop.access
        call.access[Party.CALLEE] = hop.access
        call.flows[Party.CALLER] = sender.flow
        if isinstance(hop.next_hop, Flow):
            call.flows[Party.CALLEE] = hop.next_hop
            bound = rooms.location.by_flow(hop.next_hop) if hop.access else []
            if bound:
                call.nat[Party.CALLEE] = nat_of(bound[0])
        if call.access[Party.CALLER]:
            sender.upstream = None
            sender.verdict = call.nat[Party.CALLER] = self._examine(sender.flow, request, data, now)
        upstream = sender.upstream
        if upstream is None and not hop.access and hop.next_hop is not None:
            upstream = rooms.upstreams.by_source(hop.next_hop.remote)
        policy = parts.sip.relay
        if upstream is not None:
            call.upstream = upstream.name
            policy = upstream.settings.relay or policy
        call.media.session = call.media.used = policy != "never"
        call.note(now, True, sender.flow, data, *call.nat[Party.CALLER].names)
        parts.log("info", "call_resumed", call_id=call.call_id, method=request.method)
        return call
