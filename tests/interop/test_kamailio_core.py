"""Our edge in front of a real Kamailio as core: two phones behind NATs register, call each other and hang up."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trio

from nattrav.config.schema import Configuration
from nattrav.daemon.proxy import serve
from nattrav.daemon.runtime import Listening, Runtime
from nattrav.net.address import TransportAddress
from nattrav.sip.message import Request, Response
from tests.interop.kamailios import our_relay
from tests.interop.test_kamailio_snippets import DEPLOY, MODULES
from tests.proxy.playbook import request, response, sdp
from tests.proxy.test_proxy_daemon import Party, relay

pytestmark = pytest.mark.interop

ROUTES = """
request_route {
    if (is_method("CANCEL")) { if (t_check_trans()) { t_relay(); } exit; }
    if (has_totag()) {
        if (loose_route()) { t_relay(); } else if (is_method("ACK") && t_check_trans()) { t_relay(); }
        exit;
    }
    if (is_method("REGISTER")) { route(NATTRAV_REGISTER); exit; }
    record_route();
    if (!lookup("location")) { sl_send_reply("404", "Not Found"); exit; }
    t_relay();
}
"""


class Phone:
    """A phone that shows a private address, and whose source is another one."""

    def __init__(self, party: Party, user: str, private: str, edge: TransportAddress) -> None:
        self.party, self.user, self.private, self.edge = party, user, private, edge
        self.contact = f"<sip:{user}@{private}>"

    async def send(self, text: str) -> None:
        await self.party.send(self.edge, text)

    async def register(self) -> Response:
        name = f"<sip:{self.user}@example.org>"
        text = request(
            "REGISTER",
            "sip:example.org",
            via=self.private,
            branch=f"z9hG4bKreg{self.user}",
            from_=f"{name};tag=r",
            to=name,
            call_id=f"reg-{self.user}",
            contact=self.contact,
            headers="Expires: 300\r\n",
        )
        await self.send(text)
        return await self.response()

    async def response(self, method: str = "") -> Response:
        """The next final response, provisional ones and pings passed over."""
        while True:
            message = await self.party.receive()
            if isinstance(message, Response) and message.status >= 200 and method in message.cseq.method:
                return message

    async def request(self, method: str) -> Request:
        while True:
            message = await self.party.receive()
            if isinstance(message, Request) and message.method == method:
                return message


@contextmanager
def kamailio(directory: Path, port: int) -> Iterator[None]:
    """Run Kamailio with the snippet for a core."""
    if shutil.which("kamailio") is None:
        pytest.skip("needs kamailio: apt install kamailio")
    modules = "".join(f'loadmodule "{name}.so"\n' for name in MODULES)
    file = directory / "kamailio.cfg"
    file.write_text(
        f'#!KAMAILIO\n#!define NATTRAV_EDGES "^127\\.0\\.0\\.1$"\nlisten=udp:127.0.0.1:{port}\nalias=example.org\n'
        f'children=1\nmpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/"\n{modules}'
        f'import_file "{DEPLOY / "core-behind-edge.cfg"}"\n{ROUTES}'
    )
    command = ["kamailio", "-DD", "-E", "-f", str(file), "-Y", str(directory), "-m", "32", "-M", "8"]
    with (directory / "kamailio.log").open("wb") as log, subprocess.Popen(command, stderr=log, stdout=log) as process:
        try:
            yield
        finally:
            process.terminate()


@asynccontextmanager
async def town(tmp_path: Path, relay_port: int | None = None) -> AsyncGenerator[list[Phone], None]:
    """Kamailio as core, our edge before it, a relay (one that only rewrites, without `relay_port`), and two phones."""
    ng = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    await ng.bind(("127.0.0.1", 0))
    free = await Party().bind()
    core = free.address.port
    free.sock.close()
    config = Configuration.model_validate(
        {
            "sip": {"listen": ["udp:127.0.0.1:0"], "mode": "edge", "domains": []},
            "control": {"relays": [f"udp:127.0.0.1:{relay_port or ng.getsockname()[1]}"]},
            "upstream": [{"name": "core", "target": f"127.0.0.1:{core}", "domains": ["example.org"]}],
        }
    )
    runtime = Runtime("proxy", tmp_path, tmp_path)
    try:
        with kamailio(tmp_path, core):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(relay, ng)
                listening: list[Listening] = await nursery.start(
                    lambda task_status: serve(config, runtime=runtime, task_status=task_status)
                )
                await answering(core, tmp_path)
                at = TransportAddress.parse(listening[0].address)
                yield [
                    Phone(await Party().bind(), user, f"10.0.0.{number}:5060", at)
                    for number, user in enumerate(("alice", "bob"), 5)
                ]
                nursery.cancel_scope.cancel()
    finally:
        ng.close()
        while Party.opened:
            Party.opened.pop().sock.close()


class Voice:
    """Sends and receives RTP; its words are its SSRC."""

    def __init__(self, ssrc: int) -> None:
        self.sock = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        self.ssrc = ssrc
        self.to: tuple[str, int] = ("", 0)
        self.heard: set[int] = set()
        self._sequence = 0

    async def bind(self) -> int:
        await self.sock.bind(("127.0.0.1", 0))
        port: int = self.sock.getsockname()[1]
        return port

    async def speak(self) -> None:
        self._sequence += 1
        head = struct.pack("!BBHII", 0x80, 0, self._sequence, 160 * self._sequence, self.ssrc)
        await self.sock.sendto(head + bytes(160), self.to)

    async def listen(self) -> None:
        while True:
            data, _ = await self.sock.recvfrom(2048)
            self.heard.add(int.from_bytes(data[8:12], "big"))


def media_of(message: Request | Response) -> tuple[str, int]:
    text = message.body.decode()
    address, port = re.search(r"c=IN IP4 (\S+)", text), re.search(r"m=audio (\d+)", text)
    assert address is not None
    assert port is not None
    return address[1], int(port[1])


async def answering(port: int, directory: Path) -> None:
    """Wait until Kamailio answers."""
    asker = await Party().bind()
    begin = time.monotonic()
    while time.monotonic() < begin + 10:
        probe = request("INVITE", f"sip:nobody@127.0.0.1:{port}", via=str(asker.address), body="")
        await asker.send(TransportAddress("127.0.0.1", port), probe)
        with trio.move_on_after(0.2):
            await asker.sock.recvfrom(65536)
            return
    raise AssertionError((directory / "kamailio.log").read_text()[-2000:])


async def test_two_phones_of_one_edge_call_each_other_through_the_core(tmp_path: Path) -> None:
    async with town(tmp_path) as (alice, bob):
        for phone in (alice, bob):
            ok = await phone.register()
            assert (ok.status, phone.contact in "\r\n".join(ok.lines), ok.has("path")) == (200, True, True), ok.lines
        names = {"from_": "<sip:alice@example.org>;tag=at", "to": "<sip:bob@example.org>"}
        invite = request(
            "INVITE", "sip:bob@example.org", via=alice.private, contact=alice.contact, body=sdp("10.0.0.5"), **names
        )
        await alice.send(invite)
        ring = await bob.request("INVITE")
        assert (ring.request_uri, b"203.0.113.20" in ring.body) == ("sip:bob@10.0.0.6:5060", True)
        await bob.send(response(ring, 200, contact=bob.contact, body=sdp("10.0.0.6")))
        ok = await alice.response("INVITE")
        assert (ok.status, b"203.0.113.20" in ok.body) == (200, True)
        routes = "".join(f"Route: {value.text}\r\n" for value in reversed(ok.record_routes))
        names["to"] += ";tag=bt"
        await alice.send(
            request("ACK", "sip:bob@10.0.0.6:5060", via=alice.private, branch="z9hG4bKack", headers=routes, **names)
        )
        assert (await bob.request("ACK")).request_uri == "sip:bob@10.0.0.6:5060"
        back = "".join(f"Route: {value.text}\r\n" for value in ring.record_routes)
        bye = request(
            "BYE",
            "sip:alice@10.0.0.5:5060",
            via=bob.private,
            branch="z9hG4bKbye",
            from_=names["to"],
            to=names["from_"],
            cseq=7,
            headers=back,
        )
        await bob.send(bye)
        ended = await alice.request("BYE")
        assert ended.request_uri == "sip:alice@10.0.0.5:5060"
        await alice.send(response(ended, 200, tag=None))
        assert (await bob.response("BYE")).status == 200


async def test_both_phones_hear_each_other_over_the_two_sessions_of_their_call(tmp_path: Path) -> None:
    voices = [Voice(0xA11CE), Voice(0xB0B)]
    with our_relay(tmp_path / "relay", range(17300, 17400)) as peer:
        async with town(tmp_path, peer.port) as (alice, bob), trio.open_nursery() as nursery:
            ports = [await voice.bind() for voice in voices]
            for phone in (alice, bob):
                assert (await phone.register()).status == 200
            names = {"from_": "<sip:alice@example.org>;tag=at", "to": "<sip:bob@example.org>"}
            body = sdp("10.0.0.5", ports[0])
            await alice.send(
                request("INVITE", "sip:bob@example.org", via=alice.private, contact=alice.contact, body=body, **names)
            )
            ring = await bob.request("INVITE")
            await bob.send(response(ring, 200, contact=bob.contact, body=sdp("10.0.0.6", ports[1])))
            ok = await alice.response("INVITE")
            voices[0].to, voices[1].to = media_of(ok), media_of(ring)
            for voice in voices:
                nursery.start_soon(voice.listen)
            for _ in range(100):
                for voice in voices:
                    await voice.speak()
                await trio.sleep(0.02)
                if all(voice.heard for voice in voices):
                    break
            assert [voice.heard for voice in voices] == [{0xB0B}, {0xA11CE}]
            nursery.cancel_scope.cancel()
        for voice in voices:
            voice.sock.close()


async def test_a_refresh_is_absorbed_and_the_core_still_finds_the_phone(tmp_path: Path) -> None:
    async with town(tmp_path) as (alice, bob):
        for phone in (alice, bob):
            assert (await phone.register()).status == 200
        again = request(
            "REGISTER",
            "sip:example.org",
            via=bob.private,
            branch="z9hG4bKagain",
            from_="<sip:bob@example.org>;tag=r",
            to="<sip:bob@example.org>",
            call_id="reg-bob",
            cseq=2,
            contact=bob.contact,
            headers="Expires: 300\r\n",
        )
        await bob.send(again)
        assert (await bob.response("REGISTER")).status == 200
        names = {"from_": "<sip:alice@example.org>;tag=at", "to": "<sip:bob@example.org>"}
        await alice.send(request("INVITE", "sip:bob@example.org", via=alice.private, contact=alice.contact, **names))
        ring = await bob.request("INVITE")
        await bob.send(response(ring, 486))
        assert (await alice.response("INVITE")).status == 486
