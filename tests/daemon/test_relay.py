"""The relay as a service: ng in, media through, verbs and events on the control socket."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from nattrav.config.schema import Configuration
from nattrav.control.ng.codec_bencode import decode, encode
from nattrav.control.socket.io.client import ask
from nattrav.control.socket.messages import VerbError
from nattrav.daemon import relay
from nattrav.daemon.runtime import Listening, Runtime, StartRefused

SDP = (
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    b"m=audio %d RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
)


def configuration(**section: Any) -> Configuration:
    return Configuration.model_validate(
        {
            "relay": {
                "interfaces": ["public/127.0.0.1"],
                "ports": "40000-40399",
                "threads": 1,
                "backend": "portable",
            }
            | section,
            "control": {"listen": ["udp:127.0.0.1:14100"]},
        }
    )


@contextlib.asynccontextmanager
async def running(config: Configuration, directory: Path) -> AsyncIterator[Runtime]:
    runtime = Runtime("relay", directory, directory)
    async with trio.open_nursery() as nursery:
        listening: list[Listening] = await nursery.start(partial(relay.serve, config, runtime=runtime))
        runtime.listeners = listening
        yield runtime
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def phones(count: int) -> AsyncIterator[list[Phone]]:
    with contextlib.ExitStack() as stack:
        found = [Phone() for _ in range(count)]
        for phone in found:
            stack.callback(phone.sock.close)
            await phone.sock.bind(("127.0.0.1", 0))
        yield found


class Phone:
    """A UDP socket that sends RTP and says what it received."""

    def __init__(self) -> None:
        self.sock = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sequence = 0

    @property
    def port(self) -> int:
        number: int = self.sock.getsockname()[1]
        return number

    async def send(self, port: int, mark: bytes) -> None:
        self.sequence += 1
        header = struct.pack("!BBHII", 0x80, 0, self.sequence, self.sequence * 160, 7)
        await self.sock.sendto(header + mark.ljust(160, b"."), ("127.0.0.1", port))

    async def receive(self, within: float = 2.0) -> bytes:
        with trio.fail_after(within):
            data: bytes = await self.sock.recv(2048)
        return data[12:].rstrip(b".")

    async def hears_nothing(self, span: float = 0.2) -> bool:
        with trio.move_on_after(span) as scope:
            await self.sock.recv(2048)
        return scope.cancelled_caught


async def ng(**arguments: Any) -> dict[bytes, Any]:
    command: dict[str, Any] = {name.replace("_", "-"): value for name, value in arguments.items()}
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        await sock.connect(("127.0.0.1", 14100))
        ng.cookie += 1  # type: ignore[attr-defined]
        await sock.send(b"c%d " % ng.cookie + encode(command))  # type: ignore[attr-defined]
        with trio.fail_after(3):
            reply = await sock.recv(65536)
    found = decode(reply.partition(b" ")[2])
    assert isinstance(found, dict)
    return found


ng.cookie = 0  # type: ignore[attr-defined]


def media_port(reply: dict[bytes, Any]) -> int:
    assert reply[b"result"] == b"ok", reply
    line = next(line for line in reply[b"sdp"].splitlines() if line.startswith(b"m=audio"))
    return int(line.split()[1])


async def place_call(call_id: str, caller: Phone, callee: Phone) -> tuple[int, int]:
    offer = await ng(command="offer", call_id=call_id, from_tag="a", sdp=SDP % caller.port)
    answer = await ng(command="answer", call_id=call_id, from_tag="a", to_tag="b", sdp=SDP % callee.port)
    return media_port(offer), media_port(answer)


async def test_a_kernel_path_that_is_not_possible_leaves_media_in_user_space_and_says_so(tmp_path: Path) -> None:
    async with running(configuration(offload="auto"), tmp_path) as runtime:
        status = await ask(runtime.control_path, "status")
        assert status["offload"]["state"] == "unavailable"
        assert status["offload"]["why"]
        assert (status["offload"]["flows"], status["offload"]["packets"]) == (0, 0)


async def test_a_kernel_path_that_is_demanded_and_not_possible_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match=r'\[relay\] offload = "xdp" is not possible'):
        await relay.serve(configuration(offload="xdp"), runtime=Runtime("relay", tmp_path, tmp_path))


async def test_a_call_is_set_up_heard_both_ways_shown_and_ended(tmp_path: Path) -> None:
    async with running(configuration(), tmp_path) as runtime, phones(2) as (alice, bob):
        for_bob, for_alice = await place_call("call-1", alice, bob)
        await alice.send(for_alice, b"hello bob")
        assert await bob.receive() == b"hello bob"
        await bob.send(for_bob, b"hello alice")
        assert await alice.receive() == b"hello alice"
        control = runtime.control_path
        (row,) = await ask(control, "sessions.list")
        assert row["call_id"] == "call-1"
        assert row["state"] == "answered"
        await trio.sleep(0.1)
        view = await ask(control, "sessions.show", {"call_id": "call-1"})
        rtp = view["parties"][0]["legs"][0]["components"][0]
        assert rtp["learned"] == f"127.0.0.1:{alice.port}"
        assert rtp["latched"]
        assert rtp["rank"] == "exact"
        assert rtp["packets_in"] == 1
        (held,) = await ask(control, "ports.show", {"port": for_alice})
        assert (held["state"], held["call_id"], held["tag"]) == ("used", "call-1", "a")
        (pool,) = await ask(control, "ports.pools")
        assert pool["used"] == 4
        metrics = await ask(control, "metrics")
        assert [["rx", "userspace"], 2] in metrics["nattrav_relay_packets_total"]
        assert [["answered"], 1] in metrics["nattrav_relay_sessions"]
        assert await ask(control, "sessions.kick", {"call_id": "call-1"}) == {"ended": 1}
        (pool,) = await ask(control, "ports.pools")
        assert (pool["used"], pool["quarantined"]) == (0, 4)
        with pytest.raises(VerbError, match="no session"):
            await ask(control, "sessions.show", {"call_id": "call-1"})


async def test_a_stranger_is_not_heard_and_hears_nothing_once_the_parties_are_known(tmp_path: Path) -> None:
    async with running(configuration(), tmp_path) as runtime, phones(3) as (alice, bob, stranger):
        for_bob, for_alice = await place_call("call-2", alice, bob)
        await alice.send(for_alice, b"1")
        await bob.send(for_bob, b"2")
        assert await bob.receive() == b"1"
        assert await alice.receive() == b"2"
        for port in (for_alice, for_bob):
            await stranger.send(port, b"evil")
        await bob.send(for_bob, b"3")
        assert await alice.receive() == b"3"
        assert await stranger.hears_nothing()
        assert await bob.hears_nothing()
        view = await ask(runtime.control_path, "sessions.show", {"call_id": "call-2"})
        drops = [party["legs"][0]["components"][0]["dropped"] for party in view["parties"]]
        assert drops == [{"source_mismatch": 1}, {"source_mismatch": 1}]


async def test_draining_refuses_new_sessions_in_the_words_that_clients_fail_over_on(tmp_path: Path) -> None:
    async with running(configuration(), tmp_path) as runtime, phones(1) as (alice,):
        await ask(runtime.control_path, "relay.drain")
        refused = await ng(command="offer", call_id="x", from_tag="a", sdp=SDP % alice.port)
        assert refused[b"error-reason"] == b"Parallel session limit reached"
        assert (await ng(command="ping"))[b"result"] == b"pong"
        limited = await ng(command="offer", call_id="x", from_tag="a", sdp=SDP % alice.port, supports=["load limit"])
        assert limited[b"result"] == b"load limit"
        await ask(runtime.control_path, "relay.undrain")
        assert media_port(await ng(command="offer", call_id="x", from_tag="a", sdp=SDP % alice.port))


async def test_a_relay_that_is_full_says_so_before_it_is_asked(tmp_path: Path) -> None:
    async with running(configuration(max_sessions=1), tmp_path) as runtime, phones(2) as (alice, bob):
        assert await ask(runtime.control_path, "refusal") is None
        await place_call("call-full", alice, bob)
        assert "Parallel session limit reached" in await ask(runtime.control_path, "refusal")
        await ng(command="delete", call_id="call-full", from_tag="a")
        assert await ask(runtime.control_path, "refusal") is None
        # A drain is the supervisor's to tell.
        await ask(runtime.control_path, "relay.drain")
        assert await ask(runtime.control_path, "refusal") is None


async def test_a_foreign_address_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match=r"192\.0\.2\.77 is not an address of this host"):
        await relay.serve(configuration(interfaces=["public/192.0.2.77"]), runtime=Runtime("relay", tmp_path, tmp_path))
