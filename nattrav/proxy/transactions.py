"""Live transactions: the machines of nattrav.sip.transaction with their effects, over the proxy's heap of timers.

A transaction sends by itself (retransmissions, ACK for failures, repeated final responses) and tells its context what
the proxy must know. After its final response it keeps only the octets that it may have to repeat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from nattrav.net.address import TransportAddress
from nattrav.proxy.effects import Connect, Effect, Observe, Send
from nattrav.proxy.meter import method_label
from nattrav.proxy.timers import Timed, Timers
from nattrav.sip.message import Request, Response
from nattrav.sip.response import respond
from nattrav.sip.timers import NEVER
from nattrav.sip.timers import Timers as Durations
from nattrav.sip.transaction import (
    ClientInvite,
    ClientNonInvite,
    Outcome,
    ServerInvite,
    ServerNonInvite,
    State,
    TransactionKey,
)
from nattrav.sip.transport.flow import Flow, Target

Key = TransactionKey

_UNANSWERED = (State.TRYING, State.PROCEEDING)


@dataclass(frozen=True, slots=True)
class TimerValues:
    """Seconds. `patience` is 64*T1 (timers B, F, H, J, L, M); `next_hop` shortens B and F when there is another hop."""

    t1: float = 0.5
    t2: float = 4.0
    t4: float = 5.0
    ringing: float = 185.0
    next_hop: float = 5.0

    @property
    def patience(self) -> float:
        """64*T1."""
        return 64 * self.t1

    @property
    def trying(self) -> float:
        """When timer E of a client has grown to T2: from then on a request without an answer gets 100 (RFC 4320)."""
        elapsed = interval = self.t1
        while interval * 2 < self.t2:
            interval *= 2
            elapsed += interval
        return elapsed


class Transactions:
    """Both tables and what the transactions share."""

    def __init__(self, timers: Timers, values: TimerValues, out: list[Effect]) -> None:
        self.timers = timers
        self.out = out
        self.follow(values)
        self.servers: dict[Key, ServerTransaction] = {}
        self.clients: dict[Key, ClientTransaction] = {}
        self.on_streams: dict[Flow, set[Key]] = {}
        """Client transactions by the connection that their request went out on."""
        self.retransmissions = {"request_rx": 0, "request_tx": 0, "response_tx": 0}

    def __len__(self) -> int:
        return len(self.servers) + len(self.clients)

    def follow(self, values: TimerValues) -> None:
        """Use these times in transactions that begin from now on."""
        self.values = values
        self.durations = Durations(values.t1, values.t2, values.t4)
        self.patience = values.patience

    def left_stream(self, flow: Flow, key: Key) -> None:
        """A client transaction on a connection has ended."""
        there = self.on_streams.get(flow)
        if there is not None:
            there.discard(key)
            if not there:
                del self.on_streams[flow]

    def watch(self, transaction: ServerTransaction | ClientTransaction, at: float) -> None:
        """Wake the transaction when its machine wants it."""
        if at == NEVER:
            transaction.deadline = None
        else:
            self.timers.set(transaction, at)


class ServerTransaction(Timed):
    """Server side (§17.2). `flow` is where responses go; `request` and `context` are let go after the final one."""

    __slots__ = (
        "_machine",
        "came_from",
        "context",
        "created",
        "final",
        "flow",
        "invite",
        "key",
        "method",
        "request",
        "table",
        "target",
        "tried",
    )

    def __init__(self, table: Transactions, key: Key, request: Request, flow: Flow, now: float) -> None:
        super().__init__()
        self.table = table
        self.key = key
        self.created = now
        self.method = method_label(request.method)
        self.request: Request | None = request
        self.context: Context | None = None
        self.flow = flow
        self.target: Target | None = None
        """Where responses go when the connection that brought the request is gone (§18.2.2)."""
        self.came_from = flow.remote
        self.tried: tuple[TransportAddress, ...] = ()
        """Where the latest response did not arrive."""
        self.invite = request.method == "INVITE"
        self.final = 0
        machine = ServerInvite if self.invite else ServerNonInvite
        self._machine: ServerInvite | ServerNonInvite = machine(
            key, now, reliable=flow.reliable, timers=table.durations
        )
        table.servers[key] = self

    @property
    def state(self) -> State:
        """State of the machine."""
        return self._machine.state

    def respond(self, status: int, data: bytes, now: float) -> None:
        """Send a response of ours or one that came from a branch; dropped when the state allows none any more."""
        machine = self._machine
        outcomes = machine.respond(status, data, now)
        if not outcomes:
            if self.invite and 200 <= status < 300:
                # A 2xx passes even behind a failure (§16.7 step 5): its caller ends the dialog it made.
                self._send(data)
            return
        if status >= 200 and not self.final:
            self.final = status
            self._meter(status, now - self.created)
            if not self.invite:
                self.request = self.context = None
        self._carry_out(outcomes)
        if machine.state is State.ACCEPTED:
            machine.message = b""

    def _meter(self, status: int, seconds: float) -> None:
        out = self.table.out
        out.append(Observe("nattrav_sip_transaction_duration_seconds", seconds, (self.method,)))
        if self.method == "REGISTER" and status < 300:
            out.append(Observe("nattrav_sip_registration_delay_seconds", seconds))

    def receive_again(self, flow: Flow, now: float) -> None:
        """The request came once more: repeat the last response, to where it came from now (N4)."""
        self.table.retransmissions["request_rx"] += 1
        if not self.flow.reliable:
            self.flow = flow
        self._repeat(self._machine.retransmitted(now))

    def receive_ack(self, now: float) -> None:
        """ACK for a failure: stop repeating it (timer I)."""
        outcomes = self._machine.acknowledged(now)
        if self._machine.state is State.CONFIRMED:
            self._machine.message = b""
            self.request = self.context = None
        self._carry_out(outcomes)

    def expect_an_answer(self, now: float) -> None:
        """A request other than INVITE went on: say 100 when nothing has come by then (RFC 4320 §4.1)."""
        self.table.timers.set(self, now + self.table.values.trying)

    def expire(self, now: float) -> None:
        state = self._machine.state
        if state is State.TRYING and self.request is not None:
            self.respond(100, respond(self.request, 100, to_tag=None), now)
            self.table.timers.set(self, self.created + 2 * self.table.patience)
        elif state in _UNANSWERED:
            # Nobody answered in all the time that whoever made the transaction allowed.
            self._terminate()
        else:
            self._repeat(self._machine.handle_timeout(now))

    def end(self) -> None:
        """Forget the request: what it asks for turned out not to be readable."""
        self._terminate()

    def _repeat(self, outcomes: tuple[Outcome, ...]) -> None:
        if Outcome.SEND in outcomes:
            self.table.retransmissions["response_tx"] += 1
        self._carry_out(outcomes)

    def _carry_out(self, outcomes: tuple[Outcome, ...]) -> None:
        table, machine = self.table, self._machine
        for outcome in outcomes:
            if outcome is Outcome.SEND:
                self._send(machine.message)
            elif outcome is Outcome.ENDED:
                self._terminate()
                return
        if machine.state not in _UNANSWERED:
            table.watch(self, machine.next_timeout())

    def go_by(self, way: Flow | Target, data: bytes) -> None:
        """Send by another way from now on, first `data` or, when that is empty, what may have to be repeated."""
        if isinstance(way, Flow):
            self.flow, self.target = way, None
        else:
            self.target = way
        if data or self._machine.message:
            self._send(data or self._machine.message)

    def _send(self, data: bytes) -> None:
        target = self.target
        self.table.out.append(Send(self.flow, data) if target is None else Connect(target, data, ""))

    def _terminate(self) -> None:
        self._machine.end()
        self._machine.message = b""
        self.deadline = None
        self.request = self.context = None
        self.table.servers.pop(self.key, None)


class Context(Protocol):
    """What a client transaction tells the proxy."""

    def on_response(self, branch: ClientTransaction, response: Response, now: float) -> None:
        """A response that is not a retransmission absorbed here."""

    def on_trying(self, branch: ClientTransaction, now: float) -> None:
        """A 100, which is never passed on."""

    def on_timeout(self, branch: ClientTransaction, now: float) -> None:
        """No final response in time (timers B, C, F)."""


class ClientTransaction(Timed):
    """Client side (§17.1). `key` is (branch, CSeq method); `hop` is where the request went and retransmissions go.

    `ack` is the ACK for a failure of an INVITE, which the context writes when it is told the response.
    """

    __slots__ = ("_machine", "ack", "context", "hop", "invite", "key", "patience", "provisional", "table", "until")

    def __init__(self, table: Transactions, key: Key, context: Context | None) -> None:
        super().__init__()
        self.table = table
        self.key = key
        self.context = context
        self.invite = key[1] == "INVITE"
        self.ack: bytes | None = None
        self.hop: Flow | Target | None = None
        self.provisional = 0
        self.patience = table.patience
        self.until: float | None = None
        """When a cancelled INVITE ends without an answer (§9.1); no provisional response puts that off."""
        self._machine: ClientInvite | ClientNonInvite | None = None
        table.clients[key] = self

    @property
    def state(self) -> State | None:
        """State of the machine; None before `start`."""
        return None if self._machine is None else self._machine.state

    def start(self, hop: Flow | Target, data: bytes, now: float) -> None:
        """Send the request and wait (timers A/E and B/F)."""
        self.hop = hop
        table = self.table
        if hop.transport != "udp" and isinstance(hop, Flow):
            table.on_streams.setdefault(hop, set()).add(self.key)
        machine = ClientInvite if self.invite else ClientNonInvite
        self._machine = machine(
            self.key,
            now,
            reliable=hop.transport != "udp",
            message=data,
            timers=table.durations,
            give_up=self.patience,
        )
        self._send(data)
        table.watch(self, self._machine.next_timeout())

    def follow(self, flow: Flow) -> None:
        """Who was asked and did not answer is reached by another flow of the same listener now: ask again there."""
        machine = self._machine
        if machine is not None and machine.message and machine.state in (State.CALLING, State.TRYING):
            self.hop = flow
            self._send(machine.message)

    def _send(self, data: bytes) -> None:
        hop = self.hop
        if isinstance(hop, Flow):
            self.table.out.append(Send(hop, data))
        elif hop is not None:
            self.table.out.append(Connect(hop, data, self.key[0]))

    def receive(self, response: Response, now: float) -> None:
        """Take a response through the machine and hand on what the proxy has to see."""
        machine = self._machine
        if machine is None:
            return
        before = machine.state
        outcomes = machine.receive(response, now)
        if response.status < 200:
            if outcomes:
                self._provisional(machine, response, now, first=before is not State.PROCEEDING)
            return
        if outcomes and before in (State.CALLING, State.TRYING, State.PROCEEDING):
            machine.message = b""
        self._carry_out(machine, outcomes, response, now)

    def _provisional(
        self, machine: ClientInvite | ClientNonInvite, response: Response, now: float, *, first: bool
    ) -> None:
        status, table = response.status, self.table
        self.provisional = status
        if not self.invite:
            table.watch(self, machine.next_timeout())
        elif status > 100 or first:
            # Timer C, restarted by 101..199; the machine has no timer of its own now.
            machine.message = b""
            if self.until is None:
                table.timers.set(self, now + table.values.ringing)
        if self.context is not None:
            if status > 100:
                self.context.on_response(self, response, now)
            else:
                self.context.on_trying(self, now)

    def fail(self, now: float) -> None:
        """End at once without a response: the transport failed, or the context gave up."""
        self._terminate()

    def expire(self, now: float) -> None:
        machine = self._machine
        if machine is None:
            return
        if machine.state is State.PROCEEDING and self.invite:
            if self.context is not None:
                self.context.on_timeout(self, now)
            else:
                self._terminate()
            return
        outcomes = machine.handle_timeout(now)
        if Outcome.SEND in outcomes:
            self.table.retransmissions["request_tx"] += 1
        self._carry_out(machine, outcomes, None, now)

    def _carry_out(
        self,
        machine: ClientInvite | ClientNonInvite,
        outcomes: tuple[Outcome, ...],
        response: Response | None,
        now: float,
    ) -> None:
        for outcome in outcomes:
            match outcome:
                case Outcome.SEND:
                    self._send(machine.message)
                case Outcome.DELIVER:
                    self._deliver(machine, response, now)
                case Outcome.ACKNOWLEDGE:
                    if self.ack is not None:
                        self._send(self.ack)
                case Outcome.TIMED_OUT:
                    if self.context is not None:
                        self.context.on_timeout(self, now)
                case Outcome.ENDED:
                    self._terminate()
                case Outcome.UNREACHABLE:
                    # Told by the transport to the context itself, see Proxy.unreachable.
                    pass
        if not machine.ended:
            self.table.watch(self, machine.next_timeout())

    def _deliver(self, machine: ClientInvite | ClientNonInvite, response: Response | None, now: float) -> None:
        context = self.context
        if machine.state is not State.ACCEPTED:
            # After a final response that is no 2xx the context is not needed any more: only copies may come.
            self.context = None
        if context is not None and response is not None:
            context.on_response(self, response, now)

    def _terminate(self) -> None:
        if self._machine is not None:
            self._machine.end()
            self._machine.message = b""
        self.deadline = None
        self.context = None
        self.table.clients.pop(self.key, None)
        hop = self.hop
        if hop is not None and hop.transport != "udp" and isinstance(hop, Flow):
            self.table.left_stream(hop, self.key)
