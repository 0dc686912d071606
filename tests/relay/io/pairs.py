"""Two parties and the two flows between them, on real sockets."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from dataclasses import replace

from nattrav.net.address import TransportAddress
from nattrav.net.options import open_udp
from relay.io.pump import DataPlane
from relay.plane import Content, FlowSettings
from relay.rtp import encode_header

HOSTS = {4: "127.0.0.1", 6: "::1"}


def rtp(sequence: int, ssrc: int = 7, size: int = 160) -> bytes:
    return encode_header(0, sequence, sequence * 160, ssrc) + bytes(size)


class Party:
    """A socket that plays one side."""

    def __init__(self, family: int = 4) -> None:
        self.sock = open_udp(TransportAddress(HOSTS[family], 0))
        self.address = local_of(self.sock)

    def send(self, payload: bytes, to: TransportAddress) -> None:
        self.sock.sendto(payload, to)

    def receive(self, count: int = 1, timeout: float = 2.0) -> list[bytes]:
        """Give up to `count` payloads, waiting for them."""
        self.sock.settimeout(timeout)
        found: list[bytes] = []
        with contextlib.suppress(TimeoutError):
            while len(found) < count:
                found.append(self.sock.recv(4096))
        self.sock.setblocking(False)
        return found

    def hears_nothing(self) -> bool:
        return self.receive(1, 0.08) == []


def local_of(sock: socket.socket) -> TransportAddress:
    return TransportAddress(*sock.getsockname()[:2])


def soon(condition: Callable[[], bool], timeout: float = 2.0) -> bool:
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.005)
    return condition()


class Pair:
    """Two flows of one stream, and where their parties send to."""

    def __init__(
        self, plane: DataPlane, a: TransportAddress, b: TransportAddress, *, shard: int = 0, **more: object
    ) -> None:
        self.plane = plane
        content = Content(more.pop("content", Content.RTP))
        self.settings = [FlowSettings(content, advertised=advertised, public=True, **more) for advertised in (a, b)]
        self.local, self.flow = [], []
        for settings in self.settings:
            sock = open_udp(TransportAddress(HOSTS[6 if ":" in settings.advertised.host else 4], 0))
            self.local.append(local_of(sock))
            self.flow.append(plane.open(sock, self.local[-1], settings, shard=shard))
        for index in (0, 1):
            other = self.flow[1 - index]
            self.settings[index] = replace(self.settings[index], egress=other, egress_rtcp=other)
            plane.set(self.flow[index], self.settings[index], relearn=False)

    def change(self, index: int, *, relearn: bool = False, **changes: object) -> None:
        self.settings[index] = replace(self.settings[index], **changes)
        self.plane.set(self.flow[index], self.settings[index], relearn=relearn)
