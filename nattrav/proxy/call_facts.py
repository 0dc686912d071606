"""What a call is made of: its state, its parties, the offers and answers in force, and the messages kept of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any


class CallState(enum.Enum):
    """Where a call stands."""

    EARLY = "early"
    CONFIRMED = "confirmed"
    ENDED = "ended"


class Party(enum.Enum):
    """The two sides of a call."""

    CALLER = "caller"
    CALLEE = "callee"

    # Members are single objects; the hash that enum gives them is a call of Python code on every use of a dict.
    __hash__ = object.__hash__

    @property
    def other(self) -> Party:
        """The opposite side."""
        return Party.CALLEE if self is Party.CALLER else Party.CALLER


@dataclass(slots=True)
class MediaState:
    """Offer/answer state of one call. Tags are those of SIP; SDP bodies as their senders wrote them.

    `session`: the relay holds one now, `used`: it ever did, `closing`: it was told to end it. `stable` is (offerer's
    tag, offer, answerer's tag, answer) of the last completed exchange, to be restored when a re-INVITE fails. `late`
    maps the callee's tag to its offer in a response while the answer is due in ACK or PRACK. `wishes` keeps by
    tag what the relay was asked about a party.
    """

    session: bool = False
    used: bool = False
    closing: bool = False
    stable: tuple[str, bytes, str, bytes] | None = None
    wishes: dict[str, dict[str, Any]] = field(default_factory=dict)
    late: dict[str, bytes] = field(default_factory=dict)
    answered_acks: dict[tuple[int, bytes], bytes] = field(default_factory=dict)

    def settle(self) -> None:
        """Forget what only an offer to come would need: transactions keep a call for half a minute after its end."""
        self.stable = None
        self.wishes.clear()
        self.late.clear()
        self.answered_acks.clear()


class Message:
    """One message of a call as kept for `explain`: when, which way, over which flow, the octets, and why."""

    __slots__ = ("at", "data", "flow", "received", "rules")

    def __init__(self, at: float, received: bool, flow: object, data: bytes, rules: tuple[str, ...]) -> None:
        self.at, self.received, self.flow, self.data, self.rules = at, received, flow, data, rules
