"""Flows and targets: what messages arrive on and leave by, and what a transport tells about them."""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass
from typing import NamedTuple

from nattrav.net.address import TransportAddress
from nattrav.sip.errors import MalformedMessage

STREAMS = frozenset(("tcp", "tls", "ws", "wss"))
SECURE = frozenset(("tls", "wss"))


class Flow(NamedTuple):
    """One bidirectional way to a peer (RFC 5626 §3.1): the value everything about a peer is keyed on.

    transport  `udp`, `tcp`, `tls`, `ws` or `wss`
    listener   id of the listening socket, see `listener_id`; for a connection we opened, that of the listener
               whose address it advertises
    serial     number of the connection, 0 for UDP; a new connection from the same port is another flow
    """

    transport: str
    listener: int
    local: TransportAddress
    remote: TransportAddress
    serial: int = 0

    @property
    def reliable(self) -> bool:
        """The transport retransmits by itself."""
        return self.transport != "udp"

    @property
    def secure(self) -> bool:
        """The transport is encrypted."""
        return self.transport in SECURE

    def __str__(self) -> str:
        return f"{self.transport}:{self.local}<>{self.remote}" + (f"#{self.serial}" if self.serial else "")


class Target(NamedTuple):
    """Where to open a connection to, when no flow is there yet. `server_name` is checked for TLS (RFC 5922)."""

    transport: str
    remote: TransportAddress
    server_name: str = ""


class Outgoing(NamedTuple):
    """One message to send. `ticket` comes back in `SendFailed`; None means that nobody wants to know."""

    to: Flow | Target
    data: bytes
    ticket: object = None


class CloseReason(enum.StrEnum):
    """Why a flow ended."""

    PEER = "closed_by_peer"
    ERROR = "connection_error"
    IDLE = "idle"
    SLOW = "slow_sender"
    MALFORMED = "malformed"
    BACKLOG = "send_backlog"
    LIMIT = "limit"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class FlowOpened:
    """A connection is up, accepted or opened by us."""

    accepted: bool


@dataclass(frozen=True, slots=True)
class PeerProved:
    """The peer of an accepted connection showed a certificate that was checked; it is for these names."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FlowClosed:
    """A connection ended; nothing more will come from it."""

    reason: CloseReason


@dataclass(frozen=True, slots=True)
class Malformed:
    """The octets of a stream are no message any more; the flow closes once what is sent in answer has left."""

    fault: MalformedMessage


@dataclass(frozen=True, slots=True)
class Kept:
    """A keepalive arrived and was answered where an answer is due. `kind` is `crlf`, `stun` or `websocket`."""

    kind: str


@dataclass(frozen=True, slots=True)
class SendFailed:
    """A message could not be sent; `to` is where it should have gone."""

    to: Flow | Target
    ticket: object
    reason: str


@dataclass(frozen=True, slots=True)
class Undelivered:
    """A message that nobody has a ticket for did not arrive. Not `whole`: `data` is what ICMP repeats of it."""

    to: Flow | Target
    data: bytes
    whole: bool


FlowEvent = FlowOpened | PeerProved | FlowClosed | Malformed | Kept | SendFailed | Undelivered

Incoming = tuple[Flow | None, bytes | FlowEvent]
"""One item of a delivered batch: octets of one message, or an event; the flow is None where there is none."""


def listener_id(transport: str, bound: TransportAddress) -> int:
    """Sixteen bits that name a listening socket the same way after every restart and on every order of listing."""
    digest = hashlib.blake2s(f"{transport} {bound}".encode(), digest_size=2).digest()
    return int.from_bytes(digest, "big")
