"""The UDP server: data threads that receive, answer and send whole batches.

Every thread opens every endpoint with SO_REUSEPORT, so that the kernel spreads clients over threads and a reply to
CHANGE-REQUEST leaves through the thread's own other socket. Python runs only on whole batches; the rest of a thread's
time is spent in system calls, which release the GIL.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np

from nattrav.net.address import TransportAddress
from nattrav.net.batch import Batch
from nattrav.net.bpf.programs import Mode
from nattrav.net.bpf.sharing import Company
from nattrav.net.clock import monotonic, wall
from nattrav.net.mmsg import Datagrams, open_datagrams
from nattrav.net.options import (
    IP_MTU_DISCOVER,
    IP_PMTUDISC_DONT,
    Take,
    dropped_by_kernel,
    force_receive_buffer,
    nothing_waits,
    open_udp,
)
from nattrav.net.ring_sends import RingSends
from nattrav.net.uring import Unavailable
from stun.admission import Admission, Limits
from stun.behavior import Endpoint, primary
from stun.counters import Counters
from stun.fastpath import FastPath, Outcome, Segment
from stun.observation import Notebook
from stun.offload.io.loader import OffloadRefused, XdpAnswers, open_xdp
from stun.offload.teaching import Teacher
from stun.responder import Answer, DropReason, Responder, Transport

# An odd number of cache lines per slot keeps the first lines of all slots from sharing a few sets of the cache.
_REQUEST_SIZE = 27 * 64
_REPLY_SIZE = 5 * 64
_SLOTS = 512

_COALESCE = 0.00095
"""How long a thread lets datagrams gather; with the timer's slack that is a millisecond."""
_COALESCE_FROM = 1500.0
"""Requests per second from which on gathering saves more than it delays."""
_FULL_ENOUGH = 192
"""A batch of this size has nothing to gain from waiting."""
_RATE_WINDOW = 0.05
_SLOW_PER_SECOND = 10_000
"""Requests the responder may answer per thread while plain ones have the fast path: bounds a flood of odd ones."""
_STOP_CHECK = 1.0
_RECEIVE_BUFFER = 8 << 20
_NEVER_FRAGMENTED = 548
_IP_PMTUDISC_PROBE = 3


