"""Whole frames: a settled flow's packets leave with headers of ours, past the kernel's UDP, routing and filtering.

The kernel remains who knows the way. A flow begins on its socket; only when its next hop is known there do its packets
take that way as frames. What changes at routes, links and neighbours is heard of and looked up anew; and because the
kernel keeps an eye only on neighbours that it sends to itself, every next hop gets some flow's packets from its
socket now and then. Whatever does not suit (loopback, tunnels, long packets, no answer) leaves by the socket as ever.
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from nattrav.net.address import TransportAddress
from nattrav.net.headers import header
from nattrav.net.next_hops import Hop, News
from nattrav.net.options import Socket
from relay.crossbar import Crossbar
from relay.crossing import Exit
from relay.io.backend import Backend
from relay.tally import Tally

LOOKS_PER_BATCH = 8
"""Next hops asked for between two batches; each takes some 40 µs."""

LOOK_EVERY = 0.02
"""Seconds after which the kernel's news are read."""

SWEEP_EVERY = 2.0
"""Seconds between two looks at everything, on a host whose routes change all the time."""

SENDERS = 64
"""Packet sockets that one data thread has room for."""

RENEW_EVERY = 10.0
"""Seconds after which a next hop gets packets from a socket again; within 30 the kernel would look it up anew."""

REFUSED_FOR = 10.0
"""Seconds for which a host without a usable next hop is not asked for again."""

_LINK_DOWN = (errno.ENETDOWN, errno.ENXIO, errno.ENODEV)
"""What is said of a link here before it is told; other errors would come again."""

_RENEWED_MAX = 8
_REFUSED_MAX = 4096
_FITTED_MAX = 256

NextHop = tuple[int, str]
"""Interface and host."""


class Hops(Protocol):
    """What `nattrav.net.next_hops.NextHops` is to us."""

    def find(self, source: TransportAddress, target: TransportAddress, tos: int, interface: int = 0) -> Hop | None:
        """Give the next hop of a UDP datagram, if it can be sent to as a frame."""

    def news(self) -> News:
        """Tell what changed since the last call."""

    def close(self) -> None:
        """Close the sockets."""


@dataclass(frozen=True, slots=True)
class _Framed:
    peer: TransportAddress
    tos: int
    hop: Hop

    @property
    def next_hop(self) -> NextHop:
        return self.hop.interface, self.hop.neighbour


