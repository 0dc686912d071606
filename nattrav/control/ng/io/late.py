"""Replies that a Unix socket's peer has no room for yet.

Linux lets no more than ten datagrams wait at a Unix socket (net.unix.max_dgram_qlen), and tells nobody who is not
connected to it when there is room again. So what does not fit is tried again soon; meanwhile others are answered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

AGAIN = 0.0005
"""Seconds between two tries."""

PATIENCE = 5.0
"""Seconds after which a peer that takes nothing has given up asking."""

PEER_LIMIT, LIMIT = 1024, 8192
"""Replies that wait for one peer, and for all; one that is lost is stored under its cookie and may be asked for."""

Peer = str | bytes


class LateReplies:
    """Sends replies with `send`, a function that gives False while the peer's queue is full; each peer's in order."""

    def __init__(self, send: Callable[[bytes, Peer], bool]) -> None:
        self._try = send
        self._waiting: dict[Peer, deque[bytes]] = {}
        self._since: dict[Peer, float] = {}
        self._count = 0
        self._some = trio.Event()

    def __len__(self) -> int:
        return self._count

    def send(self, reply: bytes, peer: Peer) -> bool:
        """Send a reply now or soon; False when too many wait already and it is lost."""
        waiting = self._waiting.get(peer)
        if waiting is None:
            if self._try(reply, peer):
                return True
            if self._count >= LIMIT:
                return False
            waiting = self._waiting[peer] = deque()
            self._since[peer] = trio.current_time()
        elif len(waiting) >= PEER_LIMIT or self._count >= LIMIT:
            return False
        waiting.append(reply)
        self._count += 1
        self._some.set()
        return True

    async def run(self) -> None:
        """Send what waits, until cancelled."""
        while True:
            await self._some.wait()
            while self._waiting:
                await trio.sleep(AGAIN)
                for peer in list(self._waiting):
                    self._send_to(peer)
            self._some = trio.Event()

    def _send_to(self, peer: Peer) -> None:
        waiting, now = self._waiting[peer], trio.current_time()
        while waiting and self._try(waiting[0], peer):
            waiting.popleft()
            self._count -= 1
            self._since[peer] = now
        if waiting and now - self._since[peer] >= PATIENCE:
            self._count -= len(waiting)
            waiting.clear()
        if not waiting:
            del self._waiting[peer], self._since[peer]
