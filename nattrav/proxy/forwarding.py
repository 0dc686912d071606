"""The way forward of one proxied request (RFC 3261 §16.6): its branches, from a destination to octets on a flow."""

from __future__ import annotations

from functools import partial

from nattrav.location.bindings import Binding
from nattrav.net.address import TransportAddress
from nattrav.proxy import forward
from nattrav.proxy.call_facts import Party
from nattrav.proxy.calls import Call
from nattrav.proxy.contact_mark import mark_contact
from nattrav.proxy.effects import Lookup
from nattrav.proxy.fork import Branch, in_groups, share_breadth
from nattrav.proxy.identity import ASSERTED, guard_identity
from nattrav.proxy.media import Side, sdp_of, with_sdp
from nattrav.proxy.nat import NO_NAT, NatTest, NatVerdict, is_asymmetric
from nattrav.proxy.quirks import Treatment
from nattrav.proxy.registrar import behind_nat
from nattrav.proxy.reuse import ALIAS
from nattrav.proxy.rooms import Rooms
from nattrav.proxy.routing import RouteSet, Sender
from nattrav.proxy.transactions import ClientTransaction, ServerTransaction
from nattrav.proxy.ways import MAX_BREADTH, Hop
from nattrav.sip.edit import Edit
from nattrav.sip.message import Message, Request, Response
from nattrav.sip.transport.flow import Flow, Target

LARGEST_UDP = 1300
"""Octets; a larger request goes over a stream where it can (RFC 3261 §18.1.1)."""


