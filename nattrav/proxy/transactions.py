"""Live transactions: the state tables of RFC 3261 §17 and RFC 6026 over one heap of timers.

A transaction sends by itself (retransmissions, ACK for failures, repeated final responses) and tells its context what
the proxy must know. After its final response it keeps only the octets that it may have to repeat.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

from nattrav.proxy.effects import Connect, Effect, Observe, Send
from nattrav.proxy.meter import method_label
from nattrav.proxy.timers import Timed, Timers
from nattrav.sip.message import Request, Response
from nattrav.sip.transport.flow import Flow, Target

Key = tuple[str, ...]


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


class State(enum.Enum):
    """States of all four tables; TRYING also stands for the INVITE client's Calling."""

    TRYING = enum.auto()
    PROCEEDING = enum.auto()
    COMPLETED = enum.auto()
    CONFIRMED = enum.auto()
    ACCEPTED = enum.auto()
    TERMINATED = enum.auto()


class Transactions:
    """Both tables and what the transactions share."""

    def __init__(self, timers: Timers, values: TimerValues, out: list[Effect]) -> None:
        self.timers = timers
        self.values = values
        self.patience = values.patience
        self.out = out
        self.servers: dict[Key, ServerTransaction] = {}
        self.clients: dict[Key, ClientTransaction] = {}
        self.retransmissions = {"request_rx": 0, "request_tx": 0, "response_tx": 0}

    def __len__(self) -> int:
        return len(self.servers) + len(self.clients)


