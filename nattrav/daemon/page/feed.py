"""Keeps the snapshot current while somebody looks, and lets any number of readers wait for the next one."""

from __future__ import annotations

from typing import Any

import trio

from nattrav.daemon.page.snapshot import Scrape, Services, take
from nattrav.net import clock

INTERVAL = 2.0
READERS = 32
"""Most readers at a time; each holds one connection."""


class TooManyReaders(Exception):
    """All places for readers are taken."""


class Feed:
    """The latest snapshot. A slow reader skips snapshots; it never makes others wait, nor memory grow."""

    def __init__(self, services: Services, *, mask: bool) -> None:
        self._services = services
        self._mask = mask
        self._lock = trio.Lock()
        self._before: Scrape | None = None
        self._current: dict[str, Any] | None = None
        self.sequence = 0
        self.readers = 0

    async def latest(self) -> dict[str, Any]:
        """Give a snapshot that is at most `INTERVAL` old."""
        async with self._lock:
            now = clock.monotonic()
            if self._current is None or self._before is None or now - self._before.at >= INTERVAL:
                self._current, self._before = await take(self._services, self._before, now, mask=self._mask)
                self.sequence += 1
            return self._current

    def enter(self) -> None:
        """Count a reader in; TooManyReaders when there is no place."""
        if self.readers >= READERS:
            raise TooManyReaders
        self.readers += 1

    def leave(self) -> None:
        """Count a reader out."""
        self.readers -= 1