class UdpServer:
    """All endpoints on UDP, served by `threads` data threads."""

    def __init__(
        self,
        responder: Responder,
        limits: Limits,
        *,
        threads: int = 1,
        portable: bool = False,
        vectorised: bool = True,
        observe: bool = False,
        take: Take = nothing_waits,
    ) -> None:
        """`observe`: threads keep notes of the requests they answer; somebody must read them.

        `take` gives sockets that are bound already.
        """
        self._take = take
        self._observe = observe
        self.responder = responder
        self.admission = Admission(limits, [secrets.randbits(64) | 1 for _ in range(2)])
        self.lock = threading.Lock()
        """Held while `admission` is used."""
        self._portable = portable
        self._vectorised = vectorised
        self._count = threads
        self._threads: list[DataThread] = []
        self.kernel: XdpAnswers | None = None
        self.endpoints: tuple[Endpoint, ...] = responder.endpoints

    def open(self) -> None:
        """Bind every endpoint once per thread. Raises OSError with `filename` naming the address that is taken."""
        try:
            if self._count > 1 and self._take is nothing_waits:
                # SO_REUSEPORT would let a second server of the same user share our ports unnoticed.
                self._refuse_company()
            for number in range(self._count):
                sockets = [self._open_one(e.local) for e in self.endpoints]
                notebook = Notebook(primary(self.endpoints)) if self._observe else None
                self._threads.append(
                    DataThread(
                        number,
                        self.responder,
                        sockets,
                        self.admission,
                        self.lock,
                        self._portable,
                        self._vectorised,
                        notebook,
                    )
                )
        except BaseException:
            self.close()
            raise

    def _open_one(self, local: TransportAddress) -> socket.socket:
        waiting = self._take(socket.SOCK_DGRAM, local)
        try:
            sock = waiting or open_udp(local, send_buffer=4 << 20, reuse_port=self._count > 1)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(local)) from error
        force_receive_buffer(sock, _RECEIVE_BUFFER)
        _forbid_fragments(sock, True)
        return sock

    def _refuse_company(self) -> None:
        for endpoint in self.endpoints:
            try:
                open_udp(endpoint.local).close()
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(endpoint.local)) from error

    def follow(self, responder: Responder, limits: Limits) -> None:
        """Answer by another responder of the same endpoints, and other limits, from the next batch on."""
        self.responder = responder
        with self.lock:
            self.admission.follow(limits)
        for thread in self._threads:
            thread.follow(responder)
        if self.kernel is not None:
            self._teach(self.kernel, FastPath(responder, _REPLY_SIZE), limits)

    def _teach(self, kernel: XdpAnswers, fast: FastPath, limits: Limits) -> None:
        """Have the kernel follow; what it cannot, it leaves to the threads from now on."""
        able = True
        try:
            kernel.follow(fast, limits)
        except OffloadRefused:
            able = False
        for thread in self._threads:
            thread.teacher = Teacher(kernel, self.admission) if able else None

    def offload(
        self, *, interfaces: Sequence[str] = (), mode: Mode | None = None, company: Company | None = None
    ) -> None:
        """Have the kernel answer clients that come back, before `start`. OffloadRefused when it cannot."""
        fast = FastPath(self.responder, _REPLY_SIZE)
        self.kernel = open_xdp(fast, self.admission.limits, interfaces=interfaces, mode=mode, company=company)
        for thread in self._threads:
            thread.teacher = Teacher(self.kernel, self.admission)

    def start(self) -> None:
        """Start the data threads."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop the data threads and close the sockets."""
        for thread in self._threads:
            thread.stop()
        self._threads.clear()
        if self.kernel is not None:
            self.kernel.close()
            self.kernel = None

    def descriptors(self) -> list[int]:
        """The descriptors of every thread's sockets."""
        return [number for thread in self._threads for number in thread.descriptors()]

    @property
    def data_threads(self) -> Sequence[DataThread]:
        """The running threads, for counters and CPU times."""
        return self._threads

    def failure(self) -> BaseException | None:
        """What ended a data thread that should be running, if any."""
        return next((thread.failure for thread in self._threads if thread.failure is not None), None)

    def counters(self) -> Counters:
        """Sum of all threads and of the kernel."""
        kernel = [] if self.kernel is None else [self.kernel.counters()]
        return Counters.total([*(thread.counters for thread in self._threads), *kernel])

    def send_errors(self) -> Counter[int]:
        """Datagrams the kernel refused, by errno."""
        return sum((thread.send_errors() for thread in self._threads), Counter())

    def overflows(self) -> int:
        """Datagrams the kernel dropped because nobody fetched them in time."""
        return sum(thread.overflows() for thread in self._threads)


def _forbid_fragments(sock: socket.socket, forbid: bool) -> None:
    """Set DF on what is sent: datagrams that are never fragmented need no IP identification, which is dear to pick.

    Replies with PADDING are to be fragmented where the path is narrow, so they are sent without it.
    """
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE if forbid else IP_PMTUDISC_DONT)


def _ring_for(batch: Batch) -> RingSends | None:
    """Have sends go through io_uring where this kernel allows it: they cost a tenth less there."""
    try:
        return RingSends(batch)
    except Unavailable:
        return None


