"""STUN over TCP and TLS (RFC 8489 §6.2.2): bare messages, pipelined, and bounds on everything a peer may hold."""

from __future__ import annotations

import ssl
import threading
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from nattrav.net.address import TransportAddress, canonical
from nattrav.net.clock import monotonic, wall
from nattrav.net.options import Take, nothing_waits
from stun.admission import Admission
from stun.attributes import MalformedMessage
from stun.behavior import Endpoint
from stun.counters import Counters
from stun.framing import Framer
from stun.responder import Answer, DropReason, Responder, Transport

_CHUNK = 4096
_BACKLOG = 128


@dataclass(frozen=True)
class StreamLimits:
    """What peers may hold; seconds and connections."""

    connections: int = 1000
    connections_per_host: int = 16
    idle: float = 60.0
    handshake: float = 10.0


class StreamServer:
    """Answers on the TCP or TLS sockets of a responder's endpoints; the client closes first, or idles too long."""

    def __init__(
        self,
        responder: Responder,
        admission: Admission,
        lock: threading.Lock,
        limits: StreamLimits,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.counters = Counters()
        self.refused = 0
        """Connections closed at once for want of room."""
        self._responder = responder
        self._admission = admission
        self._lock = lock
        self._limits = limits
        self._tls = tls
        self._transport = Transport.TCP if tls is None else Transport.TLS
        self._open: Counter[str] = Counter()
        self._listeners: list[trio.SocketListener] = []
        self.endpoints: tuple[Endpoint, ...] = responder.endpoints

    def follow(self, responder: Responder, limits: StreamLimits) -> None:
        """Answer by another responder of the same endpoints; connections that are open keep within the new limits."""
        self._responder, self._limits = responder, limits

    async def open(self, take: Take = nothing_waits) -> None:
        """Bind every endpoint, or `take` the socket that is bound already.

        Raises OSError with `filename` naming the address that is taken.
        """
        for endpoint in self._responder.endpoints:
            local = endpoint.local
            waiting = take(trio.socket.SOCK_STREAM, local)
            if waiting is not None:
                self._listeners.append(trio.SocketListener(trio.socket.from_stdlib_socket(waiting)))
                continue
            sock = trio.socket.socket(local.family, trio.socket.SOCK_STREAM)
            try:
                sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_REUSEADDR, 1)
                if local.family == trio.socket.AF_INET6:
                    sock.setsockopt(trio.socket.IPPROTO_IPV6, trio.socket.IPV6_V6ONLY, 1)
                await sock.bind(local)
                sock.listen(_BACKLOG)
            except OSError as error:
                sock.close()
                await self.close()
                raise OSError(error.errno, error.strerror, str(local)) from error
            self._listeners.append(trio.SocketListener(sock))

    def descriptors(self) -> list[int]:
        """The listening sockets' descriptors."""
        return [listener.socket.fileno() for listener in self._listeners]

    async def close(self) -> None:
        """Close the listening sockets."""
        for listener in self._listeners:
            await listener.aclose()
        self._listeners.clear()

    async def run(self) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            for at, listener in enumerate(self._listeners):
                nursery.start_soon(partial(trio.serve_listeners, partial(self._accept, at), [listener]))

    @property
    def connections(self) -> int:
        """Connections open now."""
        return self._open.total()

    async def _accept(self, at: int, stream: trio.SocketStream) -> None:
        try:
            name = stream.socket.getpeername()
        except OSError:
            await stream.aclose()
            return
        source = TransportAddress(canonical(str(name[0]).partition("%")[0]), int(name[1]))
        crowded = self._open[source.host] >= self._limits.connections_per_host
        if crowded or self.connections >= self._limits.connections:
            self.refused += 1
            await trio.aclose_forcefully(stream)
            return
        self._open[source.host] += 1
        try:
            await self._converse(at, stream, source)
        except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError, OSError):
            # The peer went away or speaks no TLS: nothing is left to answer.
            pass
        finally:
            self._open[source.host] -= 1
            if not self._open[source.host]:
                del self._open[source.host]
            await trio.aclose_forcefully(stream)

    async def _converse(self, at: int, raw: trio.SocketStream, source: TransportAddress) -> None:
        stream: trio.abc.Stream = raw
        if self._tls is not None:
            secured: trio.SSLStream[trio.SocketStream] = trio.SSLStream(
                raw, self._tls, server_side=True, https_compatible=True
            )
            with trio.move_on_after(self._limits.handshake) as patience:
                await secured.do_handshake()
            if patience.cancelled_caught:
                return
            stream = secured
        framer = Framer()
        while True:
            data = b""
            with trio.move_on_after(self._limits.idle):
                data = bytes(await stream.receive_some(_CHUNK))
            if not data:
                return
            try:
                messages = framer.feed(data)
            except MalformedMessage as malformed:
                self.counters.count_drop(DropReason.MALFORMED if malformed.stun else DropReason.NOT_STUN)
                return
            replies = [reply for message in messages if (reply := self._answer(at, message, source))]
            if replies:
                with trio.move_on_after(self._limits.idle) as patience:
                    await stream.send_all(b"".join(replies))
                if patience.cancelled_caught:
                    return

    def _answer(self, at: int, message: bytes, source: TransportAddress) -> bytes | None:
        now = monotonic()
        outcome = self._responder.respond(message, at, source, self._transport, wall=wall())
        with self._lock:
            admitted = self._admission.admit_one(source, now)
            if admitted and isinstance(outcome, Answer) and outcome.guarded:
                admitted = self._admission.admit_guarded(source, now)
        if not admitted:
            self.counters.count_drop(DropReason.RATE_LIMITED)
            return None
        self.counters.count(outcome, self._transport, ":" in source.host, len(message))
        return outcome.data if isinstance(outcome, Answer) else None


class Certificate:
    """A certificate and its key, read again when the files change: new connections get the new one."""

    def __init__(self, chain: Path, key: Path) -> None:
        """Raises OSError or ssl.SSLError when the files cannot be used."""
        self.chain, self._key = chain, key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
        self._stamp = self._stamps()
        self.context.load_cert_chain(chain, key)

    def replace(self, chain: Path, key: Path) -> None:
        """Use other files, which are known to fit, for new connections."""
        self.chain, self._key = chain, key
        self._stamp = self._stamps()
        self.context.load_cert_chain(chain, key)

    def _stamps(self) -> list[float]:
        return [path.stat().st_mtime for path in (self.chain, self._key)]

    def refresh(self) -> bool:
        """Load the files if they changed; False when they are unreadable or do not fit, then the old ones stay."""
        try:
            stamp = self._stamps()
            if stamp != self._stamp:
                # A pair that does not fit must be noticed before the live context holds half of it.
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.chain, self._key)
                self.context.load_cert_chain(self.chain, self._key)
                self._stamp = stamp
        except (OSError, ssl.SSLError):
            return False
        return True
