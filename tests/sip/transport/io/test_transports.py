"""The transports on loopback: batches in, lists out, flows that open and close."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.lowlevel
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, RejectConnection, Request, TextMessage

from nattrav.net.address import TransportAddress
from nattrav.net.options import open_udp
from nattrav.sip.transport.flow import (
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
)
from nattrav.sip.transport.io.stream import open_stream_listener
from nattrav.sip.transport.io.tls import Certificate, TlsContexts
from nattrav.sip.transport.io.transports import Transports
from nattrav.sip.transport.limits import StreamLimits

LOOPBACK = TransportAddress("127.0.0.1", 0)
OPTIONS = (
    b"OPTIONS sip:b@example.com SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1;branch=z9hG4bKx\r\n"
    b"From: <sip:a@example.com>;tag=1\r\nTo: <sip:b@example.com>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n"
    b"Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
)
ANSWER = b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"


class Shell:
    """Transports with an echo in place of a core: every message is answered on its flow."""

    def __init__(self, **options: object) -> None:
        self.items: list[Incoming] = []
        self.batches: list[int] = []
        self.transports = Transports(self.deliver, **options)  # type: ignore[arg-type]
        self.answer: bytes | None = ANSWER

    def deliver(self, batch: list[Incoming]) -> None:
        self.items += batch
        self.batches.append(len(batch))
        for flow, item in batch:
            if isinstance(item, bytes) and flow is not None and self.answer is not None:
                self.transports.send([Outgoing(flow, self.answer)])

    def events(self, kind: type) -> list[tuple[Flow | None, object]]:
        return [(flow, item) for flow, item in self.items if isinstance(item, kind)]

    async def until(self, true: Callable[[], bool]) -> None:
        with trio.fail_after(10):
            while not true():  # noqa: ASYNC110
                await trio.sleep(0.005)


@asynccontextmanager
async def serving(shell: Shell) -> AsyncIterator[Shell]:
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: shell.transports.run(task_status=task_status))
        yield shell
        nursery.cancel_scope.cancel()


async def read(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    data = b""
    with trio.fail_after(10):
        while len(data) < size:
            more = await stream.receive_some(65536)
            if not more:
                break
            data += more
    return data


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Certificate]:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl: apt install openssl")
    folder = tmp_path_factory.mktemp("certificates")
    made = {}
    for name in ("a.example", "b.example"):
        chain, key = folder / f"{name}.pem", folder / f"{name}.key"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
        subprocess.run([*command, "-keyout", str(key), "-out", str(chain)], check=True, capture_output=True)
        made[name] = Certificate(chain, key, (name,))
    return made


async def test_datagrams_that_wait_together_are_delivered_and_answered_together() -> None:
    shell = Shell()
    listener = shell.transports.add_udp(open_udp(LOOPBACK))
    client = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
    await client.bind(LOOPBACK)
    for _ in range(20):
        await client.sendto(OPTIONS, listener.local)
    async with serving(shell):
        for _ in range(20):
            with trio.fail_after(5):
                assert await client.recvfrom(9999) == (ANSWER, listener.local)
    assert shell.batches == [20]
    flow = shell.items[0][0]
    assert flow == Flow("udp", listener.id, listener.local, TransportAddress(*client.getsockname()))
    client.close()


async def test_stun_and_keepalives_on_the_udp_port_do_not_reach_the_core_as_messages() -> None:
    shell = Shell(stun=lambda data, flow: b"stun answer" if data[:1] == b"\0" else None)
    listener = shell.transports.add_udp(open_udp(LOOPBACK))
    client = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
    await client.bind(LOOPBACK)
    stun = bytes([0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42]) + bytes(12)
    for datagram in (stun, b"\r\n\r\n", b"\0\0\0\0", b"", b"\r\n" + OPTIONS):
        await client.sendto(datagram, listener.local)
    async with serving(shell):
        with trio.fail_after(5):
            assert [(await client.recvfrom(9999))[0] for _ in range(2)] == [b"stun answer", ANSWER]
    assert [item for _, item in shell.items] == [Kept("stun"), Kept("crlf"), Kept("crlf"), Kept("crlf"), OPTIONS]
    client.close()


async def test_a_refused_datagram_with_a_ticket_comes_back() -> None:
    shell = Shell()
    listener = shell.transports.add_udp(open_udp(LOOPBACK))
    async with serving(shell):
        flow = Flow("udp", listener.id, listener.local, TransportAddress("127.0.0.1", 9))
        shell.transports.send([Outgoing(flow, bytes(66000), "ticket"), Outgoing(flow, bytes(66000))])
        assert [item.ticket for _, item in shell.items if isinstance(item, SendFailed)] == ["ticket"]
        unknown = flow._replace(listener=listener.id ^ 1)
        shell.transports.send([Outgoing(unknown, b"x", "other")])
        assert [item.ticket for _, item in shell.items if isinstance(item, SendFailed)] == ["ticket", "other"]


async def test_a_tcp_connection_carries_messages_in_pieces_and_pings() -> None:
    shell = Shell()
    listener = shell.transports.add_stream("tcp", open_stream_listener(LOOPBACK))
    async with serving(shell):
        client = await trio.open_tcp_stream(*listener.local)
        await client.send_all(OPTIONS[:40])
        await trio.sleep(0.02)
        await client.send_all(OPTIONS[40:] + b"\r\n\r\n" + OPTIONS)
        answers = await read(client, 2 * len(ANSWER) + 2)
        assert sorted(len(part) for part in answers.split(ANSWER)) == [0, 0, 2]
        flow = shell.events(FlowOpened)[0][0]
        assert flow is not None
        assert shell.transports.is_open(flow)
        assert [item for _, item in shell.items if isinstance(item, bytes)] == [OPTIONS, OPTIONS]
        assert shell.events(Kept) == [(flow, Kept("crlf"))]
        await client.aclose()
        await shell.until(lambda: shell.events(FlowClosed) == [(flow, FlowClosed(CloseReason.PEER))])
        assert not shell.transports.is_open(flow)
        assert shell.transports.connections == 0


async def test_a_stream_without_content_length_is_told_and_closed() -> None:
    shell = Shell()
    listener = shell.transports.add_stream("tcp", open_stream_listener(LOOPBACK))
    async with serving(shell):
        client = await trio.open_tcp_stream(*listener.local)
        await client.send_all(OPTIONS.replace(b"Content-Length: 0", b"Content-Length: -1"))
        assert await read(client, 1) == b""
        await client.aclose()
        await shell.until(lambda: bool(shell.events(FlowClosed)))
    ((_, malformed),) = shell.events(Malformed)
    assert isinstance(malformed, Malformed)
    assert malformed.fault.message is not None
    assert malformed.fault.message.call_id == "x"
    assert shell.events(FlowClosed)[0][1] == FlowClosed(CloseReason.MALFORMED)


async def test_a_message_to_a_target_opens_one_connection_and_keeps_it() -> None:
    server, client = Shell(), Shell()
    listener = server.transports.add_stream("tcp", open_stream_listener(LOOPBACK))
    client.answer = None
    target = Target("tcp", listener.local)
    async with serving(server), serving(client):
        client.transports.send([Outgoing(target, OPTIONS), Outgoing(target, OPTIONS)])
        await client.until(lambda: sum(isinstance(item, bytes) for _, item in client.items) == 2)
        client.transports.send([Outgoing(target, OPTIONS)])
        await client.until(lambda: sum(isinstance(item, bytes) for _, item in client.items) == 3)
        assert len(server.events(FlowOpened)) == 1
        assert client.events(FlowOpened)[0][1] == FlowOpened(accepted=False)


async def test_a_target_nobody_listens_on_fails_with_its_tickets() -> None:
    shell = Shell()
    closed = open_stream_listener(LOOPBACK)
    target = Target("tcp", TransportAddress(*closed.getsockname()))
    closed.close()
    async with serving(shell):
        shell.transports.send([Outgoing(target, OPTIONS, 1), Outgoing(target, OPTIONS), Outgoing(target, OPTIONS, 2)])
        await shell.until(lambda: len(shell.items) == 3)
    assert [item.ticket for _, item in shell.items if isinstance(item, SendFailed)] == [1, 2]
    assert [item for _, item in shell.items if isinstance(item, Undelivered)] == [Undelivered(target, OPTIONS, True)]


@pytest.mark.parametrize("busy", [False, True])
async def test_a_datagram_that_icmp_sends_back_is_told_and_costs_no_other_one(busy: bool) -> None:
    shell, other = Shell(), Shell()
    shell.answer = other.answer = None
    ours, theirs = shell.transports.add_udp(open_udp(LOOPBACK)), other.transports.add_udp(open_udp(LOOPBACK))
    gone = open_udp(LOOPBACK)
    nobody = Flow("udp", ours.id, ours.local, TransportAddress(*gone.getsockname()))
    gone.close()
    somebody = Flow("udp", ours.id, ours.local, theirs.local)
    async with serving(shell), serving(other):
        for _ in range(3):
            others = [Outgoing(somebody, OPTIONS)] * (20 if busy else 1)
            shell.transports.send([Outgoing(nobody, OPTIONS), *others])
        await shell.until(lambda: any(isinstance(item, Undelivered) for _, item in shell.items))
        await other.until(lambda: len(other.items) == (60 if busy else 3))
        shell.transports.send([Outgoing(somebody, OPTIONS)])
        await other.until(lambda: len(other.items) == (61 if busy else 4))
    flow, told = next((flow, item) for flow, item in shell.items if isinstance(item, Undelivered))
    assert flow == nobody == told.to
    assert OPTIONS.startswith(told.data)
    assert not told.whole


async def test_more_connections_than_allowed_are_refused_at_the_door() -> None:
    shell = Shell(limits=StreamLimits(per_source=1))
    listener = shell.transports.add_stream("tcp", open_stream_listener(LOOPBACK))
    async with serving(shell):
        first = await trio.open_tcp_stream(*listener.local)
        await shell.until(lambda: shell.transports.connections == 1)
        second = await trio.open_tcp_stream(*listener.local)
        assert await read(second, 1) == b""
        assert shell.transports.refused_connections == 1
        await first.aclose()
        await second.aclose()


async def test_a_silent_or_slow_client_is_closed() -> None:
    shell = Shell(limits=StreamLimits(greeting=0.1, slow=0.1))
    listener = shell.transports.add_stream("tcp", open_stream_listener(LOOPBACK))
    async with serving(shell):
        client = await trio.open_tcp_stream(*listener.local)
        assert await read(client, 1) == b""
        await shell.until(lambda: bool(shell.events(FlowClosed)))
        assert shell.events(FlowClosed)[0][1] == FlowClosed(CloseReason.SLOW)
        await client.aclose()


async def test_a_peer_who_does_not_read_is_closed_when_its_backlog_is_full() -> None:
    shell = Shell(limits=StreamLimits(backlog=100_000))
    shell.answer = b"x" * 60_000
    listener = shell.transports.add_stream("tcp", open_stream_listener(LOOPBACK))
    async with serving(shell):
        client = await trio.open_tcp_stream(*listener.local)
        with trio.fail_after(10):
            while not shell.events(FlowClosed):
                try:
                    await client.send_all(OPTIONS)
                except trio.BrokenResourceError:
                    await shell.until(lambda: bool(shell.events(FlowClosed)))
                await trio.lowlevel.checkpoint()
        assert shell.events(FlowClosed)[0][1] == FlowClosed(CloseReason.BACKLOG)
        await client.aclose()


async def test_tls_picks_the_certificate_by_server_name_and_reloads(certificates: dict[str, Certificate]) -> None:
    a, b = certificates["a.example"], certificates["b.example"]
    contexts = TlsContexts((a, b))
    shell = Shell(tls=contexts)
    listener = shell.transports.add_stream("tls", open_stream_listener(LOOPBACK))
    async with serving(shell):
        for name in ("a.example", "b.example"):
            trusted = ssl.create_default_context(cafile=str(certificates[name].chain))
            stream = await trio.open_tcp_stream(*listener.local)
            client = trio.SSLStream(stream, trusted, server_hostname=name, https_compatible=True)
            await client.send_all(OPTIONS)
            assert await read(client, len(ANSWER)) == ANSWER
            await client.aclose()
        contexts.certificates = (b,)
        contexts.reload()
        trusted = ssl.create_default_context(cafile=str(b.chain))
        stream = await trio.open_tcp_stream(*listener.local)
        client = trio.SSLStream(stream, trusted, server_hostname="b.example", https_compatible=True)
        await client.send_all(OPTIONS)
        assert await read(client, len(ANSWER)) == ANSWER
        await client.aclose()


async def test_tls_is_spoken_as_a_client_and_the_name_is_checked(certificates: dict[str, Certificate]) -> None:
    a = certificates["a.example"]
    server = Shell(tls=TlsContexts((a,)))
    listener = server.transports.add_stream("tls", open_stream_listener(LOOPBACK))
    client = Shell(tls=TlsContexts((), trusted=a.chain))
    client.answer = None
    async with serving(server), serving(client):
        client.transports.send([Outgoing(Target("tls", listener.local, "a.example"), OPTIONS, "good")])
        await client.until(lambda: any(item == ANSWER for _, item in client.items))
        client.transports.send([Outgoing(Target("tls", listener.local, "wrong.example"), OPTIONS, "bad")])
        await client.until(lambda: bool(client.events(SendFailed)))
    ((_, failed),) = client.events(SendFailed)
    assert isinstance(failed, SendFailed)
    assert failed.ticket == "bad"
    assert "wrong.example" in failed.reason


@pytest.mark.parametrize(("shows", "required", "names"), [(True, False, ("b.example",)), (False, False, None)])
async def test_a_tls_client_that_shows_a_certificate_proves_its_names(
    certificates: dict[str, Certificate], shows: bool, required: bool, names: tuple[str, ...] | None
) -> None:
    a, b = certificates["a.example"], certificates["b.example"]
    server = Shell(tls=TlsContexts((a,), client_authority=b.chain, client_required=required))
    listener = server.transports.add_stream("tls", open_stream_listener(LOOPBACK))
    client = Shell(tls=TlsContexts((b,) if shows else (), trusted=a.chain))
    client.answer = None
    async with serving(server), serving(client):
        client.transports.send([Outgoing(Target("tls", listener.local, "a.example"), OPTIONS)])
        await client.until(lambda: len(client.events(bytes)) == 1)
    proved = [item.names for _, item in server.items if isinstance(item, PeerProved)]
    assert proved == ([names] if names is not None else [])
    kinds = [type(item) for _, item in server.items]
    assert not shows or kinds.index(PeerProved) < kinds.index(bytes)


@pytest.mark.parametrize("other", ["a.example", None])
async def test_a_tls_client_without_a_certificate_of_ours_is_turned_away_where_one_is_required(
    certificates: dict[str, Certificate], other: str | None
) -> None:
    a, b = certificates["a.example"], certificates["b.example"]
    server = Shell(tls=TlsContexts((a,), client_authority=b.chain, client_required=True))
    listener = server.transports.add_stream("tls", open_stream_listener(LOOPBACK))
    client = Shell(tls=TlsContexts(() if other is None else (certificates[other],), trusted=a.chain))
    async with serving(server), serving(client):
        client.transports.send([Outgoing(Target("tls", listener.local, "a.example"), OPTIONS, 1)])
        await client.until(lambda: bool(client.events(FlowClosed) or client.events(SendFailed)))
    assert server.events(bytes) == []


async def test_garbage_on_a_tls_port_closes_the_connection(certificates: dict[str, Certificate]) -> None:
    shell = Shell(tls=TlsContexts((certificates["a.example"],)))
    listener = shell.transports.add_stream("tls", open_stream_listener(LOOPBACK))
    async with serving(shell):
        client = await trio.open_tcp_stream(*listener.local)
        await client.send_all(OPTIONS)
        await shell.until(lambda: bool(shell.events(FlowClosed)))
        await client.aclose()


async def test_a_websocket_carries_one_message_per_message() -> None:
    shell = Shell()
    listener = shell.transports.add_stream("ws", open_stream_listener(LOOPBACK))
    async with serving(shell):
        stream = await trio.open_tcp_stream(*listener.local)
        client = WSConnection(ConnectionType.CLIENT)
        await stream.send_all(client.send(Request(host="example.com", target="/", subprotocols=["sip"])))
        client.receive_data(await stream.receive_some())
        (accepted,) = client.events()
        assert isinstance(accepted, AcceptConnection)
        assert accepted.subprotocol == "sip"
        await stream.send_all(client.send(TextMessage(OPTIONS.decode())))
        client.receive_data(await stream.receive_some())
        (answer,) = client.events()
        assert isinstance(answer, TextMessage)
        assert answer.data == ANSWER.decode()
        await stream.aclose()
        await shell.until(lambda: bool(shell.events(FlowClosed)))


async def test_a_websocket_client_without_the_sip_sub_protocol_is_refused() -> None:
    shell = Shell()
    listener = shell.transports.add_stream("ws", open_stream_listener(LOOPBACK))
    async with serving(shell):
        stream = await trio.open_tcp_stream(*listener.local)
        client = WSConnection(ConnectionType.CLIENT)
        await stream.send_all(client.send(Request(host="example.com", target="/")))
        client.receive_data(await read(stream, 100000))
        event = next(iter(client.events()))
        assert isinstance(event, RejectConnection)
        assert event.status_code == 400
        await stream.aclose()


async def test_websocket_is_spoken_as_a_client_over_tls(certificates: dict[str, Certificate]) -> None:
    a = certificates["a.example"]
    server = Shell(tls=TlsContexts((a,)))
    listener = server.transports.add_stream("wss", open_stream_listener(LOOPBACK))
    client = Shell(tls=TlsContexts((), trusted=a.chain))
    client.answer = None
    async with serving(server), serving(client):
        client.transports.send([Outgoing(Target("wss", listener.local, "a.example"), OPTIONS)])
        await client.until(lambda: any(item == ANSWER for _, item in client.items))


async def test_stopping_closes_every_socket() -> None:
    shell = Shell()
    listener = shell.transports.add_stream("tcp", open_stream_listener(LOOPBACK))
    async with serving(shell):
        client = await trio.open_tcp_stream(*listener.local)
        await shell.until(lambda: shell.transports.connections == 1)
    assert await read(client, 1) == b""
    assert shell.transports.connections == 0
    with pytest.raises(OSError):
        await trio.open_tcp_stream(*listener.local)
    await client.aclose()


def test_a_tls_listener_needs_a_certificate(tmp_path: Path) -> None:
    sock = open_stream_listener(LOOPBACK)
    with pytest.raises(ValueError, match="certificate"):
        Transports(lambda batch: None).add_stream("tls", sock)
    sock.close()
