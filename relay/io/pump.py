"""The data plane: data threads with a backend each, behind the `Plane` that the engine talks to."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Sequence

import numpy as np

from nattrav.net import uring
from nattrav.net.address import TransportAddress
from nattrav.net.options import Socket, dropped_by_kernel, set_tos
from relay.crossbar import Crossbar
from relay.figures import add_figures
from relay.flows import CAPACITY, FlowTable
from relay.io.backend import Backend
from relay.io.portable import PortableBackend
from relay.io.shard import Close, MakeBackend, Open, Set, Shard
from relay.io.uring import UringBackend
from relay.plane import DropReason, FlowEvent, FlowFigures, FlowSettings, Learned

COALESCE = 0.001
"""Seconds a datagram may wait for company, unless configured otherwise."""

BACKENDS = ("auto", "io_uring", "portable")

_SWITCH_INTERVAL = 0.0005
"""Seconds after which a thread that runs Python makes way for a data thread with packets to work on."""


class BackendRefused(Exception):
    """The backend that was asked for cannot run here; the text says why and what to change."""


class PlaneFailed(Exception):
    """A data thread died; its flows pass nothing any more."""


class DataPlane:
    """`relay.plane.Plane` over data threads. Make it with `open_plane`; use it from one control thread.

    Flow numbers are `row * shards + shard`.
    """

    def __init__(
        self,
        threads: int,
        backend: str,
        backend_reason: str,
        *,
        coalesce: float = COALESCE,
        pin: bool = False,
        fall_back: bool = False,
    ) -> None:
        self.backend = backend
        """`io_uring` or `portable`."""
        self.backend_reason = backend_reason
        """Why it is this one, for people."""
        self._threads = max(1, threads)
        self._coalesce = coalesce
        self._pin = pin
        self._fall_back = fall_back
        self._shards = self._make_shards()
        self._open: dict[int, Socket] = {}
        self._tos: dict[int, int | None] = {}
        self._overflows = 0

    def start(self) -> None:
        """Start the data threads."""
        sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_INTERVAL))
        try:
            self._start()
        except uring.Unavailable as refused:
            if not self._fall_back:
                raise BackendRefused(f"io_uring cannot be used: {refused.strerror}") from refused
            self.backend, self.backend_reason = "portable", f"io_uring cannot be used: {refused.strerror}"
            self._shards = self._make_shards()
            self._start()

    def _start(self) -> None:
        started: list[Shard] = []
        try:
            for shard in self._shards:
                shard.start()
                started.append(shard)
        except BaseException:
            for shard in started:
                shard.stop()
            raise

    def _make_shards(self) -> list[Shard]:
        cpus = sorted(os.sched_getaffinity(0))
        locals_: dict[TransportAddress, tuple[Crossbar, int]] = {}
        # A flow needs a descriptor, so a table for more than the limit would only promise too much.
        capacity = min(CAPACITY, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        make = _maker(self.backend, self._coalesce)
        return [
            Shard(number, self._threads, make, locals_, capacity, cpu=cpus[number % len(cpus)] if self._pin else None)
            for number in range(self._threads)
        ]

    def stop(self) -> None:
        """End the data threads and close every socket."""
        for shard in self._shards:
            shard.stop()
        self._open.clear()
        self._tos.clear()

    @property
    def shards(self) -> int:
        """Number of data threads."""
        return len(self._shards)

    def open(
        self,
        sock: Socket,
        local: TransportAddress,
        settings: FlowSettings,
        *,
        shard: int,
        learned: Learned | None = None,
    ) -> int:
        """See `Plane`. Raises relay.flows.TableFull."""
        owner = self._alive(shard)
        slot = owner.table.take()
        flow = slot * len(self._shards) + shard
        self._open[flow] = sock
        self._tos[flow] = settings.tos
        if settings.tos is not None:
            set_tos(sock, settings.tos)
        owner.instruct(Open(slot, sock, local, settings, learned))
        return flow

    def set(self, flow: int, settings: FlowSettings, *, relearn: bool) -> None:
        """See `Plane`."""
        shard, slot = self._place(flow)
        if settings.tos != self._tos[flow]:
            self._tos[flow] = settings.tos
            set_tos(self._open[flow], settings.tos or 0)
        shard.instruct(Set(slot, settings, relearn))

    def close(self, flow: int) -> FlowFigures:
        """See `Plane`."""
        figures = self.figures(flow)
        shard, slot = self._place(flow)
        self._overflows += dropped_by_kernel(self._open[flow])
        del self._open[flow], self._tos[flow]
        shard.instruct(Close(slot))
        return figures

    def overflows(self) -> int:
        """Datagrams the kernel dropped at sockets of open and closed flows for want of buffer."""
        return self._overflows + sum(dropped_by_kernel(sock) for sock in self._open.values())

    def figures(self, flow: int) -> FlowFigures:
        """See `Plane`."""
        shard, slot = self._place(flow)
        with shard.lock:
            shard.settled(slot)
            return shard.table.figures(slot, shard.crossbar.learned(slot), shard.crossbar.reported(slot))

    def last_accepted(self, flows: Sequence[int]) -> float:
        """See `Plane`. May lag by `relay.io.shard.SETTLE_EVERY`."""
        count = len(self._shards)
        return max(
            (float(self._shards[flow % count].table.last_accepted[flow // count]) for flow in flows), default=0.0
        )

    def received(self, flows: Sequence[int]) -> list[int]:
        """See `Plane`. May lag by `relay.io.shard.SETTLE_EVERY`."""
        numbers = np.array(flows, np.intp)
        slots, owners = np.divmod(numbers, len(self._shards))
        counts = np.zeros(len(numbers), np.uint64)
        for number, shard in enumerate(self._shards):
            mine = owners == number
            counts[mine] = shard.table.packets_in[slots[mine]]
        found: list[int] = counts.tolist()
        return found

    def sums(self) -> FlowFigures:
        """See `Plane`. May lag by `relay.io.shard.SETTLE_EVERY`."""
        total = FlowFigures()
        for shard in self._shards:
            with shard.lock:
                total = add_figures(total, shard.table.sums())
        return total

    def events(self) -> list[FlowEvent]:
        """See `Plane`."""
        found: list[FlowEvent] = []
        for shard in self._shards:
            events = shard.crossbar.events
            found += [events.popleft() for _ in range(len(events))]
        return found

    def totals(self) -> tuple[int, int, dict[DropReason, int]]:
        """Batches and packets received since the start, and drops by reason over all open flows."""
        drops: dict[DropReason, int] = {}
        for shard in self._shards:
            with shard.lock:
                for reason, count in shard.table.drop_totals().items():
                    drops[reason] = drops.get(reason, 0) + count
        return sum(s.batches for s in self._shards), sum(s.packets for s in self._shards), drops

    def _place(self, flow: int) -> tuple[Shard, int]:
        if flow not in self._open:
            raise KeyError(f"flow {flow} is not open")
        number = flow % len(self._shards)
        return self._alive(number), flow // len(self._shards)

    def _alive(self, number: int) -> Shard:
        shard = self._shards[number]
        if shard.failure is not None:
            raise PlaneFailed(f"data thread {number} died: {shard.failure!r}") from shard.failure
        return shard


def choose_backend(wanted: str) -> tuple[str, str]:
    """Give (backend, reason) for `auto`, `io_uring` or `portable`. Raises BackendRefused, ValueError."""
    if wanted not in BACKENDS:
        raise ValueError(f"backend {wanted!r}: write one of {', '.join(BACKENDS)}")
    if wanted == "portable":
        return "portable", "asked for"
    refusal = uring.availability()
    if refusal is None:
        return "io_uring", "asked for" if wanted == "io_uring" else "this kernel allows it"
    if wanted == "io_uring":
        raise BackendRefused(f"io_uring cannot be used: {refusal}")
    return "portable", f"io_uring cannot be used: {refusal}"


def open_plane(threads: int, backend: str = "auto", *, coalesce: float = COALESCE, pin: bool = False) -> DataPlane:
    """Choose a backend and make a data plane with `threads` data threads; call `start` on it.

    `coalesce` is the longest time (seconds) a datagram may wait for company at low load; `pin` binds each
    thread to a processor. Raises BackendRefused when the backend asked for cannot run here.
    """
    chosen, reason = choose_backend(backend)
    return DataPlane(threads, chosen, reason, coalesce=coalesce, pin=pin, fall_back=backend == "auto")


def _maker(backend: str, coalesce: float) -> MakeBackend:
    def make(table: FlowTable, wake_fd: int) -> Backend:
        if backend == "portable":
            return PortableBackend(table, wake_fd, coalesce=coalesce)
        return UringBackend(table, wake_fd, coalesce=coalesce, files=table.capacity)

    return make
