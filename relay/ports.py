"""Pools of UDP ports: random even/odd pairs, a rest in quarantine before re-use, busy ports set aside.

A pool belongs to one local address. It counts ports and never touches a socket: binding is asked of an `Opener`.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from nattrav.net.address import TransportAddress
from nattrav.net.options import Socket

Choose = Callable[[int], int]
"""Gives an unpredictable number from 0 up to, not including, its argument."""

LANE_TRIES = 4
"""Pairs looked at per lane for one of the wanted lane."""

RUN_TRIES = 32
"""Pairs drawn at random for one that begins a run, before the range is searched from its start."""

SPLIT_BELOW = 32
"""With fewer half-used pairs than this a single port comes from a whole pair, so that it stays hard to guess."""


class PortTaken(Exception):
    """Another program holds the port."""


class NoSocket(Exception):
    """The system refuses sockets altogether: descriptor limit reached, or the local address is gone."""


class Opener(Protocol):
    """Binds sockets for the engine."""

    def open(self, local: TransportAddress) -> Socket:
        """Bind a UDP socket to `local`; PortTaken or NoSocket when that is impossible."""

    def give_back(self, local: TransportAddress, sock: Socket) -> None:
        """Take back a socket that never became a flow."""


class PortState(enum.IntEnum):
    """What a port of a pool is doing."""

    FREE = 0
    USED = 1
    QUARANTINED = 2
    ASIDE = 3
    EXCLUDED = 4


_BUSY = frozenset({PortState.USED, PortState.QUARANTINED, PortState.ASIDE})
_FREE = int(PortState.FREE)


class RandomSet:
    """A set of integers from which one can be drawn at random, with every operation in constant time."""

    __slots__ = ("_items", "_places")

    def __init__(self, items: Iterable[int] = ()) -> None:
        self._items = list(items)
        self._places = {item: place for place, item in enumerate(self._items)}

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, item: int) -> bool:
        return item in self._places

    def add(self, item: int) -> None:
        """Put in; no effect if present."""
        if item not in self._places:
            self._places[item] = len(self._items)
            self._items.append(item)

    def discard(self, item: int) -> None:
        """Take out; no effect if absent."""
        place = self._places.pop(item, None)
        if place is None:
            return
        last = self._items.pop()
        if last != item:
            self._items[place] = last
            self._places[last] = place

    def draw(self, choose: Choose) -> int:
        """Look at a random member without taking it out."""
        return self._items[choose(len(self._items))]


class PortPool:
    """The ports `low` to `high` (inclusive) of one local address.

    quarantine      seconds a released port rests, so that late packets of its last call cannot teach the next one
    retry_aside     seconds until a port that a foreign program held is tried again
    """

    def __init__(
        self,
        name: str,
        host: str,
        low: int,
        high: int,
        *,
        choose: Choose,
        excluded: Iterable[int] = (),
        quarantine: float = 5.0,
        retry_aside: float = 60.0,
    ) -> None:
        if not 1 <= low < high <= 65535:
            raise ValueError(f"port range {low}-{high}: give two ports between 1 and 65535, the lower one first")
        self.name = name
        self.host = host
        self.quarantine = quarantine
        self.retry_aside = retry_aside
        self.allocated = 0
        self.exhausted = 0
        self.bind_errors = 0
        self._choose = choose
        self._beyond: set[int] = set()
        self._resting: deque[tuple[float, int]] = deque()
        self._aside: deque[tuple[float, int]] = deque()
        self._lay_out(low, high, excluded, {})

    def resize(self, low: int, high: int, *, excluded: Iterable[int] = ()) -> None:
        """Give out other ports from now on. Ports in use outside them stay with their calls, and then are let go."""
        kept = {self.low + at: PortState(state) for at, state in enumerate(self._state) if state in _BUSY}
        kept.update(dict.fromkeys(self._beyond, PortState.USED))
        self._lay_out(low, high, excluded, kept)

    def _lay_out(self, low: int, high: int, excluded: Iterable[int], kept: dict[int, PortState]) -> None:
        self.low, self.high = low, high
        self._state = bytearray(high - low + 1)
        for port, state in kept.items():
            if low <= port <= high:
                self._state[port - low] = state
        for port in excluded:
            if low <= port <= high:
                self._state[port - low] = PortState.EXCLUDED
        self._beyond = {
            port
            for port, state in kept.items()
            if state == PortState.USED and not (low <= port <= high and self._state[port - low] == PortState.USED)
        }
        self._counts = [0] * len(PortState)
        for entry in self._state:
            self._counts[entry] += 1
        self._pairs = RandomSet(p for p in range(low + low % 2, high, 2) if self._free(p) and self._free(p + 1))
        self._halves = RandomSet(p for p in range(low, high + 1) if self._free(p) and (p & ~1) not in self._pairs)
        for queue in (self._resting, self._aside):
            within = [(due, port) for due, port in queue if low <= port <= high]
            queue.clear()
            queue.extend(within)

    @property
    def total(self) -> int:
        """Ports that the pool may ever give out."""
        return len(self._state) - self._counts[PortState.EXCLUDED]

    @property
    def used(self) -> int:
        """Ports bound to a leg."""
        return self._counts[PortState.USED]

    @property
    def quarantined(self) -> int:
        """Ports resting before re-use."""
        return self._counts[PortState.QUARANTINED]

    @property
    def aside(self) -> int:
        """Ports that a foreign program was found on."""
        return self._counts[PortState.ASIDE]

    @property
    def free(self) -> int:
        """Ports that can be given out at once."""
        return self._counts[PortState.FREE]

    @property
    def pressure(self) -> float:
        """Share of the pool that is bound or cannot be bound, 0 to 1; a resting port can still be had."""
        return (self.used + self.aside) / self.total if self.total else 1.0

    def state(self, port: int) -> PortState:
        """Tell what `port`, which must be of this pool's range, is doing."""
        return PortState(self._state[port - self.low])

    def numbers(self, state: PortState) -> list[int]:
        """List the ports that are doing this, in order; used ones outside the range as after a change of it, too."""
        found = [self.low + at for at, one in enumerate(self._state) if one == state]
        return sorted([*found, *self._beyond]) if state is PortState.USED else found

    @property
    def free_pairs(self) -> int:
        """Even ports that are free together with the next one."""
        return len(self._pairs)

    def open_pair(
        self, opener: Opener, now: float, *, lane: int = 0, lanes: int = 1
    ) -> tuple[tuple[int, Socket], tuple[int, Socket]] | None:
        """Bind a random even port and the next odd one; None when no pair is left.

        Pairs belong to `lanes` lanes in turn. One of `lane` is preferred: a socket that rests after a flow of the same
        data thread needs no work.
        """
        self._wake(now)
        while len(self._pairs) or self._hasten(lambda: len(self._pairs) > 0):
            even = self._pairs.draw(self._choose)
            tries = LANE_TRIES * (lanes - 1)
            while tries and (even >> 1) % lanes != lane:
                even = self._pairs.draw(self._choose)
                tries -= 1
            first = self._bind(opener, even, now)
            if first is None:
                continue
            try:
                second = self._bind(opener, even + 1, now)
            except NoSocket:
                self._give_up(opener, even, first)
                raise
            if second is None:
                self._give_up(opener, even, first)
                continue
            self.allocated += 1
            return (even, first), (even + 1, second)
        self.exhausted += 1
        return None

    def open_run(self, opener: Opener, now: float, pairs: int) -> list[tuple[int, Socket]] | None:
        """Bind the ports of several pairs in a row, from a random even port on; None when there is no such run."""
        self._wake(now)
        while True:
            first = self._find_run(pairs)
            if first is None:
                if not self._resting:
                    self.exhausted += 1
                    return None
                self._hasten(lambda: False)
                continue
            bound: list[tuple[int, Socket]] = []
            try:
                for port in range(first, first + 2 * pairs):
                    sock = self._bind(opener, port, now)
                    if sock is None:
                        break
                    bound.append((port, sock))
                else:
                    self.allocated += pairs
                    return bound
            except NoSocket:
                self._give_up_all(opener, bound)
                raise
            self._give_up_all(opener, bound)

    def _find_run(self, pairs: int) -> int | None:
        for _ in range(RUN_TRIES if len(self._pairs) else 0):
            first = self._pairs.draw(self._choose)
            if self._is_run(first, pairs):
                return first
        return next((first for first in range(self.low, self.high) if self._is_run(first, pairs)), None)

    def _is_run(self, first: int, pairs: int) -> bool:
        return all(port in self._pairs for port in range(first, first + 2 * pairs, 2))

    def _give_up_all(self, opener: Opener, bound: list[tuple[int, Socket]]) -> None:
        for port, sock in bound:
            self._give_up(opener, port, sock)

    def open_single(self, opener: Opener, now: float, *, wanted: int | None = None) -> tuple[int, Socket] | None:
        """Bind one random port of any parity, or `wanted` if it is free; None when none is left."""
        self._wake(now)
        if wanted is not None and self.low <= wanted <= self.high and self._free(wanted):
            sock = self._bind(opener, wanted, now)
            if sock is not None:
                self.allocated += 1
                return wanted, sock
        while self.free or self._hasten(lambda: self.free > 0):
            whole = len(self._pairs) and len(self._halves) < SPLIT_BELOW
            port = self._pairs.draw(self._choose) + self._choose(2) if whole else self._halves.draw(self._choose)
            sock = self._bind(opener, port, now)
            if sock is not None:
                self.allocated += 1
                return port, sock
        self.exhausted += 1
        return None

    def reopen(self, opener: Opener, port: int, now: float) -> Socket | None:
        """Bind a certain port again, as after a restart; None when it is not free or a foreign program has it."""
        if not (self.low <= port <= self.high and self._state[port - self.low] != PortState.USED):
            return None
        return self._bind(opener, port, now)

    def release(self, port: int, now: float) -> None:
        """Send a port that no flow has any more into quarantine."""
        if port in self._beyond:
            self._beyond.discard(port)
            return
        if self.quarantine > 0:
            self._move(port, PortState.QUARANTINED)
            self._resting.append((now + self.quarantine, port))
        else:
            self._move(port, PortState.FREE)

    def take_back(self, port: int) -> None:
        """Make a port free again that nobody was told of: nothing can be on its way to it."""
        if port in self._beyond:
            self._beyond.discard(port)
        else:
            self._move(port, PortState.FREE)

    def quarantine_ends(self) -> list[tuple[int, float]]:
        """List the resting ports with the times at which they return, soonest first."""
        return [(port, due) for due, port in self._resting if self._state[port - self.low] == PortState.QUARANTINED]

    def _wake(self, now: float) -> None:
        while self._resting and self._resting[0][0] <= now:
            self._wake_one(self._resting, PortState.QUARANTINED)
        while self._aside and self._aside[0][0] <= now:
            self._wake_one(self._aside, PortState.ASIDE)

    def _wake_one(self, queue: deque[tuple[float, int]], state: PortState) -> None:
        _, port = queue.popleft()
        if self._state[port - self.low] == state:
            self._move(port, PortState.FREE)

    def _hasten(self, enough: Callable[[], bool]) -> bool:
        """Under pressure the ports that rested longest come back before their time."""
        while self._resting and not enough():
            self._wake_one(self._resting, PortState.QUARANTINED)
        return enough()

    def _bind(self, opener: Opener, port: int, now: float) -> Socket | None:
        try:
            sock = opener.open(TransportAddress(self.host, port))
        except PortTaken:
            self.bind_errors += 1
            self._move(port, PortState.ASIDE)
            self._aside.append((now + self.retry_aside, port))
            return None
        self._move(port, PortState.USED)
        return sock

    def _give_up(self, opener: Opener, port: int, sock: Socket) -> None:
        opener.give_back(TransportAddress(self.host, port), sock)
        self._move(port, PortState.FREE)

    def _free(self, port: int) -> bool:
        return self._state[port - self.low] == _FREE

    def _move(self, port: int, state: PortState) -> None:
        index = port - self.low
        old = self._state[index]
        self._state[index] = state
        self._counts[old] -= 1
        self._counts[state] += 1
        if state != _FREE != old:
            return
        mate = port ^ 1
        mate_free = self.low <= mate <= self.high and self._state[mate - self.low] == _FREE
        if state == _FREE:
            if mate_free:
                self._halves.discard(mate)
                self._pairs.add(port & ~1)
            else:
                self._halves.add(port)
        elif mate_free:
            self._pairs.discard(port & ~1)
            self._halves.add(mate)
        else:
            self._halves.discard(port)
