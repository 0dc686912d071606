"""The proxy: takes what arrives on a flow, decides, and leaves effects for its shell.

No socket, clock or randomness in here. `receive`, `relay_reply`, `next_hops`, `flow_closed`, `unreachable` and
`handle_timeout` all return the effects to carry out, in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from nattrav.config.sip import SipSection
from nattrav.location.bindings import Limits
from nattrav.location.location import Location
from nattrav.location.memory import MemoryLocation
from nattrav.net.address import AddressClass, TransportAddress, classify
from nattrav.proxy import forward
from nattrav.proxy.accounts import Accounts, configured
from nattrav.proxy.admission import Admission
from nattrav.proxy.authorise import Authorisation
from nattrav.proxy.backward import ResponseContext
from nattrav.proxy.calls import Call, Calls, CallState, Party
from nattrav.proxy.edge import Edge, RegisterContext
from nattrav.proxy.effects import Connect, DropReason, Effect, Send
from nattrav.proxy.fork import Branch
from nattrav.proxy.hang_up import bye, dialog_of
from nattrav.proxy.keepalive import Keepalive
from nattrav.proxy.listener import Listener
from nattrav.proxy.media import Media, Side, media_hosts, sdp_of
from nattrav.proxy.nat import NO_NAT, FirstHop, NatVerdict
from nattrav.proxy.parts import Parts, Randomness, Settings
from nattrav.proxy.quirks import PLAIN
from nattrav.proxy.registrar import Registrar
from nattrav.proxy.rooms import Rooms
from nattrav.proxy.routing import Hop, RouteSet, Routing, Sender
from nattrav.proxy.transactions import ClientTransaction, Key, ServerTransaction, State
from nattrav.proxy.upstreams import Upstreams
from nattrav.proxy.validate import Refused, is_loop, refusal
from nattrav.sip.errors import MalformedMessage
from nattrav.sip.message import Request, Response
from nattrav.sip.parser import parse_datagram_untrusted
from nattrav.sip.response import respond
from nattrav.sip.transport.flow import Flow, Target
from nattrav.sip.uri import SipUri
from nattrav.sip.via import Via

_KEEPALIVE = frozenset(b"\r\n\0")


class Proxy:
    """The SIP NAT proxy's core."""

    def __init__(
        self,
        settings: Settings,
        listeners: Sequence[Listener],
        token_secrets: list[bytes],
        randomness: Randomness,
        wall_offset: float = 0.0,
        *,
        location: Location | None = None,
        accounts: Accounts | None = None,
    ) -> None:
        parts = self.parts = Parts(settings, listeners, token_secrets, randomness, wall_offset)
        self.accounts = accounts if accounts is not None else Accounts(configured(settings.users, settings.realm))
        found = location if location is not None else MemoryLocation(location_limits(settings.sip))
        upstreams = Upstreams(settings.upstreams)
        routing = Routing(parts, found, self.accounts, upstreams)
        self.rooms = Rooms(parts, found, upstreams, routing, Calls(parts), Media(parts))
        self.registrar = Registrar(parts, found)
        self.keepalive = Keepalive(parts, found, self.registrar)
        self.edge = Edge(self.rooms, self.registrar, self.keepalive)
        self.authorisation = Authorisation(parts, self.accounts)
        self.admission = Admission(settings.sip.limits)
        self.draining = False
        self._unlimited = Unlimited(upstreams)
        self._public = {one.id: classify(one.bound.host) is AddressClass.PUBLIC for one in listeners}

    def restore(self, now: float) -> None:
        """Take up the bindings of before the restart: their expiry and their keepalives.

        Connections did not survive it, nor do bindings of listeners that are no more.
        """
        listeners = self.parts.listeners.by_id
        gone = [one for one in self.rooms.location if one.flow.reliable or one.flow.listener not in listeners]
        self.registrar.drop(gone, "removed")
        self.registrar.watch_expiry(now)
        for binding in self.rooms.location:
            self.keepalive.watch(binding, now)

    # ---- what arrives

    def receive(self, flow: Flow, data: bytes, now: float) -> list[Effect]:
        """Take one datagram, or one message that the stream framer cut out."""
        if not _KEEPALIVE.issuperset(data[:4]):
            host = flow.remote.host
            refused = self.admission.refuses(host, now) if host not in self._unlimited else None
            if refused is None:
                self._receive(flow, data, now)
            else:
                self.parts.drop(refused, flow)
                if refused is DropReason.RATE_LIMITED:
                    self.parts.count("nattrav_sip_rate_limited_total", "source")
        return self.take_effects()

    def malformed(self, flow: Flow, fault: MalformedMessage) -> list[Effect]:
        """What arrived on a stream is no message; the transport closes the connection."""
        self._malformed(flow, fault)
        return self.take_effects()

    def relay_reply(self, request: int, reply: object, now: float) -> list[Effect]:
        """The relay answered a question, or None: it did not."""
        return self._continue(request, reply, now)

    def next_hops(self, request: int, found: object, now: float) -> list[Effect]:
        """A lookup ended: a list of (transport, address, server name), best first; empty when there is nothing."""
        return self._continue(request, found, now)

    def flow_opened(self, flow: Flow) -> None:
        """A connection is there, whoever opened it."""
        self.parts.connections[(flow.listener, flow.remote.host, flow.remote.port)] = flow

    def flow_closed(self, flow: Flow, now: float) -> list[Effect]:
        """A connection is gone: so are the bindings it carried (RFC 5626 §5.3)."""
        key = (flow.listener, flow.remote.host, flow.remote.port)
        if self.parts.connections.get(key) == flow:
            del self.parts.connections[key]
        self.registrar.drop(self.rooms.location.by_flow(flow), "removed")
        return self.take_effects()

    def unreachable(self, branch: str, now: float) -> list[Effect]:
        """The transport could not deliver what this branch sent (§16.9)."""
        for method in ("INVITE", "OPTIONS", "MESSAGE", "BYE", "REGISTER", "SUBSCRIBE", "NOTIFY"):
            client = self.parts.transactions.clients.get((branch, method))
            if isinstance(client, Branch) and isinstance(client.context, ResponseContext):
                client.context.unreachable(client, now)
        return self.take_effects()

    def handle_timeout(self, now: float) -> list[Effect]:
        """Let what is due expire."""
        self.parts.timers.expire(now)
        return self.take_effects()

    def next_timeout(self) -> float | None:
        """When to call `handle_timeout`; may be early."""
        return self.parts.timers.next()

    def session_closed(self, call_id: str, reason: str, now: float) -> list[Effect]:
        """The relay ended a session by itself: its media died."""
        for call in self.rooms.calls.with_call_id(call_id):
            if not call.media.session:
                continue
            call.media.session = False
            self._hang_up(call, "no media", now)
            self.rooms.calls.end(call, "media_timeout", now)
            self.parts.log("info", "call_reaped", call_id=call_id, reason=reason)
        return self.take_effects()

    def kill(self, calls: Sequence[Call], now: float) -> list[Effect]:
        """An operator ends calls: their relay sessions go, and their records are written."""
        for call in calls:
            self._hang_up(call, "ended by the operator", now)
            self.rooms.media.delete(call, delay=0)
            self.rooms.calls.end(call, "admin", now)
        return self.take_effects()

    def _hang_up(self, call: Call, reason: str, now: float) -> None:
        """Send a BYE to both sides when the dialog is known."""
        parts = self.parts
        if call.accepted is None or call.state is not CallState.CONFIRMED:
            return
        dialog = dialog_of(call.accepted, call.contact, parts.is_ours)
        if dialog is None:
            return
        for party in Party:
            flow = call.flows[party]
            listener = parts.listeners.of(flow) if flow is not None else None
            if flow is None or listener is None:
                continue
            branch = f"z9hG4bK{parts.unique()}"
            rport = ";rport" if listener.transport == "udp" else ""
            via = f"SIP/2.0/{listener.transport.upper()} {listener.sent_by};branch={branch}{rport}"
            data = bye(dialog, to_caller=party is Party.CALLER, via=via, reason=reason)
            call.note(now, False, flow, data, "reaped")
            ClientTransaction(parts.transactions, (branch, "BYE"), None).start(flow, data, now)

    def _continue(self, request: int, reply: object, now: float) -> list[Effect]:
        continuation = self.parts.waiting.pop(request, None)
        if continuation is not None:
            continuation(reply, now)
        return self.take_effects()

    def take_effects(self) -> list[Effect]:
        """Give what is to be carried out since the last call, in order."""
        out = self.parts.out
        effects = out.copy()
        out.clear()
        return effects

    def _receive(self, flow: Flow, data: bytes, now: float) -> None:
        try:
            message = parse_datagram_untrusted(data)
        except MalformedMessage as fault:
            self._malformed(flow, fault)
            return
        try:
            if isinstance(message, Response):
                self._response(flow, message, data, now)
            else:
                self._request(flow, message, data, now)
        except MalformedMessage as fault:
            # A header field that only this request's way needed turned out to be broken.
            fault.message = message
            self._malformed(flow, fault)

    def _malformed(self, flow: Flow, fault: MalformedMessage) -> None:
        """Answer a broken request when its Via can be read; never a response, never an ACK (P5)."""
        parts = self.parts
        message = fault.message
        if not isinstance(message, Request) or message.method == "ACK":
            parts.drop(DropReason.MALFORMED, flow)
            return
        try:
            via = message.via
            message.stamp(flow.remote)
        except MalformedMessage:
            parts.drop(DropReason.MALFORMED, flow)
            return
        to_tag = parts.to_tag(via.branch or message.start_line)
        data = respond(message, fault.status, to_tag=to_tag)
        parts.out.append(Send(self._reply_flow(flow, via, symmetric=via.wants_rport), data))

    # ---- responses

    def _response(self, flow: Flow, response: Response, data: bytes, now: float) -> None:
        parts = self.parts
        branch = response.via.branch or ""
        client = parts.transactions.clients.get((branch, response.cseq.method))
        if client is None:
            if self.keepalive.receive(branch, flow, now):
                return
            parts.drop(DropReason.STRAY_RESPONSE, flow)
            return
        context = client.context
        if isinstance(context, ResponseContext) and context.call is not None:
            context.call.note(now, True, flow, data)
        client.receive(response, now)

    # ---- requests

    def _request(self, flow: Flow, request: Request, data: bytes, now: float) -> None:
        parts = self.parts
        via = request.via
        method = request.method
        upstream = self.rooms.upstreams.by_source(flow.remote) if self.rooms.upstreams.all else None
        symmetric = via.wants_rport
        verdict: NatVerdict | None = None
        if not symmetric and upstream is None and (via.host, via.port) != flow.remote:
            verdict = self._examine(flow, request)
            symmetric = self._forces_rport(verdict, flow, request)
        request.stamp(flow.remote, force_rport=symmetric)
        key = _server_key(request, via)
        server = parts.transactions.servers.get(key)
        if server is not None:
            if method == "ACK":
                self._ack_in_transaction(server, flow, request, data, now)
            else:
                server.receive_again(self._reply_flow(flow, via, symmetric=symmetric), now)
            return
        sender = Sender(flow, upstream, verdict or NO_NAT)
        if method == "ACK":
            self._ack(sender, request, data, now)
            return
        reply_flow = self._reply_flow(flow, via, symmetric=symmetric)
        if upstream is None and self.admission.is_scanner(request.user_agent):
            self._ban(flow, "scanner", now)
            parts.drop(DropReason.SCANNER, flow)
            return
        if method == "CANCEL":
            self._cancel(key, reply_flow, request, data, now)
            return
        if len(parts.transactions) >= parts.sip.limits.transactions:
            self._refuse_stateless(request, reply_flow, Refused(503, "limits", (("Retry-After", "10"),)))
            return
        refused = refusal(request)
        if refused is not None and method == "OPTIONS" and refused.status == 483:
            refused = None if self._is_for_me(request) else refused
        if refused is not None:
            self._refuse_stateless(request, reply_flow, refused)
            return
        server = ServerTransaction(parts.transactions, key, request, reply_flow, now)
        if not server.invite:
            parts.timers.set(server, now + 2 * parts.transactions.patience)
        if upstream is None and verdict is None and (method == "REGISTER" or request.to.tag is None):
            sender.verdict = self._examine(flow, request)
        if upstream is None:
            sender.treatment = (
                parts.quirks.treatment(request.user_agent, flow.remote, None) if request.to.tag is None else PLAIN
            )
        routes = self.rooms.routing.route_set(request)
        if isinstance(routes, Refused):
            if routes.status == 403:
                self._fault(flow, "forged_token", now)
            self._refuse(server, routes, now)
            return
        loop_part = parts.branches.loop_part(request)
        if is_loop(request, parts.listeners, loop_part):
            self._refuse(server, Refused(482, "R7"), now)
            return
        if method == "REGISTER" and upstream is None:
            if parts.sip.mode == "edge":
                self._register_at_core(server, request, routes, sender, loop_part, now)
            else:
                self._register(server, request, sender, now)
            return
        if request.to.tag is not None:
            self._within_dialog(server, request, routes, sender, data, loop_part, now)
        else:
            self._initial(server, request, routes, sender, data, loop_part, now)

    def _ban(self, flow: Flow, reason: str, now: float) -> None:
        ban = self.admission.ban(flow.remote.host, reason, now)
        self.parts.log("warning", "source_banned", source=ban.host, reason=reason, seconds=round(ban.until - now))

    def _fault(self, flow: Flow, reason: str, now: float) -> None:
        """Something a decent client does not do; too much of it and the source is not heard for a while."""
        if flow.remote.host in self._unlimited:
            return
        ban = self.admission.fault(flow.remote.host, reason, now)
        if ban is not None:
            self.parts.log("warning", "source_banned", source=ban.host, reason=reason, seconds=round(ban.until - now))

    def _is_for_me(self, request: Request) -> bool:
        uri = request.uri
        return uri.text.startswith("sip") and getattr(uri, "user", None) is None

    def _examine(self, flow: Flow, request: Request) -> NatVerdict:
        via = request.via
        names = request.names
        if names.count("via") != 1 or "," in request.lines[names.index("via")]:
            return NO_NAT
        contact = None
        if "contact" in names:
            try:
                contacts = request.contacts
                if contacts and contacts != "*":
                    uri = contacts[0].sip_uri
                    contact = (uri.host, uri.port)
            except MalformedMessage:
                contact = None
        sdp = sdp_of(request) if request.body else None
        verdict = self.parts.nat.examine(
            FirstHop(
                flow.transport,
                flow.remote,
                via.host,
                via.port,
                via.wants_rport,
                contact,
                media_hosts(sdp) if sdp is not None else (),
                self._public[flow.listener],
            )
        )
        for name in verdict.names:
            self.parts.count("nattrav_sip_nat_detections_total", name)
        return verdict

    def _forces_rport(self, verdict: NatVerdict, flow: Flow, request: Request) -> bool:
        treatment = self.parts.quirks.treatment(request.user_agent, flow.remote, None)
        policy = treatment.rport or self.parts.sip.force_rport
        return policy == "always" or (policy == "auto" and verdict.nat)

    def _reply_flow(self, flow: Flow, via: Via, *, symmetric: bool) -> Flow:
        """Where responses go (RFC 3261 §18.2.2, RFC 3581 §4); always from the socket that received the request."""
        if flow.reliable or symmetric:
            return flow
        return flow._replace(remote=TransportAddress(flow.remote.host, via.port or 5060))

    def _refuse_stateless(self, request: Request, flow: Flow, refused: Refused) -> None:
        tag = self.parts.to_tag(request.via.branch or request.call_id)
        data = respond(request, refused.status, refused.reason, to_tag=tag, headers=refused.headers)
        self.parts.out.append(Send(flow, data))

    def _refuse(self, server: ServerTransaction, refused: Refused, now: float, call: Call | None = None) -> None:
        request = server.request
        assert request is not None
        tag = self.parts.to_tag(server.key[0])
        data = respond(request, refused.status, refused.reason, to_tag=tag, headers=refused.headers)
        if call is not None:
            call.note(now, False, server.flow, data, refused.rule)
        server.respond(refused.status, data, now)

    def _register(self, server: ServerTransaction, request: Request, sender: Sender, now: float) -> None:
        refused = self.authorisation.registration(request, sender, now)
        if self.authorisation.rejected:
            self._fault(sender.flow, "authentication", now)
        if refused is not None:
            self._refuse(server, refused, now)
            return
        uri = request.to.sip_uri
        if not self.parts.is_ours(uri.host, uri.port, uri.transport) or uri.user is None:
            self._refuse(server, Refused(404, "8.1"), now)
            return
        result = self.registrar.register(request, self.rooms.routing.aor(uri), sender, now)
        if isinstance(result, Refused):
            self._refuse(server, result, now)
            return
        for binding in result.bindings:
            self.keepalive.watch(binding, now)
        data = respond(request, 200, to_tag=self.parts.to_tag(server.key[0]), headers=result.headers)
        server.respond(200, data, now)

    def _register_at_core(
        self,
        server: ServerTransaction,
        request: Request,
        routes: RouteSet,
        sender: Sender,
        loop_part: str,
        now: float,
    ) -> None:
        data = self.edge.absorb(request, sender, now)
        if data is not None:
            server.respond(200, data, now)
            return
        hops = self.rooms.routing.initial(request, routes, sender, now)
        if isinstance(hops, Refused):
            self._refuse(server, hops, now)
            return
        RegisterContext(self.edge, server, request, routes, sender, loop_part).start(hops, now)

    def _initial(
        self,
        server: ServerTransaction,
        request: Request,
        routes: RouteSet,
        sender: Sender,
        data: bytes,
        loop_part: str,
        now: float,
    ) -> None:
        parts, rooms = self.parts, self.rooms
        if request.method == "OPTIONS" and self._is_for_me(request) and routes.next_route is None:
            self._answer_options(server, request, now)
            return
        refused = self.authorisation.request(request, sender, now)
        if self.authorisation.rejected:
            self._fault(sender.flow, "authentication", now)
        user = sender.user
        if refused is None and server.invite and user and rooms.calls.of_user(user) >= parts.sip.limits.calls_per_user:
            parts.count("nattrav_sip_rate_limited_total", "user")
            refused = Refused(403, "limits", reason="Too many calls")
        if refused is not None:
            self._refuse(server, refused, now)
            return
        call = None
        if server.invite:
            if self.draining or len(rooms.calls) >= parts.sip.limits.calls:
                self._refuse(server, Refused(503, "limits", (("Retry-After", "30"),)), now)
                return
            trying = respond(request, 100, to_tag=None)
            server.respond(100, trying, now)
            call = rooms.calls.begin(request, now)
            call.access[Party.CALLER] = sender.access
            call.flows[Party.CALLER] = sender.flow
            call.nat[Party.CALLER] = sender.verdict
            if sender.user is not None:
                rooms.calls.set_user(call, sender.user)
            call.contact = _contact_of(request)
            call.note(now, True, sender.flow, data, *sender.verdict.names)
        found = self._behind_contact_token(request, sender, now)
        hops = [found] if found is not None else rooms.routing.initial(request, routes, sender, now)
        if isinstance(hops, Refused):
            if hops.status in (403, 404) and sender.access:
                self._fault(sender.flow, "refused_target", now)
            self._refuse(server, hops, now, call)
            if call is not None and call.state is CallState.EARLY:
                rooms.calls.end(call, "rejected", now, hops.status)
            return
        ResponseContext(rooms, server, request, routes, sender, call, loop_part).start(hops, now)

    def _behind_contact_token(self, request: Request, sender: Sender, now: float) -> Hop | None:
        """In edge mode: the phone behind a Contact of ours, for cores that ignore Path."""
        if sender.upstream is None or not self.edge.ignores_path:
            return None
        uri = request.uri
        return self.edge.by_contact_token(uri, now) if isinstance(uri, SipUri) else None

    def _within_dialog(
        self,
        server: ServerTransaction,
        request: Request,
        routes: RouteSet,
        sender: Sender,
        data: bytes,
        loop_part: str,
        now: float,
    ) -> None:
        rooms = self.rooms
        call = rooms.calls.of(request)
        from_access = self._party_facts(call, request, sender, now)
        sender.authorised = sender.upstream is not None
        if server.invite:
            server.respond(100, respond(request, 100, to_tag=None), now)
        if call is not None:
            call.note(now, True, sender.flow, data)
        hop = rooms.routing.within_dialog(request, routes, sender, from_access, _other_party(call, request, sender))
        if isinstance(hop, Refused):
            self._refuse(server, hop, now, call)
            return
        ResponseContext(rooms, server, request, routes, sender, call, loop_part).start([hop], now)

    def _party_facts(self, call: Call | None, request: Request, sender: Sender, now: float) -> bool | None:
        """Tell whether the sender is an access-side party; note where it sends from now (N4)."""
        if call is None:
            return None
        party = call.sender(request)
        if not call.access[party]:
            return False
        sender.upstream = None
        sender.verdict = call.nat[party]
        return True if not call.access[party.other] else None

    def _answer_options(self, server: ServerTransaction, request: Request, now: float) -> None:
        status = 503 if self.draining else 200
        headers = [] if self.draining else [("Accept", "application/sdp"), ("Supported", "path, outbound")]
        server.respond(status, respond(request, status, to_tag=self.parts.to_tag(server.key[0]), headers=headers), now)

    # ---- ACK and CANCEL

    def _ack_in_transaction(
        self, server: ServerTransaction, flow: Flow, request: Request, data: bytes, now: float
    ) -> None:
        if server.state is State.ACCEPTED:
            # A client that reuses the INVITE's branch for the ACK of a 2xx; it still goes end to end.
            self._ack(Sender(flow, self.rooms.upstreams.by_source(flow.remote)), request, data, now)
            return
        server.receive_ack(now)

    def _ack(self, sender: Sender, request: Request, data: bytes, now: float) -> None:
        """Forward the ACK of a 2xx statelessly along its Route with the token as next hop (S4)."""
        parts, rooms = self.parts, self.rooms
        if request.max_forwards == 0:
            parts.drop(DropReason.MAX_FORWARDS, sender.flow)
            return
        routes = rooms.routing.route_set(request)
        if isinstance(routes, Refused):
            parts.drop(DropReason.FORGERY, sender.flow)
            self._fault(sender.flow, "forged_token", now)
            return
        call = rooms.calls.of(request)
        from_access = self._party_facts(call, request, sender, now)
        sender.authorised = sender.upstream is not None
        hop = rooms.routing.within_dialog(request, routes, sender, from_access, _other_party(call, request, sender))
        if isinstance(hop, Refused) or not isinstance(hop.next_hop, Flow | Target):
            parts.drop(DropReason.STRAY_ACK if not isinstance(hop, Hop) else DropReason.NO_ROUTE, sender.flow)
            return
        if call is not None:
            call.note(now, True, sender.flow, data)
        sdp = sdp_of(request) if request.body else None
        offerer = request.to.tag
        if sdp is not None and call is not None and offerer is not None and offerer in call.media.late:
            party = call.sender(request)
            side = Side(sender.flow, call.access[party], call.nat[party], PLAIN, call.access[party])
            answerer = request.from_.tag or ""
            call.media.stable = (offerer, call.media.late[offerer], answerer, sdp)
            key = (request.cseq.number, sdp)
            resume = partial(self._ack_answered, call, key, request, routes, hop)
            if key in call.media.answered_acks:
                resume(call.media.answered_acks[key], now)
            else:
                rooms.media.answer(call, sdp, side, resume, from_tag=offerer, to_tag=answerer)
            return
        self._send_ack(request, routes, hop, None, call, now)

    def _ack_answered(
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
        self._send_ack(request, routes, hop, body, call, now)

    def _send_ack(
        self, request: Request, routes: RouteSet, hop: Hop, body: bytes | None, call: Call | None, now: float
    ) -> None:
        parts = self.parts
        next_hop = hop.next_hop
        assert next_hop is not None
        edit, _ = forward.outgoing(request, request_uri=hop.request_uri, popped=routes.popped)
        branch = parts.branches.stateless(request)
        listener = parts.listeners.of(next_hop)
        assert listener is not None
        rport = ";rport" if listener.transport == "udp" else ""
        forward.add_via(edit, f"Via: SIP/2.0/{listener.transport.upper()} {listener.sent_by};branch={branch}{rport}")
        if body is not None:
            edit.body(body)
        if next_hop.transport != "udp":
            edit.framed()
        data = edit.render()
        if call is not None:
            call.note(now, False, next_hop if isinstance(next_hop, Flow) else next_hop.remote, data, "S4")
        parts.out.append(send_to(next_hop, data, branch))

    def _cancel(self, key: Key, flow: Flow, request: Request, data: bytes, now: float) -> None:
        """Answer a CANCEL at once and cancel the branches of its INVITE (S3)."""
        parts = self.parts
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
            context.cancel(now)


class Unlimited:
    """The hosts that no limit applies to: upstreams. Asked for every datagram, so it only looks up."""

    def __init__(self, upstreams: Upstreams) -> None:
        self._upstreams = upstreams

    def __contains__(self, host: str) -> bool:
        return host in self._upstreams.hosts


def location_limits(sip: SipSection) -> Limits:
    """Give the registrar's limits as the location service wants them."""
    return Limits(
        min_expires=int(sip.registrar.min_expires),
        default_expires=int(sip.registrar.default_expires),
        max_expires=int(sip.registrar.max_expires),
        per_aor=sip.limits.contacts_per_user,
        total=sip.limits.bindings,
    )


def send_to(hop: Flow | Target, data: bytes, branch: str) -> Effect:
    """Send on a flow, or over a connection still to be opened."""
    return Send(hop, data) if isinstance(hop, Flow) else Connect(hop, data, branch)


def _contact_of(request: Request) -> str | None:
    try:
        contacts = request.contacts
    except MalformedMessage:
        return None
    return contacts[0].uri if contacts and contacts != "*" else None


def _other_party(call: Call | None, request: Request, sender: Sender) -> Flow | None:
    """Where the other side of a known call is, when the request comes from where its sender was last."""
    if call is None or call.state is not CallState.CONFIRMED:
        return None
    party = call.sender(request)
    known = call.flows[party]
    return call.flows[party.other] if known is not None and known.remote == sender.flow.remote else None


def _server_key(request: Request, via: Via) -> Key:
    """The key that matches requests to server transactions (§17.2.3); ACK is matched to its INVITE."""
    method = "INVITE" if request.method == "ACK" else request.method
    if via.has_cookie:
        host, port = via.sent_by
        return (via.branch or "", host, str(port), method)
    return (
        "2543",
        request.request_uri,
        request.from_.tag or "",
        request.call_id,
        str(request.cseq.number),
        "" if request.method == "ACK" else request.to.tag or "",
        via.text,
        method,
    )
