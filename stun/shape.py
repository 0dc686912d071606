"""Requests alike but for transaction id and fingerprint, as one kind of client sends them, recognised by the batch."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from nattrav.net.batch import Batch
from stun.crc import distances
from stun.integrity import FINGERPRINT_XOR
from stun.message import HEADER

Rows = NDArray[np.intp]
Selection = Rows | slice
"""Rows by number, or all of the first ones: a slice costs no copy."""

WITH_FINGERPRINT = 4
"""The bit of a reply's kind that says it has a fingerprint, as its request had."""


@dataclass(frozen=True)
class Shape:
    """What decides how a modern request is answered: all of it but transaction id and FINGERPRINT's value.

    `tables` (12 * 256,) and `constant` give the fingerprint such a request must have.
    """

    length: int
    head: np.uint64
    tail: NDArray[np.uint32]
    kind: int
    tables: NDArray[np.uint32] | None
    constant: np.uint32

    @classmethod
    def of(cls, message: bytes, kind: int) -> Shape:
        end = len(message) - 4 if kind & WITH_FINGERPRINT else len(message)
        tail = np.frombuffer(message[HEADER:end], np.uint32)
        head = np.frombuffer(message[:8], np.uint64)[0]
        if not kind & WITH_FINGERPRINT:
            return cls(len(message), head, tail, kind, None, np.uint32(0))
        covered = message[: end - 4]
        tables = np.concatenate([distances()[len(covered) - 1 - (8 + i)] for i in range(12)])
        blank = covered[:8] + bytes(12) + covered[HEADER:]
        return cls(len(message), head, tail, kind, tables, np.uint32(zlib.crc32(blank) ^ FINGERPRINT_XOR))

    def fits(self, batch: Batch, rows: Rows) -> NDArray[np.bool_]:
        """Which of the rows have this shape."""
        same: NDArray[np.bool_] = batch.length[rows] == self.length
        same &= batch.data.view(np.uint64)[rows, 0] == self.head
        same &= (self._words(batch, rows) == self.tail).all(axis=1)
        return same

    def fits_all(self, batch: Batch, rows: Selection) -> bool:
        """Whether all of the rows have this shape."""
        return bool(
            (batch.length[rows] == self.length).all()
            and (batch.data.view(np.uint64)[rows, 0] == self.head).all()
            and (self._words(batch, rows) == self.tail).all()
        )

    def _words(self, batch: Batch, rows: Selection) -> NDArray[np.uint32]:
        return batch.data.view(np.uint32)[rows, HEADER >> 2 : (HEADER >> 2) + len(self.tail)]

    def right(self, batch: Batch, rows: Selection) -> NDArray[np.bool_] | None:
        """Which rows have the right FINGERPRINT; None when the shape has none."""
        if self.tables is None:
            return None
        varying = batch.data[rows, 8:HEADER]
        crc = np.bitwise_xor.reduce(self.tables.take(varying + table_offsets(12)), axis=1) ^ self.constant
        right: NDArray[np.bool_] = batch.data.view(">u4")[rows, (self.length >> 2) - 1] == crc
        return right


@cache
def table_offsets(width: int) -> NDArray[np.int32]:
    """Where the tables of `width` bytes begin in one row of tables."""
    return (np.arange(width, dtype=np.int32) * 256).astype(np.int32)
