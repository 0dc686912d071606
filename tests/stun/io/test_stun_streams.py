"""STUN over TCP and TLS on loopback: pipelined, bounded, closed when it should be."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from nattrav.net.address import TransportAddress
from stun.admission import Admission, Limits
from stun.attributes import AttributeType, decode_xor_address
from stun.behavior import Endpoint, ServerAddress, lay_out
from stun.io.streams import Certificate, StreamLimits, StreamServer
from stun.message import BINDING, HEADER, MessageClass, decode, encode
from stun.responder import Responder

T = AttributeType


def request(number: int, *attributes: tuple[int, bytes]) -> bytes:
    return encode(BINDING, MessageClass.REQUEST, number.to_bytes(12, "big"), attributes)


@asynccontextmanager
async def serving(
    bounds: StreamLimits | None = None, limits: Limits | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[StreamServer, TransportAddress]]:
    with trio.socket.socket() as probe:
        await probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = StreamServer(
        Responder(lay_out([ServerAddress("127.0.0.1")], port, 1)),
        Admission(limits or Limits(), (11, 13)),
        threading.Lock(),
        bounds or StreamLimits(),
        tls=tls,
    )
    await server.open()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        try:
            yield server, TransportAddress("127.0.0.1", port)
        finally:
            nursery.cancel_scope.cancel()


async def read(stream: trio.abc.Stream) -> bytes:
    data = b""
    while len(data) < HEADER or len(data) < HEADER + int.from_bytes(data[2:4], "big"):
        more = bytes(await stream.receive_some(HEADER if len(data) < HEADER else HEADER + data[3] - len(data)))
        if not more:
            return data
        data += more
    return data


async def test_T1_T2_pipelined_requests_are_all_answered_in_whatever_pieces() -> None:
    async with serving() as (server, address), await trio.open_tcp_stream(*address) as stream:
        sent = request(1) + request(2, (T.SOFTWARE, b"abc")) + request(3)
        for cut in (sent[:7], sent[7:30], sent[30:]):
            await stream.send_all(cut)
            await trio.sleep(0.01)
        for number in (1, 2, 3):
            message = decode(await read(stream))
            assert message.transaction_id == number.to_bytes(12, "big")
            mapped = decode_xor_address(message.first(T.XOR_MAPPED_ADDRESS) or b"", message.transaction_id)
            assert mapped == stream.socket.getsockname()
        assert int(server.counters.requests[1, 0]) == 3


async def test_T3_garbage_closes_the_stream_with_its_reason() -> None:
    async with serving() as (server, address), await trio.open_tcp_stream(*address) as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n")
        with trio.fail_after(2):
            assert await stream.receive_some(100) == b""
        assert server.counters.drops()["not_stun"] == 1


async def test_T4_an_idle_connection_is_closed_after_a_while() -> None:
    async with serving(StreamLimits(idle=0.05)) as (server, address), await trio.open_tcp_stream(*address) as stream:
        await stream.send_all(request(1))
        assert len(await read(stream)) == HEADER + 36
        with trio.fail_after(2):
            assert await stream.receive_some(100) == b""
        assert server.connections == 0


async def test_T5_one_host_has_only_so_many_connections() -> None:
    async with serving(StreamLimits(connections_per_host=2)) as (server, address):
        streams = [await trio.open_tcp_stream(*address) for _ in range(2)]
        for number, stream in enumerate(streams):
            await stream.send_all(request(number))
            await read(stream)
        third = await trio.open_tcp_stream(*address)
        with trio.fail_after(2):
            assert await _ended(third)
        assert server.refused == 1
        for stream in (*streams, third):
            await stream.aclose()


async def _ended(stream: trio.SocketStream) -> bool:
    try:
        return await stream.receive_some(1) == b""
    except trio.BrokenResourceError:
        return True


async def test_X1_streams_draw_from_the_same_limits() -> None:
    limits = Limits(source_rate=0.001, source_burst=2, exempt=())
    async with serving(limits=limits) as (server, address), await trio.open_tcp_stream(*address) as stream:
        await stream.send_all(b"".join(request(n) for n in range(5)))
        for _ in range(2):
            await read(stream)
        with trio.move_on_after(0.2) as waited:
            await stream.receive_some(1)
        assert waited.cancelled_caught
        assert server.counters.drops()["rate_limited"] == 3


async def test_a_taken_port_is_named(full_set: tuple[Endpoint, ...]) -> None:
    async with serving() as (server, address):
        second = StreamServer(
            Responder(server.endpoints), Admission(Limits(), (11, 13)), threading.Lock(), StreamLimits()
        )
        with pytest.raises(OSError, match=str(address)):
            await second.open()


def certify(directory: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl: apt install openssl")
    chain, key = directory / "chain.pem", directory / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", chain],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return chain, key


async def test_T6_tls_answers_and_takes_a_new_certificate_without_restart(tmp_path: Path) -> None:
    certificate = Certificate(*certify(tmp_path, "first"))
    async with serving(tls=certificate.context) as (server, address):
        assert await _over_tls(address, tmp_path / "chain.pem") == 0x0101
        chain, key = certify(tmp_path, "second")
        os.utime(chain, (1, 1))
        assert certificate.refresh()
        assert await _over_tls(address, chain) == 0x0101
        key.write_text("nonsense")
        assert not certificate.refresh()
        assert await _over_tls(address, chain) == 0x0101
        assert int(server.counters.requests[2, 0]) == 3


async def _over_tls(address: TransportAddress, trusted: Path) -> int:
    context = ssl.create_default_context(cafile=str(trusted))
    raw = await trio.open_tcp_stream(*address)
    async with trio.SSLStream(raw, context, server_hostname="127.0.0.1", https_compatible=True) as stream:
        await stream.send_all(request(1))
        return int.from_bytes((await read(stream))[:2], "big")


async def test_T5_a_peer_that_speaks_no_tls_is_let_go(tmp_path: Path) -> None:
    certificate = Certificate(*certify(tmp_path, "first"))
    bounds = StreamLimits(handshake=0.1)
    async with serving(bounds, tls=certificate.context) as (server, address):
        for greeting in (request(1), b""):
            stream = await trio.open_tcp_stream(*address)
            if greeting:
                await stream.send_all(greeting)
            with trio.fail_after(2):
                assert await _closed(stream)
            await stream.aclose()
        assert server.connections == 0


async def _closed(stream: trio.SocketStream) -> bool:
    """Whether the peer closes, maybe after a TLS alert."""
    try:
        while await stream.receive_some(100):
            pass
    except trio.BrokenResourceError:
        return True
    return True
