"""What the proxy's core is told and what it asks of its shell.

Those that come with every message are named tuples, which are made in half the time of a frozen dataclass.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from nattrav.sip.transport.flow import Flow, Target


class DropReason(enum.Enum):
    """Why a received message led neither to a forward nor to an answer: metric label and the word in `explain`."""

    MALFORMED = "malformed"
    STRAY_RESPONSE = "stray_response"
    STRAY_ACK = "stray_ack"
    NOT_OUR_VIA = "not_our_via"
    AFTER_FINAL = "after_final"
    SCANNER = "scanner"
    BANNED = "banned"
    RATE_LIMITED = "rate_limited"
    FORGERY = "forged_token"
    FLOW_GONE = "flow_gone"
    NO_ROUTE = "no_route"
    MAX_FORWARDS = "max_forwards"
    FAULT = "fault"


class Send(NamedTuple):
    """Send `data` on a flow; a flow that is gone is reported with `flow_closed`."""

    flow: Flow
    data: bytes


@dataclass(frozen=True, slots=True)
class Connect:
    """Send `data` to a next hop over a connection, opened when there is none; failures come back as `unreachable`."""

    target: Target
    data: bytes
    branch: str


@dataclass(frozen=True, slots=True)
class Close:
    """Close a connection."""

    flow: Flow


class AskRelay(NamedTuple):
    """Ask the relay; the answer comes back as `relay_reply(request, …)`. Arguments are ng's own words."""

    request: int
    command: str
    call_id: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Lookup:
    """Find next hops by RFC 3263; the answer comes back as `next_hops(request, …)`."""

    request: int
    uri: str


class Drop(NamedTuple):
    """A message ended here."""

    reason: DropReason
    flow: Flow


@dataclass(frozen=True, slots=True)
class Log:
    """A line for the operator. `event` is a fixed word, the rest its facts."""

    level: str
    event: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Record:
    """A call ended: one call record."""

    fields: dict[str, Any]


class Observe(NamedTuple):
    """A value for a histogram of the registry, in its unit."""

    name: str
    value: float
    labels: tuple[str, ...] = ()


Effect = Send | Connect | Close | AskRelay | Lookup | Drop | Log | Record | Observe