class Forwarding:
    """Carries one request forward: destinations, lookups, the relay, the request as it goes out.

    The other half, what comes back, is `nattrav.proxy.backward.ResponseContext`.
    """

    __slots__ = (
        "branches",
        "breadth",
        "call",
        "cancelled",
        "done",
        "failures",
        "forking",
        "gone",
        "groups",
        "initial",
        "invite",
        "loop_part",
        "method",
        "offer",
        "preparing",
        "request",
        "rooms",
        "routes",
        "sender",
        "server",
    )

    def __init__(
        self,
        rooms: Rooms,
        server: ServerTransaction,
        request: Request,
        routes: RouteSet,
        sender: Sender,
        call: Call | None,
        loop_part: str,
    ) -> None:
        self.rooms = rooms
        self.server = server
        self.request: Request | None = request
        self.method = request.method
        self.invite = server.invite
        self.initial = request.to.tag is None
        self.routes = routes
        self.sender = sender
        self.call = call
        self.loop_part = loop_part
        self.branches: list[Branch] = []
        self.groups: list[list[Hop]] = []
        self.failures: list[Response] = []
        self.gone: set[int] = set()
        """Statuses that stand for branches nobody answered: 408, or 503 where nothing could be sent (§16.9)."""
        self.offer: bytes | None = None
        self.preparing = 0
        self.breadth = MAX_BREADTH
        if "max-breadth" in request.names:
            wanted = request.max_breadth
            self.breadth = MAX_BREADTH if wanted is None else min(wanted, MAX_BREADTH)
        self.forking = False
        self.cancelled = False
        self.done = False
        server.context = self

    # ---- forward

    def start(self, hops: list[Hop], now: float) -> None:
        """Begin with the first group of destinations."""
        self.groups = in_groups(hops)
        # A core may fork, too, with several INVITEs of one call: the relay tells them apart by their branches.
        self.forking = len(hops) > 1 or not self.sender.access
        self._next_group(now)

    def _next_group(self, now: float) -> None:
        group = self.groups.pop(0)
        if (len(group) > 1 or self.breadth < MAX_BREADTH) and not share_breadth(self.breadth, group):
            self.groups.clear()
            self.answer_myself(440, now)
            return
        self.preparing += 1
        for hop in group:
            self._begin(hop, now)
        self.preparing -= 1
        if len(group) > 1 or not self.branches:
            self._settle(now)

    def _begin(self, hop: Hop, now: float) -> None:
        if hop.next_hop is None:
            if hop.uri is None:
                self._no_hop(hop, now)
                return
            self.preparing += 1
            parts = self.rooms.parts
            parts.out.append(Lookup(parts.await_reply(partial(self._looked_up, hop)), hop.uri.text))
            return
        self._prepare(hop, hop.next_hop, now)

    def _looked_up(self, hop: Hop, reply: object, now: float) -> None:
        self.preparing -= 1
        if self.done or self.cancelled or self.request is None:
            self._settle(now)
            return
        near = self.rooms.parts.listeners[self.sender.flow.listener]
        found: list[Flow | Target] = []
        if isinstance(reply, list):
            for transport, address, name in reply:
                next_hop = self.rooms.routing.to_address(transport, TransportAddress(*address), near, name)
                if next_hop is not None:
                    found.append(next_hop)
        if not found:
            self._no_hop(hop, now)
            return
        found = self.rooms.parts.dead.living_first(found, now)
        others = [
            Hop(hop.request_uri, one, hop.uri, hop.routes, upstream=hop.upstream, breadth=hop.breadth)
            for one in found[1:]
        ]
        hop.alternatives = others + hop.alternatives
        self._prepare(hop, found[0], now)

    def _call_id(self) -> str:
        """What log lines name the request by; empty once it is settled and gone."""
        return self.request.call_id if self.request is not None else ""

    def _no_hop(self, hop: Hop, now: float) -> None:
        uri = str(hop.uri or hop.request_uri)
        self.rooms.parts.log("warning", "next_hop_not_found", call_id=self._call_id(), uri=uri)
        if self.call is not None and self.initial:
            self.call.why = f"the DNS knows no address for {uri}, or none that a listener of ours reaches"
        if hop.alternatives:
            first, *rest = hop.alternatives
            first.alternatives = rest
            self._begin(first, now)
        else:
            self._settle(now)

    def _prepare(self, hop: Hop, next_hop: Flow | Target, now: float) -> None:
        request = self.request
        if request is None:
            return
        parts = self.rooms.parts
        edit, request_uri = forward.outgoing(
            request,
            request_uri=hop.request_uri,
            popped=self.routes.popped,
            last_used=self.routes.last_used,
            record_routes=self._record_routes(hop, next_hop, now),
            routes=hop.routes,
            strip_realm=None if self.sender.user is None else parts.settings.realm,
            max_breadth=hop.breadth,
        )
        if parts.quirks.marks_contacts and self.sender.access:
            self._mark(edit, request, self.sender.flow, next_hop, self._sender_treatment(request), now)
        if not ASSERTED.isdisjoint(edit.names) and parts.sip.guard_identity:
            guard_identity(edit, from_phone=self.sender.access, to_phone=hop.access)
        self._adjust_request(edit, hop, now)
        key = (parts.branches.new(self.loop_part), self.method)
        branch = Branch(parts.transactions, key, self, hop, edit, request_uri)
        branch.hop = next_hop
        branch.cseq = request.cseq.number
        if hop.alternatives:
            branch.patience = min(branch.patience, parts.transactions.values.next_hop)
        self.branches.append(branch)
        call = self.call
        if call is not None and self.initial and self.invite:
            call.access[Party.CALLEE] = hop.access
            if hop.upstream is not None:
                call.upstream = hop.upstream.name
            self.rooms.calls.attempted(call)
        sdp = sdp_of(request) if self.method in ("INVITE", "UPDATE", "PRACK") else None
        if sdp is not None and call is not None and self._stays_out(call, sdp):
            self.offer = sdp
            self._send(branch, now)
        elif sdp is not None and call is not None and self._relays(call, hop):
            self._ask_for_request(branch, call, request, sdp)
        else:
            self._send(branch, now)

    def _mark(
        self, edit: Edit, message: Message, flow: Flow, towards: Flow | Target, treatment: Treatment, now: float
    ) -> None:
        """Let the Contact of a device name the way back, where its quirk says so."""
        if self.method == "REGISTER" or treatment.contact not in ("alias", "rewrite"):
            return
        rooms = self.rooms
        token = rooms.routing.token_for(flow, now, base32=treatment.needs_base32)
        ours = rooms.parts.listeners.of(towards) if treatment.contact == "rewrite" else None
        mark_contact(edit, message, token, ours)

    def _sender_treatment(self, request: Request) -> Treatment:
        """How the sender is treated, also inside a dialog."""
        return self.sender.treatment if self.initial else self._treatment_of(request.user_agent, self.sender.flow)

    def _treatment_of(self, user_agent: str | None, flow: Flow) -> Treatment:
        """How the device behind a flow is treated; a message that does not name its product is that of its call."""
        call = self.call
        if user_agent is None and call is not None:
            party = next((party for party in call.flows if call.flows[party] == flow), None)
            user_agent = None if party is None else call.user_agents.get(party)
        parts = self.rooms.parts
        bound = self.rooms.location.by_flow(flow)
        aor = bound[0].aor if len(bound) == 1 else None
        if user_agent is None and bound:
            user_agent = bound[0].user_agent
        return parts.quirks.treatment(user_agent, flow.remote, aor)

    def _adjust_request(self, edit: Edit, hop: Hop, now: float) -> None:
        """For contexts of special requests: change what goes out."""

    def _stays_out(self, call: Call, sdp: bytes) -> bool:
        """The media goes without us: another relay has it already (D14), or the device does ICE by itself (D9)."""
        if call.media.session:
            return False
        if b"a=nortpproxy:yes" in sdp:
            return True
        return self.sender.treatment.ice == "pass" and b"a=candidate:" in sdp

    def _relays(self, call: Call, hop: Hop) -> bool:
        if call.media.session:
            return True
        policy = self.rooms.parts.sip.relay
        upstream = hop.upstream or self.sender.upstream
        if upstream is not None and upstream.settings.relay is not None:
            policy = upstream.settings.relay
        if policy == "never" or not self.initial:
            return False
        if policy == "always":
            return self.sender.access or hop.access
        natted = self.sender.verdict.nat or (hop.binding is not None and behind_nat(hop.binding))
        families = {":" in self.sender.flow.remote.host}
        if hop.next_hop is not None:
            families.add(":" in hop.next_hop.remote.host)
        return natted or len(families) > 1

    def _ask_for_request(self, branch: Branch, call: Call, request: Request, sdp: bytes) -> None:
        branch.relayed = True
        self.preparing += 1
        side = self._sender_side(None if branch.hop is None else branch.hop.remote.host)
        resume = partial(self._offered, branch)
        from_tag, to_tag = request.from_.tag or "", request.to.tag
        if self.method == "PRACK" and to_tag is not None and to_tag in call.media.late:
            call.media.stable = (to_tag, call.media.late.pop(to_tag), from_tag, sdp)
            self.rooms.media.answer(call, sdp, side, resume, from_tag=to_tag, to_tag=from_tag)
            return
        self.offer = sdp
        self.rooms.media.offer(
            call,
            sdp,
            side,
            resume,
            from_tag=from_tag,
            to_tag=to_tag,
            branch=branch.branch if self.forking and self.initial else None,
        )

    def _sender_side(self, towards: str | None) -> Side:
        sender = self.sender
        latch = sender.upstream is None or sender.upstream.settings.latch
        return Side(sender.flow, sender.access, sender.verdict, sender.treatment, latch, towards)

    def _offered(self, branch: Branch, body: bytes | None, now: float) -> None:
        self.preparing -= 1
        if self.done or self.cancelled or branch.edit is None:
            self._end(branch)
            self._settle(now)
            return
        if body is not None:
            branch.edit.body(with_sdp(self.request, body) if self.request is not None else body)
        elif self.rooms.parts.sip.relay_required:
            for other in self.branches:
                self._end(other)
            self.groups.clear()
            self.answer_myself(503 if self.initial else 488, now, "Media relay not available")
            return
        else:
            branch.relayed = False
        self._send(branch, now)

    def _send(self, branch: Branch, now: float) -> None:
        edit, hop = branch.edit, branch.hop
        assert edit is not None
        assert hop is not None
        parts = self.rooms.parts
        listener = parts.listeners.of(hop)
        assert listener is not None
        via = listener.via(branch.branch)
        if hop.transport == "tls" and parts.sip.tls.certificate is not None and self._is_ours(hop):
            via += ALIAS
        forward.add_via(edit, via)
        if hop.transport != "udp":
            edit.framed()
        data = edit.render()
        if parts.quirks.limits_size and isinstance(hop, Flow) and branch.hop_wanted.access:
            fitted = self._fitted(edit, data, hop)
            if fitted is None:
                self._end(branch)
                if len(self.branches) == 1 and not self.groups:
                    self.answer_myself(513, now)
                else:
                    self._settle(now)
                return
            data = fitted
        if (
            len(data) > LARGEST_UDP
            and isinstance(hop, Flow)
            and not hop.reliable
            and self._goes_by_tcp(branch, hop, data, now)
        ):
            return
        if self.call is not None:
            self.call.note(now, False, hop, data, "R2", "R5", "R7")
        branch.start(hop, data, now)
        if not self.invite:
            branch.edit = None

    def _is_ours(self, hop: Flow | Target) -> bool:
        """The connection is one that we opened, or will."""
        return isinstance(hop, Target) or hop in self.rooms.parts.reuse.dialled

    def _fitted(self, edit: Edit, data: bytes, flow: Flow) -> bytes | None:
        """Make a message small enough for a device that cannot put fragments together; None when that is impossible."""
        if flow.reliable:
            return data
        limit = self._treatment_of(None, flow).max_udp
        if limit is None or len(data) <= limit:
            return data
        small = edit.compact().render()
        fits = len(small) <= limit
        self.rooms.parts.log(
            "info" if fits else "warning",
            "over_device_limit",
            call_id=self._call_id(),
            octets=len(data),
            compact=len(small),
            limit=limit,
            next_hop=str(flow.remote),
        )
        return small if fits else None

    def _goes_by_tcp(self, branch: Branch, flow: Flow, data: bytes, now: float) -> bool:
        """Move a large request to TCP where the next hop may offer it; else say why it goes in fragments (R8)."""
        if flow.reliable:
            return False
        wanted = branch.hop_wanted
        instead = self.rooms.routing.instead_of_udp(wanted, flow, now)
        why = "tcp" if instead is not None else "phone behind a flow" if wanted.access else "no TCP there"
        self.rooms.parts.log(
            "info", "over_mtu", call_id=self._call_id(), octets=len(data), next_hop=str(flow.remote), sent_by=why
        )
        if instead is None or instead.next_hop is None:
            return False
        self._end(branch)
        self.branches.remove(branch)
        self._prepare(instead, instead.next_hop, now)
        return True

    def _record_routes(self, hop: Hop, next_hop: Flow | Target, now: float) -> list[str]:
        if self.method not in (forward.RECORD_ROUTED if self.initial else forward.RECORD_ROUTED_INSIDE):
            return []
        rooms, sender = self.rooms, self.sender
        listeners = rooms.parts.listeners
        came, goes = listeners[sender.flow.listener], listeners.of(next_hop)
        assert goes is not None
        values = []
        out_token = in_token = None
        if hop.access and isinstance(next_hop, Flow):
            listens_elsewhere = hop.binding is not None and is_asymmetric(hop.binding.tests)
            out_token = rooms.routing.token_for(next_hop, now, asymmetric=listens_elsewhere)
        elif not sender.access and hop.upstream is None and isinstance(next_hop, Flow) and not next_hop.reliable:
            # A stranger that an upstream calls through us: what he sends in the dialog has to prove itself as well.
            out_token = rooms.routing.token_for(next_hop, now)
        if sender.access:
            in_token = rooms.routing.token_for(
                sender.flow, now, base32=sender.treatment.needs_base32, asymmetric=sender.asymmetric
            )
        double = came is not goes
        secure = hop.request_uri[:5].lower() == "sips:" or (
            self.routes.next_route is not None and self.routes.next_route.secure
        )
        if out_token is not None or double or in_token is None:
            explicit = double or (out_token is not None and self._wants_transport(hop))
            values.append(forward.record_route(goes, out_token, explicit=explicit, secure=secure))
        if in_token is not None or (double and came is not goes):
            explicit = double or sender.treatment.rr_transport == "explicit"
            values.append(forward.record_route(came, in_token, explicit=explicit, secure=secure))
        return values

    def _wants_transport(self, hop: Hop) -> bool:
        """The device that is called takes a Record-Route without a transport for UDP."""
        binding = hop.binding
        if binding is None:
            return False
        return self.rooms.parts.quirks.treatment(binding.user_agent, binding.flow.remote, binding.aor).rr_transport == (
            "explicit"
        )

    # ---- the other half

    def on_response(self, branch: ClientTransaction, response: Response, now: float) -> None:
        """A response came on a branch."""
        raise NotImplementedError

    def on_trying(self, branch: ClientTransaction, now: float) -> None:
        """A 100 came on a branch."""
        raise NotImplementedError

    def on_timeout(self, branch: ClientTransaction, now: float) -> None:
        """A branch got no answer."""
        raise NotImplementedError

    def answer_myself(self, status: int, now: float, reason: str | None = None) -> None:
        """End the request with a response of ours."""
        raise NotImplementedError

    def _settle(self, now: float) -> None:
        """Nothing may be under way any more."""
        raise NotImplementedError

    def _end(self, branch: Branch, keep: bool = False) -> None:
        """A branch is over."""
        raise NotImplementedError


def verdict_of(hop: Hop) -> NatVerdict:
    """The NAT tests of a destination's registration."""
    return NO_NAT if hop.binding is None else nat_of(hop.binding)


def nat_of(binding: Binding) -> NatVerdict:
    """The NAT tests of a registration."""
    return NatVerdict(frozenset(NatTest(name) for name in binding.tests), nat=behind_nat(binding), asymmetric=False)
