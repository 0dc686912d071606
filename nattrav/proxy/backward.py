"""The response context of one proxied request (RFC 3261 §16.7): its branches, and what goes back to its sender."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from nattrav.net.address import TransportAddress
from nattrav.proxy import forward
from nattrav.proxy.best_response import best, with_all_challenges
from nattrav.proxy.calls import Call, CallState, Party
from nattrav.proxy.effects import Lookup
from nattrav.proxy.fork import Branch, in_groups
from nattrav.proxy.hooks import ResponseView
from nattrav.proxy.media import Side, sdp_of, with_sdp
from nattrav.proxy.nat import NO_NAT, NatTest, NatVerdict
from nattrav.proxy.quirks import PLAIN
from nattrav.proxy.registrar import behind_nat
from nattrav.proxy.rooms import Rooms
from nattrav.proxy.routing import Hop, RouteSet, Sender
from nattrav.proxy.transactions import ClientTransaction, ServerTransaction, State
from nattrav.sip.edit import Edit
from nattrav.sip.message import Request, Response
from nattrav.sip.response import respond
from nattrav.sip.transport.flow import Flow, Target

ENDS_DIALOG = frozenset((408, 481))
"""Failures of an in-dialog INVITE, UPDATE or BYE that end the dialog (RFC 5057)."""


class ResponseContext:
    """Carries one request forward and its responses back."""

    __slots__ = (
        "branches",
        "call",
        "cancelled",
        "done",
        "failures",
        "forking",
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
        self.offer: bytes | None = None
        self.preparing = 0
        self.forking = False
        self.cancelled = False
        self.done = False
        server.context = self

    # ---- forward

    def start(self, hops: list[Hop], now: float) -> None:
        """Begin with the first group of destinations."""
        self.groups = in_groups(hops)
        self.forking = len(hops) > 1
        self._next_group(now)

    def _next_group(self, now: float) -> None:
        for hop in self.groups.pop(0):
            self._begin(hop, now)

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
        others = [Hop(hop.request_uri, one, hop.uri, hop.routes, upstream=hop.upstream) for one in found[1:]]
        hop.alternatives = others + hop.alternatives
        self._prepare(hop, found[0], now)

    def _no_hop(self, hop: Hop, now: float) -> None:
        self.rooms.parts.log("warning", "next_hop_not_found", uri=str(hop.uri or hop.request_uri))
        if hop.alternatives:
            first, *rest = hop.alternatives
            first.alternatives = rest
            self._begin(first, now)
        elif not self.branches:
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
            record_routes=self._record_routes(hop, next_hop, now),
            routes=hop.routes,
            strip_authorization=self.sender.user is not None,
        )
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
        if sdp is not None and call is not None and self._relays(call, hop):
            self._ask_for_request(branch, call, request, sdp)
        else:
            self._send(branch, now)

    def _adjust_request(self, edit: Edit, hop: Hop, now: float) -> None:
        """For contexts of special requests: change what goes out."""

    def _adjust_response(self, edit: Edit, response: Response, now: float) -> None:
        """For contexts of special requests: change what goes back."""

    def _unanswered_by_all(self, now: float) -> None:
        """A request other than INVITE got no answer anywhere: say nothing, its sender has timed out too (RFC 4320)."""
        if self.branches:
            self._ended(408, now)
        else:
            self.answer_myself(503, now)

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
        next_hop = branch.hop_wanted.next_hop
        side = replace(self._sender_side(), towards=next_hop.remote.host if next_hop is not None else None)
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

    def _sender_side(self) -> Side:
        sender = self.sender
        latch = sender.upstream is None or sender.upstream.settings.latch
        return Side(sender.flow, sender.access, sender.verdict, sender.treatment, latch)

    def _offered(self, branch: Branch, body: bytes | None, now: float) -> None:
        self.preparing -= 1
        if self.done or self.cancelled or branch.edit is None:
            self._end(branch)
            self._settle(now)
            return
        if body is not None and self.request is not None:
            branch.edit.body(with_sdp(self.request, body))
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
        rport = ";rport" if listener.transport == "udp" else ""
        forward.add_via(
            edit, f"Via: SIP/2.0/{listener.transport.upper()} {listener.sent_by};branch={branch.branch}{rport}"
        )
        if hop.transport != "udp":
            edit.framed()
        data = edit.render()
        if self.call is not None:
            self.call.note(now, False, hop, data, "R2", "R5", "R7")
        branch.start(hop, data, now)
        if not self.invite:
            branch.edit = None

    def _record_routes(self, hop: Hop, next_hop: Flow | Target, now: float) -> list[str]:
        if not self.initial or self.method not in forward.RECORD_ROUTED:
            return []
        rooms, sender = self.rooms, self.sender
        listeners = rooms.parts.listeners
        came, goes = listeners[sender.flow.listener], listeners.of(next_hop)
        assert goes is not None
        values = []
        out_token = in_token = None
        if hop.access and isinstance(next_hop, Flow):
            out_token = rooms.routing.token_for(next_hop, now)
        if sender.access:
            in_token = rooms.routing.token_for(sender.flow, now, base32=sender.treatment.needs_base32)
        double = came is not goes
        if out_token is not None or double or in_token is None:
            values.append(forward.record_route(goes, out_token, explicit=double))
        if in_token is not None or (double and came is not goes):
            explicit = double or sender.treatment.rr_transport == "explicit"
            values.append(forward.record_route(came, in_token, explicit=explicit))
        return values

    # ---- backward

    def on_response(self, branch: ClientTransaction, response: Response, now: float) -> None:
        """A response came on a branch and was not absorbed by its transaction."""
        assert isinstance(branch, Branch)
        status = response.status
        if status < 200:
            if branch.cancelled and branch.edit is not None:
                self._send_cancel(branch, now)
            if not self.server.final:
                self._with_media(branch, response, now)
        elif status < 300:
            self._success(branch, response, now)
        else:
            self._failure(branch, response, now)

    def on_trying(self, branch: ClientTransaction, now: float) -> None:
        """A 100 lets a held CANCEL go."""
        assert isinstance(branch, Branch)
        if branch.cancelled and branch.edit is not None:
            self._send_cancel(branch, now)

    def _success(self, branch: Branch, response: Response, now: float) -> None:
        branch.ended = True
        branch.edit = None
        if not self.invite:
            if not self.server.final:
                self._with_media(branch, response, now)
            return
        self.done = True
        self.groups.clear()
        self.failures.clear()
        for other in self.branches:
            if other is not branch and not other.ended:
                self._cancel(other, now)
        call = self.call
        if call is not None and self.initial:
            call.flows[Party.CALLEE] = branch.flow
            if call.state is CallState.EARLY:
                agent = response.user_agent
                if agent:
                    call.user_agents[Party.CALLEE] = agent[:120]
                hop = branch.hop_wanted
                if hop.binding is not None:
                    call.nat[Party.CALLEE] = _verdict_of(hop)
                call.accepted = response
            self.rooms.calls.answer(call, response.to.tag or "", now)
            if hop_up := branch.hop_wanted.upstream:
                hop_up.failed_until = 0.0
        self._with_media(branch, response, now)
        self.request = None
        self.server.request = None

    def _failure(self, branch: Branch, response: Response, now: float) -> None:
        if self.invite and branch.edit is not None:
            branch.ack = forward.ack_for_failure(branch.edit, branch.request_uri, response)
        self._end(branch, keep=True)
        status = response.status
        if status == 503:
            upstream = branch.hop_wanted.upstream
            if upstream is not None:
                self.rooms.upstreams.failed(upstream, now, _retry_after(response))
            elif branch.hop is not None and not branch.hop_wanted.access:
                self.rooms.parts.dead.failed(branch.hop, now, _retry_after(response))
            if self._fail_over(branch, now):
                return
        elif status == 430 and self._fail_over(branch, now):
            return
        if 300 <= status < 400 and self._follow(response, now):
            return
        self.failures.append(response)
        if status >= 600:
            self.groups.clear()
            for other in self.branches:
                if not other.ended:
                    self._cancel(other, now)
        self._settle(now)

    def _follow(self, response: Response, now: float) -> bool:
        """Recurse on the Contacts of a 3xx that lie inside our own domains, when that is wanted (R11)."""
        if not self.rooms.parts.sip.recurse or self.request is None or self.done or self.cancelled:
            return False
        hops = self.rooms.routing.redirected(response, self.routes, self.sender, now)
        if not hops:
            return False
        self.groups[:0] = in_groups(hops)
        self._settle(now)
        return True

    def _fail_over(self, branch: Branch, now: float) -> bool:
        """Try the next destination of a branch with a new branch (R9)."""
        alternatives = branch.hop_wanted.alternatives
        if not alternatives or self.done or self.cancelled or self.request is None:
            return False
        first, *rest = alternatives
        first.alternatives = rest
        if branch.relayed and self.call is not None and self.forking:
            self.rooms.media.delete(self.call, branch=branch.branch)
        self._begin(first, now)
        return True

    def on_timeout(self, branch: ClientTransaction, now: float) -> None:
        """Timer B, C or F."""
        assert isinstance(branch, Branch)
        ringing = branch.state is State.PROCEEDING and self.invite
        if ringing and not branch.cancelled:
            self._cancel(branch, now)
            return
        self._unanswered(branch, now)

    def unreachable(self, branch: Branch, now: float) -> None:
        """The transport could not send: as a 503 of that branch (§16.9)."""
        self._unanswered(branch, now)

    def _unanswered(self, branch: Branch, now: float) -> None:
        upstream = branch.hop_wanted.upstream
        if upstream is not None and not branch.cancelled:
            self.rooms.upstreams.failed(upstream, now)
        elif branch.hop is not None and not (branch.cancelled or branch.hop_wanted.access):
            self.rooms.parts.dead.failed(branch.hop, now)
        self._end(branch)
        if not branch.cancelled and self._fail_over(branch, now):
            return
        self._settle(now)

    def _end(self, branch: Branch, keep: bool = False) -> None:
        branch.ended = True
        if not keep:
            branch.fail(0.0)
            branch.edit = None

    def _settle(self, now: float) -> None:
        """When nothing is under way any more: the next group, or the best failure."""
        if self.preparing or any(not branch.ended for branch in self.branches):
            return
        if self.groups and not self.cancelled and not self.done:
            self._next_group(now)
            return
        if self.done or self.server.final:
            return
        chosen = best(self.failures)
        if self.cancelled:
            self.answer_myself(487, now)
        elif chosen is None:
            if self.invite:
                self.answer_myself(408 if self.branches else 503, now)
            else:
                self._unanswered_by_all(now)
        elif chosen.status == 503:
            self.answer_myself(500, now)
        else:
            self._pass_on(chosen, None, now, others=self.failures)

    def answer_myself(self, status: int, now: float, reason: str | None = None) -> None:
        """End the request with a response of ours."""
        request = self.request
        if request is None or self.server.final:
            return
        self.done = True
        parts = self.rooms.parts
        data = respond(request, status, reason, to_tag=parts.to_tag(self.server.key[0]))
        if self.call is not None:
            self.call.note(now, False, self.server.flow, data, "S2")
        self.server.respond(status, data, now)
        self._ended(status, now)

    def _with_media(self, branch: Branch, response: Response, now: float) -> None:
        """Take the SDP of a response through the relay, then pass the response on."""
        call = self.call
        sdp = sdp_of(response) if response.body else None
        if sdp is None or call is None or not (branch.relayed or (self.offer is None and self.invite)):
            self._pass_on(response, None, now)
            return
        if not branch.relayed and not self._relays(call, branch.hop_wanted):
            self._pass_on(response, None, now)
            return
        tag = response.to.tag or ""
        key = (tag, sdp)
        if key in branch.answers:
            known = branch.answers[key]
            if known is not None:
                self._pass_on(response, known, now)
            return
        branch.answers[key] = None
        side = replace(self._answerer_side(branch, call), towards=self.sender.flow.remote.host)
        resume = partial(self._answered, branch, response, key)
        offerer = call.caller_tag if self.initial else self._from_tag()
        via_branch = branch.branch if self.forking and self.initial else None
        media = self.rooms.media
        if self.offer is not None or self.method == "PRACK":
            if response.status >= 200 and self.offer is not None:
                call.media.stable = (offerer, self.offer, tag, sdp)
            media.answer(call, sdp, side, resume, from_tag=offerer, to_tag=tag, branch=via_branch)
        else:
            call.media.late[tag] = sdp
            branch.relayed = True
            media.offer(call, sdp, side, resume, from_tag=tag, to_tag=offerer)

    def _from_tag(self) -> str:
        return (self.request.from_.tag or "") if self.request is not None else ""

    def _answerer_side(self, branch: Branch, call: Call) -> Side:
        hop = branch.hop_wanted
        if self.initial:
            latch = hop.upstream is None or hop.upstream.settings.latch
            return Side(branch.flow, hop.access, _verdict_of(hop), PLAIN, latch)
        party = Party.CALLER if self._from_tag() != call.caller_tag else Party.CALLEE
        return Side(branch.flow, call.access[party], call.nat[party], PLAIN, call.access[party])

    def _answered(
        self, branch: Branch, response: Response, key: tuple[str, bytes], body: bytes | None, now: float
    ) -> None:
        branch.answers[key] = body
        if body is None and response.status >= 200 and self.call is not None:
            self.rooms.parts.log("error", "relay_answer_failed", call_id=self.call.call_id)
            branch.answers.pop(key)
        self._pass_on(response, body, now)

    def _pass_on(
        self, response: Response, body: bytes | None, now: float, others: list[Response] | None = None
    ) -> None:
        """Send a response to where the request came from (§16.7 steps 3, 8 and 9)."""
        status = response.status
        edit = Edit(response)
        edit.remove_top("via")
        if body is not None:
            edit.body(with_sdp(response, body))
        if others is not None and len(others) > 1:
            with_all_challenges(response, edit, others)
        self._adjust_response(edit, response, now)
        if self.server.flow.reliable:
            edit.framed()
        data = edit.render()
        if self.call is not None:
            self.call.note(now, False, self.server.flow, data, "S1" if status < 300 else "S2")
            if status < 200 and status >= 180 and self.initial and self.invite:
                self.rooms.calls.ring(self.call, now)
        if status >= 300:
            self.done = True
        first_final = status >= 200 and not self.server.final
        hooks = self.rooms.parts.hooks
        if first_final and hooks.has("on_response"):
            upstream = None if self.call is None else self.call.upstream
            hooks.call("on_response", ResponseView(self.method, status, response.reason, response.call_id, upstream))
        self.server.respond(status, data, now)
        if first_final:
            self._ended(status, now)

    def _ended(self, status: int, now: float) -> None:
        """The request has its final answer: what does that mean for the call?"""
        call, request = self.call, self.request
        if status >= 300 or not self.invite:
            self.request = None
        if call is None:
            if self.method == "BYE" and request is not None and (status < 300 or status in ENDS_DIALOG):
                self.rooms.media.delete_unknown(request.call_id, request.from_.tag or "")
            return
        rooms = self.rooms
        if self.method == "BYE":
            if status not in (401, 407):
                rooms.media.delete(call)
                rooms.calls.end(call, "bye", now)
        elif self.invite and self.initial:
            if status >= 300 and call.state is CallState.EARLY:
                rooms.media.delete(call, delay=0)
                rooms.calls.end(call, "cancel" if self.cancelled else "rejected", now, status)
        elif self.method in ("INVITE", "UPDATE") and status >= 300:
            if status in ENDS_DIALOG:
                rooms.media.delete(call)
                rooms.calls.end(call, "timeout", now, status)
            elif self.offer is not None or self.invite:
                rooms.media.restore(call)

    # ---- CANCEL

    def cancel(self, now: float) -> None:
        """The sender cancels its INVITE (S3)."""
        if self.done or self.cancelled:
            return
        self.cancelled = True
        self.groups.clear()
        for branch in self.branches:
            if not branch.ended:
                self._cancel(branch, now)
        self._settle(now)

    def _cancel(self, branch: Branch, now: float) -> None:
        """Cancel a branch now when it has a provisional response, else when one comes."""
        if branch.cancelled or branch.ended:
            return
        branch.cancelled = True
        if branch.state is State.PROCEEDING:
            self._send_cancel(branch, now)
        elif not branch.data and branch.state is State.TRYING:
            self._end(branch)  # was still waiting for the relay or a lookup

    def _send_cancel(self, branch: Branch, now: float) -> None:
        edit, hop = branch.edit, branch.hop
        if edit is None or hop is None or (branch.branch, "CANCEL") in self.rooms.parts.transactions.clients:
            return
        parts = self.rooms.parts
        client = ClientTransaction(parts.transactions, (branch.branch, "CANCEL"), None)
        data = forward.cancel_for(edit, branch.request_uri, branch.cseq)
        if self.call is not None:
            self.call.note(now, False, hop, data, "S3")
        client.start(hop, data, now)
        parts.timers.set(branch, now + parts.transactions.patience)


def _verdict_of(hop: Hop) -> NatVerdict:
    binding = hop.binding
    if binding is None:
        return NO_NAT
    return NatVerdict(frozenset(NatTest(name) for name in binding.tests), nat=behind_nat(binding), asymmetric=False)


def _retry_after(response: Response) -> float | None:
    value = response.first("retry-after")
    digits = "" if value is None else value.split(";")[0].split("(")[0].strip()
    return float(digits) if digits.isdigit() and len(digits) < 6 else None
