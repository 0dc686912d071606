"""What the kernel is told: whom it may answer for a while, and what their requests look like."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nattrav.net.batch import Batch
from stun.admission import Admission
from stun.fastpath import Outcome
from stun.offload.layout import CLIENT, SHAPES, Keys, clients, shape
from stun.shape import WITH_FINGERPRINT

KNOWN_FOR = 10.0
"""Seconds for which the kernel answers a client; its next request then comes to us, for records and limits."""
_CLIENTS_PER_SECOND = 20_000.0
_SHAPES_PER_SECOND = 1.0


class Kernel(Protocol):
    """The kernel's maps."""

    def answer(self, keys: Keys, values: NDArray[np.void]) -> None:
        """Answer these clients; values are `layout.CLIENT` rows."""

    def know(self, slot: int, shape: bytes) -> None:
        """Take a request's shape into one of `layout.SHAPES` slots."""


class Teacher:
    """Tells the kernel what one data thread has learned; a flood of new clients or shapes costs a bounded time."""

    def __init__(self, kernel: Kernel, admission: Admission) -> None:
        self._kernel = kernel
        self._admission = admission
        self._clients = _CLIENTS_PER_SECOND / 10
        self._shapes = float(SHAPES)
        self._now = 0.0
        self._next = 0
        self._shown: list[bytes | None] = [None] * SHAPES

    def take(self, at: int, batch: Batch, outcome: Outcome, ipv6: bool, now: float) -> None:
        """Take a batch that was answered at endpoint `at`."""
        elapsed, self._now = now - self._now, now
        self._clients = min(_CLIENTS_PER_SECOND / 10, self._clients + elapsed * _CLIENTS_PER_SECOND)
        self._shapes = min(float(SHAPES), self._shapes + elapsed * _SHAPES_PER_SECOND)
        if outcome.shape is not None and self._shapes >= 1:
            self._show(shape(outcome.shape))
        count = min(len(outcome.kinds), int(self._clients))
        if not count:
            return
        plain = (outcome.kinds[:count] & ~np.uint8(WITH_FINGERPRINT)) == 0
        if isinstance(outcome.rows, slice):
            peers = batch.peer[:count][plain]
        else:
            peers = batch.peer[outcome.rows[:count][plain]]
        if not len(peers):
            return
        self._clients -= len(peers)
        values = np.zeros(len(peers), CLIENT)
        values["until"] = int((now + KNOWN_FOR) * 1e9)
        exempt = self._admission.exempted(peers, ipv6)
        if exempt is not None:
            values["exempt"] = exempt
        self._kernel.answer(clients(peers, ipv6, at), values)

    def _show(self, row: bytes | None) -> None:
        if row is None or row in self._shown:
            return
        self._shapes -= 1
        self._shown[self._next] = row
        self._kernel.know(self._next, row)
        self._next = (self._next + 1) % SHAPES
