"""Load for `nattrav bench stun` and `bench relay`: batches of datagrams, as many in flight as the sockets hold."""

from __future__ import annotations

import secrets
import socket
import struct
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import trio

from nattrav.config.control import ControlAddress
from nattrav.control.ng.io.client import ask_once
from nattrav.net.address import TransportAddress
from nattrav.net.batch import Batch
from nattrav.net.mmsg import Datagrams, open_datagrams
from stun.message import BINDING, MessageClass, encode

PATIENCE = 0.05
"""Seconds after which what is missing of a round counts as lost."""

SDP = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
)
RTP_SIZE = 172


class Source:
    """One socket with a batch that it sends again and again to one place."""

    def __init__(self, payloads: Sequence[bytes]) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        self.sock = sock
        self.port: int = sock.getsockname()[1]
        self._ways: Datagrams = open_datagrams(sock)
        self._out = Batch(len(payloads), 256)
        self._in = Batch(len(payloads), 256)
        self._payloads = payloads

    def aim(self, to: TransportAddress) -> None:
        """Send there from now on."""
        for slot, payload in enumerate(self._payloads):
            self._out.put(slot, payload, to)
        self._out.count = len(self._payloads)

    def advance(self) -> None:
        """Number the RTP packets of the next batch on: sequence by one a packet, time by 160."""
        count = self._out.count
        for offset, kind, step in ((2, ">u2", 1), (4, ">u4", 160)):
            size = np.dtype(kind).itemsize
            values = self._out.data[:count, offset : offset + size].copy().view(kind).reshape(count)
            values += np.array(count * step, kind)
            self._out.data[:count, offset : offset + size] = values.view(np.uint8).reshape(count, size)

    def send(self) -> int:
        """Send the batch; how many left."""
        return self._ways.send(self._out)

    def receive(self) -> int:
        """Take what is waiting; how many."""
        return self._ways.receive(self._in)


@contextmanager
def closing(sources: list[Source]) -> Generator[list[Source], None, None]:
    """Close the sockets at the end."""
    try:
        yield sources
    finally:
        for source in sources:
            source.sock.close()


def rounds(sources: Sequence[Source], seconds: float, *, numbered: bool) -> tuple[int, int, float]:
    """Send every batch, wait until all is back or time is up, again; packets sent, come back, and seconds taken."""
    sent = back = 0
    begun = time.monotonic()
    end = begun + seconds
    while (now := time.monotonic()) < end:
        waiting = 0
        for source in sources:
            if numbered:
                source.advance()
            waiting += source.send()
        sent += waiting
        until = now + PATIENCE
        while waiting > 0:
            found = sum(source.receive() for source in sources)
            back += found
            waiting -= found
            if not found and time.monotonic() > until:
                break
            if found:
                until = time.monotonic() + PATIENCE
    return sent, back, time.monotonic() - begun


def binding_sources(server: TransportAddress, sockets: int, batch: int) -> list[Source]:
    """Sockets that ask a STUN server, each request with a transaction id of its own."""
    found = []
    for _ in range(sockets):
        source = Source([encode(BINDING, MessageClass.REQUEST, secrets.token_bytes(12)) for _ in range(batch)])
        source.aim(server)
        found.append(source)
    return found


async def rtp_sources(directory: Path, sessions: int, batch: int) -> list[Source]:
    """Open sessions by ng; two sockets each, that have been learned and send to the other through the relay."""
    found = []
    for number in range(sessions):
        ends = [Source(_rtp(batch)) for _ in range(2)]
        ports = []
        for command, end in (("offer", ends[0]), ("answer", ends[1])):
            tags = {"from-tag": "a"} if command == "offer" else {"from-tag": "a", "to-tag": "b"}
            reply = await _ng(directory, command, {"call-id": f"bench-{number}", **tags}, end.port)
            ports.append(_media_port(reply["sdp"]))
        # The offer's reply is what the callee is told, so the callee sends there.
        for end, port in zip(ends, reversed(ports), strict=True):
            end.aim(TransportAddress("127.0.0.1", port))
            end.send()
        found += ends
    await trio.sleep(0.3)
    for source in found:
        while source.receive():
            pass
    return found


def _rtp(batch: int) -> list[bytes]:
    ssrc = secrets.randbits(32)
    body = bytes(RTP_SIZE - 12)
    return [struct.pack("!BBHII", 0x80, 0, n, n * 160, ssrc) + body for n in range(batch)]


async def _ng(directory: Path, command: str, arguments: dict[str, Any], port: int) -> dict[str, Any]:
    address = ControlAddress.parse("unix:auto")
    body = {**arguments, "sdp": SDP.format(port=port)}
    reply = await ask_once(address, command, body, directory=directory, prefix=secrets.token_hex(4))
    if reply is None or reply.get("result") != "ok":
        raise RuntimeError(f"the relay refuses {command}: {reply}")
    return reply


def _media_port(sdp: str | bytes) -> int:
    text = sdp.decode("latin-1") if isinstance(sdp, bytes) else sdp
    return int(next(line for line in text.splitlines() if line.startswith("m=audio")).split()[1])
