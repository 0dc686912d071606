"""RFC 4475 and RFC 5118 over real sockets: every message answered as the table says, and the proxy alive after each."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import trio

from nattrav.net.address import TransportAddress
from nattrav.sip.errors import MalformedMessage
from nattrav.sip.framer import StreamFramer
from nattrav.sip.message import Request, Response
from nattrav.sip.parser import parse_datagram_untrusted
from nattrav.sip.transport.io.resolver import NameService
from tests.proxy.playbook import request
from tests.proxy.test_proxy_daemon import Party, Running, running
from tests.proxy.test_torture import DOMAINS
from tests.vectors import rfc4475, rfc5118
from tests.vectors.vector import DROP, FORWARD, REGISTER, Vector

VECTORS = [*rfc4475.VECTORS, *rfc5118.VECTORS]
SIP = {
    "registrar": {"authentication": "none"},
    "domains": DOMAINS,
    "force_rport": "always",
    "limits": {"scanners": [], "failures_before_ban": 1000, "burst": 10_000},
}
FRAMING = frozenset(("ncl", "clerr", "mcl01", "insuf", "inv2543", "multi01"))
"""Messages that no stream can be cut into: no Content-Length, one that is no number or too large, or two."""


def read(data: bytes) -> Request | Response | None:
    try:
        return parse_datagram_untrusted(data)
    except MalformedMessage as fault:
        return fault.message


@pytest.fixture
def every_name_is_the_gateway(monkeypatch: pytest.MonkeyPatch) -> list[TransportAddress]:
    """Names of the examples lead to the gateway, without DNS."""
    at: list[TransportAddress] = []

    async def next_hops(self: NameService, uri: str) -> list[tuple[str, tuple[str, int], str | None]]:
        return [("udp", (one.host, one.port), None) for one in at]

    monkeypatch.setattr(NameService, "next_hops", next_hops)
    return at


async def is_alive(proxy: Running, phone: Party, number: int) -> list[Request | Response]:
    """Ask the proxy for an answer; give what came before it."""
    ping = request("OPTIONS", f"sip:{proxy.sip}", branch=f"z9hG4bKping{number}", call_id=f"p{number}", contact=None)
    await phone.send(proxy.sip, ping)
    before: list[Request | Response] = []
    while True:
        with trio.fail_after(5):
            data, _ = await phone.sock.recvfrom(65536)
        message = read(data)
        if isinstance(message, Response) and message.first("call-id") == f"p{number}":
            assert message.status == 200
            return before
        if message is not None:
            before.append(message)


def octets_for(vector: Vector, proxy: Running) -> bytes:
    """The message, its one Route to a port of this host leading to the gateway."""
    return vector.octets.replace(b"127.0.0.1:5080", str(proxy.gateway.address).encode())


def outcome(received: list[Request | Response]) -> str | int | None:
    finals = [message.status for message in received if isinstance(message, Response) and message.status >= 200]
    return None if not finals else REGISTER if finals[0] == 200 else finals[0]


async def forwarded(gateway: Party, seconds: float) -> bool:
    with trio.move_on_after(seconds):
        while True:
            data, _ = await gateway.sock.recvfrom(65536)
            if isinstance(read(data), Request) and not data.startswith((b"OPTIONS sip:127", b"CANCEL", b"ACK")):
                return True
    return False


async def drained(gateway: Party) -> None:
    with trio.move_on_after(0.001):
        while True:
            await gateway.sock.recvfrom(65536)


async def test_every_torture_message_over_udp(
    tmp_path: Path, every_name_is_the_gateway: list[TransportAddress]
) -> None:
    wrong: list[tuple[str, object]] = []
    async with running(tmp_path, **SIP) as proxy:
        every_name_is_the_gateway.append(proxy.gateway.address)
        for number, vector in enumerate(VECTORS):
            phone = await Party().bind()
            await drained(proxy.gateway)
            await phone.send(proxy.sip, octets_for(vector, proxy))
            got: str | int | None = outcome(await is_alive(proxy, phone, number))
            if got is None and FORWARD in (vector.expected, *vector.also):
                got = FORWARD if await forwarded(proxy.gateway, 2.0) else None
            if (DROP if got is None else got) not in (vector.expected, *vector.also):
                wrong.append((vector.name, got))
    assert wrong == []


async def test_every_torture_message_over_tcp(
    tmp_path: Path, every_name_is_the_gateway: list[TransportAddress]
) -> None:
    wrong: list[tuple[str, object]] = []
    async with running(tmp_path, **SIP) as proxy:
        every_name_is_the_gateway.append(proxy.gateway.address)
        pinger = await Party().bind()
        for number, vector in enumerate(VECTORS):
            await drained(proxy.gateway)
            got = await over_tcp(proxy, vector)
            await is_alive(proxy, pinger, number)
            allowed = {vector.expected, *vector.also}
            if vector.name in FRAMING:
                allowed |= {400, DROP}
            if got not in allowed:
                wrong.append((vector.name, got))
    assert wrong == []


async def over_tcp(proxy: Running, vector: Vector) -> str | int:
    """Send a message as all that a connection ever says; give what became of it."""
    stream = await trio.open_tcp_stream(*proxy.tcp)
    async with stream:
        await stream.send_all(octets_for(vector, proxy))
        stream.socket.shutdown(socket.SHUT_WR)
        framer, received = StreamFramer(), list[Request | Response]()
        with trio.move_on_after(0.15 if vector.expected in (FORWARD, DROP) else 2.0):
            while outcome(received) is None:
                chunk = await stream.receive_some(65536)
                if not chunk:
                    break
                received += [message for frame in framer.feed(chunk) if (message := read(frame)) is not None]
    got = outcome(received)
    if got is None and FORWARD in (vector.expected, *vector.also) and await forwarded(proxy.gateway, 0.5):
        return FORWARD
    return DROP if got is None else got
