"""The io_uring backend: every socket has a multishot receive armed, all of them complete into one queue.

One `enter` submits the sends of the last batch and waits for the next. Frames go back to the kernel once their sends
are submitted, for a UDP send copies its payload during submission.
"""

from __future__ import annotations

import errno
import os

import numpy as np
from numpy.typing import NDArray

from nattrav.net.frames import HEADER, NAME, PAYLOAD, Frames
from nattrav.net.headers import lengths_of, refit
from nattrav.net.options import Socket
from nattrav.net.uring import (
    CQE_BUFFER,
    CQE_MORE,
    FEATURE_MIN_TIMEOUT,
    OP_ASYNC_CANCEL,
    OP_POLL_ADD,
    OP_RECVMSG,
    POLL_MULTI,
    RECV_MULTISHOT,
    SQE_BUFFER_SELECT,
    SQE_FIXED_FILE,
    SQE_WORDS,
    BufferRing,
    Ring,
)
from relay.flows import SENT, FlowTable
from relay.io.backend import NOTHING, Arrivals
from relay.steer import Departures, Lengths, Rows

# A receive's user_data is its slot, with this bit set on a slot's twin.
_TWIN = 1 << 32
_SLOT = _TWIN - 1
_RECEIVED_MAX = 1 << 33
# A datagram's completion, as 16-bit quarters: it names a frame, and the receive stays armed. Only receives name one.
_FLAGS, _FRAME = 6, 7
_USUAL = np.uint16(CQE_BUFFER | CQE_MORE)
_OVERHEAD = np.int32(PAYLOAD)
_WAKE = 1 << 41
_CANCELLED = 1 << 42
_POLLIN = 1
_CROWD = 768
_FEW_SOCKETS = 32

SUBMISSIONS = 4096
COMPLETIONS = 16384
FRAMES = 4096


