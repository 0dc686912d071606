"""The data plane: data threads with a backend each, behind the `Plane` that the engine talks to."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from nattrav.net import uring
from nattrav.net.address import TransportAddress
from nattrav.net.memory import keep_freed
from nattrav.net.options import Socket, dropped_by_kernel, set_tos
from relay.crossbar import Crossbar
from relay.figures import add_figures
from relay.flows import CAPACITY, FlowTable
from relay.io.backend import Backend
from relay.io.exits import choose_transmit, make_exits
from relay.io.framing import SENDERS
from relay.io.portable import PortableBackend
from relay.io.shard import HANDLING_BOUNDS, Close, Instruction, MakeBackend, Open, Rest, Set, Shard
from relay.io.uring import UringBackend
from relay.offload.xdp import KernelFlows, Sums, add_sums
from relay.plane import DropReason, FlowEvent, FlowFigures, FlowSettings, Learned

COALESCE = 0.001
"""Seconds a datagram may wait for company, unless configured otherwise."""

BACKENDS = ("auto", "io_uring", "portable")

SHORT = 256
"""Free rows of a data thread's table below which resting sockets are closed."""

RESTING = 16384
"""Sockets of ended flows that stay bound, at most: some 3 KiB of kernel memory each, for a third of a call's set-up."""

_KEPT = 1 << 22
"""Octets of freed memory that a data thread keeps: more than counting a full tally takes."""

_SWITCH_INTERVAL = 0.0005
"""Seconds after which a thread that runs Python makes way for a data thread with packets to work on."""


class BackendRefused(Exception):
    """The backend that was asked for cannot run here; the text says why and what to change."""


class PlaneFailed(Exception):
    """A data thread died; its flows pass nothing any more."""


@dataclass(slots=True)
class _Bound:
    """A socket in a data thread's hands; `lost` datagrams of it were counted as dropped by the kernel."""

    sock: Socket
    local: TransportAddress
    tos: int | None
    lost: int = 0


@dataclass(slots=True)
class Activity:
    """What data threads did: see the fields of the same names of `Steer`, `Shard` and `Backend`."""

    rtcp: NDArray[np.uint64]
    handling: list[int]
    handled: float = 0.0
    departed: int = 0
    exhausted: int = 0
    rearmed: int = 0


class Gathering:
    """While it is entered, instructions wait; when it is left, every thread takes up its own."""

    def __init__(self) -> None:
        self.active = False
        self._waiting: dict[Shard, None] = {}

    def add(self, shard: Shard) -> None:
        """Note that instructions of a thread wait."""
        self._waiting[shard] = None

    def __enter__(self) -> None:
        self.active = True

    def __exit__(self, *_: object) -> None:
        self.active = False
        while self._waiting:
            self._waiting.popitem()[0].hurry()


