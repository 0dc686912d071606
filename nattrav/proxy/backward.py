"""The response context of one proxied request (RFC 3261 §16.7): its branches, and what goes back to its sender."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from nattrav.net.address import TransportAddress
from nattrav.proxy import causes, forward
from nattrav.proxy.best_response import best, with_all_challenges
from nattrav.proxy.call_facts import CallState, Party
from nattrav.proxy.calls import Call
from nattrav.proxy.effects import DropReason
from nattrav.proxy.fork import Branch, in_groups
from nattrav.proxy.forwarding import Forwarding, verdict_of
from nattrav.proxy.hooks import ResponseView
from nattrav.proxy.identity import ASSERTED, guard_identity
from nattrav.proxy.media import Side, sdp_of, with_sdp
from nattrav.proxy.quirks import PLAIN
from nattrav.proxy.transactions import ClientTransaction
from nattrav.sip.edit import Edit
from nattrav.sip.message import Request, Response
from nattrav.sip.response import respond
from nattrav.sip.transaction import State
from nattrav.sip.transport.flow import Target

ENDS_DIALOG = frozenset((408, 481))
"""Failures of an in-dialog INVITE, UPDATE or BYE that end the dialog (RFC 5057)."""


ELSEWHERE = 'SIP;cause=200;text="Call completed elsewhere"'
"""Why the other phones stop ringing, so that they list no missed call (RFC 3326)."""


class ResponseContext(Forwarding):
    """Carries one request forward and its responses back."""

    __slots__ = ()

    def _adjust_response(self, edit: Edit, response: Response, now: float) -> None:
        """For contexts of special requests: change what goes back."""

    def _unanswered_by_all(self, now: float) -> None:
        """A request other than INVITE got no answer anywhere: say nothing, its sender has timed out too (RFC 4320)."""
        if self.branches:
            self._ended(408, now)
        else:
            self.answer_myself(503, now)

    # ---- backward

    def on_response(self, branch: ClientTransaction, response: Response, now: float) -> None:
        """A response came on a branch and was not absorbed by its transaction."""
        assert isinstance(branch, Branch)
        status = response.status
        if status < 200:
            if branch.cancelled and branch.edit is not None:
                self._send_cancel(branch, now)
            if self.invite and not self.server.final:
                if self.call is None or not response.body or self.rooms.parts.sip.early_media == "last":
                    self._with_media(branch, response, now)
                else:
                    self._early_media(branch, self.call, response, now)
        elif status < 300:
            self._success(branch, response, now)
        else:
            self._failure(branch, response, now)

    def _early_media(self, branch: Branch, call: Call, response: Response, now: float) -> None:
        """Let one phone's early media through and keep the others' back; what must be PRACKed always passes."""
        tag = response.to.tag or ""
        if call.early is None:
            call.early = tag
        if tag == call.early or "rseq" in response.names:
            self._with_media(branch, response, now)
        elif self.rooms.parts.sip.early_media == "first":
            self._pass_on(response, b"", now)

    def on_trying(self, branch: ClientTransaction, now: float) -> None:
        """A 100 lets a held CANCEL go."""
        assert isinstance(branch, Branch)
        if branch.cancelled and branch.edit is not None:
            self._send_cancel(branch, now)

    def _success(self, branch: Branch, response: Response, now: float) -> None:
        branch.ended = True
        branch.edit = None
        if not self.invite:
            if self.method == "UPDATE" and self.call is not None:
                self.rooms.calls.refreshed(self.call, response.first("session-expires"), now)
            if not self.server.final:
                self._with_media(branch, response, now)
            return
        self.done = True
        self.groups.clear()
        self.failures.clear()
        for other in self.branches:
            if other is not branch and not other.ended:
                self._cancel(other, now, ELSEWHERE)
        call = self.call
        if call is not None and self.initial:
            call.flows[Party.CALLEE] = branch.flow
            if call.state is CallState.EARLY:
                agent = response.user_agent
                if agent:
                    call.user_agents[Party.CALLEE] = agent[:120]
                hop = branch.hop_wanted
                if hop.binding is not None:
                    call.nat[Party.CALLEE] = verdict_of(hop)
                call.accepted = response
            self.rooms.calls.answer(call, response.to.tag or "", now)
        if call is not None:
            self.rooms.calls.refreshed(call, response.first("session-expires"), now)
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
        if status == 408 and not self.invite:
            # Its sender has given up by now, and a late 408 would only mislead (RFC 4320 §4.2).
            self._settle(now)
            return
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
                    self._cancel(other, now, f"SIP;cause={status}")
        self._settle(now)

    def _follow(self, response: Response, now: float) -> bool:
        """Recurse on the Contacts of a 3xx that lie inside our own domains, when that is wanted (R11)."""
        if not self.rooms.parts.sip.recurse or self.request is None or self.done or self.cancelled:
            return False
        tried = {(branch.hop_wanted.request_uri, branch.hop) for branch in self.branches}
        hops = [
            hop
            for hop in self.rooms.routing.redirected(response, self.routes, self.sender, now)
            if (hop.request_uri, hop.next_hop) not in tried
        ]
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
        self._unanswered(branch, now, 503)

    def connection_closed(self, branch: Branch, now: float) -> None:
        """The connection closed before anything was answered on it: a phone is gone, a next hop gets a new one."""
        hop, wanted = branch.hop, branch.hop_wanted
        if hop is not None and not wanted.access and not branch.cancelled:
            name = hop.remote.host if wanted.uri is None else wanted.uri.host
            again = replace(wanted, next_hop=Target(hop.transport, hop.remote, name), alternatives=[])
            wanted.alternatives.insert(0, again)
            self._end(branch)
            if self._fail_over(branch, now):
                return
        self._unanswered(branch, now, 503)

    def _unanswered(self, branch: Branch, now: float, status: int = 408) -> None:
        upstream = branch.hop_wanted.upstream
        if branch.hop_wanted.by_size and branch.hop is not None:
            self.rooms.routing.offers_no_tcp(branch.hop.remote, now)
        elif upstream is not None and not branch.cancelled:
            self.rooms.upstreams.failed(upstream, now)
        elif branch.hop is not None and not (branch.cancelled or branch.hop_wanted.access):
            self.rooms.parts.dead.failed(branch.hop, now)
        self._end(branch)
        if not branch.cancelled and self._fail_over(branch, now):
            return
        self.gone.add(480 if status == 503 and branch.hop_wanted.access else status)
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
        elif self.invite and self.gone and (chosen is None or chosen.status // 100 == 5):
            # A lower class wins (§16.7 step 6); the 503 of one next hop is no 503 of ours.
            status = min(self.gone)
            if self.call is not None and self.initial:
                self.call.why = causes.unanswered(status, self.branches)
            self.answer_myself(500 if status == 503 else status, now)
        elif chosen is None:
            if self.invite:
                self.answer_myself(503, now)
            else:
                self._unanswered_by_all(now)
        elif chosen.status == 503:
            if self.call is not None and self.initial:
                self.call.why = causes.answered(chosen, self._branch_of(chosen), None)
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
        if self.server.flow.reliable:
            self._find_way_back()
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
            elif response.status >= 200:
                # The SDP of a 18x comes again in the 2xx, and the relay is still asked.
                branch.final = response
            return
        branch.answers[key] = None
        side = self._answerer_side(branch, call, response.status)
        resume = partial(self._answered, branch, response, key)
        offerer = call.caller_tag if self.initial else self._from_tag()
        via_branch = branch.branch if self.forking and self.initial else None
        media = self.rooms.media
        if self.offer is not None or self.method == "PRACK":
            if self.offer is not None and (response.status >= 200 or "rseq" in response.names):
                call.media.stable = (offerer, self.offer, tag, sdp)
            media.answer(call, sdp, side, resume, from_tag=offerer, to_tag=tag, branch=via_branch)
        else:
            call.media.late[tag] = sdp
            branch.relayed = True
            media.offer(call, sdp, side, resume, from_tag=tag, to_tag=offerer)

    def _from_tag(self) -> str:
        return (self.request.from_.tag or "") if self.request is not None else ""

    def _answerer_side(self, branch: Branch, call: Call, status: int) -> Side:
        hop, towards = branch.hop_wanted, self.sender.flow.remote.host
        if self.initial:
            latch = hop.upstream is None or hop.upstream.settings.latch
            return Side(branch.flow, hop.access, verdict_of(hop), PLAIN, latch, towards, status)
        party = Party.CALLER if self._from_tag() != call.caller_tag else Party.CALLEE
        access = call.access[party]
        return Side(branch.flow, access, call.nat[party], PLAIN, access, towards, status)

    def _answered(
        self, branch: Branch, response: Response, key: tuple[str, bytes], body: bytes | None, now: float
    ) -> None:
        if body is not None:
            branch.answers[key] = body
        else:
            del branch.answers[key]
            if response.status >= 200 and self.call is not None:
                self.rooms.parts.log("error", "relay_answer_failed", call_id=self.call.call_id)
        self._pass_on(response, body, now)
        final, branch.final = branch.final, None
        if final is not None and response.status < 200:
            self._with_media(branch, final, now)

    def _pass_on(
        self, response: Response, body: bytes | None, now: float, others: list[Response] | None = None
    ) -> None:
        """Send a response to where the request came from (§16.7 steps 3, 8, 9); an empty `body` takes its own off."""
        status = response.status
        if status >= 300 and self.call is not None and self.initial and self.invite:
            self.call.why = causes.answered(response, self._branch_of(response), self.offer)
        edit = Edit(response)
        edit.remove_top("via")
        if body:
            edit.body(with_sdp(response, body))
        elif body is not None:
            edit.body(b"").remove("content-type").remove("content-disposition")
        if others is not None and len(others) > 1:
            with_all_challenges(response, edit, others)
        if not ASSERTED.isdisjoint(edit.names) and self.rooms.parts.sip.guard_identity:
            branch = self._branch_of(response)
            from_phone = branch is not None and branch.hop_wanted.access
            guard_identity(edit, from_phone=from_phone, to_phone=self.sender.access)
        self._adjust_response(edit, response, now)
        quirks = self.rooms.parts.quirks
        if quirks.marks_contacts and status < 300 and "contact" in edit.names:
            self._mark_response(edit, response, now)
        if self.server.flow.reliable:
            edit.framed()
            self._find_way_back()
        data = edit.render()
        if quirks.limits_size and self.sender.access:
            # A response can be refused by nobody; what stays too large goes out all the same.
            data = self._fitted(edit, data, self.server.flow) or edit.render()
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

    def _find_way_back(self) -> None:
        """When the connection of the request is gone, open one to its sender (§18.2.2), but never towards a phone."""
        flow, parts, request = self.server.flow, self.rooms.parts, self.request
        if parts.connections.get((flow.listener, flow.remote.host, flow.remote.port)) == flow:
            return
        if self.server.target is not None:
            return
        if self.sender.access:
            parts.drop(DropReason.FLOW_GONE, flow)
        elif request is not None:
            via = request.via
            there = TransportAddress(via.received or flow.remote.host, via.sent_by[1])
            self.server.target = Target(flow.transport, there, via.host)

    def _branch_of(self, response: Response) -> Branch | None:
        return next((one for one in self.branches if one.branch == response.via.branch), None)

    def _mark_response(self, edit: Edit, response: Response, now: float) -> None:
        branch = self._branch_of(response)
        flow = None if branch is None else branch.flow
        if branch is None or flow is None or not branch.hop_wanted.access:
            return
        treatment = self._treatment_of(response.user_agent, flow)
        self._mark(edit, response, flow, self.server.flow, treatment, now)

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
                self._dialog_ended(call, request, "bye", now)
        elif self.invite and self.initial:
            if status >= 300 and call.state is CallState.EARLY:
                if rooms.calls.failed(call):
                    rooms.media.delete(call, delay=0)
                    rooms.calls.end(call, "cancel" if self.cancelled else "rejected", now, status)
                else:
                    self._free_branches(call)
        elif self.method in ("INVITE", "UPDATE") and status >= 300:
            if status in ENDS_DIALOG and call.state is not CallState.EARLY:
                asked = causes.name_of(self.branches[-1] if self.branches else None, phone="the phone")
                knew = "did not know it any more" if status == 481 else "did not answer any more"
                call.why = f"{asked} {knew}"
                self._dialog_ended(call, request, "timeout", now, status)
            elif self.offer is not None or self.invite:
                rooms.media.restore(call)

    def _free_branches(self, call: Call) -> None:
        """The call rings elsewhere: only what this INVITE had at the relay goes."""
        for branch in self.branches:
            if branch.relayed:
                self.rooms.media.delete(call, branch=branch.branch)

    def _dialog_ended(self, call: Call, request: Request | None, cause: str, now: float, status: int = 0) -> None:
        """One dialog is over, and with the last one the call: a fork may have led to several (S8)."""
        if request is not None and len(call.callee_tags) > 1:
            tag = request.from_.tag if request.to.tag == call.caller_tag else request.to.tag
            if tag in call.callee_tags:
                call.callee_tags.discard(tag)
                self.rooms.media.delete(call, to_tag=tag)
                return
        self.rooms.media.delete(call)
        self.rooms.calls.end(call, cause, now, status)

    # ---- CANCEL

    def cancel(self, now: float, reason: str | None = None) -> None:
        """The sender cancels its INVITE (S3); `reason` is what its Reason header field says (RFC 3326)."""
        if self.done or self.cancelled:
            return
        self.cancelled = True
        self.groups.clear()
        for branch in self.branches:
            if not branch.ended:
                self._cancel(branch, now, reason)
        self._settle(now)

    def _cancel(self, branch: Branch, now: float, reason: str | None = None) -> None:
        """Cancel a branch now when it has a provisional response, else when one comes."""
        if branch.cancelled or branch.ended:
            return
        branch.cancelled = True
        branch.reason = reason
        if branch.state is State.PROCEEDING:
            self._send_cancel(branch, now)
        elif branch.state is None:
            self._end(branch)  # was still waiting for the relay or a lookup

    def _send_cancel(self, branch: Branch, now: float) -> None:
        edit, hop = branch.edit, branch.hop
        if edit is None or hop is None or branch.until is not None:
            return
        parts = self.rooms.parts
        client = ClientTransaction(parts.transactions, (branch.branch, "CANCEL"), None)
        data = forward.cancel_for(edit, branch.request_uri, branch.cseq, branch.reason)
        if self.call is not None:
            self.call.note(now, False, hop, data, "S3")
        client.start(hop, data, now)
        branch.until = now + parts.transactions.patience
        parts.timers.set(branch, branch.until)


def _retry_after(response: Response) -> float | None:
    value = response.first("retry-after")
    digits = "" if value is None else value.split(";")[0].split("(")[0].strip()
    return float(digits) if digits.isdigit() and len(digits) < 6 else None