class UringBackend:
    """`Backend` on one ring. Make it in the data thread.

    `coalesce` is how long (seconds) a wait may last for `company` datagrams to come together once one is there.
    """

    name = "io_uring"

    def __init__(
        self,
        table: FlowTable,
        wake_fd: int,
        *,
        coalesce: float,
        files: int,
        twins: int = 0,
        senders: int = 0,
        company: int = 256,
        frames: int = FRAMES,
    ) -> None:
        self._table = table
        self._wake_fd = wake_fd
        self._coalesce = coalesce
        self._company = company
        self.released: list[int] = []
        self.failures: list[tuple[int, int]] = []
        self.twins_released: list[int] = []
        self.twins_failed: list[int] = []
        self.misfits: list[tuple[Rows, Lengths]] = []
        self.exhausted = 0
        """Times the kernel found no free frame."""
        self.rearmed = 0
        self.frames = Frames(frames)
        self._ring = Ring(SUBMISSIONS, COMPLETIONS)
        try:
            self._ring.register_files(files + twins + senders)
            self._buffers = BufferRing(self._ring, self.frames.base, self.frames.stride, 0)
        except BaseException:
            self._ring.close()
            raise
        self._patient = bool(self._ring.features & FEATURE_MIN_TIMEOUT)
        self._busy = False
        self._wanted = company
        # struct msghdr, of which a multishot receive reads only the lengths of name and control data.
        self._message = np.zeros(7, np.uint64)
        self._message[1] = NAME
        template = np.zeros(1, self._ring.sqes.dtype)
        template["opcode"] = OP_RECVMSG
        template["flags"] = SQE_FIXED_FILE | SQE_BUFFER_SELECT
        template["ioprio"] = RECV_MULTISHOT
        template["addr"] = self._message.ctypes.data
        template["len"] = 1
        self._receive = template.view(np.uint64).reshape(SQE_WORDS).copy()
        self._closing: set[int] = set()
        """Tags of receives that are to end."""
        self._spare_files = list(range(files + twins - 1, files - 1, -1))
        self._sender_files = list(range(files + twins, files + twins + senders))
        self._twin_files: dict[int, int] = {}
        self._ended_twins: set[int] = set()
        """Slots whose twin's receive ended by itself."""
        self._spent: Rows = np.empty(0, np.intp)
        self._watch()

    def file(self, slot: int, sock: Socket) -> int:
        """See `Backend`."""
        return slot

    def attach(self, slot: int, sock: Socket) -> None:
        """See `Backend`."""
        self._ring.update_file(slot, sock.fileno())
        self._arm([slot])

    def detach(self, slot: int, sock: Socket) -> None:
        """See `Backend`."""
        self._cancel(slot)

    def attach_twin(self, slot: int, twin: Socket) -> int:
        """See `Backend`."""
        file = self._twin_files[slot] = self._spare_files.pop()
        self._ring.update_file(file, twin.fileno())
        self._arm([slot | _TWIN])
        return file

    def detach_twin(self, slot: int, twin: Socket) -> None:
        """See `Backend`."""
        if slot in self._ended_twins:
            self._release(slot | _TWIN)
        else:
            self._cancel(slot | _TWIN)

    def attach_sender(self, sock: Socket) -> int:
        """See `Backend`."""
        file = self._sender_files.pop()
        self._ring.update_file(file, sock.fileno())
        return file

    def detach_sender(self, file: int) -> None:
        """See `Backend`."""
        self._ring.update_file(file, -1)
        self._sender_files.append(file)

    def _cancel(self, tag: int) -> None:
        self._closing.add(tag)
        entry = self._ring.entry()
        entry["opcode"] = OP_ASYNC_CANCEL
        entry["addr"] = tag
        entry["user_data"] = _CANCELLED | tag

    def exchange(self, departures: Departures | None, timeout: float | None) -> Arrivals:
        """See `Backend`."""
        if departures is not None and len(departures.routes):
            self._send(departures)
        spent = self._spent
        if len(spent) * 4 > self.frames.count:
            # So many frames are out that waiting without them could run dry.
            self._ring.enter()
            self._buffers.recycle(spent)
            spent = NOTHING.frames
        self._enter(timeout)
        if len(spent):
            self._buffers.recycle(spent)
        return self._reap()

    def wake(self) -> None:
        """See `Backend`."""
        os.eventfd_write(self._wake_fd, 1)

    def close(self) -> None:
        """See `Backend`."""
        self._ring.cancel_all()
        self._ring.close()

    def _enter(self, timeout: float | None) -> None:
        if self._coalesce <= 0:
            self._ring.enter(1, timeout=timeout)
        elif self._patient:
            self._ring.enter(self._wanted, min_wait=self._coalesce, timeout=timeout)
        elif self._busy:
            bound = self._coalesce if timeout is None else min(timeout, self._coalesce)
            self._ring.enter(self._wanted, timeout=bound)
        else:
            self._ring.enter(1, timeout=timeout)

    def _send(self, departures: Departures) -> None:
        ring = self._ring
        routes, lengths = departures.routes, departures.lengths
        addresses = self.frames.address[departures.frames]
        done = 0
        while done < len(routes):
            room = ring.entries - ring.pending
            if room == 0:
                ring.enter()
                room = ring.entries - ring.pending
            for start, stop in ring.spans(min(room, len(routes) - done)):
                part = slice(done, done + stop - start)
                self._table.route_words.take(routes[part], axis=0, out=ring.sqe_words[start:stop], mode="clip")
                # A route says how far before its payload, and how much longer than it, a packet is.
                ring.sqe_words[start:stop, 2] += addresses[part]
                ring.sqe_halves[start:stop, 6] += lengths[part].view(np.uint32)
                if self._table.framed:
                    # After the routes, for what they say is true of headers from then on.
                    self._put_headers(routes[part], departures.frames[part], lengths[part], start)
                done = part.stop

    def _put_headers(self, routes: Rows, frames: Rows, lengths: Lengths, start: int) -> None:
        table = self._table
        rows = table.headers.take(routes, mode="clip")
        if np.count_nonzero(lengths_of(rows) == lengths) < len(rows):
            fitted, long = refit(rows, lengths)
            if len(fitted) and not self.misfits:
                self.misfits.append((routes[fitted], lengths[fitted]))
            if len(long):
                words = table.by_socket(routes[long])
                words[:, 2] = self.frames.address[frames[long]]
                words.view(np.uint32)[:, 6] = lengths[long]
                self._ring.sqe_words[start + long] = words
        self.frames.before[frames] = rows

    def _reap(self) -> Arrivals:
        ring = self._ring
        completed = ring.completed()
        count = len(completed)
        self._busy = count > 0
        # The kernel serves as many sockets per wait as completions are asked for, and takes up to 32 datagrams from
        # each: under overload fewer sockets at a time keep the batch within the frames and the processor's cache.
        self._wanted = self._company if count < _CROWD else _FEW_SOCKETS
        self._spent = NOTHING.frames
        if count == 0:
            return NOTHING
        # Row: user_data, then result (low half) and flags (high half; of these the upper half is the frame).
        quarters = completed.view(np.uint16)
        usual = quarters[:, _FLAGS] == _USUAL
        if np.count_nonzero(usual) < count:
            completed = completed[self._exceptions(completed, usual)]
            quarters = completed.view(np.uint16)
        halves = completed.view(np.int32)
        slots = halves[:, 0].astype(np.intp)
        frames = quarters[:, _FRAME].astype(np.intp)
        lengths = halves[:, 2] - _OVERHEAD
        ring.seen(count)
        self._spent = frames
        return Arrivals(slots, frames, lengths) if len(slots) else NOTHING

    def _exceptions(self, completed: NDArray[np.uint64], usual: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Deal with completions that are no plain datagram; give the mask of those that carry one."""
        carrying = usual.copy()
        again: list[int] = []
        for index in np.flatnonzero(~usual).tolist():
            tag, word = completed[index].tolist()
            result, flag = (word & 0xFFFFFFFF ^ 1 << 31) - (1 << 31), word >> 32
            if tag < _RECEIVED_MAX:
                if result >= 0 and flag & CQE_BUFFER:
                    carrying[index] = True
                if not flag & CQE_MORE:
                    self._ended(tag, result, again)
            elif tag & _WAKE:
                self._drain_wake()
                if not flag & CQE_MORE:
                    self._watch()
            elif tag & _CANCELLED:
                self._cancelled(tag & ~_CANCELLED, result)
            elif tag & SENT and result < 0:
                self.failures.append((tag & SENT - 1, -result))
        if again:
            self._arm(again)
        return carrying

    def _ended(self, tag: int, result: int, again: list[int]) -> None:
        if tag in self._closing:
            self._release(tag)
            return
        if result == -errno.ENOBUFS:
            self.exhausted += 1
        elif result < 0 and tag & _TWIN:
            self._ended_twins.add(tag & _SLOT)
            self.twins_failed.append(tag & _SLOT)
            return
        self.rearmed += 1
        again.append(tag)

    def _cancelled(self, tag: int, result: int) -> None:
        # ENOENT: the receive had ended by itself, and `_ended` saw the flow not closing yet and armed it again,
        # or its end is reported before this; only a flow that still waits is asked again.
        if result == -errno.ENOENT and tag in self._closing:
            self._release(tag)

    def _release(self, tag: int) -> None:
        self._closing.discard(tag)
        slot = tag & _SLOT
        if tag & _TWIN:
            file = self._twin_files.pop(slot)
            self._ended_twins.discard(slot)
            self._spare_files.append(file)
            self.twins_released.append(slot)
        else:
            file = slot
            self.released.append(slot)
        self._ring.update_file(file, -1)

    def _arm(self, tags: list[int]) -> None:
        ring = self._ring
        files = [self._twin_files[tag & _SLOT] if tag & _TWIN else tag for tag in tags]
        done = 0
        while done < len(tags):
            if ring.pending >= ring.entries:
                ring.enter()
            for start, stop in ring.spans(min(ring.entries - ring.pending, len(tags) - done)):
                part = slice(done, done + stop - start)
                ring.sqe_words[start:stop] = self._receive
                ring.sqes["fd"][start:stop] = files[part]
                ring.sqes["user_data"][start:stop] = tags[part]
                done = part.stop

    def _watch(self) -> None:
        entry = self._ring.entry()
        entry["opcode"] = OP_POLL_ADD
        entry["fd"] = self._wake_fd
        entry["len"] = POLL_MULTI
        entry["op_flags"] = _POLLIN
        entry["user_data"] = _WAKE

    def _drain_wake(self) -> None:
        try:
            os.eventfd_read(self._wake_fd)
        except BlockingIOError:
            return


assert HEADER + NAME == PAYLOAD
