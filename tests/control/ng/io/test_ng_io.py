"""Server and client on real sockets of this host."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest
import trio

from nattrav.config.control import ControlAddress
from nattrav.control.ng.client import Answered, RelayChanged
from nattrav.control.ng.handler import Handler
from nattrav.control.ng.io.client import NgClient, ask_once
from nattrav.control.ng.io.server import CannotListen, Listener, NgService
from nattrav.control.ng.server import Server
from nattrav.metrics.samples import Samples
from tests.relay.planes import engine
from tests.sdp.samples import PHONE, sdp

KEY = b"0123456789abcdef"
OFFER = {"sdp": sdp(*PHONE), "call-id": "c1", "from-tag": "a"}


@asynccontextmanager
async def relay(
    directory: Path, *listen: str, key: bytes | None = None, allow: str = "127.0.0.0/8", samples: Samples | None = None
) -> AsyncIterator[list[Listener]]:
    server = Server(Handler(engine()), allow=[ip_network(allow), ip_network("::1/128")], key=key)
    service = NgService(server, [ControlAddress.parse(text) for text in listen], directory=directory, samples=samples)
    async with trio.open_nursery() as nursery:
        yield await nursery.start(service.serve)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("listen", ["udp:127.0.0.1:0", "udp:[::1]:0", "unix:auto"])
async def test_a_relay_is_asked_over_datagrams(listen: str, tmp_path: Path) -> None:
    async with relay(tmp_path, listen) as (listener,):
        address = ControlAddress.parse(f"{listener.transport}:{listener.address}")
        reply = await ask_once(address, "offer", OFFER, directory=tmp_path, prefix="t")
        assert reply is not None
        assert reply["result"] == "ok"
        assert b"c=IN IP4 203.0.113.5" in reply["sdp"]


async def test_a_relay_is_asked_over_tcp_in_pieces(tmp_path: Path) -> None:
    async with relay(tmp_path, "tcp:127.0.0.1:0") as (listener,):
        host, _, port = listener.address.rpartition(":")
        stream = await trio.open_tcp_stream(host, int(port))
        async with stream:
            await stream.send_all(b"1 d7:command4:ping")
            await trio.sleep(0.01)
            await stream.send_all(b"e2 d7:command4:pinge")
            received = b""
            while received.count(b"pong") < 2:
                received += await stream.receive_some()
        assert received == b"1 d6:result4:ponge2 d6:result4:ponge"


async def test_a_tcp_client_that_is_not_listed_is_cut_off(tmp_path: Path) -> None:
    async with relay(tmp_path, "tcp:127.0.0.1:0", allow="192.0.2.0/24") as (listener,):
        host, _, port = listener.address.rpartition(":")
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            assert await stream.receive_some() == b""


async def test_with_the_shared_key_an_unlisted_source_is_served(tmp_path: Path) -> None:
    async with relay(tmp_path, "udp:127.0.0.1:0", key=KEY, allow="192.0.2.0/24") as (listener,):
        address = ControlAddress.parse(f"udp:{listener.address}")
        assert await ask_once(address, "ping", {}, directory=tmp_path, prefix="t", key=KEY) == {"result": "pong"}


async def test_without_it_nobody_answers(tmp_path: Path, autojump_clock: object) -> None:
    async with relay(tmp_path, "udp:127.0.0.1:0", key=KEY, allow="192.0.2.0/24") as (listener,):
        address = ControlAddress.parse(f"udp:{listener.address}")
        assert await ask_once(address, "ping", {}, directory=tmp_path, prefix="t") is None


async def test_many_requests_at_once_are_all_answered(tmp_path: Path) -> None:
    send, receive = trio.open_memory_channel[Answered](1000)
    samples = Samples()
    async with relay(tmp_path, "udp:127.0.0.1:0", samples=samples) as (listener,):
        address = ControlAddress.parse(f"udp:{listener.address}")
        client = NgClient([(address, 1)], directory=tmp_path, prefix="t", on_answer=send.send_nowait)
        async with trio.open_nursery() as nursery:
            await nursery.start(client.run)
            for number in range(200):
                client.ask("offer", {"sdp": sdp(*PHONE), "from-tag": "a"}, call_id=f"c{number}")
            answers = [await receive.receive() for _ in range(200)]
            nursery.cancel_scope.cancel()
    assert {answer.reply["result"] for answer in answers if answer.reply} == {"ok"}
    assert ["udp", "offer", "ok"] in [row[0] for row in samples.export()["nattrav_control_requests_total"]]


async def test_a_relay_that_comes_back_is_used_again(tmp_path: Path) -> None:
    send, receive = trio.open_memory_channel[RelayChanged](10)
    answers: list[Answered] = []
    client = NgClient(
        [(ControlAddress.parse("unix:auto"), 1)],
        directory=tmp_path,
        prefix="t",
        on_answer=answers.append,
        on_change=send.send_nowait,
        first_retry=0.02,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(client.run)
        assert not (await receive.receive()).up
        async with relay(tmp_path, "unix:auto"):
            assert (await receive.receive()).up
        nursery.cancel_scope.cancel()


async def test_a_stale_socket_file_is_replaced_and_a_live_one_respected(tmp_path: Path) -> None:
    stale = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    stale.bind(str(tmp_path / "relay-ng.sock"))
    stale.close()
    async with relay(tmp_path, "unix:auto") as (listener,):
        assert listener.address == str(tmp_path / "relay-ng.sock")
        with pytest.raises(BaseExceptionGroup) as refused:
            async with relay(tmp_path, "unix:auto"):
                pass
        assert refused.group_contains(CannotListen, match="in use by a running relay", depth=None)
    assert not (tmp_path / "relay-ng.sock").exists()


@pytest.mark.parametrize(
    ("listen", "message"),
    [
        ("udp:192.0.2.1:2223", "not on this host"),
        ("unix:/nonexistent/ng.sock", "directory does not exist"),
    ],
)
async def test_a_listener_that_cannot_be_opened_gives_one_clear_line(listen: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(BaseExceptionGroup) as refused:
        async with relay(tmp_path, listen):
            pass
    assert refused.group_contains(CannotListen, match=message, depth=None)


async def test_a_port_that_is_taken_gives_one_clear_line(tmp_path: Path) -> None:
    async with relay(tmp_path, "udp:127.0.0.1:0") as (listener,):
        with pytest.raises(BaseExceptionGroup) as refused:
            async with relay(tmp_path, f"udp:{listener.address}"):
                pass
        assert refused.group_contains(CannotListen, match="another relay running", depth=None)
