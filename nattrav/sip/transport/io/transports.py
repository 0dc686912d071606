"""All SIP transports of one process behind one object: batches in by one callable, lists of messages out."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import trio

from nattrav.net.address import TransportAddress
from nattrav.net.clock import monotonic
from nattrav.net.rounds import Rounds
from nattrav.sip.transport.codec import Codec, StreamCodec
from nattrav.sip.transport.flow import (
    SECURE,
    CloseReason,
    Flow,
    FlowClosed,
    FlowOpened,
    Incoming,
    Kept,
    Malformed,
    Outgoing,
    PeerProved,
    SendFailed,
    Target,
    Undelivered,
    listener_id,
)
from nattrav.sip.transport.io.stream import Cipher, Connection, address_of, connect, prepare
from nattrav.sip.transport.io.tls import TlsContexts
from nattrav.sip.transport.io.udp import UdpListener
from nattrav.sip.transport.keepalive import Kind, kind_of, without_leading_lines
from nattrav.sip.transport.limits import ConnectionTable, StreamLimits
from nattrav.sip.transport.websocket import WebSocketClient, WebSocketServer

_SWEEP = 2.0

StunAnswerer = Callable[[bytes, Flow], bytes | None]
"""Answers a STUN request that came on a SIP port; None for no answer."""


class StreamListener(NamedTuple):
    """One listening TCP socket and what is spoken on it."""

    transport: str
    sock: socket.socket
    local: TransportAddress
    id: int


class Transports:
    """Delivers batches of `(flow, message octets or event)` to one callable.

    The callable runs synchronously and may call `send`; what it sends leaves when it returns, or at the end of the
    round of sockets it was called in, the datagrams of one socket together. `send` from elsewhere sends at once.
    """

    def __init__(
        self,
        deliver: Callable[[list[Incoming]], None],
        *,
        limits: StreamLimits | None = None,
        stun: StunAnswerer | None = None,
        tls: TlsContexts | None = None,
        clock: Callable[[], float] = monotonic,
        rounds: Rounds | None = None,
    ) -> None:
        self.limits = limits if limits is not None else StreamLimits()
        self.udp: dict[int, UdpListener] = {}
        self.streams: dict[int, StreamListener] = {}
        self.refused_connections = 0
        self._rounds = rounds if rounds is not None else Rounds()
        self._rounds.at_end(self._flush)
        self._deliver = deliver
        self._stun = stun
        self._tls = tls
        self._clock = clock
        self._table = ConnectionTable(self.limits)
        self._connections: dict[Flow, Connection] = {}
        self._dialling: dict[Target, list[Outgoing]] = {}
        self._opened: dict[Target, Flow] = {}
        self._outbox: list[Outgoing] = []
        self._delivering = False
        self._serials = itertools.count(1)
        self._nursery: trio.Nursery | None = None

    def add_udp(self, sock: socket.socket) -> UdpListener:
        """Serve a bound UDP socket (see nattrav.net.options.open_udp); call it before `run`."""
        listener = UdpListener(sock)
        self.udp[listener.id] = listener
        return listener

    def add_stream(self, transport: str, sock: socket.socket) -> StreamListener:
        """Serve a listening TCP socket as `tcp`, `tls`, `ws` or `wss`; call it before `run`."""
        if transport in SECURE and (self._tls is None or not self._tls.certificates):
            raise ValueError(f"{transport} needs a certificate")
        local = address_of(sock.getsockname())
        listener = StreamListener(transport, sock, local, listener_id(transport, local))
        self.streams[listener.id] = listener
        return listener

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    @property
    def busy(self) -> bool:
        """Connections are open or on their way."""
        return bool(self._connections or self._dialling)

    def is_open(self, flow: Flow) -> bool:
        """A message could leave by that flow."""
        return flow.listener in self.udp if flow.transport == "udp" else flow in self._connections

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; then every socket is closed."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for udp in self.udp.values():
                    self._rounds.add(udp.sock, partial(self._read_udp, udp))
                nursery.start_soon(self._rounds.run)
                for stream in self.streams.values():
                    nursery.start_soon(self._accept, stream)
                nursery.start_soon(self._sweep)
                task_status.started()
        finally:
            self._nursery = None
            for connection in list(self._connections.values()):
                connection.close(CloseReason.STOPPED)
            for udp in self.udp.values():
                self._rounds.remove(udp.sock)
                udp.sock.close()
            for stream in self.streams.values():
                stream.sock.close()

    def send(self, messages: Iterable[Outgoing]) -> None:
        """Send; never blocks. What cannot be sent and has a ticket comes back as `SendFailed`."""
        self._outbox.extend(messages)
        if not (self._delivering or self._rounds.reading):
            self._flush()

    def close(self, flow: Flow) -> None:
        """Close a connection of ours; its `FlowClosed` follows."""
        connection = self._connections.get(flow)
        if connection is not None:
            connection.close(CloseReason.STOPPED)

    def _hand_over(self, batch: list[Incoming]) -> None:
        self._delivering = True
        try:
            self._deliver(batch)
        finally:
            self._delivering = False
        if not self._rounds.reading:
            self._flush()

    def _flush(self) -> None:
        while self._outbox:
            outbox, self._outbox = self._outbox, []
            failures: list[Incoming] = []
            datagrams: dict[int, list[Outgoing]] = {}
            for outgoing in outbox:
                to = outgoing.to
                if to.transport == "udp":
                    if isinstance(to, Flow) and to.listener in self.udp:
                        datagrams.setdefault(to.listener, []).append(outgoing)
                    else:
                        failures.append(_failed(outgoing, "no such UDP listener"))
                elif not self._send_on_stream(outgoing):
                    failures.append(_failed(outgoing, "the flow is closed"))
            for listener, waiting in datagrams.items():
                refused = self.udp[listener].send([(outgoing.to.remote, outgoing.data) for outgoing in waiting])
                failures += [_failed(waiting[position], "refused by the system") for position in refused]
            wanted = [failure for failure in failures if _is_wanted(failure)]
            if wanted:
                self._delivering = True
                try:
                    self._deliver(wanted)
                finally:
                    self._delivering = False

    def _send_on_stream(self, outgoing: Outgoing) -> bool:
        to = outgoing.to
        if isinstance(to, Flow):
            connection = self._connections.get(to)
            return connection is not None and connection.send(outgoing.data)
        flow = self._opened.get(to)
        if flow is not None and flow in self._connections and self._connections[flow].send(outgoing.data):
            return True
        waiting = self._dialling.get(to)
        if waiting is not None:
            waiting.append(outgoing)
            return True
        if self._nursery is None or (to.transport in SECURE and self._tls is None):
            return False
        self._dialling[to] = [outgoing]
        self._nursery.start_soon(self._dial, to)
        return True

    def _read_udp(self, listener: UdpListener) -> None:
        batch = self._sift(listener.receive())
        if listener.look_for_errors:
            lost = [(flow, data) for flow, data in listener.undelivered() if _is_message(data)]
            batch += [(flow, Undelivered(flow, data, whole=False)) for flow, data in lost]
        if batch:
            self._hand_over(batch)

    def _sift(self, received: list[tuple[Flow, bytes]]) -> list[Incoming]:
        batch: list[Incoming] = []
        for flow, datagram in received:
            kind = kind_of(datagram)
            if kind is Kind.SIP:
                batch.append((flow, without_leading_lines(datagram)))
            elif kind is Kind.KEEPALIVE:
                batch.append((flow, Kept("crlf")))
            elif self._stun is not None:
                answer = self._stun(datagram, flow)
                if answer is not None:
                    self._outbox.append(Outgoing(flow, answer))
                batch.append((flow, Kept("stun")))
        return batch

    async def _accept(self, listener: StreamListener) -> None:
        while True:
            try:
                sock, name = listener.sock.accept()
            except BlockingIOError:
                await trio.lowlevel.wait_readable(listener.sock)
                continue
            except OSError:
                # Out of descriptors or memory, or the peer went away while it waited: neither may spin.
                await trio.sleep(0.1)
                continue
            # Those who connect as fast as they can must not starve the others.
            await trio.lowlevel.checkpoint()
            remote = address_of(name)
            if not self._table.admits(remote.host) or self._nursery is None:
                self.refused_connections += 1
                sock.close()
                continue
            try:
                prepare(sock)
                local = address_of(sock.getsockname())
            except OSError:
                sock.close()
                continue
            flow = Flow(listener.transport, listener.id, local, remote, next(self._serials))
            cipher = self._tls.server_side() if listener.transport in SECURE and self._tls is not None else None
            codec: Codec = WebSocketServer() if listener.transport in ("ws", "wss") else StreamCodec()
            self._nursery.start_soon(self._serve_connection, self._new(sock, flow, codec, cipher, True), True)

    def _new(self, sock: socket.socket, flow: Flow, codec: Codec, cipher: Cipher | None, accepted: bool) -> Connection:
        connection = Connection(sock, flow, codec, cipher, self.limits.backlog)
        self._connections[flow] = connection
        self._table.add(flow, self._clock(), accepted=accepted)
        return connection

    async def _dial(self, target: Target) -> None:
        try:
            with trio.fail_after(self.limits.connect):
                sock = await connect(target.remote, None)
        except (OSError, trio.TooSlowError) as error:
            self._dial_failed(target, str(error) or "connect timed out")
            return
        local = address_of(sock.getsockname())
        flow = Flow(target.transport, self._home(target.transport, local), local, target.remote, next(self._serials))
        cipher = None
        if target.transport in SECURE and self._tls is not None:
            cipher = self._tls.client_side(target.server_name or target.remote.host)
        websocket = target.transport in ("ws", "wss")
        codec: Codec = WebSocketClient(target.server_name or str(target.remote)) if websocket else StreamCodec()
        connection = self._new(sock, flow, codec, cipher, False)
        connection.start()
        try:
            with trio.fail_after(self.limits.connect):
                ready = await self._shake_hands(connection)
        except trio.TooSlowError:
            ready = False
        if not ready:
            self._forget(connection)
            connection.close(CloseReason.ERROR)
            self._dial_failed(target, connection.failure or "handshake failed")
            return
        self._opened[target] = flow
        for outgoing in self._dialling.pop(target, []):
            connection.send(outgoing.data)
        await self._serve_connection(connection, False)
        if self._opened.get(target) == flow:
            del self._opened[target]

    async def _shake_hands(self, connection: Connection) -> bool:
        while not connection.established:
            if await connection.receive() is None:
                return False
        return not connection.closed

    def _home(self, transport: str, local: TransportAddress) -> int:
        """The listener that stands for a connection we opened: same transport, same address if there is one."""
        same = [listener for listener in self.streams.values() if listener.transport == transport]
        same.sort(key=lambda listener: listener.local.host != local.host)
        return same[0].id if same else 0

    def _dial_failed(self, target: Target, reason: str) -> None:
        failures = [_failed(outgoing, reason) for outgoing in self._dialling.pop(target, [])]
        wanted = [failure for failure in failures if _is_wanted(failure)]
        if wanted:
            self._hand_over(wanted)

    async def _serve_connection(self, connection: Connection, accepted: bool) -> None:
        flow = connection.flow
        unproved = accepted and flow.secure
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.drain)
            self._hand_over([(flow, FlowOpened(accepted))])
            try:
                while (decoded := await connection.receive()) is not None:
                    self._table.heard(
                        flow,
                        self._clock(),
                        message=bool(decoded.messages or decoded.keepalives),
                        partial=connection.codec.partial,
                    )
                    batch: list[Incoming] = [(flow, message) for message in decoded.messages]
                    if unproved and connection.established:
                        unproved = False
                        if names := connection.peer_names:
                            batch.insert(0, (flow, PeerProved(names)))
                    if decoded.keepalives:
                        batch.append((flow, Kept("websocket" if flow.transport in ("ws", "wss") else "crlf")))
                    fault = connection.codec.fault
                    if fault is not None:
                        batch.append((flow, Malformed(fault)))
                    if batch:
                        self._hand_over(batch)
                    if fault is not None:
                        connection.close(CloseReason.MALFORMED)
                    # A peer that never stops sending must not starve the others.
                    await trio.lowlevel.checkpoint()
            finally:
                self._forget(connection)
                connection.close(CloseReason.STOPPED)
                nursery.cancel_scope.cancel()
        self._hand_over([(flow, FlowClosed(connection.close_reason))])

    def _forget(self, connection: Connection) -> None:
        self._connections.pop(connection.flow, None)
        self._table.remove(connection.flow)

    async def _sweep(self) -> None:
        while True:
            await trio.sleep(_SWEEP)
            for flow, reason in self._table.expired(self._clock()):
                connection = self._connections.get(flow)
                if connection is not None:
                    connection.close(reason)


def _failed(outgoing: Outgoing, reason: str) -> Incoming:
    flow = outgoing.to if isinstance(outgoing.to, Flow) else None
    if outgoing.ticket is None:
        return flow, Undelivered(outgoing.to, outgoing.data, whole=True)
    return flow, SendFailed(outgoing.to, outgoing.ticket, reason)


def _is_wanted(item: Incoming) -> bool:
    return isinstance(item[1], SendFailed) or (isinstance(item[1], Undelivered) and _is_message(item[1].data))


def _is_message(data: bytes) -> bool:
    return data[:1].isalpha()
