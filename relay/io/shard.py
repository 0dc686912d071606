"""One data thread: it owns a flow table, its latches and a backend, and carries out instructions between batches."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from nattrav.net.address import TransportAddress
from nattrav.net.clock import monotonic
from nattrav.net.options import Socket
from relay.crossbar import Crossbar, Pierce
from relay.flows import FlowTable
from relay.io.backend import Backend
from relay.plane import DropReason, FlowSettings, Learned
from relay.rtp import PIERCE
from relay.steer import Departures, Steer

SETTLE_EVERY = 0.2
"""Seconds by which counters may lag behind the packets."""

SETTLE_AT = 8192
"""Packets noted after which counting does not wait."""


@dataclass(frozen=True, slots=True)
class Open:
    """Take over a socket."""

    slot: int
    sock: Socket
    local: TransportAddress
    settings: FlowSettings
    learned: Learned | None


@dataclass(frozen=True, slots=True)
class Set:
    """Change rules."""

    slot: int
    settings: FlowSettings
    relearn: bool


@dataclass(frozen=True, slots=True)
class Close:
    """Let go of a socket and close it."""

    slot: int


@dataclass(frozen=True, slots=True)
class Stop:
    """End the thread."""


Instruction = Open | Set | Close | Stop
MakeBackend = Callable[[FlowTable, int], Backend]
"""(table, eventfd that wakes it) → a backend; called in the data thread."""


class Shard:
    """A data thread and what the control thread may ask of it.

    `lock` is held while a batch is worked on, never while waiting: with it another thread may settle and read.
    """

    def __init__(
        self,
        number: int,
        shards: int,
        make_backend: MakeBackend,
        locals_: dict[TransportAddress, tuple[Crossbar, int]],
        capacity: int,
        *,
        cpu: int | None = None,
    ) -> None:
        self.number = number
        self.table = FlowTable(capacity)
        self.crossbar = Crossbar(self.table, shard=number, shards=shards, locals_=locals_)
        self.lock = threading.Lock()
        self.failure: BaseException | None = None
        self.batches = 0
        self.packets = 0
        self.steer: Steer | None = None
        self.backend: Backend | None = None
        self._make_backend = make_backend
        self._cpu = cpu
        self._instructions: deque[Instruction] = deque()
        self._sockets: dict[int, Socket] = {}
        self._wake_fd = -1
        self._told = False
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"relay-data-{number}", daemon=True)

    def start(self) -> None:
        """Start the thread; raises what its backend refused with."""
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread.start()
        self._ready.wait()
        if self.failure is not None:
            raise self.failure

    def stop(self) -> None:
        """End the thread and close its sockets."""
        self.instruct(Stop())
        self._thread.join()
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()
        os.close(self._wake_fd)

    def instruct(self, instruction: Instruction) -> None:
        """Queue an instruction; it is carried out between two batches, in order."""
        self._instructions.append(instruction)
        if not self._told:
            self._told = True
            os.eventfd_write(self._wake_fd, 1)

    def settled(self, slot: int) -> None:
        """With the lock held: make one flow's counters exact."""
        if self.steer is not None and self.steer.tally.holds(slot):
            self.steer.tally.settle()

    def _run(self) -> None:
        try:
            if self._cpu is not None:
                os.sched_setaffinity(threading.get_native_id(), {self._cpu})
            backend = self._make_backend(self.table, self._wake_fd)
            self.backend = backend
            self.steer = Steer(self.table, backend.frames, self.crossbar)
        except BaseException as error:
            self.failure = error
            self._ready.set()
            return
        self._ready.set()
        try:
            self._serve(backend, self.steer)
        except BaseException as error:
            self.failure = error
            sys.excepthook(type(error), error, error.__traceback__)
        finally:
            backend.close()

    def _serve(self, backend: Backend, steer: Steer) -> None:
        departures: Departures | None = None
        timeout: float | None = None
        settle_at = 0.0
        tally, crossbar = steer.tally, self.crossbar
        while True:
            slots, frames, lengths = backend.exchange(departures, timeout)
            now = monotonic()
            departures = None
            with self.lock:
                if self._instructions or self._told:
                    tally.settle()
                    if not self._carry_out(backend, now):
                        return
                if crossbar.due(now):
                    for pierce in crossbar.handle_timeout(now):
                        self._pierce(pierce)
                if len(slots):
                    departures = steer.steer(slots, frames, lengths, now)
                    self.batches += 1
                    self.packets += len(slots)
                if backend.failures:
                    self._refused(backend)
                if backend.released:
                    self._release(backend)
                if tally.noted >= SETTLE_AT or (tally.noted and now >= settle_at) or tally.limited:
                    steer.settle(now)
                    settle_at = now + SETTLE_EVERY
            timeout = None
            if tally.noted or tally.limited:
                timeout = SETTLE_EVERY
            due = crossbar.next_timeout()
            if due is not None:
                timeout = max(0.0, due - now) if timeout is None else min(timeout, max(0.0, due - now))

    def _carry_out(self, backend: Backend, now: float) -> bool:
        self._told = False
        while self._instructions:
            match self._instructions.popleft():
                case Open(slot, sock, local, settings, learned):
                    self._sockets[slot] = sock
                    file = backend.attach(slot, sock)
                    self.crossbar.open(slot, local, settings, file, now, learned)
                case Set(slot, settings, relearn):
                    self.crossbar.set(slot, settings, now, relearn=relearn)
                case Close(slot):
                    self.crossbar.close(slot)
                    backend.detach(slot, self._sockets[slot])
                case Stop():
                    return False
        return True

    def _release(self, backend: Backend) -> None:
        for slot in backend.released:
            self._sockets.pop(slot).close()
            self.table.give_back(slot)
        backend.released.clear()

    def _refused(self, backend: Backend) -> None:
        for route, code in backend.failures:
            full = code in (errno.EAGAIN, errno.ENOBUFS)
            self.table.drop(route >> 1, DropReason.QUEUE_FULL if full else DropReason.SEND_ERROR)
        backend.failures.clear()

    def _pierce(self, pierce: Pierce) -> None:
        try:
            self._sockets[pierce.slot].sendto(PIERCE, pierce.target)
        except OSError:
            self.table.drop(pierce.slot, DropReason.SEND_ERROR)