class DataThread:
    """One thread with its own socket on every endpoint."""

    def __init__(
        self,
        number: int,
        responder: Responder,
        sockets: Sequence[socket.socket],
        admission: Admission,
        lock: threading.Lock,
        portable: bool = False,
        vectorised: bool = True,
        notebook: Notebook | None = None,
    ) -> None:
        self.notebook = notebook
        self.teacher: Teacher | None = None
        self.number = number
        self.counters = Counters()
        self._admission = admission
        self._lock = lock
        self._vectorised = vectorised
        self.follow(responder)
        self._datagrams: list[Datagrams] = [open_datagrams(s, portable=portable) for s in sockets]
        self._ipv6 = [s.family == socket.AF_INET6 for s in sockets]
        self._batch = Batch(_SLOTS, _REQUEST_SIZE)
        self._out = Batch(_SLOTS, _REPLY_SIZE)
        self._slow_out = Batch(_SLOTS, _REQUEST_SIZE)
        self._portable = portable
        self._ring: RingSends | None = None
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stopping = False
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._guarded_run, name=f"stun-{number}", daemon=True)
        self._slow_budget = float(_SLOW_PER_SECOND)
        self._slow_stamp = 0.0
        self._rate = 0.0
        self._window_count = 0
        self._window_start = 0.0
        self._last_size = 0

    def follow(self, responder: Responder) -> None:
        """Answer by this responder; any thread may call it, for each name is replaced at once."""
        fast = FastPath(responder, _REPLY_SIZE)
        fast.enabled &= self._vectorised
        self._responder, self._fast = responder, fast

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the batch in hand, then close the sockets."""
        self._stopping = True
        os.eventfd_write(self._wake, 1)
        if self._thread.is_alive():
            self._thread.join()
        for datagrams in self._datagrams:
            datagrams.sock.close()
        if self._wake >= 0:
            os.close(self._wake)
            self._wake = -1

    def descriptors(self) -> list[int]:
        """The descriptors of this thread's sockets, one an endpoint."""
        return [datagrams.sock.fileno() for datagrams in self._datagrams]

    def cpu_seconds(self) -> float:
        """CPU time this thread has used; 0 before it runs."""
        if not self._thread.is_alive() or self._thread.ident is None:
            return 0.0
        with contextlib.suppress(OSError):
            return time.clock_gettime(time.pthread_getcpuclockid(self._thread.ident))
        return 0.0

    def send_errors(self) -> Counter[int]:
        """Datagrams the kernel refused, by errno."""
        return sum((d.send_errors for d in self._datagrams), Counter())

    def overflows(self) -> int:
        """Datagrams the kernel dropped at these sockets (SO_MEMINFO)."""
        return sum(dropped_by_kernel(datagrams.sock) for datagrams in self._datagrams)

    def _guarded_run(self) -> None:
        """Keep what killed the thread, for whoever watches it."""
        try:
            self._run()
        except BaseException as failure:
            self.failure = failure

    def _run(self) -> None:
        self._ring = None if self._portable else _ring_for(self._out)
        poller = select.epoll()
        places = {d.sock.fileno(): place for place, d in enumerate(self._datagrams)}
        for descriptor in (*places, self._wake):
            poller.register(descriptor, select.EPOLLIN)
        self._window_start = monotonic()
        while not self._stopping:
            ready = poller.poll(_STOP_CHECK)
            if self._rate > _COALESCE_FROM and self._last_size < _FULL_ENOUGH:
                time.sleep(_COALESCE)
            self._last_size = 0
            for descriptor, _ in ready:
                if descriptor != self._wake:
                    self._last_size = max(self._last_size, self._serve(places[descriptor]))
            self._measure(monotonic())
        poller.close()
        if self._ring is not None:
            self._ring.close()

    def _measure(self, now: float) -> None:
        elapsed = now - self._window_start
        if elapsed >= _RATE_WINDOW:
            self._rate = self._window_count / elapsed
            self._window_count = 0
            self._window_start = now

    def _serve(self, at: int) -> int:
        batch = self._batch
        try:
            count = self._datagrams[at].receive(batch)
        except OSError as error:
            # A socket error that belongs to some earlier datagram: reported once, then cleared by the kernel.
            self._datagrams[at].send_errors[error.errno or errno.EIO] += 1
            return 0
        if not count:
            return 0
        self._window_count += count
        self.counters.count_batch(count)
        now = monotonic()
        ipv6 = self._ipv6[at]
        with self._lock:
            mask = self._admission.admit(batch.peer[:count], ipv6, now)
        rows = None
        if mask is not None:
            rows = np.flatnonzero(mask)
            self.counters.count_drop(DropReason.RATE_LIMITED, count - len(rows))
        outcome = self._fast.answer(at, batch, self._out, rows)
        self._send_fast(outcome, ipv6)
        if self.notebook is not None and outcome.answered:
            rows = np.arange(count) if isinstance(outcome.rows, slice) else outcome.rows
            self.notebook.write(now, at, batch, rows, outcome.kinds, plain=outcome.plain)
        if self.teacher is not None:
            self.teacher.take(at, batch, outcome, ipv6, now)
        if len(outcome.slow):
            self._answer_slowly(at, outcome, ipv6, now)
        return count

    def _send_fast(self, outcome: Outcome, ipv6: bool) -> None:
        counters = self.counters
        for reason, number in outcome.drops:
            counters.count_drop(reason, number)
        if not outcome.answered:
            return
        counters.count_requests(Transport.UDP, ipv6, outcome.answered)
        counters.count_answers(Transport.UDP, 0, outcome.answered, outcome.bytes_in, outcome.bytes_out)
        for flags, number in outcome.changes:
            counters.count_change(flags, number)
        for segment in outcome.segments:
            self._send(segment)

    def _send(self, segment: Segment) -> None:
        datagrams = self._datagrams[segment.at]
        if self._ring is not None:
            try:
                self._ring.send(datagrams.sock, segment.start, segment.stop, datagrams.send_errors)
            except Unavailable:
                self._ring.close()
                self._ring = None
            return
        whole = (segment.start, segment.stop) == (0, self._out.count)
        datagrams.send(self._out, None if whole else np.arange(segment.start, segment.stop))

    def _answer_slowly(self, at: int, outcome: Outcome, ipv6: bool, now: float) -> None:
        batch, out = self._batch, self._slow_out
        rows = outcome.slow.tolist()
        if self._fast.enabled:
            allowed = self._within_budget(len(rows), now)
            self.counters.count_drop(DropReason.RATE_LIMITED, len(rows) - allowed)
            rows = rows[:allowed]
        self.counters.slow[0] += np.uint64(len(rows))
        leaving: dict[int, list[int]] = {}
        moment = wall()
        for slot, row in enumerate(rows):
            if batch.truncated[row]:
                self.counters.count_drop(DropReason.TRUNCATED)
                continue
            request, source = batch.payload(row), batch.peer_address(row)
            reply = self._responder.respond(request, at, source, Transport.UDP, wall=moment)
            if isinstance(reply, Answer) and (reply.guarded and not self._admit_guarded(source, now)):
                self.counters.count_requests(Transport.UDP, ipv6)
                self.counters.count_drop(DropReason.RATE_LIMITED)
                continue
            self.counters.count(reply, Transport.UDP, ipv6, len(request))
            if isinstance(reply, Answer):
                out.put(slot, reply.data, reply.to)
                leaving.setdefault(reply.at, []).append(slot)
        for place, slots in leaving.items():
            large = bool((out.length[slots] > _NEVER_FRAGMENTED).any())
            if large:
                _forbid_fragments(self._datagrams[place].sock, False)
            self._datagrams[place].send(out, np.array(slots, np.intp))
            if large:
                _forbid_fragments(self._datagrams[place].sock, True)

    def _admit_guarded(self, source: TransportAddress, now: float) -> bool:
        with self._lock:
            return self._admission.admit_guarded(source, now)

    def _within_budget(self, wanted: int, now: float) -> int:
        grown = self._slow_budget + (now - self._slow_stamp) * _SLOW_PER_SECOND
        self._slow_budget = min(float(_SLOW_PER_SECOND), grown)
        self._slow_stamp = now
        allowed = min(wanted, int(self._slow_budget))
        self._slow_budget -= allowed
        return allowed