class Framing:
    """`Exits` of one data thread that are frames; `sockets` are the flows' own, by slot."""

    def __init__(
        self,
        backend: Backend,
        crossbar: Crossbar,
        tally: Tally,
        sockets: Mapping[int, Socket],
        hops: Hops,
        open_senders: Callable[[int], list[Socket]],
    ) -> None:
        self._backend = backend
        self._crossbar = crossbar
        self._tally = tally
        self._sockets = sockets
        self._hops = hops
        self._open_senders = open_senders
        self._framed: dict[int, _Framed] = {}
        self._through: dict[NextHop, dict[int, None]] = {}
        """Slots by next hop; the one that was on its socket last is last."""
        self._renewed: dict[NextHop, float] = {}
        """When next hops last got packets from a socket, oldest first."""
        self._senders: dict[int, list[tuple[Socket, int]]] = {}
        self._refused: dict[str, float] = {}
        """Hosts without a usable next hop, and until when they are not asked for."""
        self._doubtful: deque[int] = deque()
        """Slots whose next hop may have changed."""
        self._changed = False
        self._look_at = self._sweep_at = 0.0
        tally.seek = True

    def __len__(self) -> int:
        return len(self._framed)

    def holds(self, slot: int) -> bool:
        """See `Exits`: nothing is received by a frame's way, so it is gone at once."""
        return False

    def due(self, now: float) -> bool:
        """See `Exits`."""
        return bool(
            self._tally.ripe
            or self._crossbar.stale
            or self._backend.misfits
            or self._doubtful
            or (self._framed and now >= self._look_at)
        )

    def tend(self, now: float) -> None:
        """See `Exits`."""
        for slot in self._crossbar.stale:
            self._withdraw(slot)
        self._crossbar.stale.clear()
        for routes, lengths in self._backend.misfits:
            self._crossbar.table.fit_headers(routes[:_FITTED_MAX], lengths[:_FITTED_MAX])
        self._backend.misfits.clear()
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY
            self._follow(self._hops.news(), now)
            self._renew(now)
        looks = LOOKS_PER_BATCH
        while self._doubtful and looks:
            looks -= 1
            self._look_again(self._doubtful.popleft(), now)
        ripe = self._tally.ripe
        while ripe and looks:
            looks -= 1
            self._make(ripe.pop(), now)

    def fail(self, slot: int, code: int) -> None:
        """See `Exits`."""
        if self._forget(slot):
            self._crossbar.disown(slot, failed=code not in _LINK_DOWN)

    def overflows(self) -> int:
        """See `Exits`."""
        return 0

    def renew_tos(self, slot: int) -> None:
        """See `Exits`."""
        framed = self._framed.get(slot)
        if framed is not None and framed.tos != self._tos(slot):
            self._withdraw(slot)

    def close(self) -> None:
        """See `Exits`."""
        for senders in self._senders.values():
            for sock, _ in senders:
                sock.close()
        self._senders.clear()
        self._hops.close()

    def _follow(self, news: News, now: float) -> None:
        for interface in news.interfaces & self._senders.keys():
            self._retire(interface)
        self._changed |= news.everything
        if self._changed and now >= self._sweep_at:
            self._changed = False
            self._sweep_at = now + SWEEP_EVERY
            self._refused.clear()
            self._doubtful = deque(self._framed)
            return
        for next_hop, mac in news.neighbours.items():
            for slot in self._through.get(next_hop, ()):
                if self._framed[slot].hop.destination != mac:
                    self._doubtful.append(slot)
        if news.interfaces:
            self._doubtful.extend(slot for slot, one in self._framed.items() if one.hop.interface in news.interfaces)

    def _retire(self, interface: int) -> None:
        """Close the senders of an interface if it is gone, and let nothing leave by them."""
        try:
            socket.if_indextoname(interface)
        except OSError:
            for slot in [slot for slot, one in self._framed.items() if one.hop.interface == interface]:
                self._withdraw(slot)
            for sock, file in self._senders.pop(interface):
                self._backend.detach_sender(file)
                sock.close()

    def _renew(self, now: float) -> None:
        for next_hop, at in list(itertools.islice(self._renewed.items(), _RENEWED_MAX)):
            if now - at < RENEW_EVERY:
                return
            del self._renewed[next_hop]
            self._renewed[next_hop] = now
            self._withdraw(next(iter(self._through[next_hop])))

    def _look_again(self, slot: int, now: float) -> None:
        framed = self._framed.get(slot)
        if framed is None:
            return
        hop = self._find(slot, framed.peer, framed.tos)
        if hop is None:
            self._withdraw(slot)
        elif hop != framed.hop:
            self._forget(slot)
            if not self._adopt(slot, _Framed(framed.peer, framed.tos, hop), now):
                self._crossbar.disown(slot)

    def _make(self, slot: int, now: float) -> None:
        peer = self._crossbar.wants_exit(slot)
        if peer is None or self._refused.get(peer.host, 0.0) > now:
            return
        tos = self._tos(slot)
        hop = self._find(slot, peer, tos)
        if hop is None or not self._adopt(slot, _Framed(peer, tos, hop), now):
            if len(self._refused) >= _REFUSED_MAX:
                self._refused.clear()
            self._refused[peer.host] = now + REFUSED_FOR

    def _find(self, slot: int, peer: TransportAddress, tos: int) -> Hop | None:
        device = self._sockets[slot].getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0")
        try:
            interface = socket.if_nametoindex(device.decode()) if device else 0
        except OSError:
            return None
        return self._hops.find(self._crossbar.flows[slot].local, peer, tos, interface)

    def _tos(self, slot: int) -> int:
        return self._crossbar.flows[slot].settings.tos or 0

    def _adopt(self, slot: int, framed: _Framed, now: float) -> bool:
        hop = framed.hop
        try:
            octets = header(
                self._crossbar.flows[slot].local,
                framed.peer,
                from_mac=hop.source,
                to_mac=hop.destination,
                tos=framed.tos,
                hop_limit=hop.hop_limit,
                mtu=hop.mtu,
            )
            file = self._sender(hop.interface, slot)
        except (OSError, ValueError):
            return False
        self._framed[slot] = framed
        self._through.setdefault(framed.next_hop, {})[slot] = None
        self._renewed.setdefault(framed.next_hop, now)
        self._crossbar.adopt(slot, Exit(file, framed.peer, octets))
        return True

    def _sender(self, interface: int, slot: int) -> int:
        """Give a packet socket of an interface; always the same for a flow, or its packets might change places."""
        senders = self._senders.get(interface)
        if senders is None:
            opened = self._open_senders(interface)
            if sum(map(len, self._senders.values())) + len(opened) > SENDERS:
                for sock in opened:
                    sock.close()
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            senders = self._senders[interface] = [(sock, self._backend.attach_sender(sock)) for sock in opened]
        return senders[slot % len(senders)][1]

    def _withdraw(self, slot: int) -> None:
        if self._forget(slot):
            self._crossbar.disown(slot)

    def _forget(self, slot: int) -> bool:
        framed = self._framed.pop(slot, None)
        if framed is None:
            return False
        slots = self._through[framed.next_hop]
        del slots[slot]
        if not slots:
            del self._through[framed.next_hop]
            self._renewed.pop(framed.next_hop, None)
        return True
