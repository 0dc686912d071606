"""An in-memory data plane and sockets for tests of the engine."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from nattrav.net.address import TransportAddress
from nattrav.net.options import Socket
from relay.engine import Engine
from relay.figures import add_figures
from relay.interfaces import Interfaces, LocalAddress
from relay.plane import FlowEvent, FlowFigures, FlowSettings, Learned
from relay.policy import Policy
from relay.ports import NoSocket, PortPool, PortTaken


class MemorySocket:
    """A bound port that exists only in the opener's set."""

    def __init__(self, opener: MemoryOpener, local: TransportAddress) -> None:
        self.opener = opener
        self.local = local

    def close(self) -> None:
        self.opener.bound.discard(self.local)


class MemoryOpener:
    """Binds in memory; `foreign` ports are taken by others, `limit` is the number of sockets allowed."""

    def __init__(self, *, limit: int = 1_000_000) -> None:
        self.bound: set[TransportAddress] = set()
        self.foreign: set[int] = set()
        self.limit = limit

    def open(self, local: TransportAddress) -> Socket:
        if local.port in self.foreign:
            raise PortTaken(str(local))
        if len(self.bound) >= self.limit:
            raise NoSocket("descriptor limit")
        assert local not in self.bound, f"{local} bound twice"
        self.bound.add(local)
        return cast(Socket, MemorySocket(self, local))

    def give_back(self, local: TransportAddress, sock: Socket) -> None:
        sock.close()


class MemoryPlane:
    """Keeps settings and lets a test write figures."""

    shards = 2

    def __init__(self) -> None:
        self.settings: dict[int, FlowSettings] = {}
        self.locals: dict[int, TransportAddress] = {}
        self.sockets: dict[int, MemorySocket] = {}
        self.counted: dict[int, FlowFigures] = {}
        self.shard: dict[int, int] = {}
        self.relearned: list[int] = []
        self.waiting: list[FlowEvent] = []
        self.rows = 1_000_000
        self._last = 0

    def room(self, shard: int) -> int:
        return self.rows - len(self.settings)

    def open(
        self,
        sock: Socket,
        local: TransportAddress,
        settings: FlowSettings,
        *,
        shard: int,
        learned: Learned | None = None,
    ) -> int:
        self._last += 1
        self.settings[self._last] = settings
        self.locals[self._last] = local
        self.sockets[self._last] = cast(MemorySocket, sock)
        self.counted[self._last] = FlowFigures(learned=learned or Learned())
        self.shard[self._last] = shard
        return self._last

    def set(self, flow: int, settings: FlowSettings, *, relearn: bool) -> None:
        assert flow in self.settings
        self.settings[flow] = settings
        if relearn:
            self.relearned.append(flow)

    def close(self, flow: int) -> FlowFigures:
        del self.settings[flow]
        del self.locals[flow]
        self.sockets.pop(flow).close()
        return self.counted.pop(flow)

    def figures(self, flow: int) -> FlowFigures:
        return self.counted[flow]

    def last_accepted(self, flows: Sequence[int]) -> float:
        return max((self.counted[flow].last_accepted for flow in flows), default=0.0)

    def received(self, flows: Sequence[int]) -> list[int]:
        return [self.counted[flow].packets_in for flow in flows]

    def sums(self, flows: Sequence[int] | None = None) -> FlowFigures:
        total = FlowFigures()
        for flow in self.counted if flows is None else flows:
            total = add_figures(total, self.counted[flow])
        return total

    def events(self) -> list[FlowEvent]:
        taken, self.waiting = self.waiting, []
        return taken

    def at(self, address: TransportAddress | None) -> FlowSettings:
        """Settings of the flow that is bound to an address."""
        assert address is not None
        return self.settings[self.flow(address)]

    def flow(self, address: TransportAddress) -> int:
        """Number of the flow that is bound to an address."""
        return next(flow for flow, local in self.locals.items() if local == address)

    def hear(self, address: TransportAddress, now: float, packets: int = 1) -> None:
        """Pretend that packets were accepted there."""
        flow = self.flow(address)
        figures = self.counted[flow]
        self.counted[flow] = replace(
            figures,
            packets_in=figures.packets_in + packets,
            bytes_in=figures.bytes_in + 172 * packets,
            last_in=now,
            last_accepted=now,
        )


def interfaces(*specs: str, low: int = 30000, high: int = 30999, quarantine: float = 5.0, seed: int = 1) -> Interfaces:
    """Named interfaces with one pool per address."""
    choose = random.Random(seed).randrange
    addresses = []
    for text in specs or ("public/203.0.113.5",):
        name, _, rest = text.partition("/")
        host, _, advertised = rest.partition("!")
        pool = PortPool(name, host, low, high, choose=choose, quarantine=quarantine)
        addresses.append(LocalAddress(name, host, advertised or host, pool))
    return Interfaces(addresses)


def engine(*specs: str, policy: Policy | None = None, low: int = 30000, high: int = 30999) -> Engine:
    """An engine over memory; its plane and opener are `engine.plane` and `engine.streams._opener`."""
    return Engine(interfaces(*specs, low=low, high=high), MemoryPlane(), MemoryOpener(), policy=policy, epoch=1e9)
