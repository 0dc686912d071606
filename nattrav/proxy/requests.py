"""What happens to a request, in the order of RFC 3261 §16.3 to §16.6, from its Via to its response context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nattrav.net.address import AddressClass, classify
from nattrav.proxy.accounts import Accounts
from nattrav.proxy.acks import Acks
from nattrav.proxy.admission import Admission
from nattrav.proxy.alg import AlgSign, signs_of
from nattrav.proxy.answer_ports import AnswerPorts
from nattrav.proxy.authorise import Authorisation
from nattrav.proxy.backward import ResponseContext
from nattrav.proxy.call_facts import CallState, Party
from nattrav.proxy.calls import Call
from nattrav.proxy.causes import by_us
from nattrav.proxy.dialogs import RESUMES, Dialogs
from nattrav.proxy.edge import Edge, RegisterContext
from nattrav.proxy.effects import DropReason, Send
from nattrav.proxy.hook_views import register_view, request_view
from nattrav.proxy.hooks import Refuse, Route
from nattrav.proxy.keepalive import Keepalive
from nattrav.proxy.media import media_hosts, sdp_of
from nattrav.proxy.nat import NO_NAT, FirstHop, NatTest, NatVerdict
from nattrav.proxy.parties import contact_of, other_party, party_facts, reply_flow
from nattrav.proxy.quirks import Treatment
from nattrav.proxy.refusals import Refusals
from nattrav.proxy.registrar import Registrar
from nattrav.proxy.rooms import Rooms
from nattrav.proxy.routing import RouteSet, Sender
from nattrav.proxy.transactions import ServerTransaction
from nattrav.proxy.transfers import replaced
from nattrav.proxy.upstreams import UpstreamState
from nattrav.proxy.validate import SUPPORTED, Refused, bad_extension, refusal
from nattrav.proxy.ways import Hop
from nattrav.sip.errors import MalformedMessage
from nattrav.sip.grammar import KNOWN_METHODS
from nattrav.sip.message import Request
from nattrav.sip.response import respond
from nattrav.sip.transaction import server_key
from nattrav.sip.transport.flow import Flow
from nattrav.sip.uri import SipUri

ABOUT_US = (
    ("Allow", ", ".join(sorted(KNOWN_METHODS))),
    ("Accept", "application/sdp"),
    ("Supported", ", ".join(SUPPORTED)),
)
"""What OPTIONS learns of a proxy: every method passes it (§11.2)."""


class Requests:
    """Takes one request after the other."""

    def __init__(self, rooms: Rooms, accounts: Accounts) -> None:
        self._rooms = rooms
        parts = self._parts = rooms.parts
        self.registrar = Registrar(parts, rooms.location)
        self.keepalive = Keepalive(parts, rooms.location, self.registrar)
        self.edge = Edge(rooms, self.registrar, self.keepalive)
        self.authorisation = Authorisation(parts, accounts)
        self.admission = Admission(parts.sip.limits)
        self.draining = False
        self.refusals = Refusals()
        self._ports = AnswerPorts()
        self._dialogs = Dialogs(rooms, self._examine)
        self._acks = Acks(rooms, self._fault, self.authorisation.admits_source)
        listeners = parts.listeners.all
        self._public = {one.id: classify(one.bound.host) is AddressClass.PUBLIC for one in listeners}

    def follow(self) -> None:
        """Go by the settings as they are now."""
        self.admission.follow(self._parts.sip.limits)
        self.authorisation.follow()
        self.keepalive.follow()

    def receive(self, flow: Flow, request: Request, data: bytes, now: float) -> None:
        parts = self._parts
        via = request.via
        method = request.method
        upstream = self._rooms.upstreams.by_source(flow.remote) if self._rooms.upstreams.all else None
        symmetric = via.wants_rport
        verdict: NatVerdict | None = None
        if not symmetric and upstream is None and (via.host, via.port) != flow.remote:
            verdict = self._examine(flow, request, data, now)
            symmetric = self._forces_rport(verdict, flow, request) or self._ports.prefers_source(flow, request)
        request.stamp(flow.remote, force_rport=symmetric)
        if "keep" in via.params and upstream is None:
            request.promise_keepalives(int(parts.sip.keepalive.interval))
        if "alias" in via.params:
            parts.reuse.ask(flow, via)
        key = server_key(request)
        server = parts.transactions.servers.get(key)
        if server is not None:
            if method == "ACK":
                self._acks.in_transaction(server, flow, request, data, now)
            else:
                if verdict is not None and verdict.asymmetric and self._rport_policy(request, flow) == "auto":
                    symmetric = self._ports.try_other(flow, request)
                server.receive_again(reply_flow(flow, via, symmetric=symmetric), now)
            return
        sender = Sender(flow, upstream, verdict or NO_NAT)
        if method == "ACK":
            self._acks.end_to_end(sender, request, data, now)
            return
        answer_flow = reply_flow(flow, via, symmetric=symmetric)
        if upstream is None and self.admission.is_scanner(request.user_agent):
            self._ban(flow, "scanner", now)
            parts.drop(DropReason.SCANNER, flow)
            return
        if method == "CANCEL":
            self._acks.cancel(key, answer_flow, request, data, now)
            return
        if len(parts.transactions) >= parts.sip.limits.transactions:
            full = Refused(503, "limits", (("Retry-After", "10"),), why="[sip.limits] transactions is reached")
            self._refuse_stateless(request, answer_flow, full, now)
            return
        mode = parts.sip.mode
        # At a registrar also through edges that it knows as upstreams.
        registers_here = method == "REGISTER" and (mode == "registrar" or (mode == "redirect" and upstream is None))
        refused = refusal(request, parts.listeners, parts.branches)
        if refused is not None and refused.status == 483:
            # No hop is left, but here it has arrived (§16.3 step 3).
            asks_us = method == "OPTIONS" and self._is_for_me(request)
            refused = None if registers_here or asks_us else refused
        if refused is not None:
            self._refuse_stateless(request, answer_flow, refused, now)
            return
        if upstream is None and request.to.tag is None:
            sender.treatment = self._treatment(request, flow)
        if registers_here:
            challenge = self.authorisation.first_challenge(request, sender, now)
            if challenge is not None:
                # Without a transaction, so that strangers cannot fill the table (RFC 3261 §26.3.2.4).
                self._refuse_stateless(request, answer_flow, challenge, now)
                return
        server = ServerTransaction(parts.transactions, key, request, answer_flow, now)
        if upstream is None and verdict is None and (method == "REGISTER" or request.to.tag is None):
            sender.verdict = self._examine(flow, request, data, now)
        try:
            self._take_up(server, request, sender, data, now, symmetric=symmetric, registers_here=registers_here)
        except MalformedMessage:
            server.end()
            raise
        if not server.invite and not server.final and server.deadline is None:
            server.expect_an_answer(now)

    def _take_up(
        self,
        server: ServerTransaction,
        request: Request,
        sender: Sender,
        data: bytes,
        now: float,
        *,
        symmetric: bool,
        registers_here: bool,
    ) -> None:
        parts, upstream = self._parts, sender.upstream
        if upstream is None and self._listens_elsewhere(sender, symmetric=symmetric, answer=server.flow):
            sender.flow, sender.asymmetric = server.flow, True
        routes = self._rooms.routing.route_set(request)
        if isinstance(routes, Refused):
            if routes.status == 403:
                self._fault(sender.flow, "forged_token", now)
            self._refuse(server, routes, now)
            return
        if registers_here:
            self._register(server, request, sender, now)
            return
        loop_part = parts.branches.loop_part(request)
        if request.method == "REGISTER" and upstream is None:
            self._register_at_core(server, request, routes, sender, loop_part, now)
        elif request.to.tag is not None:
            self._within_dialog(server, request, routes, sender, data, loop_part, now)
        else:
            self._initial(server, request, routes, sender, data, loop_part, now)

    def _listens_elsewhere(self, sender: Sender, *, symmetric: bool, answer: Flow) -> bool:
        """The phone sends from one port and listens on that of its Via, by its signs or by its quirk (T3)."""
        if symmetric or answer.remote == sender.flow.remote:
            return False
        return sender.verdict.asymmetric or sender.treatment.rport == "never"

    def _ban(self, flow: Flow, reason: str, now: float) -> None:
        ban = self.admission.ban(flow.remote.host, reason, now)
        self._parts.log("warning", "source_banned", src=ban.host, reason=reason, seconds=round(ban.until - now))

    def _fault(self, flow: Flow, reason: str, now: float) -> None:
        """Something a decent client does not do; too much of it and the source is not heard for a while."""
        if flow.remote.host in self._rooms.upstreams.hosts:
            return
        ban = self.admission.fault(flow.remote.host, reason, now)
        if ban is not None:
            self._parts.log("warning", "source_banned", src=ban.host, reason=reason, seconds=round(ban.until - now))

    def _is_for_me(self, request: Request) -> bool:
        uri = request.uri
        if not isinstance(uri, SipUri) or uri.user is not None:
            return False
        return self._parts.names_us(uri)

    def _examine(self, flow: Flow, request: Request, data: bytes, now: float) -> NatVerdict:
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
        verdict = self._parts.nat.examine(
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

        if sdp is not None or NatTest.VIA_HOST_DIFFERS not in verdict.fired:
            for sign in signs_of(flow, request, verdict, sdp, data):
                self._parts.suspect_alg(flow, sign, now)
        return verdict

    def _forces_rport(self, verdict: NatVerdict, flow: Flow, request: Request) -> bool:
        policy = self._rport_policy(request, flow)
        return policy == "always" or (policy == "auto" and verdict.nat)

    def _rport_policy(self, request: Request, flow: Flow) -> str:
        return self._treatment(request, flow).rport or self._parts.sip.force_rport

    def _treatment(self, request: Request, flow: Flow) -> Treatment:
        quirks = self._parts.quirks
        aor = None
        if quirks.names_users and request.from_.uri.startswith(("sip:", "sips:")):
            uri = request.from_.sip_uri
            aor = f"{uri.user}@{uri.host.lower()}"
        return quirks.treatment(request.user_agent, flow.remote, aor)

    def _refuse_stateless(self, request: Request, flow: Flow, refused: Refused, now: float) -> None:
        if refused.status not in (401, 407) or refused.why:
            self.refusals.note(request, flow, refused, now)
        tag = self._parts.to_tag(request.via.branch or request.call_id)
        data = respond(request, refused.status, refused.reason, to_tag=tag, headers=refused.headers)
        self._parts.out.append(Send(flow, data))

    def _refuse(self, server: ServerTransaction, refused: Refused, now: float, call: Call | None = None) -> None:
        request = server.request
        assert request is not None
        tag = self._parts.to_tag(server.key[0])
        data = respond(request, refused.status, refused.reason, to_tag=tag, headers=refused.headers)
        if call is not None:
            call.note(now, False, server.flow, data, refused.rule)
            if call.state is CallState.EARLY:
                call.why = refused.why or by_us(refused.status)
        elif refused.status >= 400 and (refused.status not in (401, 407) or refused.why):
            self.refusals.note(request, server.flow, refused, now)
        server.respond(refused.status, data, now)

    def _register(self, server: ServerTransaction, request: Request, sender: Sender, now: float) -> None:
        refused = self.authorisation.registration(request, sender, now)
        if self.authorisation.rejected:
            self._fault(sender.flow, "authentication", now)
        if refused is not None:
            self._refuse(server, refused, now)
            return
        refused = bad_extension(request)
        if refused is not None:
            self._refuse(server, refused, now)
            return
        try:
            uri = request.to.sip_uri
        except MalformedMessage:
            self._refuse(server, Refused(400, "8.1", reason="No SIP address-of-record"), now)
            return
        if not self._parts.names_us(uri) or uri.user is None:
            why = f"{request.to.uri} lies in no domain of ours ([sip] domains)"
            self._refuse(server, Refused(404, "8.1", why=why), now)
            return
        if self._parts.hooks.has("on_register"):
            decision = self._parts.hooks.call("on_register", register_view(request, sender))
            if isinstance(decision, Refuse):
                self._refuse(server, _by_hook(decision), now)
                return
        result = self.registrar.register(request, self._rooms.routing.aor(uri), sender, now)
        if isinstance(result, Refused):
            self._refuse(server, result, now)
            return
        for binding in result.bindings:
            self.keepalive.watch(binding, now)
        data = respond(request, 200, to_tag=self._parts.to_tag(server.key[0]), headers=result.headers)
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
        hops = self._rooms.routing.initial(request, routes, sender, now)
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
        parts, rooms = self._parts, self._rooms
        if request.method == "OPTIONS" and self._is_for_me(request) and routes.next_route is None:
            self._answer_options(server, request, now)
            return
        refused = self.authorisation.request(request, sender, now)
        if self.authorisation.rejected:
            self._fault(sender.flow, "authentication", now)
        user = sender.user
        if refused is None and server.invite and user and rooms.calls.of_user(user) >= parts.sip.limits.calls_per_user:
            parts.count("nattrav_sip_rate_limited_total", "user")
            why = f"user {user} has as many calls as [sip.limits] calls_per_user allows"
            refused = Refused(403, "limits", reason="Too many calls", why=why)
        if refused is not None:
            self._refuse(server, refused, now)
            return
        call = None
        if server.invite:
            if self.draining and parts.sip.sibling is not None:
                self._refuse(server, Refused(302, "drain", self._at_sibling(request)), now)
                return
            if self.draining or len(rooms.calls) >= parts.sip.limits.calls:
                why = "this node drains" if self.draining else "[sip.limits] calls is reached"
                self._refuse(server, Refused(503, "limits", (("Retry-After", "30"),), why=why), now)
                return
            trying = respond(request, 100, to_tag=None)
            server.respond(100, trying, now)
            if sender.access and rooms.calls.is_again(request):
                parts.suspect_alg(sender.flow, AlgSign.BRANCH_ALTERED, now)
            call = rooms.calls.begin(request, now)
            call.access[Party.CALLER] = sender.access
            call.flows[Party.CALLER] = sender.flow
            call.nat[Party.CALLER] = sender.verdict
            if sender.user is not None:
                rooms.calls.set_user(call, sender.user)
            call.contact = contact_of(request)
            call.note(now, True, sender.flow, data, *sender.verdict.names)
        hops = self._destinations(request, routes, sender, now)
        if isinstance(hops, Refused):
            hops = _as_known_to(sender.upstream, hops)
            if hops.status in (403, 404) and sender.access:
                self._fault(sender.flow, "refused_target", now)
            self._refuse(server, hops, now, call)
            if call is not None and call.state is CallState.EARLY and rooms.calls.failed(call):
                rooms.calls.end(call, "rejected", now, hops.status)
            return
        if parts.sip.mode == "redirect" and sender.upstream is None:
            self._redirect(server, hops, call, now)
            return
        ResponseContext(rooms, server, request, routes, sender, call, loop_part).start(hops, now)

    def _destinations(self, request: Request, routes: RouteSet, sender: Sender, now: float) -> list[Hop] | Refused:
        """Ask the operator's hook first, then the routing."""
        parts = self._parts
        if parts.hooks.has("on_request"):
            decision = parts.hooks.call("on_request", request_view(request, sender, parts, now))
            if isinstance(decision, Refuse):
                return _by_hook(decision)
            if isinstance(decision, Route):
                return self._rooms.routing.chosen(request, routes, sender, decision, now)
        found = self._behind_contact_token(request, sender, now) or replaced(self._rooms, request, sender)
        hops = [found] if found is not None else self._rooms.routing.initial(request, routes, sender, now)
        if request.request_uri[:5].lower() == "sips:" and not isinstance(hops, Refused):
            return self._secure(hops, sender)
        return hops

    def _secure(self, hops: list[Hop], sender: Sender) -> list[Hop] | Refused:
        """Leave only what is reached over TLS: a `sips:` target is never sent on in the clear (RFC 5630 §5.4)."""
        for hop in hops:
            hop.alternatives = [one for one in hop.alternatives if one.secure]
        left = [hop if hop.secure else hop.alternatives.pop(0) for hop in hops if hop.secure or hop.alternatives]
        if left:
            return left
        host = self._parts.listeners[sender.flow.listener].sent_by
        why = "it is for a sips: URI, and no way to the callee is encrypted"
        return Refused(480, "R9", (("Warning", f'380 {host} "SIPS Not Allowed"'),), why=why)

    def _at_sibling(self, request: Request) -> tuple[tuple[str, str], ...]:
        """The same destination at the node that takes our calls."""
        sibling = SipUri.parse(self._parts.sip.sibling or "")
        uri = request.uri
        user = uri.user if isinstance(uri, SipUri) else uri.number
        there = SipUri.build(sibling.host, user=user, port=sibling.port, scheme=sibling.scheme, params=sibling.params)
        return (("Contact", f"<{there.text}>"),)

    def _redirect(self, server: ServerTransaction, hops: Sequence[Hop], call: Call | None, now: float) -> None:
        """Answer with the destinations instead of going there (§8.3)."""
        every = [one for hop in hops for one in (hop, *hop.alternatives)]
        contacts = [("Contact", f"<{one.request_uri}>;q={one.q:g}") for one in every]
        self._refuse(server, Refused(302, "redirect", tuple(contacts)), now, call)
        if call is not None and self._rooms.calls.failed(call):
            self._rooms.calls.end(call, "rejected", now, 302)

    def _behind_contact_token(self, request: Request, sender: Sender, now: float) -> Hop | None:
        """In edge mode: the phone behind a Contact of ours, for cores that ignore Path."""
        uri = request.uri
        if sender.upstream is None or self._parts.sip.mode != "edge" or not isinstance(uri, SipUri):
            return None
        return self.edge.by_contact_token(uri)

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
        rooms = self._rooms
        call = rooms.calls.of(request)
        from_upstream = sender.upstream
        from_access = party_facts(call, request, sender)
        if call is not None:
            self._dialogs.follow(call, request, sender.flow, server.flow)
        sender.authorised = sender.upstream is not None or self.authorisation.admits_source(sender)
        if server.invite:
            server.respond(100, respond(request, 100, to_tag=None), now)
        if call is not None:
            call.note(now, True, sender.flow, data)
        moved = {} if call is None else call.moved
        hop = rooms.routing.within_dialog(
            request, routes, sender, from_access, other_party(call, request, sender), moved, now=now
        )
        if isinstance(hop, Refused):
            self._refuse(server, _as_known_to(from_upstream, hop), now, call)
            return
        if call is None and routes.tokens and request.method in RESUMES:
            call = self._dialogs.resume(request, sender, hop, data, now, both=len(routes.tokens) > 1)
        ResponseContext(rooms, server, request, routes, sender, call, loop_part).start([hop], now)

    def _answer_options(self, server: ServerTransaction, request: Request, now: float) -> None:
        refused = bad_extension(request)
        if refused is not None:
            self._refuse(server, refused, now)
            return
        status = 503 if self.draining else 200
        headers = [] if self.draining else ABOUT_US
        server.respond(status, respond(request, status, to_tag=self._parts.to_tag(server.key[0]), headers=headers), now)

    # ---- ACK and CANCEL


def _by_hook(decision: Refuse) -> Refused:
    """Refuse as the operator's hook wants it."""
    return Refused(decision.status, "hook", reason=decision.reason, why="a hook of the operator refused it")


def _as_known_to(upstream: UpstreamState | None, refused: Refused) -> Refused:
    """Say that a flow is gone in the words that an upstream knows."""
    if refused.status != 430 or upstream is None:
        return refused
    return replace(refused, status=upstream.settings.flow_failed)
