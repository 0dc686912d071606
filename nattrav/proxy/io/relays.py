"""The sockets over which relays are asked (ng), around the pool that decides whom to ask and when again."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio

from nattrav.control.ng.client import Answered, RelayChanged, RelayChoice, RelayPool, SendControl
from nattrav.control.ng.client import Effect as PoolEffect
from nattrav.control.ng.seal import Way, seal, unseal
from nattrav.net.address import TransportAddress
from nattrav.net.clock import monotonic, wall
from nattrav.net.rounds import GRID, Rounds

_DATAGRAM = 65536
_BATCH = 64
_BACKLOG = 10_000

HOLD, HELD_MOST = 0.2, 8
"""A `delete` is in no hurry: it waits so many seconds for others, or until so many wait (see `Relays.ask`)."""

OnAnswer = Callable[[int, dict[str, Any] | None], None]
"""Called with the core's number of a question and the relay's reply, or None when no relay answered."""


@dataclass(frozen=True, slots=True)
class RelayAddress:
    """Where one relay listens: a transport address (UDP) or the path of its Unix socket."""

    name: str
    weight: int
    address: TransportAddress | None = None
    path: str | None = None


class Relays:
    """Asks relays and hands their answers on. `ask` never blocks. `key` seals what goes over UDP."""

    def __init__(
        self,
        addresses: Sequence[RelayAddress],
        on_answer: OnAnswer,
        on_change: Callable[[str, bool], None],
        *,
        rounds: Rounds,
        cookie_prefix: str,
        first_retry: float = 0.25,
        key: bytes | None = None,
    ) -> None:
        self._key = key
        self._rounds = rounds
        rounds.at_end(self._flush)
        rounds.awaited = self._awaited
        self.pool = RelayPool(_choices(addresses), prefix=cookie_prefix, intervals=_intervals(first_retry))
        self._addresses = {one.name: one for one in addresses}
        self._sockets: dict[str, socket.socket] = {}
        self._unsent: dict[str, deque[bytes]] = {one.name: deque(maxlen=_BACKLOG) for one in addresses}
        self._waiting = trio.Event()
        self._on_answer = on_answer
        self._on_change = on_change
        self._numbers: dict[int, int] = {}
        self._held: dict[int, tuple[dict[str, Any], str]] = {}
        self._held_until = 0.0
        self._serving = False
        self.lost = 0
        """Requests that gave way to later ones, because their relay took none for long."""

    def follow(self, addresses: Sequence[RelayAddress], first_retry: float, key: bytes | None) -> None:
        """Ask these relays from now on; those no longer named keep the calls they have."""
        self._key = key
        for one in addresses:
            if one.name not in self._addresses:
                self._addresses[one.name] = one
                self._unsent[one.name] = deque(maxlen=_BACKLOG)
                if self._serving:
                    self._listen(one)
        self.pool.follow(_choices(addresses), _intervals(first_retry))

    def _awaited(self) -> bool:
        return self.pool.awaited > 0

    @property
    def waiting(self) -> int:
        """Requests that no relay has taken yet."""
        return sum(map(len, self._unsent.values()))

    def _listen(self, one: RelayAddress) -> None:
        sock = self._sockets[one.name] = _open(one)
        self._rounds.add(sock, partial(self._receive, one.name, sock), urgent=True)

    def ask(self, number: int, command: str, arguments: dict[str, Any], call_id: str) -> None:
        """Ask on behalf of the core's question `number`.

        The ends of several calls are told together, which spares both processes wake-ups. What follows about a call
        never overtakes them.
        """
        if command == "delete":
            self._held[number] = (arguments, call_id)
            if len(self._held) == 1:
                self._held_until = monotonic() + HOLD
            if len(self._held) >= HELD_MOST:
                self._release()
            return
        if any(held == call_id for _, held in self._held.values()):
            self._release()
        self._ask(number, command, arguments, call_id)

    def _release(self) -> None:
        held, self._held = self._held, {}
        for number, (arguments, call_id) in held.items():
            self._ask(number, "delete", arguments, call_id)

    def _ask(self, number: int, command: str, arguments: dict[str, Any], call_id: str) -> None:
        asked, effects = self.pool.ask(command, arguments, call_id=call_id, now=monotonic())
        self._numbers[asked] = number
        self._carry_out(effects)

    def handle_timeout(self, now: float) -> None:
        """Let the pool send again, give up or ping, and tell the ends of calls that have waited long enough."""
        if self._held and now >= self._held_until:
            self._release()
        self._carry_out(self.pool.handle_timeout(now))

    def next_timeout(self) -> float:
        """When to call `handle_timeout`."""
        pool = self.pool.next_timeout()
        return min(pool, self._held_until) if self._held else pool

    def _carry_out(self, effects: Sequence[PoolEffect]) -> None:
        for effect in effects:
            if isinstance(effect, SendControl):
                self._send(effect.relay, effect.payload)
            elif isinstance(effect, Answered):
                number = self._numbers.pop(effect.request_id, None)
                if number is not None:
                    self._on_answer(number, effect.reply)
            elif isinstance(effect, RelayChanged):
                self._on_change(effect.relay, effect.up)

    def _send(self, name: str, payload: bytes) -> None:
        if len(self._unsent[name]) == _BACKLOG:
            self.lost += 1
        self._unsent[name].append(payload)
        if not self._rounds.reading:
            self._flush()

    def _flush(self) -> bool:
        """Send what waits; True when some of it must wait on."""
        left = False
        for name, unsent in self._unsent.items():
            while unsent:
                if not self._sent(name, unsent[0]):
                    self._waiting.set()
                    left = True
                    break
                unsent.popleft()
        return left

    def _sent(self, name: str, payload: bytes) -> bool:
        """Send a datagram; False when the relay's queue is full. Any other failure is a loss: the pool asks again."""
        sock = self._sockets.get(name)
        if sock is None:
            return True
        address = self._addresses[name]
        destination: Any = address.path if address.path is not None else address.address
        if self._key is not None and address.path is None:
            payload = seal(self._key, Way.REQUEST, payload, wall())
        try:
            sock.sendto(payload, destination)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    async def _send_late(self) -> None:
        """Send what had to wait: Linux lets no more than ten datagrams wait at a Unix socket."""
        while True:
            await self._waiting.wait()
            await trio.sleep(GRID)
            self._waiting = trio.Event()
            self._flush()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Receive until cancelled, in the rounds that somebody else runs."""
        try:
            self._serving = True
            for one in self._addresses.values():
                self._listen(one)
            task_status.started()
            await self._send_late()
        finally:
            self._release()
            for sock in self._sockets.values():
                self._rounds.remove(sock)
                sock.close()
            self._sockets.clear()

    def _receive(self, name: str, sock: socket.socket) -> None:
        now = monotonic()
        # Once every question is answered nothing more is expected; what comes nevertheless is read in the next round.
        for _ in range(min(_BATCH, max(1, self.pool.pending))):
            try:
                datagram = sock.recv(_DATAGRAM)
            except OSError:
                # Nothing waits any more, or ICMP's answer to what was sent to a relay that is down.
                return
            opened = self._opened(name, datagram)
            if opened is not None:
                self._carry_out(self.pool.receive(name, opened, now))

    def _opened(self, name: str, datagram: bytes) -> bytes | None:
        if self._key is None or self._addresses[name].path is not None:
            return datagram
        return unseal(self._key, Way.REPLY, datagram, wall())


def _choices(addresses: Sequence[RelayAddress]) -> list[RelayChoice]:
    return [RelayChoice(one.name, one.weight) for one in addresses]


def _intervals(first: float) -> tuple[float, ...]:
    return first, 2 * first, 4 * first


def _open(one: RelayAddress) -> socket.socket:
    family = socket.AF_UNIX if one.path is not None else one.address.family if one.address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    if one.path is not None:
        sock.bind("")  # an abstract name of the kernel's choice, so that the relay can answer
    return sock
