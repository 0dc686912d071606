"""One connection: a non-blocking socket, TLS when asked, and a codec that makes messages of the octets."""

from __future__ import annotations

import errno
import os
import socket
from typing import Protocol

import trio

from nattrav.net.address import TransportAddress, canonical
from nattrav.sip.transport.codec import Codec, Decoded
from nattrav.sip.transport.flow import CloseReason, Flow

_CHUNK = 65536
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 6))


class Cipher(Protocol):
    """TLS on one connection, without the socket."""

    established: bool

    @property
    def peer_names(self) -> tuple[str, ...]:
        """Whom the peer proved to be."""

    def start(self) -> bytes:
        """Octets to send first."""

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        """Take octets; return what they say in clear, and octets to send back. Raises CipherFailed."""

    def send(self, data: bytes) -> bytes:
        """Encrypt."""

    def close(self) -> bytes:
        """Octets that say goodbye."""


class CipherFailed(Exception):
    """The TLS handshake or a record was bad; the message says how."""


class Connection:
    """Octets in and out. Sending never blocks: what the kernel does not take waits, up to a bound."""

    def __init__(self, sock: socket.socket, flow: Flow, codec: Codec, cipher: Cipher | None, backlog: int) -> None:
        self.sock = sock
        self.flow = flow
        self.codec = codec
        self.closed = False
        self.close_reason = CloseReason.PEER
        self.failure = ""
        self._cipher = cipher
        self._limit = backlog
        self._unsent = bytearray()
        self._pending: list[bytes] = []
        self._writable = trio.Event()

    @property
    def established(self) -> bool:
        """Handshakes are over."""
        return self.codec.established and (self._cipher is None or self._cipher.established)

    @property
    def peer_names(self) -> tuple[str, ...]:
        """Whom the peer proved to be by its certificate."""
        return () if self._cipher is None else self._cipher.peer_names

    def start(self) -> None:
        """Send what comes first on a fresh connection."""
        if self._cipher is not None:
            self._write(self._cipher.start())
        else:
            self._write(self.codec.start())

    def send(self, message: bytes) -> bool:
        """Send a message, now or as soon as handshakes are over; False when the connection is closed by it."""
        if self.closed:
            return False
        if not self.established:
            self._pending.append(message)
            if sum(map(len, self._pending)) > self._limit:
                self.close(CloseReason.BACKLOG)
        else:
            self._write_clear(self.codec.encode(message))
        return not self.closed

    def ping(self) -> None:
        """Send a keepalive of ours."""
        if self.established and not self.closed:
            self._write_clear(self.codec.ping())

    async def receive(self) -> Decoded | None:
        """Wait for octets and decode them; None when the connection is over."""
        while not self.closed:
            try:
                data = self.sock.recv(_CHUNK)
            except (BlockingIOError, InterruptedError):
                try:
                    await trio.lowlevel.wait_readable(self.sock)
                except trio.ClosedResourceError:
                    return None
                continue
            except OSError:
                self.close(CloseReason.ERROR)
                return None
            if not data:
                self.close(CloseReason.PEER)
                return None
            return self._decode(data)
        return None

    def _decode(self, data: bytes) -> Decoded | None:
        cipher = self._cipher
        if cipher is not None:
            was = cipher.established
            try:
                data, reply = cipher.receive(data)
            except CipherFailed as error:
                self.failure = str(error)
                self.close(CloseReason.ERROR)
                return None
            self._write(reply)
            if cipher.established and not was:
                self._write_clear(self.codec.start())
        decoded = self.codec.receive(data) if data else Decoded([], b"", 0)
        self._write_clear(decoded.reply)
        if self._pending and self.established:
            pending, self._pending = self._pending, []
            for message in pending:
                self._write_clear(self.codec.encode(message))
        return decoded

    def _write_clear(self, data: bytes) -> None:
        if data:
            self._write(data if self._cipher is None else self._cipher.send(data))

    def _write(self, data: bytes) -> None:
        if self.closed or not data:
            return
        if not self._unsent:
            try:
                sent = self.sock.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                self.close(CloseReason.ERROR)
                return
            if sent == len(data):
                return
            data = data[sent:]
        if len(self._unsent) + len(data) > self._limit:
            self.close(CloseReason.BACKLOG)
            return
        self._unsent += data
        self._writable.set()

    async def drain(self) -> None:
        """Send what waits whenever the peer reads again; runs as long as the connection."""
        while not self.closed:
            await self._writable.wait()
            self._writable = trio.Event()
            while self._unsent and not self.closed:
                try:
                    await trio.lowlevel.wait_writable(self.sock)
                    sent = self.sock.send(self._unsent)
                except (BlockingIOError, InterruptedError):
                    continue
                except (OSError, trio.ClosedResourceError):
                    self.close(CloseReason.ERROR)
                    return
                del self._unsent[:sent]

    def close(self, reason: CloseReason) -> None:
        """Close at once; whoever waits on the connection wakes up."""
        if self.closed:
            return
        if reason in (CloseReason.IDLE, CloseReason.STOPPED, CloseReason.MALFORMED, CloseReason.SLOW):
            if self.codec.established:
                self._write_clear(self.codec.close())
            if self._cipher is not None and self._cipher.established:
                self._write(self._cipher.close())
        self.closed = True
        self.close_reason = reason
        trio.lowlevel.notify_closing(self.sock)
        self.sock.close()
        self._writable.set()


def prepare(sock: socket.socket) -> None:
    """Set what every connection gets: no delay, and the kernel's keepalive to find dead peers."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, seconds in _KEEPALIVE:
        sock.setsockopt(socket.IPPROTO_TCP, option, seconds)


def open_stream_listener(local: TransportAddress, *, backlog: int = 1024) -> socket.socket:
    """Open a listening TCP socket. Raises OSError when the address cannot be bound."""
    sock = socket.socket(local.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if local.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(local)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


async def connect(remote: TransportAddress, source: str | None) -> socket.socket:
    """Open a connection, from the address `source` when given. Raises OSError."""
    sock = socket.socket(remote.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if source is not None:
            sock.bind((source, 0))
        code = sock.connect_ex(remote)
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
        await trio.lowlevel.wait_writable(sock)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        prepare(sock)
    except BaseException:
        sock.close()
        raise
    return sock


def address_of(name: tuple[object, ...]) -> TransportAddress:
    """Read what getsockname and getpeername give."""
    return TransportAddress(canonical(str(name[0])), int(str(name[1])))
