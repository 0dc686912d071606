"""One data thread: a flow table, its latches and a backend. Instructions are carried out between two batches.

Whoever holds the lock carries them out: the control thread itself while the data thread waits for packets, so that
setting a call up wakes nobody; else the data thread after its batch. Only the data thread touches its backend.
"""

from __future__ import annotations

import errno
import math
import os
import sys
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping

from nattrav.net.address import TransportAddress
from nattrav.net.clock import monotonic
from nattrav.net.immutable import immutable
from nattrav.net.options import Socket
from relay.crossbar import Crossbar
from relay.crossing import Pierce
from relay.flows import FlowTable
from relay.io.backend import Backend
from relay.io.exits import Exits
from relay.offload.xdp import KernelFlows, Offloader
from relay.plane import DropReason, FlowSettings, Learned
from relay.rtp import PIERCE
from relay.steer import Departures, Steer
from relay.tally import Tally

SETTLE_EVERY = 0.2
"""Seconds by which counters may lag behind the packets."""

MERGE_LAG = 0.02
"""Seconds by which one flow's counters may lag behind the kernel's path when somebody asks."""

SETTLE_AT = 8192
"""Packets noted after which counting does not wait."""

HANDLING_BOUNDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1)
"""Upper bounds (seconds) in which the times that batches are in hand are counted."""

TIMER_STEP = 0.05
"""Least seconds between two looks at timers: windows of many calls end together."""


@immutable
class Open:
    """Begin a flow on a new socket, or (`rested`) on the one that rests in this slot."""

    slot: int
    sock: Socket
    local: TransportAddress
    settings: FlowSettings
    learned: Learned | None
    rested: bool = False


@immutable
class Set:
    """Change rules."""

    slot: int
    settings: FlowSettings
    relearn: bool


@immutable
class Rest:
    """End a flow; its socket stays bound, and what still comes to it is late."""

    slot: int


@immutable
class Close:
    """Let go of a socket, open or resting, and close it unless another thread has it now (`kept`)."""

    slot: int
    kept: bool = False


@immutable
class Stop:
    """End the thread."""


Instruction = Open | Set | Rest | Close | Stop
MakeBackend = Callable[[FlowTable, int], Backend]
"""(table, eventfd that wakes it) → a backend; called in the data thread."""

