"""Asking over TCP and TLS: mapped addresses, and failures in words."""

from __future__ import annotations

import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from nattrav.net.address import TransportAddress
from stun.admission import UNLIMITED, Admission
from stun.behavior import ServerAddress, lay_out
from stun.discovery import Dependence
from stun.io.client import new_transaction_id
from stun.io.connections import ask_tcp, ask_tls
from stun.io.probe import Prober, Streams
from stun.io.streams import Certificate, StreamLimits, StreamServer
from stun.message import BINDING, MessageClass, encode
from stun.responder import Responder
from tests.stun.io.test_stun_streams import certify


def request() -> bytes:
    return encode(BINDING, MessageClass.REQUEST, new_transaction_id(), [])


@asynccontextmanager
async def serving(tls: ssl.SSLContext | None = None) -> AsyncIterator[TransportAddress]:
    with trio.socket.socket() as first, trio.socket.socket() as second:
        for sock in (first, second):
            await sock.bind(("127.0.0.1", 0))
        ports = first.getsockname()[1], second.getsockname()[1]
    endpoints = lay_out([ServerAddress("127.0.0.1", alternate="127.0.0.2")], *ports)
    admission = Admission(UNLIMITED, (11, 13))
    server = StreamServer(Responder(endpoints), admission, threading.Lock(), StreamLimits(), tls=tls)
    await server.open()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        try:
            yield endpoints[0].local
        finally:
            nursery.cancel_scope.cancel()


async def test_without_nat_the_address_over_tcp_is_the_local_one() -> None:
    async with serving() as server:
        found = await ask_tcp(server, request)
    assert found.mapped is not None
    assert (found.mapped.host, found.mapping, found.failure) == ("127.0.0.1", Dependence.INDEPENDENT, "")


async def test_a_closed_port_and_a_server_of_something_else_are_failures_with_words() -> None:
    async with serving() as server:
        pass
    assert "refused" in (await ask_tcp(server, request)).failure

    async def greet(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 mail.example.net ESMTP ready when you are")

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, greet, 0, host="127.0.0.1"))
        place = TransportAddress("127.0.0.1", listeners[0].socket.getsockname()[1])
        assert (await ask_tcp(place, request)).failure
        assert (await ask_tls(place, "127.0.0.1", request(), ssl.create_default_context())).failure
        nursery.cancel_scope.cancel()


async def test_over_tls_the_certificate_must_hold(tmp_path: Path) -> None:
    chain, key = certify(tmp_path, "server")
    trusting = ssl.create_default_context(cafile=str(chain))
    async with serving(Certificate(chain, key).context) as server:
        found = await ask_tls(server, "127.0.0.1", request(), trusting)
        assert found.mapped is not None
        assert found.mapped.host == "127.0.0.1"
        stranger = await ask_tls(server, "127.0.0.1", request(), ssl.create_default_context())
        assert stranger.failure.startswith("the certificate does not hold: self")
        misnamed = await ask_tls(server, "stun.example.net", request(), trusting)
        assert "stun.example.net" in misnamed.failure


async def test_a_server_that_is_silent_over_udp_is_asked_over_tcp_and_then_over_tls(tmp_path: Path) -> None:
    chain, key = certify(tmp_path, "server")
    async with serving(Certificate(chain, key).context) as server:
        nobody = TransportAddress("127.0.0.1", server.port + 1 if server.port < 65535 else 1)
        report = await Prober(nobody, streams=Streams(tls_port=server.port, authority=str(chain))).run()
    assert report.tcp is not None
    assert report.tcp.failure
    assert report.tls is not None
    assert report.tls.mapped is not None
    assert report.label.value == "UDP blocked"
