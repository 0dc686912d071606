"""Many datagrams per system call on one socket: recvmmsg and sendmmsg through ctypes and numpy, or one by one.

`open_datagrams` picks the implementation once; both fulfil `Datagrams`. Header arrays are built once over the
batch's own memory, so a call costs no Python work per datagram.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import sys
from collections import Counter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nattrav.net.address import SOCKADDR_IN, SOCKADDR_IN6, TransportAddress, canonical
from nattrav.net.batch import Batch

MSG_DONTWAIT = 0x40
MSG_WAITFORONE = 0x10000
MSG_TRUNC = 0x20
VLEN_MAX = 1024

# struct mmsghdr of 64-bit Linux: msghdr (56 bytes), then msg_len.
HEADER_LAYOUT = np.dtype(
    {
        "names": ["name", "namelen", "iov", "iovlen", "control", "controllen", "flags", "length"],
        "formats": ["u8", "u4", "u8", "u8", "u8", "u8", "i4", "u4"],
        "offsets": [0, 8, 16, 24, 32, 40, 48, 56],
        "itemsize": 64,
    }
)
IOVEC_LAYOUT = np.dtype([("base", "u8"), ("len", "u8")])

Rows = NDArray[np.intp]


class Datagrams(Protocol):
    """Batched receive and send on one bound, non-blocking UDP socket."""

    sock: socket.socket
    send_errors: Counter[int]
    """Datagrams the kernel refused, by errno."""

    def receive(self, batch: Batch) -> int:
        """Fill the batch from slot 0 with what is waiting; return `batch.count`, 0 when nothing is."""

    def send(self, batch: Batch, rows: Rows | None = None) -> int:
        """Send slots `rows` (default: the first `batch.count`); return how many left. Refused ones are counted."""


class MmsgDatagrams:
    """`Datagrams` by recvmmsg/sendmmsg: one system call for up to 1024 datagrams."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.send_errors: Counter[int] = Counter()
        self._namelen = SOCKADDR_IN6 if sock.family == socket.AF_INET6 else SOCKADDR_IN
        self._layouts: dict[int, _Layout] = {}

    def receive(self, batch: Batch) -> int:
        layout = self._layout(batch)
        # The kernel overwrites the name lengths; sending from this batch overwrites the sizes as well.
        layout.namelen[:] = self._namelen
        layout.size[:] = batch.size
        count: int = _libc.recvmmsg(self.sock.fileno(), layout.pointer, min(batch.slots, VLEN_MAX), MSG_DONTWAIT, None)
        if count < 0:
            code = ctypes.get_errno()
            batch.count = 0
            if code in (errno.EAGAIN, errno.EINTR, errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH):
                return 0
            raise OSError(code, "recvmmsg")
        batch.count = count
        batch.length[:count] = layout.length[:count]
        batch.peer_length[:count] = layout.namelen[:count]
        batch.truncated[:count] = (layout.flags[:count] & MSG_TRUNC) != 0
        return count

    def send(self, batch: Batch, rows: Rows | None = None) -> int:
        layout = self._layout(batch)
        if rows is None:
            total = batch.count
            layout.namelen[:total] = batch.peer_length[:total]
            layout.size[:total] = batch.length[:total]
            pointer = layout.pointer
        else:
            total = len(rows)
            layout.namelen[rows] = batch.peer_length[rows]
            layout.size[rows] = batch.length[rows]
            outgoing = layout.headers[rows]
            pointer = outgoing.ctypes.data
        sent = position = 0
        asked_again = -1
        while position < total:
            done = _libc.sendmmsg(
                self.sock.fileno(),
                pointer + position * HEADER_LAYOUT.itemsize,
                min(total - position, VLEN_MAX),
                MSG_DONTWAIT,
            )
            if done > 0:
                sent += done
                position += done
                continue
            code = ctypes.get_errno()
            if code == errno.EINTR:
                continue
            if code == errno.ECONNREFUSED and asked_again != position:
                # ICMP's answer to an earlier datagram, told to whoever sends next; it says nothing about this one.
                asked_again = position
                continue
            if code in (errno.EAGAIN, errno.ENOBUFS):
                self.send_errors[code] += total - position
                break
            # sendmmsg stops at the first datagram the kernel refuses: that one is lost, the rest goes on.
            self.send_errors[code] += 1
            position += 1
        return sent

    def _layout(self, batch: Batch) -> _Layout:
        layout = self._layouts.get(id(batch))
        if layout is None or layout.batch is not batch:
            layout = self._layouts[id(batch)] = _Layout(batch)
        return layout


class _Layout:
    """The kernel's headers over one batch's memory."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.iovecs = np.zeros(batch.slots, IOVEC_LAYOUT)
        self.iovecs["base"] = batch.data.ctypes.data + np.arange(batch.slots, dtype=np.uint64) * batch.data.strides[0]
        self.headers = np.zeros(batch.slots, HEADER_LAYOUT)
        self.headers["name"] = batch.peer.ctypes.data + np.arange(batch.slots, dtype=np.uint64) * batch.peer.strides[0]
        self.headers["iov"] = self.iovecs.ctypes.data + np.arange(batch.slots, dtype=np.uint64) * self.iovecs.strides[0]
        self.headers["iovlen"] = 1
        self.pointer: int = self.headers.ctypes.data
        # Looking a field up by name costs more than using it on a small batch.
        self.namelen = self.headers["namelen"]
        self.length = self.headers["length"]
        self.flags = self.headers["flags"]
        self.size = self.iovecs["len"]


class PortableDatagrams:
    """`Datagrams` by recvfrom/sendto, for systems without recvmmsg."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.send_errors: Counter[int] = Counter()

    def receive(self, batch: Batch) -> int:
        count = 0
        while count < batch.slots:
            try:
                size, _, flags, name = self.sock.recvmsg_into([batch.data[count]], 0, 0)
            except (BlockingIOError, InterruptedError, ConnectionRefusedError):
                break
            batch.put_peer(count, TransportAddress(canonical(name[0]), name[1]))
            batch.length[count] = size
            batch.truncated[count] = bool(flags & MSG_TRUNC)
            count += 1
        batch.count = count
        return count

    def send(self, batch: Batch, rows: Rows | None = None) -> int:
        sent = 0
        for slot in range(batch.count) if rows is None else rows.tolist():
            try:
                self.sock.sendto(batch.payload(slot), batch.peer_address(slot))
            except OSError as error:
                self.send_errors[error.errno or 0] += 1
            else:
                sent += 1
        return sent


def _load() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux") or ctypes.sizeof(ctypes.c_void_p) != 8:
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "recvmmsg"):
        return None
    libc.recvmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p]
    libc.sendmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int]
    return libc


_found = _load()
_libc = _found if _found is not None else ctypes.CDLL(None)


def open_datagrams(sock: socket.socket, *, portable: bool = False) -> Datagrams:
    """Pick the batched implementation where this system has it, else the portable one."""
    if portable or _found is None:
        return PortableDatagrams(sock)
    return MmsgDatagrams(sock)