MakeExits = Callable[[Backend, Crossbar, Tally, Mapping[int, Socket]], Exits]
"""(backend, crossbar, tally, sockets by slot) → exits; called in the data thread."""


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
        make_exits: MakeExits,
        cpu: int | None = None,
        kernel: KernelFlows | None = None,
    ) -> None:
        self.number = number
        self.table = FlowTable(capacity)
        self.crossbar = Crossbar(self.table, shard=number, shards=shards, locals_=locals_)
        self.offloader = None if kernel is None else Offloader(self.table, self.crossbar, kernel)
        self.lock = threading.Lock()
        self.failure: BaseException | None = None
        self.batches = 0
        self.packets = 0
        self.departed = 0
        """Batches of which something was sent."""
        self.handling = [0] * (len(HANDLING_BOUNDS) + 1)
        """How long batches were in hand, from receiving until sending: counts by `HANDLING_BOUNDS`, the rest last."""
        self.handled = 0.0
        """Seconds that all batches together were in hand."""
        self.steer: Steer | None = None
        self.backend: Backend | None = None
        self.exits: Exits | None = None
        self._make_exits = make_exits
        self._make_backend = make_backend
        self._cpu = cpu
        self._instructions: deque[Instruction] = deque()
        self._opening: set[int] = set()
        """Slots of flows whose opening waits among the instructions."""
        self._errands: deque[tuple[int, bool]] = deque()
        """Slots to attach (True) to the backend or to detach from it."""
        self._sockets: dict[int, Socket] = {}
        self._kept: set[int] = set()
        self._rested: dict[int, int] = {}
        """Resting slots, and the round in which they came to rest."""
        self._round = 0
        self._in_hand = False
        """Packets were steered in this round and may not have been sent yet."""
        self._wakes_at = 0.0
        self._stopping = False
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
        self.hurry()
        self._thread.join()
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()
        os.close(self._wake_fd)

    def instruct(self, instruction: Instruction) -> None:
        """Queue an instruction; it is carried out between two batches, in order, once `hurry` was called."""
        self._instructions.append(instruction)
        if isinstance(instruction, Open):
            self._opening.add(instruction.slot)

    def hurry(self) -> None:
        """Have what was queued carried out: here while the thread waits for packets, else by it after its batch."""
        if self.lock.acquire(blocking=False):
            try:
                self.catch_up()
                due = self.crossbar.next_timeout()
                content = not (self._errands or self._stopping) and (due is None or due >= self._wakes_at)
                if self._offloading and self._wakes_at == math.inf:
                    content = False
            finally:
                self.lock.release()
            if content:
                return
        if not self._told:
            self._told = True
            os.eventfd_write(self._wake_fd, 1)

    def catch_up(self) -> None:
        """With the lock held: carry out what was queued, as far as it needs no backend."""
        if self._instructions:
            self._carry_out(monotonic())

    def opened(self, slot: int) -> None:
        """With the lock held: see to it that a flow's row is its own, though its opening may have been queued."""
        if slot in self._opening:
            self.catch_up()

    @property
    def behind(self) -> bool:
        """Instructions wait to be carried out."""
        return bool(self._instructions)

    def reusable(self, slot: int) -> bool:
        """The socket rests in this slot, and the thread has no packets in hand any more that the last flow sends."""
        return slot in self._rested and (not self._in_hand or self._rested[slot] != self._round)

    def exit_overflows(self) -> int:
        """Datagrams the kernel dropped at sockets of exits."""
        with self.lock:
            return 0 if self.exits is None else self.exits.overflows()

    def settled(self, slot: int, *, last: bool = False) -> None:
        """With the lock held: make a flow's counters exact; the kernel's may lag by `MERGE_LAG` but the `last` time."""
        if self.steer is not None and self.steer.tally.holds(slot):
            self.steer.tally.settle()
        if self.offloader is not None and self.offloader.busy:
            if last:
                self.offloader.merge_flow(slot)
            elif (now := monotonic()) - self.offloader.merged_at > MERGE_LAG:
                self.offloader.merge(now)

    @property
    def _offloading(self) -> bool:
        return self.offloader is not None and self.offloader.busy

    def _run(self) -> None:
        try:
            if self._cpu is not None:
                os.sched_setaffinity(threading.get_native_id(), {self._cpu})
            backend = self._make_backend(self.table, self._wake_fd)
            self.backend = backend
            steer = self.steer = Steer(self.table, backend.frames, self.crossbar)
            self.exits = self._make_exits(backend, self.crossbar, steer.tally, self._sockets)
        except BaseException as error:
            self.failure = error
            self._ready.set()
            return
        self._ready.set()
        try:
            self._serve(backend, steer, self.exits)
        except BaseException as error:
            self.failure = error
            sys.excepthook(type(error), error, error.__traceback__)
        finally:
            if self.offloader is not None:
                with self.lock:
                    self.offloader.end()
            backend.close()
            self.exits.close()

    def _serve(self, backend: Backend, steer: Steer, exits: Exits) -> None:
        departures: Departures | None = None
        timeout: float | None = None
        settle_at = 0.0
        tally, crossbar = steer.tally, self.crossbar
        while True:
            slots, frames, lengths = backend.exchange(departures, timeout)
            now = monotonic()
            departures = None
            with self.lock:
                self._round += 1
                if self._instructions or self._errands or self._told:
                    self._told = False
                    self._carry_out(now)
                    if self._stopping:
                        return
                    self._run_errands(backend)
                if crossbar.due(now):
                    for pierce in crossbar.handle_timeout(now):
                        self._pierce(pierce)
                if exits.due(now):
                    exits.tend(now)
                if len(slots):
                    departures = steer.steer(slots, frames, lengths, now)
                    self.batches += 1
                    self.packets += len(slots)
                self._in_hand = departures is not None
                if self.offloader is not None:
                    self._follow_kernel(self.offloader, now)
                if backend.failures:
                    self._refused(backend, exits)
                if backend.released:
                    self._release(backend, exits)
                if tally.noted >= SETTLE_AT or (tally.noted and now >= settle_at) or tally.limited:
                    steer.settle(now)
                    settle_at = now + SETTLE_EVERY
                timeout = SETTLE_EVERY if tally.noted or tally.limited or self._offloading else None
                due = crossbar.next_timeout()
                if due is not None:
                    wait = max(TIMER_STEP, due - now)
                    timeout = wait if timeout is None else min(timeout, wait)
                self._wakes_at = math.inf if timeout is None else now + timeout
            if departures is not None and len(departures.routes):
                spent = monotonic() - now
                self.departed += 1
                self.handled += spent
                self.handling[bisect_left(HANDLING_BOUNDS, spent)] += 1

    def _carry_out(self, now: float) -> None:
        assert self.steer is not None
        assert self.backend is not None
        assert self.exits is not None
        self.steer.tally.settle()
        self.crossbar.gather()
        while self._instructions:
            match self._instructions.popleft():
                case Open(slot, sock, local, settings, learned, rested):
                    if rested:
                        del self._rested[slot]
                        self.table.begin(slot)
                    else:
                        self._sockets[slot] = sock
                        self._errands.append((slot, True))
                    if self.offloader is not None and learned is not None and learned.mark is not None:
                        self.offloader.expect(slot, learned.mark)
                    self.crossbar.open(slot, local, settings, self.backend.file(slot, sock), now, learned)
                    self._opening.discard(slot)
                case Set(slot, settings, relearn):
                    self.crossbar.set(slot, settings, now, relearn=relearn)
                    self.exits.renew_tos(slot)
                case Rest(slot):
                    self.crossbar.close(slot)
                    self._rested[slot] = self._round
                case Close(slot, kept):
                    if self._rested.pop(slot, None) is None:
                        self.crossbar.close(slot)
                    if kept:
                        self._kept.add(slot)
                    self._errands.append((slot, False))
                case Stop():
                    self._stopping = True
            if self.offloader is not None:
                # At once: the row may be begun anew by the next instruction.
                self.offloader.review()
        self.crossbar.scatter(now)
        if self.offloader is not None:
            self.offloader.review()

    def _follow_kernel(self, offloader: Offloader, now: float) -> None:
        if self.crossbar.touched:
            assert self.steer is not None
            self.steer.tally.settle()
            offloader.review()
        if offloader.busy and now - offloader.merged_at >= SETTLE_EVERY:
            offloader.merge(now)

    def _run_errands(self, backend: Backend) -> None:
        while self._errands:
            slot, attach = self._errands.popleft()
            (backend.attach if attach else backend.detach)(slot, self._sockets[slot])

    def _release(self, backend: Backend, exits: Exits) -> None:
        waiting: list[int] = []
        for slot in backend.released:
            if exits.holds(slot):
                waiting.append(slot)
                continue
            sock = self._sockets.pop(slot)
            if slot in self._kept:
                self._kept.discard(slot)
            else:
                sock.close()
            self.table.give_back(slot)
        backend.released[:] = waiting

    def _refused(self, backend: Backend, exits: Exits) -> None:
        for route, code in backend.failures:
            full = code in (errno.EAGAIN, errno.ENOBUFS)
            if not full:
                exits.fail(int(self.table.egress[route]), code)
            self.table.drop(route >> 1, DropReason.QUEUE_FULL if full else DropReason.SEND_ERROR)
        backend.failures.clear()

    def _pierce(self, pierce: Pierce) -> None:
        try:
            self._sockets[pierce.slot].sendto(PIERCE, pierce.target)
        except OSError:
            self.table.drop(pierce.slot, DropReason.SEND_ERROR)
