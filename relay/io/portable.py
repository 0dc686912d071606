"""The portable backend: epoll tells which sockets have datagrams, recvmmsg empties each, sends go one by one."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import time

import numpy as np
from numpy.typing import NDArray

from nattrav.net.frames import HEADER, NAME, PAYLOAD, Frames
from nattrav.net.headers import refit
from nattrav.net.mmsg import HEADER_LAYOUT, IOVEC_LAYOUT
from nattrav.net.options import Socket
from nattrav.net.uring import SQE
from relay.flows import FlowTable
from relay.io.backend import NOTHING, Arrivals
from relay.steer import Departures, Lengths, Rows

FRAMES = 2048
PER_SOCKET = 32
_EVENTS = 512
_FEW = 32
_MSG_DONTWAIT = 0x40

_libc = ctypes.CDLL(None, use_errno=True)
_recvmmsg = _libc.recvmmsg
_recvmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p]
_sendto = _libc.sendto
_sendto.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint]
_sendto.restype = ctypes.c_ssize_t


class PortableBackend:
    """`Backend` on epoll. `coalesce` seconds are slept between small batches while packets flow."""

    name = "portable"

    def __init__(self, table: FlowTable, wake_fd: int, *, coalesce: float, frames: int = FRAMES) -> None:
        self._table = table
        self._wake_fd = wake_fd
        self._coalesce = coalesce
        self.released: list[int] = []
        self.failures: list[tuple[int, int]] = []
        self.exhausted = 0
        self.rearmed = 0
        self.twins_released: list[int] = []
        self.twins_failed: list[int] = []
        self.misfits: list[tuple[Rows, Lengths]] = []
        self._twins: set[int] = set()
        """Descriptors of twins."""
        self.frames = Frames(frames)
        self._epoll = select.epoll()
        self._epoll.register(wake_fd, select.EPOLLIN)
        self._slot_of: dict[int, int] = {}
        self._iovecs = np.zeros(frames, IOVEC_LAYOUT)
        self._iovecs["base"] = self.frames.address
        self._iovecs["len"] = self.frames.room
        self._headers = np.zeros(frames, HEADER_LAYOUT)
        self._headers["name"] = self.frames.base + np.uint64(HEADER)
        self._headers["namelen"] = NAME
        self._headers["iov"] = self._iovecs.ctypes.data + np.arange(frames, dtype=np.uint64) * np.uint64(16)
        self._headers["iovlen"] = 1
        self._pointer = self._headers.ctypes.data
        self._used = 0
        self._last = 0

    def file(self, slot: int, sock: Socket) -> int:
        """See `Backend`."""
        return sock.fileno()

    def attach(self, slot: int, sock: Socket) -> None:
        """See `Backend`."""
        fd = sock.fileno()
        self._slot_of[fd] = slot
        self._epoll.register(fd, select.EPOLLIN)

    def detach(self, slot: int, sock: Socket) -> None:
        """See `Backend`."""
        fd = sock.fileno()
        self._epoll.unregister(fd)
        del self._slot_of[fd]
        self.released.append(slot)

    def attach_twin(self, slot: int, twin: Socket) -> int:
        """See `Backend`."""
        fd = twin.fileno()
        self._twins.add(fd)
        self.attach(slot, twin)
        return fd

    def detach_twin(self, slot: int, twin: Socket) -> None:
        """See `Backend`."""
        fd = twin.fileno()
        self._twins.discard(fd)
        self._epoll.unregister(fd)
        del self._slot_of[fd]
        self.twins_released.append(slot)

    def attach_sender(self, sock: Socket) -> int:
        """See `Backend`."""
        return sock.fileno()

    def detach_sender(self, file: int) -> None:
        """See `Backend`."""

    def exchange(self, departures: Departures | None, timeout: float | None) -> Arrivals:
        """See `Backend`."""
        if departures is not None and len(departures.routes):
            self._send(departures)
        if 0 < self._last < _FEW and self._coalesce > 0:
            time.sleep(self._coalesce)
        ready = self._epoll.poll(timeout, _EVENTS)
        return self._receive([fd for fd, _ in ready])

    def wake(self) -> None:
        """See `Backend`."""
        os.eventfd_write(self._wake_fd, 1)

    def close(self) -> None:
        """See `Backend`."""
        self._epoll.close()

    def _send(self, departures: Departures) -> None:
        rows = self._table.routes[departures.routes]
        if self._table.framed:
            self._put_headers(departures, rows)
        # What a route says of the length comes before the payload.
        starts = departures.frames * self.frames.stride + PAYLOAD
        ends = starts + departures.lengths
        starts -= rows["len"]
        memory, base = self.frames.memory, int(self.frames.base[0])
        for route, fd, target, size, start, end in zip(
            departures.routes.tolist(),
            rows["fd"].tolist(),
            rows["addr2"].tolist(),
            rows["addr_len"].tolist(),
            starts.tolist(),
            ends.tolist(),
            strict=True,
        ):
            if target == 0 and start < end:
                # A twin and a whole frame need no address, and writing costs a third of a call through ctypes.
                try:
                    os.write(fd, memory[start:end])
                except OSError as error:
                    self.failures.append((route, error.errno or 0))
            elif _sendto(fd, base + start, end - start, _MSG_DONTWAIT, target, size) < 0:
                self.failures.append((route, ctypes.get_errno()))

    def _put_headers(self, departures: Departures, rows: NDArray[np.void]) -> None:
        table, (routes, frames, lengths) = self._table, departures
        headers = table.headers[routes]
        fitted, long = refit(headers, lengths)
        if len(fitted) and not self.misfits:
            self.misfits.append((routes[fitted], lengths[fitted]))
        if len(long):
            rows[long] = table.by_socket(routes[long]).view(SQE)[:, 0]
        self.frames.before[frames] = headers

    def _receive(self, ready: list[int]) -> Arrivals:
        if self._used:
            self._headers["namelen"][: self._used] = NAME
        position, total = 0, self.frames.count
        slots: list[int] = []
        counts: list[int] = []
        for fd in ready:
            if fd == self._wake_fd:
                self._drain_wake()
                continue
            if position == total:
                break
            count = _recvmmsg(fd, self._pointer + position * 64, min(PER_SOCKET, total - position), _MSG_DONTWAIT, None)
            if count > 0:
                slots.append(self._slot_of[fd])
                counts.append(count)
                position += count
            elif count < 0:
                self._failed(fd, ctypes.get_errno())
        self._used = self._last = position
        if position == 0:
            return NOTHING
        lengths = self._headers["length"][:position].astype(np.int32)
        return Arrivals(np.repeat(np.array(slots), counts), np.arange(position), lengths)

    def _failed(self, fd: int, code: int) -> None:
        if code == errno.EBADF:
            raise OSError(errno.EBADF, "recvmmsg")
        if fd in self._twins and code != errno.EAGAIN:
            self.twins_failed.append(self._slot_of[fd])

    def _drain_wake(self) -> None:
        try:
            os.eventfd_read(self._wake_fd)
        except BlockingIOError:
            return