class DataPlane:
    """`relay.plane.Plane` over data threads. Make it with `open_plane`; use it from one control thread.

    Flow numbers are `row * shards + shard`. Up to `resting` sockets of closed flows stay bound and attached: the next
    flow on their port costs no system call, and until then what comes to them is counted as late.
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
        resting: int = 0,
        twins: int = 0,
        transmit: str = "socket",
        kernel: KernelFlows | None = None,
    ) -> None:
        self.backend = backend
        """`io_uring` or `portable`."""
        self.backend_reason = backend_reason
        """Why it is this one, for people."""
        self.transmit, self.transmit_reason = choose_transmit(transmit)
        """How packets of settled flows leave: `socket` or `frame`; and why so."""
        self._threads = max(1, threads)
        self._coalesce = coalesce
        self._pin = pin
        self._fall_back = fall_back
        self._twins = twins if self.transmit == "socket" else 0
        self._kernel = kernel
        self._shards = self._make_shards()
        self._open: dict[int, _Bound] = {}
        self._resting: dict[TransportAddress, tuple[int, _Bound]] = {}
        """By local address: the flow that ended there, and its socket. Those that rest longest come first."""
        self._claimed: dict[TransportAddress, tuple[int, _Bound]] = {}
        """Resting ones that are about to be a flow again."""
        self._resting_limit = resting
        self._gather = Gathering()
        self._overflows = 0

    def start(self) -> None:
        """Start the data threads."""
        sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_INTERVAL))
        keep_freed(_KEPT)
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
        senders = SENDERS if self.transmit == "frame" else 0
        capacity = min(CAPACITY, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - self._twins - senders)
        twins = self._twins // self._threads
        make = _maker(self.backend, self._coalesce, twins, senders)
        return [
            Shard(
                number,
                self._threads,
                make,
                locals_,
                capacity,
                cpu=cpus[number % len(cpus)] if self._pin else None,
                make_exits=partial(make_exits, self.transmit, twins),
                kernel=self._kernel,
            )
            for number in range(self._threads)
        ]

    def stop(self) -> None:
        """End the data threads and close every socket."""
        for shard in self._shards:
            shard.stop()
        self._open.clear()
        self._resting.clear()
        self._claimed.clear()

    def sockets(self) -> list[Socket]:
        """Sockets of the open flows."""
        return [bound.sock for bound in self._open.values()]

    @property
    def shards(self) -> int:
        """Number of data threads."""
        return len(self._shards)

    def room(self, shard: int) -> int:
        """See `Plane`. When it gets short, sockets that rest with the thread make way."""
        table = self._shards[shard].table
        count = len(self._shards)
        if table.room < SHORT:
            for local in [local for local, (flow, _) in self._resting.items() if flow % count == shard][:SHORT]:
                self._let_go(*self._resting.pop(local))
        return table.room + sum(
            flow % count == shard and self._shards[shard].reusable(flow // count) for flow, _ in self._claimed.values()
        )

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
        rested = self._claimed.pop(local, None)
        if rested is not None and rested[0] % len(self._shards) == shard and owner.reusable(rested[0] // self.shards):
            flow, bound = rested
        else:
            flow = owner.table.take() * len(self._shards) + shard
            bound = _Bound(sock, local, None)
            if rested is not None:
                self._let_go(*rested, kept=True)
                bound, rested = rested[1], None
        self._open[flow] = bound
        if settings.tos != bound.tos:
            bound.tos = settings.tos
            set_tos(sock, settings.tos or 0)
        self._instruct(owner, Open(flow // self.shards, sock, local, settings, learned, rested is not None))
        return flow

    def set(self, flow: int, settings: FlowSettings, *, relearn: bool) -> None:
        """See `Plane`."""
        shard, slot = self._place(flow)
        bound = self._open[flow]
        if settings.tos != bound.tos:
            bound.tos = settings.tos
            set_tos(bound.sock, settings.tos or 0)
        self._instruct(shard, Set(slot, settings, relearn))

    def close(self, flow: int) -> FlowFigures:
        """See `Plane`."""
        figures = self._figures(flow, last=True)
        shard, slot = self._place(flow)
        bound = self._open.pop(flow)
        if figures.packets_in or figures.drops:
            lost = dropped_by_kernel(bound.sock)
            self._overflows += lost - bound.lost
            bound.lost = lost
        if not self._resting_limit:
            self._instruct(shard, Close(slot))
            return figures
        self._instruct(shard, Rest(slot))
        self._resting[bound.local] = flow, bound
        if len(self._resting) > self._resting_limit:
            self._let_go(*self._resting.pop(next(iter(self._resting))))
        return figures

    def claim(self, local: TransportAddress) -> Socket | None:
        """Give the socket that rests at a local address; `open` or `disclaim` must follow."""
        found = self._resting.pop(local, None)
        if found is None:
            return None
        self._claimed[local] = found
        return found[1].sock

    def disclaim(self, local: TransportAddress) -> bool:
        """Let a claimed socket rest again; False when none was claimed there."""
        found = self._claimed.pop(local, None)
        if found is not None:
            self._resting[local] = found
        return found is not None

    def rest_no_more(self) -> None:
        """Close every resting socket, as when the ports they are bound to may no longer be ours."""
        while self._resting:
            self._let_go(*self._resting.popitem()[1])

    def _let_go(self, flow: int, bound: _Bound, *, kept: bool = False) -> None:
        """Take a resting socket from its thread, and close it unless it is `kept` for another flow."""
        self._instruct(self._alive(flow % len(self._shards)), Close(flow // len(self._shards), kept))

    def gather(self) -> Gathering:
        """Let the instructions given inside (`with plane.gather():`) take effect together, at the end."""
        return self._gather

    def _instruct(self, shard: Shard, instruction: Instruction) -> None:
        shard.instruct(instruction)
        if self._gather.active:
            self._gather.add(shard)
        else:
            shard.hurry()

    def overflows(self) -> int:
        """Datagrams the kernel dropped at sockets of open and closed flows for want of buffer."""
        own = sum(dropped_by_kernel(bound.sock) - bound.lost for bound in self._open.values())
        return self._overflows + own + sum(shard.exit_overflows() for shard in self._shards)

    def figures(self, flow: int) -> FlowFigures:
        """See `Plane`."""
        return self._figures(flow)

    def _figures(self, flow: int, *, last: bool = False) -> FlowFigures:
        shard, slot = self._place(flow)
        with shard.lock:
            shard.opened(slot)
            shard.settled(slot, last=last)
            figures = shard.table.figures(slot, shard.crossbar.learned(slot), shard.crossbar.reported(slot))
            if shard.offloader is not None and slot in shard.offloader:
                return replace(figures, mark=shard.offloader.mark(slot))
            return figures

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

    def sums(self, flows: Sequence[int] | None = None) -> FlowFigures:
        """See `Plane`. May lag by `relay.io.shard.SETTLE_EVERY`."""
        total = FlowFigures()
        if flows is not None:
            slots, owners = np.divmod(np.array(flows, np.intp), len(self._shards))
            for number, shard in enumerate(self._shards):
                with shard.lock:
                    total = add_figures(total, shard.table.sums(slots[owners == number]))
            return total
        for shard in self._shards:
            with shard.lock:
                total = add_figures(total, shard.table.sums())
                if shard.steer is not None and shard.steer.late:
                    total = add_figures(total, FlowFigures(drops={DropReason.LATE: shard.steer.late}))
        return total

    def events(self) -> list[FlowEvent]:
        """See `Plane`."""
        found: list[FlowEvent] = []
        for shard in self._shards:
            events = shard.crossbar.events
            found += [events.popleft() for _ in range(len(events))]
        return found

    @property
    def caught_up(self) -> bool:
        """No instruction waits to be carried out."""
        return not any(shard.behind for shard in self._shards)

    def offloaded(self) -> tuple[int, Sums]:
        """Flows that the kernel forwards now, and what it did since the start; may lag by `SETTLE_EVERY`."""
        offloaders = [shard.offloader for shard in self._shards if shard.offloader is not None]
        return sum(map(len, offloaders)), add_sums(one.sums for one in offloaders)

    def offloaded_flows(self) -> frozenset[int]:
        """Numbers of the flows that the kernel forwards now."""
        found: list[int] = []
        for number, shard in enumerate(self._shards):
            if shard.offloader is not None:
                with shard.lock:
                    found += [slot * len(self._shards) + number for slot in shard.offloader.slots]
        return frozenset(found)

    def framed(self) -> int:
        """Count the flows to whose parties packets leave as whole frames now."""
        if self.transmit != "frame":
            return 0
        return sum(len(shard.exits) for shard in self._shards if shard.exits is not None)

    def totals(self) -> tuple[int, int, dict[DropReason, int]]:
        """Batches and packets received since the start, and drops by reason over all open flows."""
        drops: dict[DropReason, int] = {}
        for shard in self._shards:
            with shard.lock:
                for reason, count in shard.table.drop_totals().items():
                    drops[reason] = drops.get(reason, 0) + count
                if shard.steer is not None and shard.steer.late:
                    drops[DropReason.LATE] = drops.get(DropReason.LATE, 0) + shard.steer.late
        return sum(s.batches for s in self._shards), sum(s.packets for s in self._shards), drops

    def activity(self) -> Activity:
        """What the data threads did since the start."""
        rtcp = np.zeros((2, 256), np.uint64)
        found = Activity(rtcp=rtcp, handling=[0] * (len(HANDLING_BOUNDS) + 1))
        for shard in self._shards:
            found.departed += shard.departed
            found.handled += shard.handled
            found.handling = [one + other for one, other in zip(found.handling, shard.handling, strict=True)]
            if shard.steer is not None:
                rtcp += shard.steer.rtcp
            if shard.backend is not None:
                found.exhausted += shard.backend.exhausted
                found.rearmed += shard.backend.rearmed
        return found

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


def open_plane(
    threads: int,
    backend: str = "auto",
    *,
    coalesce: float = COALESCE,
    pin: bool = False,
    resting: int = 0,
    twins: int = 0,
    transmit: str = "socket",
    kernel: KernelFlows | None = None,
) -> DataPlane:
    """Choose a backend and make a data plane with `threads` data threads; call `start` on it.

    `coalesce` is the longest time (seconds) a datagram may wait for company at low load; `pin` binds each
    thread to a processor; up to `resting` sockets of closed flows stay bound; up to `twins` latched flows get a
    second descriptor, connected to their party; with `transmit` `frame` they get none, and their packets leave as whole
    frames where that is possible; `kernel` takes over latched flows. Raises BackendRefused when the backend asked for
    cannot run here.
    """
    chosen, reason = choose_backend(backend)
    fall_back = backend == "auto"
    return DataPlane(
        threads,
        chosen,
        reason,
        coalesce=coalesce,
        pin=pin,
        fall_back=fall_back,
        resting=resting,
        twins=twins,
        transmit=transmit,
        kernel=kernel,
    )


def _maker(backend: str, coalesce: float, twins: int, senders: int) -> MakeBackend:
    def make(table: FlowTable, wake_fd: int) -> Backend:
        if backend == "portable":
            return PortableBackend(table, wake_fd, coalesce=coalesce)
        return UringBackend(table, wake_fd, coalesce=coalesce, files=table.capacity, twins=twins, senders=senders)

    return make
