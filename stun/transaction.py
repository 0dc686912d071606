"""One request and its response on an unreliable transport (RFC 8489 §6.2): when to send again, what to accept.

An error response is an answer, never a positive result of a test; what comes from elsewhere than expected is kept
apart, because a server that ignores CHANGE-REQUEST would otherwise pass for a NAT without filtering.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from nattrav.net.address import TransportAddress
from stun.attributes import (
    AttributeType,
    MalformedMessage,
    comprehension_required,
    decode_address,
    decode_error,
    decode_xor_address,
)
from stun.integrity import fingerprint_holds
from stun.message import Message, MessageClass, decode

T = AttributeType


@dataclass(frozen=True)
class Schedule:
    """When a request is sent, in seconds after the first time, and when its sender gives up."""

    sends: tuple[float, ...]
    give_up: float


RFC8489 = Schedule((0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5), 39.5)
"""RTO 500 ms, Rc 7, Rm 16 (§6.2.1)."""
RFC3489 = Schedule((0.0, 0.1, 0.3, 0.7, 1.5, 3.1, 4.7, 6.3, 7.9), 9.5)
INTERACTIVE = Schedule((0.0, 0.2, 0.5, 1.0, 1.5), 2.1)
"""For a person who waits: every negative result of a test costs the whole time."""
STREAM = Schedule((0.0,), 39.5)
"""TCP and TLS send once and wait Ti (§6.2.2)."""

_KNOWN = frozenset(
    {
        T.MAPPED_ADDRESS,
        T.RESPONSE_ADDRESS,
        T.SOURCE_ADDRESS,
        T.CHANGED_ADDRESS,
        T.USERNAME,
        T.MESSAGE_INTEGRITY,
        T.ERROR_CODE,
        T.UNKNOWN_ATTRIBUTES,
        T.REFLECTED_FROM,
        T.REALM,
        T.NONCE,
        T.MESSAGE_INTEGRITY_SHA256,
        T.XOR_MAPPED_ADDRESS,
        T.PADDING,
    }
)


class Verdict(enum.Enum):
    """How a transaction ended."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """An error response came."""
    WRONG_SOURCE = "wrong source"
    """Only answers from another address than the one that was asked for."""
    SILENT = "silent"
    UNUSABLE = "unusable"
    """A success response without a mapped address, or with an attribute that must be understood and is not."""


@dataclass(frozen=True)
class Outcome:
    """The end of one transaction."""

    verdict: Verdict
    source: TransportAddress | None = None
    mapped: TransportAddress | None = None
    plain_mapped: TransportAddress | None = None
    """MAPPED-ADDRESS; differs from `mapped` where an ALG rewrites addresses in payloads."""
    other: TransportAddress | None = None
    """OTHER-ADDRESS or CHANGED-ADDRESS."""
    origin: TransportAddress | None = None
    """RESPONSE-ORIGIN or SOURCE-ADDRESS."""
    error: int | None = None
    reason: str = ""
    padding: int | None = None
    software: str = ""
    sends: int = 1
    seconds: float = 0.0
    message: Message | None = None

    @property
    def answered(self) -> bool:
        """True for a success response from where it was expected."""
        return self.verdict is Verdict.ANSWERED


@dataclass(frozen=True)
class Send:
    """Send these bytes there."""

    data: bytes
    to: TransportAddress


class Transaction:
    """One request until its outcome is known."""

    def __init__(
        self,
        request: bytes,
        to: TransportAddress,
        schedule: Schedule,
        now: float,
        *,
        expect_from: TransportAddress | None = None,
    ) -> None:
        """`expect_from`: where the response must come from, default `to`."""
        self.request = request
        self.to = to
        self.outcome: Outcome | None = None
        self._schedule = schedule
        self._started = now
        self._sent = 0
        self._expected = expect_from or to
        self._stray: Outcome | None = None

    def next_timeout(self) -> float | None:
        """When `handle_timeout` has something to do; None once the outcome is known."""
        if self.outcome is not None:
            return None
        if self._sent < len(self._schedule.sends):
            return self._started + self._schedule.sends[self._sent]
        return self._started + self._schedule.give_up

    def handle_timeout(self, now: float) -> list[Send]:
        """Send what is due, or give up."""
        effects: list[Send] = []
        while self.outcome is None and (due := self.next_timeout()) is not None and due <= now:
            if self._sent < len(self._schedule.sends):
                self._sent += 1
                effects.append(Send(self.request, self.to))
            else:
                stray = self._stray
                self.outcome = stray if stray is not None else self._ended(Verdict.SILENT, now)
        return effects

    def receive(self, datagram: bytes, source: TransportAddress, now: float) -> Outcome | None:
        """Take a datagram; the outcome if it ends the transaction. Foreign and broken ones change nothing."""
        if self.outcome is not None or datagram[4:20] != self.request[4:20]:
            return None
        try:
            message = decode(datagram)
            if message.find(T.FINGERPRINT) and not message.classic and not fingerprint_holds(message):
                return None
            outcome = self._read(message, source, now)
        except MalformedMessage:
            return None
        if outcome is None:
            return None
        if outcome.verdict is Verdict.WRONG_SOURCE:
            self._stray = outcome
            return None
        self.outcome = outcome
        return outcome

    def fail(self, now: float) -> None:
        """The transport says that nobody is there (a hard ICMP error, a refused connection)."""
        if self.outcome is None:
            self.outcome = self._ended(Verdict.SILENT, now)

    def _ended(self, verdict: Verdict, now: float, **found: object) -> Outcome:
        return Outcome(verdict, sends=self._sent, seconds=now - self._started, **found)  # type: ignore[arg-type]

    def _read(self, message: Message, source: TransportAddress, now: float) -> Outcome | None:
        if message.message_class is MessageClass.ERROR:
            code, reason = decode_error(message.first(T.ERROR_CODE) or b"")
            return self._ended(Verdict.REFUSED, now, source=source, error=code, reason=reason, message=message)
        if message.message_class is not MessageClass.SUCCESS:
            return None
        plain = _address(message, T.MAPPED_ADDRESS)
        mapped = None
        if not message.classic:
            for kind in (T.XOR_MAPPED_ADDRESS, T.XOR_MAPPED_ADDRESS_DRAFT):
                value = message.first(kind)
                if value is not None and mapped is None:
                    mapped = decode_xor_address(value, message.transaction_id)
        mapped = mapped or plain
        padding = message.first(T.PADDING)
        strange = any(comprehension_required(a.type) and a.type not in _KNOWN for a in message.attributes)
        verdict = Verdict.ANSWERED if source == self._expected else Verdict.WRONG_SOURCE
        return self._ended(
            Verdict.UNUSABLE if strange or mapped is None else verdict,
            now,
            source=source,
            mapped=mapped,
            plain_mapped=plain,
            other=_address(message, T.OTHER_ADDRESS) or _address(message, T.CHANGED_ADDRESS),
            origin=_address(message, T.RESPONSE_ORIGIN) or _address(message, T.SOURCE_ADDRESS),
            padding=None if padding is None else len(padding),
            software=(message.first(T.SOFTWARE) or b"").decode("utf-8", "replace"),
            message=message,
        )


def _address(message: Message, kind: AttributeType) -> TransportAddress | None:
    value = message.first(kind)
    return None if value is None else decode_address(value)
