"""The server's side of one connection: octets in, requests out, within limits. No I/O."""

from __future__ import annotations

from nattrav.control.socket.messages import Failure, Request, decode_request

LINE_LIMIT = 65_536
"""Longest request in octets; a longer one is answered with `invalid` and skipped to its end."""


class Connection:
    """Cuts a stream of octets into requests; memory is bounded by `LINE_LIMIT`."""

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self._limit = limit
        self._pending = bytearray()
        self._skipping = False

    def receive(self, data: bytes) -> list[Request | Failure]:
        """Take octets off the wire; give the requests they complete, and failures to send for bad ones."""
        found: list[Request | Failure] = []
        self._pending += data
        while (end := self._pending.find(b"\n")) >= 0:
            line = bytes(self._pending[:end]).strip()
            del self._pending[: end + 1]
            if self._skipping:
                self._skipping = False
            elif end > self._limit:
                found.append(self._too_long())
            elif line:
                found.append(decode_request(line))
        if len(self._pending) > self._limit:
            if not self._skipping:
                found.append(self._too_long())
            self._skipping = True
            self._pending.clear()
        return found

    def _too_long(self) -> Failure:
        return Failure(0, "invalid", f"a request may have at most {self._limit} octets")
