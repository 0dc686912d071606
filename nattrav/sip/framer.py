"""Cutting a byte stream into messages by Content-Length alone (RFC 3261 §18.3), with keepalives (RFC 5626 §3.5.1)."""

from __future__ import annotations

import re

from nattrav.sip.errors import MalformedMessage
from nattrav.sip.parser import MAX_STREAM_MESSAGE, readable

PING = b"\r\n\r\n"
"""Given as a frame of its own for a double CRLF between messages; its answer is PONG."""
PONG = b"\r\n"

_LENGTH = re.compile(rb"\r\n(?:content-length|l)[ \t]*:([^\r]*(?:\r\n[ \t][^\r]*)*)", re.IGNORECASE)


class StreamFramer:
    """Buffers at most one unfinished message.

    Once `fault` is set the stream cannot be trusted any more: answer what `fault.message` allows, then close.
    """

    __slots__ = ("_buffer", "_limit", "_needed", "_scanned", "fault")

    def __init__(self, limit: int = MAX_STREAM_MESSAGE) -> None:
        self.fault: MalformedMessage | None = None
        self._buffer = bytearray()
        self._limit = limit
        self._needed = 0
        self._scanned = 0

    @property
    def partial(self) -> bool:
        """Part of a message is waiting for the rest: the sender owes us octets."""
        return len(self._buffer) > 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take octets; return the messages they complete, and PINGs. Nothing comes after a fault."""
        buffer = self._buffer
        frames: list[bytes] = []
        if self.fault is not None:
            return frames
        buffer += data
        try:
            self._cut(frames)
        except MalformedMessage as fault:
            self.fault = fault
            buffer.clear()
        return frames

    def _cut(self, frames: list[bytes]) -> None:
        buffer = self._buffer
        while buffer:
            if not self._needed and not self._find_head(frames):
                break
            if len(buffer) < self._needed:
                break
            frames.append(bytes(buffer[: self._needed]))
            del buffer[: self._needed]
            self._needed = self._scanned = 0

    def _find_head(self, frames: list[bytes]) -> bool:
        """Skip and collect keepalives, then find the end of the head and the length of the whole message."""
        buffer = self._buffer
        while buffer and buffer[0] in (0x0D, 0x0A, 0x00):
            if buffer.startswith(PING):
                frames.append(PING)
                del buffer[:4]
            elif PING.startswith(buffer):
                return False
            else:
                del buffer[:1]
        if not buffer:
            return False
        if buffer[0] == 0x16:
            raise MalformedMessage("a TLS handshake on a port without TLS")
        end = buffer.find(PING, self._scanned)
        if end < 0:
            self._scanned = max(0, len(buffer) - 3)
            if len(buffer) > self._limit:
                raise MalformedMessage("head too long", readable(bytes(buffer[:8192])), status=513)
            return False
        length = _content_length(bytes(buffer[: end + 2]))
        self._needed = end + 4 + length
        if self._needed > self._limit:
            raise MalformedMessage(f"{self._needed} octets", readable(bytes(buffer[:end])), status=513)
        return True


def _content_length(head: bytes) -> int:
    values = {value.strip() for value in _LENGTH.findall(head)}
    try:
        (value,) = values
        if len(value) > 11 or not value.isdigit():
            raise ValueError
        return int(value)
    except ValueError:
        problem = "no Content-Length" if not values else f"Content-Length is {b', '.join(sorted(values))[:40]!r}"
        raise MalformedMessage(problem, readable(head[:-2])) from None
