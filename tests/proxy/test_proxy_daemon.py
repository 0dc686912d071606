"""The proxy as a process: real sockets, a relay on a real control socket, and everything a client may throw at it."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trio

from nattrav.config.schema import Configuration
from nattrav.control.ng import codec_bencode
from nattrav.control.socket.io.client import ask
from nattrav.daemon.proxy import serve
from nattrav.daemon.runtime import Listening, Runtime, StartRefused
from nattrav.net.address import TransportAddress
from nattrav.sip.parser import parse_datagram_untrusted
from tests.proxy.playbook import request, response, sdp


class Party:
    """A UDP socket that speaks text."""

    opened: ClassVar[list[Party]] = []

    def __init__(self) -> None:
        self.opened.append(self)
        self.sock = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.address = TransportAddress("127.0.0.1", 0)
        self._heard: set[bytes] = set()

    async def bind(self) -> Party:
        await self.sock.bind(("127.0.0.1", 0))
        self.address = TransportAddress(*self.sock.getsockname())
        return self

    async def send(self, to: TransportAddress, text: str | bytes) -> None:
        await self.sock.sendto(text if isinstance(text, bytes) else text.encode("latin-1"), to)

    async def receive(self) -> Any:
        """The next message; on a busy machine some come twice, for nobody answered within T1."""
        with trio.fail_after(20):
            while True:
                data, _ = await self.sock.recvfrom(65536)
                if data not in self._heard:
                    self._heard.add(data)
                    return parse_datagram_untrusted(data)


async def relay(sock: Any) -> None:
    """Answer ng as a relay would."""
    while True:
        data, peer = await sock.recvfrom(65536)
        cookie, _, payload = data.partition(b" ")
        command = codec_bencode.decode(payload)
        assert isinstance(command, dict)
        reply: dict[str, Any] = {"result": "ok"}
        if command[b"command"] == b"ping":
            reply = {"result": "pong"}
        elif b"sdp" in command:
            sdp_text = command[b"sdp"]
            assert isinstance(sdp_text, bytes)
            reply["sdp"] = re.sub(rb"IN IP4 \S+", b"IN IP4 203.0.113.20", sdp_text)
        await sock.sendto(cookie + b" " + codec_bencode.encode(reply), peer)


class Running:
    def __init__(self, listening: list[Listening], runtime: Runtime, gateway: Party) -> None:
        self.sip = TransportAddress.parse(next(one.address for one in listening if one.transport == "udp"))
        self.tcp = TransportAddress.parse(next(one.address for one in listening if one.transport == "tcp"))
        self.runtime = runtime
        self.gateway = gateway

    async def ask(self, verb: str, **args: Any) -> Any:
        return await ask(self.runtime.directory / "proxy.sock", verb, args)


@contextlib.asynccontextmanager
async def running(tmp_path: Path, **sip: Any) -> AsyncGenerator[Running, None]:
    gateway = await Party().bind()
    ng = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    await ng.bind(("127.0.0.1", 0))
    config = Configuration.model_validate(
        {
            "sip": {"listen": ["udp:127.0.0.1:0", "tcp:127.0.0.1:0"], **sip},
            "control": {"relays": [f"udp:127.0.0.1:{ng.getsockname()[1]}"]},
            "upstream": [{"name": "gw", "target": str(gateway.address), "probe": False}],
        }
    )
    runtime = Runtime("proxy", tmp_path, tmp_path)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(relay, ng)
            listening = await nursery.start(lambda task_status: serve(config, runtime=runtime, task_status=task_status))
            try:
                yield Running(listening, runtime, gateway)
            finally:
                nursery.cancel_scope.cancel()
    finally:
        ng.close()
        while Party.opened:
            Party.opened.pop().sock.close()


async def test_a_call_goes_through_real_sockets_and_leaves_a_record(tmp_path: Path) -> None:
    async with running(tmp_path) as proxy:
        phone = await Party().bind()
        await phone.send(proxy.sip, request("INVITE", f"sip:1234@{proxy.sip}", body=sdp("10.0.0.5")))
        assert (await phone.receive()).status == 100
        invite = await proxy.gateway.receive()
        assert b"203.0.113.20" in invite.body
        assert [call["state"] for call in await proxy.ask("calls.list")] == ["early"]
        answer = response(invite, 200, contact=f"<sip:bob@{proxy.gateway.address}>", body=sdp("203.0.113.80"))
        await proxy.gateway.send(proxy.sip, answer)
        ok = await phone.receive()
        assert ok.status == 200
        assert b"203.0.113.20" in ok.body
        route = ok.record_routes[0].text
        bye = request(
            "BYE",
            f"sip:bob@{proxy.gateway.address}",
            branch="z9hG4bKbye",
            to="<sip:bob@203.0.113.10>;tag=bt",
            cseq=2,
            headers=f"Route: {route}\r\n",
        )
        await phone.send(proxy.sip, bye)
        await proxy.gateway.send(proxy.sip, response(await proxy.gateway.receive(), 200))
        assert (await phone.receive()).status == 200
        assert await proxy.ask("calls.list") == []
    record = json.loads((tmp_path / "cdr.jsonl").read_text())
    assert (record["cause"], record["code"], record["relayed"]) == ("bye", 200, True)


async def test_registrations_are_listed_with_their_nat(tmp_path: Path) -> None:
    async with running(tmp_path) as proxy:
        phone = await Party().bind()
        text = request("REGISTER", f"sip:{proxy.sip}", to=f"<sip:alice@{proxy.sip}>", headers="Expires: 60\r\n")
        await phone.send(proxy.sip, text)
        assert (await phone.receive()).status == 200
        (binding,) = await proxy.ask("registrations.list")
        assert binding["source"] == str(phone.address)
        assert binding["nat"] is True
        assert await proxy.ask("registrations.remove", aor="alice") == {"removed": 1}
        exported = await proxy.ask("metrics")
        assert [["removed"], 1] in exported["nattrav_sip_registration_events_total"]


async def test_garbage_is_dropped_or_refused_and_the_next_call_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path) as proxy:
        phone = await Party().bind()
        good = request("OPTIONS", f"sip:{proxy.sip}", contact=None)
        for garbage in (
            b"\x00\xff" * 40,
            b"",
            b"\r\n\r\n",
            b"\0\0\0\0",
            b"SIP/2.0 200 OK\r\n\r\n",
            b"INVITE sip:x SIP/2.0\r\n\r\n",
            good.replace("CSeq: 1 OPTIONS", "CSeq: x").encode(),
            good.encode()[:120],
            b"A" * 60000,
            request("INVITE", f"sip:1@{proxy.sip}", branch="z9hG4bKnosdp", body="no sdp at all").encode(),
        ):
            await phone.send(proxy.sip, garbage)
        await phone.send(proxy.sip, request("OPTIONS", f"sip:{proxy.sip}", branch="z9hG4bKlast", contact=None))
        statuses = []
        while True:
            with trio.fail_after(20):
                answer, _ = await phone.sock.recvfrom(65536)
            statuses.append(int(answer.split()[1]))
            if b"z9hG4bKlast" in answer:
                break
        assert statuses[-1] == 200
        assert set(statuses) <= {100, 200, 400}


async def test_stun_is_answered_on_the_sip_port(tmp_path: Path) -> None:
    async with running(tmp_path) as proxy:
        phone = await Party().bind()
        await phone.sock.sendto(b"\x00\x01\x00\x00\x21\x12\xa4\x42" + b"t" * 12, proxy.sip)
        with trio.fail_after(20):
            data, source = await phone.sock.recvfrom(2048)
        assert data[:2] == b"\x01\x01"
        assert TransportAddress(*source) == proxy.sip


async def test_a_phone_on_tcp_is_answered_on_its_connection(tmp_path: Path) -> None:
    async with running(tmp_path) as proxy:
        stream = await trio.open_tcp_stream(*proxy.tcp)
        text = request(
            "REGISTER", f"sip:{proxy.tcp}", to=f"<sip:alice@{proxy.tcp}>", transport="TCP", headers="Expires: 60\r\n"
        )
        await stream.send_all(text.encode())
        with trio.fail_after(20):
            data = await stream.receive_some(65536)
        assert data.startswith(b"SIP/2.0 200 OK")
        await stream.send_all(b"\r\n\r\n")
        with trio.fail_after(20):
            assert await stream.receive_some(16) == b"\r\n"
        assert [one["transport"] for one in await proxy.ask("registrations.list")] == ["tcp"]
        await stream.aclose()
        with trio.fail_after(20):
            while await proxy.ask("registrations.list"):  # noqa: ASYNC110 - another process in earnest
                await trio.sleep(0.01)


async def test_a_taken_port_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        config = Configuration.model_validate({"sip": {"listen": [f"udp:127.0.0.1:{taken.getsockname()[1]}"]}})
        with pytest.raises(StartRefused, match=r"change \[sip\] listen"):
            await serve(config, runtime=Runtime("proxy", tmp_path, tmp_path))


async def test_the_token_key_is_made_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    async with running(tmp_path):
        key = (tmp_path / "flow-token.key").read_bytes()
    async with running(tmp_path):
        assert (tmp_path / "flow-token.key").read_bytes() == key
    assert (tmp_path / "flow-token.key").stat().st_mode & 0o777 == 0o600


async def test_a_restart_loses_no_binding(tmp_path: Path) -> None:
    async with running(tmp_path) as proxy:
        listen = {"listen": [f"udp:{proxy.sip}", "tcp:127.0.0.1:0"]}
        phone = await Party().bind()
        text = request("REGISTER", f"sip:{proxy.sip}", to=f"<sip:alice@{proxy.sip}>", headers="Expires: 60\r\n")
        await phone.send(proxy.sip, text)
        assert (await phone.receive()).status == 200
    async with running(tmp_path, **listen) as proxy:
        (binding,) = await proxy.ask("registrations.list")
        assert binding["aor"] == "alice@*"


async def test_a_restart_forgets_no_call_and_can_hang_it_up(tmp_path: Path) -> None:
    async with running(tmp_path) as proxy:
        listen = {"listen": [f"udp:{proxy.sip}", "tcp:127.0.0.1:0"]}
        phone = await Party().bind()
        await phone.send(proxy.sip, request("INVITE", f"sip:1234@{proxy.sip}", body=sdp("10.0.0.5")))
        assert (await phone.receive()).status == 100
        invite = await proxy.gateway.receive()
        answer = response(invite, 200, contact=f"<sip:bob@{proxy.gateway.address}>", body=sdp("203.0.113.80"))
        await proxy.gateway.send(proxy.sip, answer)
        assert (await phone.receive()).status == 200
        Party.opened.remove(phone)
    async with running(tmp_path, **listen) as proxy:
        Party.opened.append(phone)
        (call,) = await proxy.ask("calls.list")
        assert (call["state"], call["upstream"]) == ("confirmed", "gw")
        await proxy.ask("calls.kill", all=True)
        assert (await phone.receive()).start_line.startswith("BYE sip:alice@10.0.0.5:5060")
    record = json.loads((tmp_path / "cdr.jsonl").read_text())
    assert (record["cause"], record["resumed"]) == ("admin", True)
    assert record["answer"] is not None
    async with running(tmp_path, **listen) as proxy:
        assert await proxy.ask("calls.list") == []


async def test_explain_knows_what_was_refused_before_it_became_a_call(tmp_path: Path) -> None:
    async with running(tmp_path) as proxy:
        phone = await Party().bind()
        text = request("INVITE", f"sip:1234@{proxy.sip}", headers=f"Route: <sip:{'A' * 39}@{proxy.sip};lr>\r\n")
        await phone.send(proxy.sip, text)
        assert (await phone.receive()).status == 403
        told = await proxy.ask("explain", what="call1@10.0.0.5")
        assert told["calls"] == []
        assert "forged" in told["refusals"][0]["sentence"]
