"""STUN messages on a stream (RFC 8489 §6.2.2): 20 bytes of header say how many follow."""

from __future__ import annotations

from stun.attributes import MAGIC_COOKIE, MalformedMessage
from stun.message import HEADER

LENGTH_MAX = 2048
"""Longest message taken; Binding needs no more, and a liar could otherwise keep 64 KiB a connection."""


class Framer:
    """Cuts a stream into messages; holds at most one message and what came with it."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes, give the messages that are complete. Raises MalformedMessage: then close the stream."""
        self._buffer += data
        messages = []
        while len(self._buffer) >= HEADER:
            length = int.from_bytes(self._buffer[2:4], "big")
            if self._buffer[0] & 0xC0:
                raise MalformedMessage("the first two bits are not zero", stun=False)
            if length % 4:
                raise MalformedMessage("length is no multiple of 4")
            if HEADER + length > LENGTH_MAX:
                raise MalformedMessage(f"longer than {LENGTH_MAX} bytes")
            if self._buffer[4:8] != MAGIC_COOKIE and self._buffer[:2] != b"\0\2":
                # RFC 3489 has only Shared Secret requests on streams.
                raise MalformedMessage("no magic cookie", stun=False)
            if len(self._buffer) < HEADER + length:
                break
            messages.append(bytes(self._buffer[: HEADER + length]))
            del self._buffer[: HEADER + length]
        return messages

    @property
    def partial(self) -> bool:
        """Whether part of a message is waiting for its rest."""
        return bool(self._buffer)