class ServerTransaction(Timed):
    """Server side (§17.2). `flow` is where responses go; `request` and `context` are let go after the final one."""

    __slots__ = (
        "context",
        "created",
        "final",
        "flow",
        "give_up",
        "interval",
        "invite",
        "key",
        "last",
        "method",
        "request",
        "state",
        "table",
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
        self.invite = request.method == "INVITE"
        self.state = State.PROCEEDING if self.invite else State.TRYING
        self.last: bytes | None = None
        self.final = 0
        self.interval = 0.0
        self.give_up = 0.0
        table.servers[key] = self

    def respond(self, status: int, data: bytes, now: float) -> None:
        """Send a response of ours or one that came from a branch."""
        table = self.table
        if status < 200:
            if self.final:
                return
            self.last = data
            self.state = State.PROCEEDING
            table.out.append(Send(self.flow, data))
            return
        table.out.append(Send(self.flow, data))
        if self.final:
            return  # another 2xx in Accepted
        self.final = status
        self._meter(status, now - self.created)
        if self.invite and status < 300:
            self.state = State.ACCEPTED
            self.last = None
            table.timers.set(self, now + table.patience)
            return
        self.state = State.COMPLETED
        self.last = data
        if not self.invite:
            self.request = self.context = None
        if self.invite:
            self.give_up = now + table.patience
            self.interval = table.values.t1
            stream = self.flow.reliable
            table.timers.set(self, self.give_up if stream else min(now + self.interval, self.give_up))
        elif self.flow.reliable:
            self._terminate()
        else:
            table.timers.set(self, now + table.patience)

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
        if self.last is not None:
            self.table.retransmissions["response_tx"] += 1
            self.table.out.append(Send(self.flow, self.last))

    def receive_ack(self, now: float) -> None:
        """ACK for a failure: stop repeating it (timer I)."""
        if self.state is not State.COMPLETED:
            return
        self.state = State.CONFIRMED
        self.last = self.request = self.context = None
        if self.flow.reliable:
            self._terminate()
        else:
            self.table.timers.set(self, now + self.table.values.t4)

    def expire(self, now: float) -> None:
        if self.state is State.COMPLETED and self.invite and now < self.give_up and self.last is not None:
            self.table.retransmissions["response_tx"] += 1
            self.table.out.append(Send(self.flow, self.last))
            self.interval = min(2 * self.interval, self.table.values.t2)
            self.table.timers.set(self, min(now + self.interval, self.give_up))
            return
        self._terminate()

    def _terminate(self) -> None:
        self.state = State.TERMINATED
        self.last = self.request = self.context = None
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
    """Client side (§17.1). `key` is (branch, CSeq method); `hop` is where the request went and retransmissions go."""

    __slots__ = (
        "ack",
        "context",
        "data",
        "give_up",
        "hop",
        "interval",
        "invite",
        "key",
        "patience",
        "provisional",
        "state",
        "table",
    )

    def __init__(self, table: Transactions, key: Key, context: Context | None) -> None:
        super().__init__()
        self.table = table
        self.key = key
        self.context = context
        self.invite = key[1] == "INVITE"
        self.state = State.TRYING
        self.data = b""
        self.ack: bytes | None = None
        self.hop: Flow | Target | None = None
        self.interval = 0.0
        self.give_up = 0.0
        self.provisional = 0
        self.patience = table.patience
        table.clients[key] = self

    def start(self, hop: Flow | Target, data: bytes, now: float) -> None:
        """Send the request and wait (timers A/E and B/F)."""
        self.hop, self.data = hop, data
        table = self.table
        self._send(data)
        self.give_up = now + self.patience
        if hop.transport == "udp":
            self.interval = table.values.t1
            table.timers.set(self, min(now + self.interval, self.give_up))
        else:
            table.timers.set(self, self.give_up)

    def _send(self, data: bytes) -> None:
        hop = self.hop
        if isinstance(hop, Flow):
            self.table.out.append(Send(hop, data))
        elif hop is not None:
            self.table.out.append(Connect(hop, data, self.key[0]))

    def receive(self, response: Response, now: float) -> None:
        """Take a response through the table and hand on what the proxy has to see."""
        status = response.status
        state = self.state
        table = self.table
        if status < 200:
            if state is State.TRYING:
                self.state = State.PROCEEDING
            elif state is not State.PROCEEDING:
                return
            self.provisional = status
            if self.invite:
                # Timer C, restarted by 101..199; the give-up of timer B no longer holds.
                if status > 100 or self.deadline is None or state is State.TRYING:
                    self.data = b""
                    table.timers.set(self, now + table.values.ringing)
            elif self.hop is not None and self.hop.transport == "udp":
                self.interval = table.values.t2
            if self.context is not None:
                if status > 100:
                    self.context.on_response(self, response, now)
                else:
                    self.context.on_trying(self, now)
            return
        if self.invite:
            self._receive_invite_final(response, status, now)
        elif state is not State.COMPLETED:
            self.state = State.COMPLETED
            self.data = b""
            context, self.context = self.context, None
            if self.hop is not None and self.hop.transport == "udp":
                table.timers.set(self, now + table.values.t4)
            else:
                self._terminate()
            if context is not None:
                context.on_response(self, response, now)

    def _receive_invite_final(self, response: Response, status: int, now: float) -> None:
        table = self.table
        if self.state in (State.TRYING, State.PROCEEDING):
            self.data = b""
            if status < 300:
                self.state = State.ACCEPTED
                table.timers.set(self, now + table.patience)
            else:
                self.state = State.COMPLETED
            if self.context is not None:
                self.context.on_response(self, response, now)
            if self.state is State.COMPLETED:
                if self.ack is not None:
                    self._send(self.ack)
                self.context = None
                if self.hop is not None and self.hop.transport == "udp":
                    table.timers.set(self, now + 32.0)
                else:
                    self._terminate()
        elif self.state is State.ACCEPTED and status < 300:
            if self.context is not None:
                self.context.on_response(self, response, now)
        elif self.state is State.COMPLETED and status >= 300 and self.ack is not None:
            self._send(self.ack)

    def fail(self, now: float) -> None:
        """End at once without a response: the transport failed, or the context gave up."""
        self._terminate()

    def expire(self, now: float) -> None:
        if self.state is State.TRYING or (self.state is State.PROCEEDING and not self.invite):
            if now < self.give_up and self.interval:
                self.table.retransmissions["request_tx"] += 1
                self._send(self.data)
                if self.invite:
                    self.interval *= 2
                elif self.state is State.TRYING:
                    self.interval = min(2 * self.interval, self.table.values.t2)
                self.table.timers.set(self, min(now + self.interval, self.give_up))
                return
        elif self.state is not State.PROCEEDING:
            self._terminate()
            return
        context = self.context
        if context is not None:
            context.on_timeout(self, now)

    def _terminate(self) -> None:
        self.state = State.TERMINATED
        self.deadline = None
        self.context = None
        self.data = b""
        self.table.clients.pop(self.key, None)
