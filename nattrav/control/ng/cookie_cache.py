"""Replies by cookie, so that a repeated request is answered and not carried out again."""

from __future__ import annotations

GENERATION = 30.0
ENTRY_LIMIT = 65536
BYTE_LIMIT = 64 * 1024 * 1024


class CookieCache:
    """Two generations, swapped when 30 s have passed: an entry lives 30 to 60 s.

    When half of a limit is reached the generations swap at once, which drops the older half.
    """

    def __init__(self, entries: int = ENTRY_LIMIT, octets: int = BYTE_LIMIT) -> None:
        self._new: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}
        self._swap_at = 0.0
        self._bytes = 0
        self._entry_limit = entries // 2
        self._byte_limit = octets // 2

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def find(self, key: bytes, now: float) -> bytes | None:
        """Give the stored reply; one in the old generation is served where it is."""
        if now >= self._swap_at:
            self._turn(now)
        return self._new.get(key) or self._old.get(key)

    def store(self, key: bytes, reply: bytes, now: float) -> None:
        """Keep a reply."""
        size = len(key) + len(reply)
        if now >= self._swap_at or len(self._new) >= self._entry_limit or self._bytes + size > self._byte_limit:
            self._turn(now)
        self._new[key] = reply
        self._bytes += size

    def _turn(self, now: float) -> None:
        """Swap; after two quiet generations both are empty."""
        self._old = self._new if now < self._swap_at + GENERATION else {}
        self._new = {}
        self._bytes = 0
        self._swap_at = now + GENERATION
