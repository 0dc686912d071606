"""The proxy: takes what arrives on a flow, decides, and leaves effects for its shell.

No socket, clock or randomness in here. `receive`, `relay_reply`, `next_hops`, `flow_closed`, `unreachable` and
`handle_timeout` all return the effects to carry out, in order.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence

from nattrav.config.sip import SipSection
from nattrav.location.bindings import Limits
from nattrav.location.location import Location
from nattrav.location.memory import MemoryLocation
from nattrav.proxy.accounts import Accounts, configured
from nattrav.proxy.alg import ADDRESS_LENGTHS, AlgSign
from nattrav.proxy.backward import ResponseContext
from nattrav.proxy.call_facts import CallState, Party
from nattrav.proxy.calls import Call, Calls
from nattrav.proxy.effects import DropReason, Effect, Send
from nattrav.proxy.fork import Branch
from nattrav.proxy.hang_up import Dialog, bye
from nattrav.proxy.listener import Listener
from nattrav.proxy.media import Media
from nattrav.proxy.nat import literal
from nattrav.proxy.parties import reply_flow
from nattrav.proxy.parts import Parts, Randomness, Settings
from nattrav.proxy.probing import Prober
from nattrav.proxy.requests import Requests
from nattrav.proxy.rooms import Rooms
from nattrav.proxy.routing import Routing
from nattrav.proxy.saved_calls import CSEQ_MARGIN, adopt, dialog_known, written
from nattrav.proxy.transactions import ClientTransaction
from nattrav.proxy.upstreams import Upstreams
from nattrav.proxy.way_back import WaysBack, top_via
from nattrav.sip.errors import BodyTooShort, MalformedMessage
from nattrav.sip.grammar import KNOWN_METHODS
from nattrav.sip.message import MAX_EXPIRES, Request, Response
from nattrav.sip.parser import parse_datagram_untrusted
from nattrav.sip.response import respond
from nattrav.sip.transaction import State
from nattrav.sip.transport.flow import Flow, Undelivered

_KEEPALIVE = frozenset(b"\r\n\0")
_UNHEARD = (State.CALLING, State.TRYING)


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
        self._ways_back = WaysBack(parts, upstreams, routing)
        self._prober = Prober(parts, upstreams, routing)
        self.rooms.calls.overdue = self._overdue
        requests = self.requests = Requests(self.rooms, self.accounts)
        self.registrar, self.keepalive, self.admission = requests.registrar, requests.keepalive, requests.admission

    def restore(self, now: float, calls: Iterable[str] = ()) -> None:
        """Take up the bindings of before the restart, their expiry and their keepalives, and begin to probe upstreams.

        Connections did not survive it, nor do bindings of listeners that are no more. `calls` are lines that
        `changed_calls` gave.
        """
        for line in calls:
            adopt(self.rooms.calls, line, self.parts)
        listeners = self.parts.listeners.by_id
        gone = [
            one
            for one in self.rooms.location
            if one.flow.listener not in listeners or (one.flow.reliable and not one.path)
        ]
        self.registrar.drop(gone, "removed")
        self.registrar.watch_expiry(now)
        for binding in self.rooms.location:
            self.keepalive.watch(binding, now)
        self._prober.start(now)

    def follow(self, settings: Settings, now: float) -> None:
        """Go by other settings from the next message on; calls, bindings and what is known of upstreams stay."""
        self.parts.follow(settings)
        self.rooms.location.limits = location_limits(settings.sip)
        self.rooms.upstreams.follow(settings.upstreams)
        self.requests.follow()
        self._prober.start(now)

    # ---- what arrives

    def receive(self, flow: Flow, data: bytes, now: float) -> list[Effect]:
        """Take one datagram, or one message that the stream framer cut out."""
        if not _KEEPALIVE.issuperset(data[:4]):
            host = flow.remote.host
            refused = self.admission.refuses(host, now) if host not in self.rooms.upstreams.hosts else None
            if refused is None:
                if not data.startswith(b"SIP/2.0 "):
                    if self.keepalive.probing:
                        self.keepalive.heard(flow)
                elif self.keepalive.recognise(flow, data, now):
                    return self.take_effects()
                self._receive(flow, data, now)
            else:
                self.parts.drop(refused, flow)
                if refused is DropReason.RATE_LIMITED:
                    self.parts.count("nattrav_sip_rate_limited_total", "source")
        return self.take_effects()

    def malformed(self, flow: Flow, fault: MalformedMessage, now: float) -> list[Effect]:
        """What arrived on a stream is no message; the transport closes the connection."""
        self._malformed(flow, fault, now)
        return self.take_effects()

    def relay_reply(self, request: int, reply: object, now: float) -> list[Effect]:
        """The relay answered a question, or None: it did not."""
        return self._continue(request, reply, now)

    def next_hops(self, request: int, found: object, now: float) -> list[Effect]:
        """A lookup ended: a list of (transport, address, server name), best first; empty when there is nothing."""
        return self._continue(request, found, now)

    def flow_opened(self, flow: Flow, *, accepted: bool = True) -> None:
        """A connection is there, whoever opened it."""
        self.parts.connections[(flow.listener, flow.remote.host, flow.remote.port)] = flow
        if not accepted:
            self.parts.reuse.dialled.add(flow)

    def peer_proved(self, flow: Flow, names: tuple[str, ...]) -> None:
        """The peer of an accepted connection showed a certificate for these names."""
        self.parts.reuse.proved(flow, names)

    def kept(self, flow: Flow, now: float) -> None:
        """A keepalive came on a flow and was answered by its transport."""
        self.keepalive.kept(flow, now)

    def flow_closed(self, flow: Flow, now: float) -> list[Effect]:
        """A connection is gone: so are the bindings it carried (RFC 5626 §5.3)."""
        key = (flow.listener, flow.remote.host, flow.remote.port)
        if self.parts.connections.get(key) == flow:
            del self.parts.connections[key]
        self.parts.reuse.closed(flow)
        # What registered through an edge is reached by its Path, over another connection if need be (RFC 3327 §5.1).
        self.registrar.drop([one for one in self.rooms.location.by_flow(flow) if not one.path], "removed")
        transactions = self.parts.transactions
        for name in transactions.on_streams.pop(flow, ()):
            client = transactions.clients.get(name)
            if isinstance(client, Branch) and client.state in _UNHEARD and isinstance(client.context, ResponseContext):
                client.context.connection_closed(client, now)
        return self.take_effects()

    def unreachable(self, branch: str, now: float) -> list[Effect]:
        """The transport could not deliver what this branch sent (§16.9)."""
        for method in KNOWN_METHODS:
            client = self.parts.transactions.clients.get((branch, method))
            if client is not None:
                self._nothing_sent(client, now)
        return self.take_effects()

    @staticmethod
    def _nothing_sent(client: ClientTransaction, now: float) -> None:
        if isinstance(client, Branch) and isinstance(client.context, ResponseContext):
            client.context.unreachable(client, now)

    def undelivered(self, message: Undelivered, now: float) -> list[Effect]:
        """A message did not arrive, so says the transport."""
        via = top_via(message.data)
        if via is None:
            return []
        if message.data.startswith(b"SIP/2.0 "):
            self._ways_back.failed(message, via, now)
        else:
            for method in KNOWN_METHODS:
                client = self.parts.transactions.clients.get((via.branch or "", method))
                if client is not None and client.hop == message.to and client.state in _UNHEARD:
                    self._nothing_sent(client, now)
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
        for call in self.rooms.calls.of_session(call_id):
            if not call.media.session:
                continue
            call.media.session = False
            self._hang_up(call, "no media", now)
            self.rooms.calls.end(call, "media_timeout", now)
            self.parts.log("info", "call_reaped", call_id=call.call_id, reason=reason)
        return self.take_effects()

    def end(self) -> list[Effect]:
        """The process ends: write what would be lost."""
        self.rooms.calls.write_all()
        return self.take_effects()

    def kill(self, calls: Sequence[Call], now: float) -> list[Effect]:
        """An operator ends calls: their relay sessions go, and their records are written."""
        for call in calls:
            self._hang_up(call, "ended by the operator", now)
            self.rooms.media.delete(call, delay=0)
            self.rooms.calls.end(call, "admin", now)
        return self.take_effects()

    def _overdue(self, call: Call, now: float) -> None:
        """Nobody refreshed the session, or it lasted longer than any call does: its BYE got lost."""
        self._hang_up(call, "session expired", now)
        self.rooms.media.delete(call)
        self.rooms.calls.end(call, "timeout" if call.session_expires is None else "session_timer", now)

    def _hang_up(self, call: Call, reason: str, now: float) -> None:
        """Send a BYE to both sides when the dialog is known."""
        parts = self.parts
        if call.state is not CallState.CONFIRMED:
            return
        dialog = dialog_known(call, parts)
        if dialog is None:
            return
        for party in Party:
            flow = self._flow_now(call, party, dialog, now)
            listener = parts.listeners.of(flow) if flow is not None else None
            if flow is None or listener is None:
                continue
            branch = f"z9hG4bK{parts.unique()}"
            rport = ";rport" if listener.transport == "udp" else ""
            via = f"SIP/2.0/{listener.transport.upper()} {listener.sent_by};branch={branch}{rport}"
            call.cseq[party.other] += 1 + (CSEQ_MARGIN if call.adopted else 0)
            number = call.cseq[party.other]
            data = bye(dialog, to_caller=party is Party.CALLER, cseq=number, via=via, reason=reason)
            call.note(now, False, flow, data, "reaped")
            ClientTransaction(parts.transactions, (branch, "BYE"), None).start(flow, data, now)

    def _flow_now(self, call: Call, party: Party, dialog: Dialog, now: float) -> Flow | None:
        """The flow that reaches a party; over a connection that closed, the one it has registered over since."""
        flow, routing = call.flows[party], self.rooms.routing
        if flow is None or routing.is_open(flow):
            return flow
        caller = party is Party.CALLER
        target, owner = (dialog.caller_target, call.caller) if caller else (dialog.callee_target, call.callee)
        found = routing.registered_contact(target, owner, now)
        return found.next_hop if found is not None and isinstance(found.next_hop, Flow) else None

    def changed_calls(
        self, until: float = math.inf, most: int = sys.maxsize
    ) -> tuple[dict[tuple[str, str], str], list[tuple[str, str]]]:
        """Give what is to be written of calls in progress since the last time: lines by key, and keys that ended.

        Only of calls that were answered by `until`, and of no more than `most` at once.
        """
        changed, ended = self.rooms.calls.take_changes(until, most)
        lines = {call.key: text for call in changed if (text := written(call, self.parts)) is not None}
        for call in changed:
            call.saved = call.saved or call.key in lines
        return lines, ended

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
            self._malformed(flow, fault, now)
            return
        try:
            if isinstance(message, Response):
                self._response(flow, message, data, now)
            else:
                self.requests.receive(flow, message, data, now)
        except MalformedMessage as fault:
            # A header field that only this request's way needed turned out to be broken.
            fault.message = message
            self._malformed(flow, fault, now)

    def _malformed(self, flow: Flow, fault: MalformedMessage, now: float) -> None:
        """Answer a broken request when its Via can be read; never a response, never an ACK (P5)."""
        parts = self.parts
        message = fault.message
        if isinstance(fault, BodyTooShort) and fault.missing <= ADDRESS_LENGTHS and isinstance(message, Request):
            parts.suspect_alg(flow, AlgSign.BODY_LENGTH, now)
        if not isinstance(message, Request) or message.method == "ACK":
            parts.drop(DropReason.MALFORMED, flow)
            return
        to = flow
        try:
            via = message.via
            policy = parts.sip.force_rport
            symmetric = policy == "always" or (policy == "auto" and literal(via.host) not in (None, flow.remote.host))
            message.stamp(flow.remote, force_rport=symmetric)
            to = reply_flow(flow, via, symmetric=symmetric or via.wants_rport)
        except MalformedMessage:
            if not (message.first("via") or "").startswith("SIP/2.0/"):
                parts.drop(DropReason.MALFORMED, flow)
                return
        data = respond(message, fault.status, to_tag=parts.to_tag(message.start_line))
        parts.out.append(Send(to, data))

    # ---- responses

    def _response(self, flow: Flow, response: Response, data: bytes, now: float) -> None:
        parts = self.parts
        via = response.via
        branch = via.branch or ""
        if (via.host, via.port) not in parts.sent_by:
            parts.drop(DropReason.NOT_OUR_VIA, flow)
            return
        client = parts.transactions.clients.get((branch, response.cseq.method))
        if client is None:
            if self.keepalive.receive(branch, flow, now, response):
                return
            parts.drop(DropReason.STRAY_RESPONSE, flow)
            return
        context = client.context
        if isinstance(context, ResponseContext) and context.call is not None:
            context.call.note(now, True, flow, data)
        client.receive(response, now)


def location_limits(sip: SipSection) -> Limits:
    """Give the registrar's limits as the location service wants them; at an edge the core alone says how long."""
    registrar, core_decides = sip.registrar, sip.mode == "edge"
    return Limits(
        min_expires=1 if core_decides else int(registrar.min_expires),
        default_expires=int(registrar.default_expires),
        max_expires=MAX_EXPIRES if core_decides else int(registrar.max_expires),
        per_aor=sip.limits.contacts_per_user,
        total=sip.limits.bindings,
    )
