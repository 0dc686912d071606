"""ACK and CANCEL: the two requests that never get a context of their own (RFC 3261 §9.2, §16.11, §17)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from nattrav.proxy import forward
from nattrav.proxy.backward import ResponseContext
from nattrav.proxy.calls import Call
from nattrav.proxy.effects import Connect, DropReason, Effect, Send
from nattrav.proxy.media import Side, sdp_of, with_sdp
from nattrav.proxy.parties import other_party, party_facts
from nattrav.proxy.quirks import PLAIN
from nattrav.proxy.rooms import Rooms
from nattrav.proxy.routing import RouteSet, Sender
from nattrav.proxy.transactions import Key, ServerTransaction
from nattrav.proxy.validate import Refused
from nattrav.proxy.ways import Hop
from nattrav.sip.message import Request
from nattrav.sip.response import respond
from nattrav.sip.transaction import State
from nattrav.sip.transport.flow import Flow, Target

_KEEPALIVE = frozenset(b"\r\n\0")


Fault = Callable[[Flow, str, float], None]
"""Told what a decent client does not do: flow, reason, now."""


class Acks:
    """Forwards ACKs of 2xx statelessly, absorbs the others, and cancels."""

    def __init__(
        self, rooms: Rooms, fault: Callable[[Flow, str, float], None], admits: Callable[[Sender], bool]
    ) -> None:
        self._rooms = rooms
        self._parts = rooms.parts
        self._fault = fault
        self._admits = admits

    def in_transaction(self, server: ServerTransaction, flow: Flow, request: Request, data: bytes, now: float) -> None:
        if server.state is State.ACCEPTED:
            # A client that reuses the INVITE's branch for the ACK of a 2xx; it still goes end to end.
            self.end_to_end(Sender(flow, self._rooms.upstreams.by_source(flow.remote)), request, data, now)
            return
        server.receive_ack(now)

    def end_to_end(self, sender: Sender, request: Request, data: bytes, now: float) -> None:
        """Forward the ACK of a 2xx statelessly along its Route with the token as next hop (S4)."""
        parts, rooms = self._parts, self._rooms
        if request.max_forwards == 0:
            parts.drop(DropReason.MAX_FORWARDS, sender.flow)
            return
        routes = rooms.routing.route_set(request)
        if isinstance(routes, Refused):
            parts.drop(DropReason.FORGERY, sender.flow)
            self._fault(sender.flow, "forged_token", now)
            return
        call = rooms.calls.of(request)
        from_access = party_facts(call, request, sender)
        sender.authorised = sender.upstream is not None or self._admits(sender)
        moved = {} if call is None else call.moved
        hop = rooms.routing.within_dialog(
            request, routes, sender, from_access, other_party(call, request, sender), moved, now=now
        )
        if isinstance(hop, Refused) or not isinstance(hop.next_hop, Flow | Target):
            gone = isinstance(hop, Refused) and hop.status == 430
            stray = DropReason.FLOW_GONE if gone else DropReason.STRAY_ACK
            parts.drop(DropReason.NO_ROUTE if isinstance(hop, Hop) else stray, sender.flow)
            return
        if call is not None:
            call.note(now, True, sender.flow, data)
        sdp = sdp_of(request) if request.body else None
        offerer = request.to.tag
        if sdp is not None and call is not None and offerer is not None and offerer in call.media.late:
            party = call.sender(request)
            towards = hop.next_hop.remote.host
            side = Side(sender.flow, call.access[party], call.nat[party], PLAIN, call.access[party], towards)
            answerer = request.from_.tag or ""
            call.media.stable = (offerer, call.media.late[offerer], answerer, sdp)
            key = (request.cseq.number, sdp)
            resume = partial(self._answered, call, key, request, routes, hop)
            if key in call.media.answered_acks:
                resume(call.media.answered_acks[key], now)
            else:
                rooms.media.answer(call, sdp, side, resume, from_tag=offerer, to_tag=answerer)
            return
        self._send(request, routes, hop, None, call, now)

    def _answered(
        self,
        call: Call,
        key: tuple[int, bytes],
        request: Request,
        routes: RouteSet,
        hop: Hop,
        body: bytes | None,
        now: float,
    ) -> None:
        if body is not None:
            call.media.answered_acks = {key: body}
        self._send(request, routes, hop, body, call, now)

    def _send(
        self, request: Request, routes: RouteSet, hop: Hop, body: bytes | None, call: Call | None, now: float
    ) -> None:
        parts = self._parts
        next_hop = hop.next_hop
        assert next_hop is not None
        edit, _ = forward.outgoing(
            request, request_uri=hop.request_uri, popped=routes.popped, last_used=routes.last_used
        )
        branch = parts.branches.stateless(request)
        listener = parts.listeners.of(next_hop)
        assert listener is not None
        forward.add_via(edit, listener.via(branch))
        if body is not None:
            edit.body(with_sdp(request, body))
        if next_hop.transport != "udp":
            edit.framed()
        data = edit.render()
        if call is not None:
            call.note(now, False, next_hop if isinstance(next_hop, Flow) else next_hop.remote, data, "S4")
        parts.out.append(send_to(next_hop, data, branch))

    def cancel(self, key: Key, flow: Flow, request: Request, data: bytes, now: float) -> None:
        """Answer a CANCEL at once and cancel the branches of its INVITE (S3)."""
        parts = self._parts
        invite = parts.transactions.servers.get((*key[:-1], "INVITE"))
        server = ServerTransaction(parts.transactions, key, request, flow, now)
        tag = parts.to_tag(key[0])
        if invite is None:
            server.respond(481, respond(request, 481, to_tag=tag), now)
            return
        server.respond(200, respond(request, 200, to_tag=tag), now)
        context = invite.context
        if isinstance(context, ResponseContext):
            if context.call is not None:
                context.call.note(now, True, flow, data)
            context.cancel(now, request.first("reason") if "reason" in request.names else None)


def send_to(hop: Flow | Target, data: bytes, branch: str) -> Effect:
    """Send on a flow, or over a connection still to be opened."""
    return Send(hop, data) if isinstance(hop, Flow) else Connect(hop, data, branch)
