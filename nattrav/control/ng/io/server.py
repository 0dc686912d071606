"""The ng server's sockets: UDP in batches, Unix datagrams, TCP. A reply leaves from the socket that was asked."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import trio

from nattrav.config.control import ControlAddress
from nattrav.control.ng.io.late import LateReplies
from nattrav.control.ng.io.unix import PathTaken, auto_path, close_listener, open_listener
from nattrav.control.ng.server import Outcome, Server, Stream
from nattrav.metrics.samples import Samples
from nattrav.net.address import TransportAddress, canonical
from nattrav.net.clock import monotonic, wall
from nattrav.net.interfaces import expand
from nattrav.net.options import open_udp

SLOTS = 32
DATAGRAM = 65536
BUFFER = 4 << 20
TCP_CONNECTIONS = 128
TCP_IDLE = 600.0
PASSING = (errno.EAGAIN, errno.EINTR, errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH)
"""What a receive may report that is no fault of the socket: nothing there, or an ICMP error to an earlier reply."""

After = Callable[[], None]
Around = Callable[[], AbstractContextManager[None]]


class CannotListen(Exception):
    """A listener cannot be opened; the message is one line that ends with the remedy."""


@dataclass(frozen=True, slots=True)
class Listener:
    """One open listener: what the start-up table says of it."""

    transport: str
    address: str


def _nothing() -> None:
    return None


class NgService:
    """A server on its sockets.

    A batch of requests is carried out inside `around`, then answered; after that comes `after`, before the next wait.
    Opens nothing before `serve`; a listener that cannot be opened raises CannotListen there.
    """

    def __init__(
        self,
        server: Server,
        listen: Sequence[ControlAddress],
        *,
        directory: Path,
        samples: Samples | None = None,
        after: After = _nothing,
        around: Around = contextlib.nullcontext,
        group: int | None = None,
    ) -> None:
        self.send_errors: Counter[int] = Counter()
        self._server = server
        self._listen = listen
        self._directory = directory
        self._samples = samples
        self._after = after
        self._around = around
        self._group = group

    async def serve(self, *, task_status: trio.TaskStatus[list[Listener]] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer until cancelled."""
        opened: list[Listener] = []
        with contextlib.ExitStack() as stack:
            tasks: list[tuple[Callable[[socket.socket], Awaitable[None]], socket.socket]] = []
            for asked in self._listen:
                for sock, listener, run in self._open(asked, stack):
                    opened.append(listener)
                    tasks.append((run, sock))
            async with trio.open_nursery() as nursery:
                for run, sock in tasks:
                    nursery.start_soon(run, sock)
                task_status.started(opened)

    def _open(
        self, asked: ControlAddress, stack: contextlib.ExitStack
    ) -> list[tuple[socket.socket, Listener, Callable[[socket.socket], Awaitable[None]]]]:
        if asked.transport == "unix":
            path = auto_path(self._directory) if asked.path is None else Path(asked.path)
            sock = _opened(str(path), lambda: open_listener(path, group=self._group))
            stack.callback(close_listener, sock, path)
            return [(sock, Listener("unix", str(path)), self._unix)]
        assert asked.address is not None
        found: list[tuple[socket.socket, Listener, Callable[[socket.socket], Awaitable[None]]]] = []
        for host in expand(asked.address.host):
            address = TransportAddress(host, asked.address.port)
            if asked.transport == "udp":
                sock = _opened(f"udp:{address}", lambda at=address: open_udp(at, receive_buffer=BUFFER))  # type: ignore[misc]
                run: Callable[[socket.socket], Awaitable[None]] = self._udp
            else:
                sock = _opened(f"tcp:{address}", lambda at=address: _open_tcp(at))  # type: ignore[misc]
                run = self._tcp
            stack.callback(sock.close)
            bound = TransportAddress(canonical(sock.getsockname()[0]), sock.getsockname()[1])
            found.append((sock, Listener(asked.transport, str(bound)), run))
        return found

    async def _udp(self, sock: socket.socket) -> None:
        # Plain calls: for the few requests that wait at a time they cost less than setting up batched ones.
        while True:
            await trio.lowlevel.wait_readable(sock)
            for reply, peer in self._carry_out(sock, "udp"):
                try:
                    sock.sendto(reply, peer)
                except OSError as error:
                    self.send_errors[error.errno or 0] += 1
            self._after()

    async def _unix(self, sock: socket.socket) -> None:
        late = LateReplies(partial(self._replied, sock))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(late.run)
            while True:
                await trio.lowlevel.wait_readable(sock)
                for reply, peer in self._carry_out(sock, "unix"):
                    if not late.send(reply, peer):
                        self.send_errors[errno.EAGAIN] += 1
                self._after()

    def _carry_out(self, sock: socket.socket, transport: str) -> list[tuple[bytes, Any]]:
        """Take what waits at a datagram socket, a bounded number, and give the replies with whom they are for."""
        replies: list[tuple[bytes, Any]] = []
        with self._around():
            for _ in range(SLOTS):
                try:
                    data, peer = sock.recvfrom(DATAGRAM)
                except OSError as error:
                    if error.errno in PASSING:
                        break
                    raise
                started = monotonic()
                source = None if transport == "unix" else canonical(peer[0])
                outcome = self._server.receive(data, source, started, wall())
                self._count(transport, source, outcome, started)
                if outcome.reply is not None and peer:
                    replies.append((outcome.reply, peer))
        return replies

    def _replied(self, sock: socket.socket, reply: bytes, peer: str | bytes) -> bool:
        """Send a reply; False when the peer's queue is full. A peer that is gone asks again, if it comes back."""
        try:
            sock.sendto(reply, peer)
        except BlockingIOError:
            return False
        except OSError as error:
            self.send_errors[error.errno or 0] += 1
        return True

    async def _tcp(self, sock: socket.socket) -> None:
        limit = trio.CapacityLimiter(TCP_CONNECTIONS)
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:
                    if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                        raise
                    await trio.sleep(0.1)
                    continue
                nursery.start_soon(self._connection, stream, limit)

    async def _connection(self, stream: trio.SocketStream, limit: trio.CapacityLimiter) -> None:
        source = canonical(stream.socket.getpeername()[0]) if _connected(stream) else None
        async with stream:
            if source is None or not self._server.allows(source) or limit.available_tokens < 1:
                return
            async with limit:
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                    await self._converse(stream, source)

    async def _converse(self, stream: trio.SocketStream, source: str) -> None:
        reader = Stream(self._server, source)
        while not reader.closed:
            with trio.fail_after(TCP_IDLE):
                data = await stream.receive_some(DATAGRAM)
            if not data:
                return
            started = monotonic()
            with self._around():
                outcomes = reader.feed(data, started)
            for outcome in outcomes:
                self._count("tcp", source, outcome, started)
            if outcomes:
                self._after()
                with trio.fail_after(TCP_IDLE):
                    await stream.send_all(b"".join(outcome.reply for outcome in outcomes if outcome.reply is not None))

    def _count(self, transport: str, source: str | None, outcome: Outcome, started: float) -> None:
        seconds = monotonic() - started
        self._server.record(source, outcome, seconds)
        samples = self._samples
        if samples is None or outcome.reply is None:
            return
        samples.inc("nattrav_control_requests_total", transport, outcome.command, outcome.result)
        if outcome.result == "duplicate":
            samples.inc("nattrav_control_cookie_hits_total")
        else:
            samples.observe("nattrav_control_request_duration_seconds", seconds, outcome.command)


def _opened(what: str, opening: Callable[[], socket.socket]) -> socket.socket:
    try:
        return opening()
    except PathTaken:
        raise CannotListen(f"{what} is in use by a running relay: stop it, or set another control.listen") from None
    except OSError as error:
        remedy = "is another relay running? set another control.listen"
        if error.errno == errno.EADDRNOTAVAIL:
            remedy = "the address is not on this host; set another control.listen"
        elif error.errno in (errno.EACCES, errno.EPERM):
            remedy = "not permitted; set another control.listen or another --runtime-dir"
        elif error.errno == errno.ENOENT:
            remedy = "its directory does not exist; create it or set another control.listen"
        raise CannotListen(f"cannot listen on {what}: {os.strerror(error.errno or 0)}; {remedy}") from None


def _open_tcp(address: TransportAddress) -> socket.socket:
    sock = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if address.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(64)
    except BaseException:
        sock.close()
        raise
    return sock


def _connected(stream: trio.SocketStream) -> bool:
    try:
        stream.socket.getpeername()
    except OSError:
        return False
    return True
