"""The four state machines of RFC 3261 §17 as amended by RFC 6026, as tables.

A row says: in this state, at this event, go to that state and do these outcomes. Entering another state arms its
timers: at most one that retransmits (A, E, G) and one that ends the state (B, D, F, H, I, J, K, L, M). The owner
carries out the outcomes in order; a transaction never sends by itself.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import ClassVar

from nattrav.sip.message import Request, Response
from nattrav.sip.timers import DEFAULT_TIMERS, NEVER, Timers


class State(enum.StrEnum):
    """States of all four machines."""

    CALLING = "calling"
    TRYING = "trying"
    PROCEEDING = "proceeding"
    COMPLETED = "completed"
    CONFIRMED = "confirmed"
    ACCEPTED = "accepted"
    TERMINATED = "terminated"


class Event(enum.StrEnum):
    """What can happen to a transaction."""

    REQUEST = "request retransmitted"
    ACK = "ACK"
    PROVISIONAL = "1xx"
    SUCCESS = "2xx"
    FAILURE = "3xx-6xx"
    RETRANSMIT = "retransmit timer"
    END = "end timer"
    TRANSPORT_ERROR = "transport error"


class Outcome(enum.StrEnum):
    """What the owner must do now."""

    SEND = "send `message`"
    DELIVER = "hand the received message to the transaction user"
    ACKNOWLEDGE = "send the ACK for the response just received"
    TIMED_OUT = "tell the transaction user: no answer, or no ACK"
    UNREACHABLE = "tell the transaction user: transport error"
    ENDED = "forget the transaction"


Row = tuple[State, tuple[Outcome, ...]]
Table = Mapping[State, Mapping[Event, Row]]

_CALLING, _TRYING, _PROCEEDING = State.CALLING, State.TRYING, State.PROCEEDING
_COMPLETED, _CONFIRMED, _ACCEPTED, _TERMINATED = State.COMPLETED, State.CONFIRMED, State.ACCEPTED, State.TERMINATED
_SEND, _DELIVER, _ACKNOWLEDGE = Outcome.SEND, Outcome.DELIVER, Outcome.ACKNOWLEDGE
_TIMED_OUT, _UNREACHABLE, _ENDED = Outcome.TIMED_OUT, Outcome.UNREACHABLE, Outcome.ENDED

# RFC 3261 §17.1.1 (figure 5) with RFC 6026 §7.2
CLIENT_INVITE: Table = {
    _CALLING: {
        Event.RETRANSMIT: (_CALLING, (_SEND,)),
        Event.END: (_TERMINATED, (_TIMED_OUT, _ENDED)),
        Event.PROVISIONAL: (_PROCEEDING, (_DELIVER,)),
        Event.SUCCESS: (_ACCEPTED, (_DELIVER,)),
        Event.FAILURE: (_COMPLETED, (_DELIVER, _ACKNOWLEDGE)),
        Event.TRANSPORT_ERROR: (_TERMINATED, (_UNREACHABLE, _ENDED)),
    },
    _PROCEEDING: {
        Event.PROVISIONAL: (_PROCEEDING, (_DELIVER,)),
        Event.SUCCESS: (_ACCEPTED, (_DELIVER,)),
        Event.FAILURE: (_COMPLETED, (_DELIVER, _ACKNOWLEDGE)),
        Event.TRANSPORT_ERROR: (_TERMINATED, (_UNREACHABLE, _ENDED)),
    },
    _COMPLETED: {
        Event.FAILURE: (_COMPLETED, (_ACKNOWLEDGE,)),
        Event.END: (_TERMINATED, (_ENDED,)),
        Event.TRANSPORT_ERROR: (_TERMINATED, (_UNREACHABLE, _ENDED)),
    },
    _ACCEPTED: {
        Event.SUCCESS: (_ACCEPTED, (_DELIVER,)),
        Event.END: (_TERMINATED, (_ENDED,)),
    },
}

# RFC 3261 §17.1.2 (figure 6)
CLIENT_NON_INVITE: Table = {
    _TRYING: {
        Event.RETRANSMIT: (_TRYING, (_SEND,)),
        Event.END: (_TERMINATED, (_TIMED_OUT, _ENDED)),
        Event.PROVISIONAL: (_PROCEEDING, (_DELIVER,)),
        Event.SUCCESS: (_COMPLETED, (_DELIVER,)),
        Event.FAILURE: (_COMPLETED, (_DELIVER,)),
        Event.TRANSPORT_ERROR: (_TERMINATED, (_UNREACHABLE, _ENDED)),
    },
    _PROCEEDING: {
        Event.RETRANSMIT: (_PROCEEDING, (_SEND,)),
        Event.END: (_TERMINATED, (_TIMED_OUT, _ENDED)),
        Event.PROVISIONAL: (_PROCEEDING, (_DELIVER,)),
        Event.SUCCESS: (_COMPLETED, (_DELIVER,)),
        Event.FAILURE: (_COMPLETED, (_DELIVER,)),
        Event.TRANSPORT_ERROR: (_TERMINATED, (_UNREACHABLE, _ENDED)),
    },
    _COMPLETED: {
        Event.END: (_TERMINATED, (_ENDED,)),
    },
}

# RFC 3261 §17.2.1 (figure 7) with RFC 6026 §7.1
SERVER_INVITE: Table = {
    _PROCEEDING: {
        Event.REQUEST: (_PROCEEDING, (_SEND,)),
        Event.PROVISIONAL: (_PROCEEDING, (_SEND,)),
        Event.SUCCESS: (_ACCEPTED, (_SEND,)),
        Event.FAILURE: (_COMPLETED, (_SEND,)),
        Event.TRANSPORT_ERROR: (_PROCEEDING, (_UNREACHABLE,)),
    },
    _COMPLETED: {
        Event.REQUEST: (_COMPLETED, (_SEND,)),
        Event.RETRANSMIT: (_COMPLETED, (_SEND,)),
        Event.ACK: (_CONFIRMED, ()),
        Event.END: (_TERMINATED, (_TIMED_OUT, _ENDED)),
        Event.TRANSPORT_ERROR: (_COMPLETED, (_UNREACHABLE,)),
    },
    _CONFIRMED: {
        Event.END: (_TERMINATED, (_ENDED,)),
    },
    _ACCEPTED: {
        Event.SUCCESS: (_ACCEPTED, (_SEND,)),
        Event.ACK: (_ACCEPTED, (_DELIVER,)),
        Event.END: (_TERMINATED, (_ENDED,)),
        Event.TRANSPORT_ERROR: (_ACCEPTED, (_UNREACHABLE,)),
    },
}

# RFC 3261 §17.2.2 (figure 8)
SERVER_NON_INVITE: Table = {
    _TRYING: {
        Event.PROVISIONAL: (_PROCEEDING, (_SEND,)),
        Event.SUCCESS: (_COMPLETED, (_SEND,)),
        Event.FAILURE: (_COMPLETED, (_SEND,)),
        Event.TRANSPORT_ERROR: (_TERMINATED, (_UNREACHABLE, _ENDED)),
    },
    _PROCEEDING: {
        Event.REQUEST: (_PROCEEDING, (_SEND,)),
        Event.PROVISIONAL: (_PROCEEDING, (_SEND,)),
        Event.SUCCESS: (_COMPLETED, (_SEND,)),
        Event.FAILURE: (_COMPLETED, (_SEND,)),
        Event.TRANSPORT_ERROR: (_TERMINATED, (_UNREACHABLE, _ENDED)),
    },
    _COMPLETED: {
        Event.REQUEST: (_COMPLETED, (_SEND,)),
        Event.END: (_TERMINATED, (_ENDED,)),
        Event.TRANSPORT_ERROR: (_TERMINATED, (_UNREACHABLE, _ENDED)),
    },
}

TransactionKey = tuple[str, ...]

_NOTHING: tuple[Outcome, ...] = ()


class Transaction:
    """One transaction of any kind.

    key      see `server_key` and `client_key`
    message  octets to send or send again
    user     what the owner ties to it; not touched here
    """

    table: ClassVar[Table]
    first: ClassVar[State]
    clocks: ClassVar[Mapping[State, tuple[str, str]]]
    """Per state the letter of the timer that retransmits and of the one that ends; empty for none."""

    __slots__ = (
        "_end_at",
        "_give_up",
        "_interval",
        "_retransmit_at",
        "key",
        "message",
        "reliable",
        "state",
        "timers",
        "user",
    )

    def __init__(
        self,
        key: TransactionKey,
        now: float,
        *,
        reliable: bool,
        message: bytes = b"",
        timers: Timers = DEFAULT_TIMERS,
        give_up: float | None = None,
        user: object = None,
    ) -> None:
        self.key = key
        self.reliable = reliable
        self.message = message
        self.timers = timers
        self.user = user
        self._give_up = give_up
        self._interval = self._retransmit_at = self._end_at = NEVER
        self.state = self.first
        self._arm(now)

    def next_timeout(self) -> float:
        """When to call `handle_timeout`; NEVER for not at all."""
        return min(self._end_at, self._retransmit_at)

    def handle_timeout(self, now: float) -> tuple[Outcome, ...]:
        """Let the timer that has come do its work."""
        if now >= self._end_at:
            return self._step(Event.END, now)
        if now >= self._retransmit_at:
            self._restart_retransmission(now)
            return self._step(Event.RETRANSMIT, now)
        return _NOTHING

    def transport_failed(self, now: float) -> tuple[Outcome, ...]:
        """What `message` said could not be sent."""
        return self._step(Event.TRANSPORT_ERROR, now)

    def end(self) -> None:
        """Terminate now, whatever the state: the owner has no use for it any more."""
        self.state = _TERMINATED
        self._retransmit_at = self._end_at = NEVER

    @property
    def ended(self) -> bool:
        """Terminated: to be forgotten."""
        return self.state is _TERMINATED

    def _step(self, event: Event, now: float) -> tuple[Outcome, ...]:
        rows = self.table.get(self.state)
        row = None if rows is None else rows.get(event)
        if row is None:
            return _NOTHING
        state, outcomes = row
        if state is not self.state:
            self.state = state
            self._arm(now)
            if self._end_at <= now:
                # A timer of zero seconds (reliable transports): the state is passed through at once.
                return outcomes + self._step(Event.END, now)
        return outcomes

    def _arm(self, now: float) -> None:
        again, end = self.clocks.get(self.state, ("", ""))
        durations = self.timers.stream if self.reliable else self.timers.datagram
        self._interval = durations[again] if again else NEVER
        self._retransmit_at = now + self._interval
        self._end_at = now + durations[end] if end else NEVER

    def _restart_retransmission(self, now: float) -> None:
        self._interval = min(2 * self._interval, self.timers.t2)
        self._retransmit_at = now + self._interval


class _Client(Transaction):
    __slots__ = ()

    def receive(self, response: Response, now: float) -> tuple[Outcome, ...]:
        """Take a response that matched."""
        status = response.status
        if status < 200:
            return self._step(Event.PROVISIONAL, now)
        return self._step(Event.SUCCESS if status < 300 else Event.FAILURE, now)

    def _arm(self, now: float) -> None:
        super()._arm(now)
        if self._give_up is not None and self.state is self.first:
            self._end_at = now + self._give_up


class ClientInvite(_Client):
    """RFC 3261 §17.1.1. The owner sends `message` once itself when it makes the transaction."""

    __slots__ = ()
    table = CLIENT_INVITE
    first = State.CALLING
    clocks: ClassVar[Mapping[State, tuple[str, str]]] = {
        _CALLING: ("A", "B"),
        _COMPLETED: ("", "D"),
        _ACCEPTED: ("", "M"),
    }

    def _restart_retransmission(self, now: float) -> None:
        self._interval *= 2
        self._retransmit_at = now + self._interval


class ClientNonInvite(_Client):
    """RFC 3261 §17.1.2. The owner sends `message` once itself when it makes the transaction."""

    __slots__ = ()
    table = CLIENT_NON_INVITE
    first = State.TRYING
    clocks: ClassVar[Mapping[State, tuple[str, str]]] = {_TRYING: ("E", "F"), _COMPLETED: ("", "K")}

    def _arm(self, now: float) -> None:
        if self.state is not _PROCEEDING:
            super()._arm(now)

    def _restart_retransmission(self, now: float) -> None:
        timers = self.timers
        self._interval = timers.t2 if self.state is _PROCEEDING else min(2 * self._interval, timers.t2)
        self._retransmit_at = now + self._interval


class _Server(Transaction):
    __slots__ = ()

    def receive(self, request: Request, now: float) -> tuple[Outcome, ...]:
        """Take a request that matched: a retransmission, or the ACK."""
        return self.acknowledged(now) if request.method == "ACK" else self.retransmitted(now)

    def retransmitted(self, now: float) -> tuple[Outcome, ...]:
        """The request came once more."""
        outcomes = self._step(Event.REQUEST, now)
        return outcomes if self.message else _NOTHING

    def acknowledged(self, now: float) -> tuple[Outcome, ...]:
        """The ACK came."""
        return self._step(Event.ACK, now)

    def respond(self, status: int, message: bytes, now: float) -> tuple[Outcome, ...]:
        """Let the transaction user send a response; empty when the state does not allow one any more."""
        if status < 200:
            event = Event.PROVISIONAL
        else:
            event = Event.SUCCESS if status < 300 else Event.FAILURE
        rows = self.table.get(self.state)
        if rows is None or event not in rows:
            return _NOTHING
        self.message = message
        return self._step(event, now)


class ServerInvite(_Server):
    """RFC 3261 §17.2.1. In Accepted the transaction user passes every 2xx through `respond` (RFC 6026)."""

    __slots__ = ()
    table = SERVER_INVITE
    first = State.PROCEEDING
    clocks: ClassVar[Mapping[State, tuple[str, str]]] = {
        _COMPLETED: ("G", "H"),
        _CONFIRMED: ("", "I"),
        _ACCEPTED: ("", "L"),
    }


class ServerNonInvite(_Server):
    """RFC 3261 §17.2.2."""

    __slots__ = ()
    table = SERVER_NON_INVITE
    first = State.TRYING
    clocks: ClassVar[Mapping[State, tuple[str, str]]] = {_COMPLETED: ("", "J")}


def server_key(request: Request) -> TransactionKey:
    """Name the server transaction a request belongs to (RFC 3261 §17.2.3); an ACK belongs to its INVITE.

    Without the magic cookie it is the rule of RFC 2543. To is not in that key, because the ACK's To has the tag of
    our response and the INVITE's has not; Via and CSeq tell calls apart without it.
    """
    via = request.via
    method = "INVITE" if request.method == "ACK" else request.method
    if via.has_cookie:
        host, port = via.sent_by
        return (via.params["branch"] or "", host, str(port), method)
    return (
        "rfc2543",
        request.request_uri,
        request.from_.tag or "",
        request.call_id,
        str(request.cseq.number),
        via.text.partition(";received=")[0],
        method,
    )


def client_key(response: Response) -> TransactionKey:
    """Name the client transaction a response belongs to (RFC 3261 §17.1.3)."""
    return (response.via.branch or "", response.cseq.method)
