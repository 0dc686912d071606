"""CRC-32 of many messages at once, without a loop over bytes.

CRC-32 is affine over GF(2): for messages of one length, crc(m) = crc(zeros) ^ XOR_i T[d_i][m_i], where d_i is how many
bytes follow byte i and T[d][b] = crc(b then d zeros) ^ crc(d + 1 zeros). One gather and one reduction do a batch.
"""

from __future__ import annotations

import zlib
from functools import cache

import numpy as np
from numpy.typing import NDArray

LENGTH_MAX = 512
"""Longest message the tables serve."""

Table = NDArray[np.uint32]


@cache
def distances() -> Table:
    """T[d][b] for d below `LENGTH_MAX`: (LENGTH_MAX, 256)."""
    step = np.array([zlib.crc32(bytes([b])) ^ zlib.crc32(b"\0") for b in range(256)], np.uint32)
    table = np.empty((LENGTH_MAX, 256), np.uint32)
    row = step
    for distance in range(LENGTH_MAX):
        table[distance] = row
        row = (row >> np.uint32(8)) ^ step[row & np.uint32(0xFF)]
    return table


@cache
def _offsets(length: int) -> NDArray[np.int32]:
    return (np.arange(length - 1, -1, -1, dtype=np.int32) * 256).astype(np.int32)


@cache
def _of_zeros(length: int) -> np.uint32:
    return np.uint32(zlib.crc32(bytes(length)))


def crc32_rows(rows: NDArray[np.uint8]) -> Table:
    """CRC-32 of each row of (n, length) bytes; length is at most `LENGTH_MAX`."""
    length = rows.shape[1]
    gathered = distances().ravel().take(rows + _offsets(length))
    result: Table = np.bitwise_xor.reduce(gathered, axis=1)
    return result ^ _of_zeros(length)
