"""SIP over UDP: under load one receive call, one delivery and one send call per wake-up (RFC 3261 §18)."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Sequence

from nattrav.net.address import SOCKADDR_ROW, TransportAddress, canonical, from_sockaddr, to_sockaddr
from nattrav.net.batch import Batch
from nattrav.net.mmsg import open_datagrams
from nattrav.net.options import Socket
from nattrav.sip.transport.flow import Flow, listener_id

MAX_PAYLOAD = 65507
# Nothing waits, or ICMP's answer to an earlier datagram.
_PASSING = (errno.EAGAIN, errno.EINTR, errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH)
# Linux; Python has no names for them.
_IP_RECVERR, _IPV6_RECVERR = 11, 25
_MSG_ERRQUEUE = 0x2000
_ERRORS_AT_ONCE = 64
_LOOK_AFTER = 64
"""Rounds of receiving after which errors are looked for although datagrams keep coming: they share their buffer."""
_REPEATED = 2048
"""Octets of a datagram that did not arrive; ICMP repeats no more than about 550 of them."""
_SLOTS = 128
_SLOT = 65536
_FEW = 8
"""Up to so many datagrams single calls cost less than the preparation of a batched one (measured)."""


class UdpListener:
    """One bound UDP socket. Answers leave from it, so they carry its address through any NAT (RFC 3581 §4)."""

    def __init__(self, sock: Socket) -> None:
        self.sock = sock
        name = sock.getsockname()
        self.local = TransportAddress(name[0], name[1])
        self.id = listener_id("udp", self.local)
        self.refused = 0
        """Datagrams the kernel did not take, each of them counted once."""
        self._datagrams = open_datagrams(sock)
        self._incoming = Batch(_SLOTS, _SLOT)
        self._outgoing = Batch(_SLOTS, _SLOT)
        self._in_data = self._incoming.data.data.cast("B")
        self._in_peer = self._incoming.peer.data.cast("B")
        self._out_data = self._outgoing.data.data.cast("B")
        self._out_peer = self._outgoing.peer.data.cast("B")
        self._out_length = self._outgoing.length.data
        self._out_peer_length = self._outgoing.peer_length.data
        self._flows: dict[bytes | tuple[str, int], Flow] = {}
        self._busy = False
        self._rounds = 0
        with contextlib.suppress(OSError):
            # Only Linux tells what did not arrive; elsewhere timers find out.
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)

    def undelivered(self) -> list[tuple[Flow, bytes]]:
        """Datagrams of ours that ICMP reports as not arrived: where they went, and what it repeats of their octets."""
        found: list[tuple[Flow, bytes]] = []
        self._rounds = 0
        while len(found) < _ERRORS_AT_ONCE:
            try:
                data, _, _, name = self.sock.recvmsg(_REPEATED, 512, _MSG_ERRQUEUE | socket.MSG_DONTWAIT)
            except OSError:
                break
            if name:
                found.append((Flow("udp", self.id, self.local, TransportAddress(canonical(name[0]), name[1])), data))
        return found

    @property
    def look_for_errors(self) -> bool:
        """A wake-up that brought nothing was for an error, and under load it is looked for now and then."""
        return self._rounds == 0 or self._rounds >= _LOOK_AFTER

    def receive(self) -> list[tuple[Flow, bytes]]:
        """Take what waits, at most one batch. While datagrams come one by one, plain calls are cheaper."""
        self._rounds += 1
        if self._busy:
            received = self._receive_batch()
            self._busy = len(received) > 1
            if not received:
                self._rounds = 0
            return received
        received = []
        try:
            while len(received) < _FEW:
                data, name = self.sock.recvfrom(_SLOT)
                flow = self._flows.get(name)
                received.append((self._new_flow(name) if flow is None else flow, data))
        except OSError as error:
            if error.errno not in _PASSING:
                raise
            if not received:
                self._rounds = 0
            return received
        self._busy = True
        return received + self._receive_batch()

    def _receive_batch(self) -> list[tuple[Flow, bytes]]:
        incoming = self._incoming
        count = self._datagrams.receive(incoming)
        if count == 0:
            return []
        data, peers, flows = self._in_data, bytes(self._in_peer[: count * SOCKADDR_ROW]), self._flows
        received = []
        for slot, length in enumerate(incoming.length[:count].tolist()):
            row = peers[slot * SOCKADDR_ROW : (slot + 1) * SOCKADDR_ROW]
            flow = flows.get(row)
            if flow is None:
                flow = self._new_flow(row)
            start = slot * _SLOT
            received.append((flow, bytes(data[start : start + length])))
        return received

    def _new_flow(self, name: bytes | tuple[str, int]) -> Flow:
        # A cache only: flows are values, so forgetting all of them costs nothing but making them again.
        if len(self._flows) > 100_000:
            self._flows.clear()
        remote = from_sockaddr(name) if isinstance(name, bytes) else TransportAddress(canonical(name[0]), name[1])
        flow = self._flows[name] = Flow("udp", self.id, self.local, remote, 0)
        return flow

    def send(self, messages: Sequence[tuple[TransportAddress, bytes]]) -> list[int]:
        """Send datagrams; give the positions of those that the kernel refused."""
        if len(messages) <= _FEW:
            return [place for place, (peer, data) in enumerate(messages) if not self._send_one(peer, data)]
        failed: list[int] = []
        for start in range(0, len(messages), _SLOTS):
            failed += [start + place for place in self._send_some(messages[start : start + _SLOTS])]
        return failed

    def _send_one(self, peer: TransportAddress, data: bytes) -> bool:
        for _ in range(2):
            try:
                self.sock.sendto(data, peer)
            except OSError as error:
                # ICMP's answer to an earlier datagram is told to whoever sends next and says nothing about this one.
                if error.errno == errno.ECONNREFUSED:
                    continue
                break
            return True
        self.refused += 1
        return False

    def _send_some(self, messages: Sequence[tuple[TransportAddress, bytes]]) -> list[int]:
        slot = 0
        failed = []
        for position, (peer, data) in enumerate(messages):
            size = len(data)
            if size > MAX_PAYLOAD or peer.family != self.sock.family:
                self.refused += 1
                failed.append(position)
                continue
            raw = to_sockaddr(peer)
            start, row = slot * _SLOT, slot * SOCKADDR_ROW
            self._out_data[start : start + size] = data
            self._out_peer[row : row + len(raw)] = raw
            self._out_length[slot] = size
            self._out_peer_length[slot] = len(raw)
            slot += 1
        self._outgoing.count = slot
        sent = self._datagrams.send(self._outgoing) if slot else 0
        if sent < slot:
            # Which ones the kernel refused is not told by sendmmsg; a retransmission heals the others.
            self.refused += slot - sent
        return failed
