"""Between the octets of a connection and SIP messages: plain streams here, WebSocket in its own module."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from nattrav.sip.errors import MalformedMessage
from nattrav.sip.framer import PING, PONG, StreamFramer


class Decoded(NamedTuple):
    """What octets turned into: messages, octets to send back at once, and how many keepalives were in it."""

    messages: list[bytes]
    reply: bytes
    keepalives: int


class Codec(Protocol):
    """Sans-IO protocol of one connection. After `fault` is set, nothing more is read."""

    established: bool
    """Messages may be sent."""

    @property
    def fault(self) -> MalformedMessage | None:
        """Why nothing more can be read; None while all is well."""

    def start(self) -> bytes:
        """Octets to send first."""

    def receive(self, data: bytes) -> Decoded:
        """Take octets from the peer."""

    def encode(self, message: bytes) -> bytes:
        """Wrap one message for sending."""

    def ping(self) -> bytes:
        """A keepalive of ours."""

    def close(self) -> bytes:
        """Octets that say goodbye."""

    @property
    def partial(self) -> bool:
        """The peer has begun something and owes the rest."""


class StreamCodec:
    """SIP over TCP or TLS: messages one behind the other, double CRLF answered by CRLF (RFC 5626 §4.4.1)."""

    __slots__ = ("_framer", "established")

    def __init__(self) -> None:
        self._framer = StreamFramer()
        self.established = True

    @property
    def fault(self) -> MalformedMessage | None:
        return self._framer.fault

    @property
    def partial(self) -> bool:
        return self._framer.partial

    def start(self) -> bytes:
        return b""

    def receive(self, data: bytes) -> Decoded:
        frames = self._framer.feed(data)
        pings = frames.count(PING)
        if not pings:
            return Decoded(frames, b"", 0)
        # One answer is enough for pings that arrived together: it proves what they ask for.
        return Decoded([frame for frame in frames if frame != PING], PONG, pings)

    def encode(self, message: bytes) -> bytes:
        return message

    def ping(self) -> bytes:
        return PING

    def close(self) -> bytes:
        return b""
