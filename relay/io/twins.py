"""Connected twins: a flow whose party has latched gets a second socket, connected to that party.

The kernel hands the party's datagrams to the twin and everybody else's to the flow's own socket, so nothing changes for
steering, which looks at every source as before. But what leaves by a connected socket needs no route lookup and no
address: about an eighth of a packet's whole cost. A twin is never needed: without descriptors to spare there is none,
and one that reports an error (an ICMP message, perhaps a forged one) is given up for good, so that it costs a call one
packet at most.
"""

from __future__ import annotations

from collections.abc import Mapping

from nattrav.net.options import Socket, dropped_by_kernel, get_tos, open_connected_twin, set_tos
from relay.crossbar import Crossbar
from relay.crossing import Exit
from relay.io.backend import Backend
from relay.tally import Tally

TWINS_PER_BATCH = 8
"""Twins made between two batches; each takes some 30 µs."""


class Twins:
    """`Exits` of one data thread that are twins, `limit` of them at most; `sockets` are the flows' own, by slot."""

    def __init__(
        self, backend: Backend, crossbar: Crossbar, tally: Tally, sockets: Mapping[int, Socket], limit: int
    ) -> None:
        self._backend = backend
        self._crossbar = crossbar
        self._tally = tally
        self._sockets = sockets
        self._limit = limit
        self._open: dict[int, Socket] = {}
        self._parting: dict[int, Socket] = {}
        self._overflows = 0
        tally.seek = limit > 0

    def __len__(self) -> int:
        return len(self._open)

    def holds(self, slot: int) -> bool:
        """See `Exits`."""
        return slot in self._open or slot in self._parting

    def due(self, now: float) -> bool:
        """See `Exits`."""
        backend = self._backend
        return bool(self._tally.ripe or self._crossbar.stale or backend.twins_failed or backend.twins_released)

    def tend(self, now: float) -> None:
        """See `Exits`."""
        backend, crossbar = self._backend, self._crossbar
        for slot in backend.twins_failed:
            self.fail(slot, 0)
        backend.twins_failed.clear()
        for slot in crossbar.stale:
            self._part(slot)
        crossbar.stale.clear()
        for slot in backend.twins_released:
            sock = self._parting.pop(slot)
            self._overflows += dropped_by_kernel(sock)
            sock.close()
        backend.twins_released.clear()
        ripe = self._tally.ripe
        for _ in range(min(TWINS_PER_BATCH, len(ripe))):
            self._make(ripe.pop())

    def fail(self, slot: int, code: int) -> None:
        """See `Exits`: a twin reports errors that others caused, so none is good enough to try it again."""
        self._crossbar.disown(slot, failed=True)
        self._part(slot)

    def overflows(self) -> int:
        """See `Exits`."""
        return self._overflows + sum(map(dropped_by_kernel, (*self._open.values(), *self._parting.values())))

    def renew_tos(self, slot: int) -> None:
        """See `Exits`."""
        twin = self._open.get(slot)
        if twin is not None:
            set_tos(twin, get_tos(self._sockets[slot]))

    def close(self) -> None:
        """See `Exits`."""
        for sock in (*self._open.values(), *self._parting.values()):
            sock.close()
        self._open.clear()
        self._parting.clear()

    def _make(self, slot: int) -> None:
        peer = self._crossbar.wants_exit(slot)
        if peer is None or self.holds(slot) or len(self._open) + len(self._parting) >= self._limit:
            return
        try:
            twin = open_connected_twin(self._sockets[slot], self._crossbar.flows[slot].local, peer)
        except OSError:
            # No descriptor, no route at this moment: the flow goes on as it is, and is asked again later.
            return
        self._open[slot] = twin
        self._crossbar.adopt(slot, Exit(self._backend.attach_twin(slot, twin), peer))

    def _part(self, slot: int) -> None:
        twin = self._open.pop(slot, None)
        if twin is None:
            return
        self._crossbar.disown(slot)
        self._parting[slot] = twin
        self._backend.detach_twin(slot, twin)
