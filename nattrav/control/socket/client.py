"""The client's side of one connection: numbers requests and sorts replies. No I/O."""

from __future__ import annotations

from typing import Any

from nattrav.control.socket.messages import Reply, Request, decode_reply

LINE_LIMIT = 64 * 1024 * 1024
"""Longest reply in octets; a list of 10 000 sessions has about ten million."""


class Connection:
    """Makes request lines and cuts the answers into replies."""

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self._limit = limit
        self._pending = bytearray()
        self._last = 0

    def ask(self, verb: str, args: dict[str, Any]) -> tuple[int, bytes]:
        """Give the number of a new request and the octets to send."""
        self._last += 1
        return self._last, Request(self._last, verb, args).encode()

    def receive(self, data: bytes) -> list[Reply]:
        """Take octets off the wire; give the replies they complete. ValueError when the peer speaks something else."""
        searched = len(self._pending)
        self._pending += data
        replies = []
        while (end := self._pending.find(b"\n", searched)) >= 0:
            replies.append(decode_reply(bytes(self._pending[:end])))
            del self._pending[: end + 1]
            searched = 0
        if len(self._pending) > self._limit:
            raise ValueError(f"a reply has more than {self._limit} octets")
        return replies
