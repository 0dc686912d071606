"""Our ng client drives Debian's rtpengine, alone and beside a relay of ours."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import trio

from nattrav.config.control import ControlAddress
from nattrav.control.ng.client import Answered
from nattrav.control.ng.codec_bencode import Encodable
from nattrav.control.ng.handler import Handler
from nattrav.control.ng.io.client import NgClient
from nattrav.control.ng.io.server import NgService
from nattrav.control.ng.server import Server
from tests.interop.rtpengines import ADVERTISED, Peer, rtpengine
from tests.relay.planes import engine
from tests.sdp.samples import PHONE, sdp

pytestmark = pytest.mark.interop

WISHES: dict[str, Encodable] = {
    "supports": ["load limit"],
    "ICE": "remove",
    "replace": ["origin"],
    "received-from": ["IP4", "127.0.0.1"],
    "endpoint-learning": "heuristic",
    "flags": ["strict-source", "SIP-source-address"],
    "sip-message-type": "sip_request",
}
CALLEE = sdp(*(line.replace("192.168.1.7", "127.0.0.20") for line in PHONE))


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    with rtpengine(tmp_path_factory.mktemp("rtpengine")) as running:
        yield running


class Asker:
    """Asks through a client and waits for the answer."""

    def __init__(self, *relays: str, directory: Path) -> None:
        self._send, self._receive = trio.open_memory_channel[Answered](100)
        addresses = [(ControlAddress.parse(text), 1) for text in relays]
        self.client = NgClient(
            addresses,
            directory=directory,
            prefix=secrets.token_hex(6),
            on_answer=self._send.send_nowait,
            first_retry=0.05,
        )

    async def ask(self, command: str, call_id: str, **arguments: Encodable) -> Answered:
        """One request; `_` in names stands for `-`."""
        keys = {name.replace("_", "-"): value for name, value in arguments.items()}
        number = self.client.ask(command, keys, call_id=call_id)
        answer = await self._receive.receive()
        assert answer.request_id == number
        return answer

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the client."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.client.run)
            yield
            nursery.cancel_scope.cancel()


def reply_of(answer: Answered) -> dict[str, Any]:
    assert answer.reply is not None
    return answer.reply


async def test_a_whole_call_through_rtpengine(peer: Peer, tmp_path: Path) -> None:
    asker = Asker(f"udp:127.0.0.1:{peer.port}", directory=tmp_path)
    async with asker.running():
        offered = reply_of(await asker.ask("offer", "w1", sdp=sdp(*PHONE), from_tag="a", **WISHES))
        assert f"c=IN IP4 {ADVERTISED}".encode() in offered["sdp"]
        answered = reply_of(await asker.ask("answer", "w1", sdp=CALLEE, from_tag="a", to_tag="b", **WISHES))
        assert f"c=IN IP4 {ADVERTISED}".encode() in answered["sdp"]
        asked = reply_of(await asker.ask("query", "w1"))
        assert set(asked["tags"]) == {"a", "b"}
        deleted = reply_of(await asker.ask("delete", "w1", from_tag="a", flags=["fast"]))
        assert deleted["result"] == "ok"
        again = reply_of(await asker.ask("answer", "w2", sdp=CALLEE, from_tag="a", to_tag="b"))
        assert again == {"result": "error", "error-reason": "Unknown call-id"}


async def test_both_relays_describe_a_call_with_the_same_keys(peer: Peer, tmp_path: Path) -> None:
    async with _ours(tmp_path):
        found = []
        for relay in (f"udp:127.0.0.1:{peer.port}", f"unix:{tmp_path}/ours.sock"):
            asker = Asker(relay, directory=tmp_path)
            async with asker.running():
                await asker.ask("offer", "k1", sdp=sdp(*PHONE), from_tag="a", **WISHES)
                await asker.ask("answer", "k1", sdp=CALLEE, from_tag="a", to_tag="b", **WISHES)
                found.append(reply_of(await asker.ask("query", "k1")))
                await asker.ask("delete", "k1", from_tag="a")
        theirs, mine = found
        assert set(theirs) - set(mine) == set()
        their_leg, my_leg = theirs["tags"]["a"]["medias"][0], mine["tags"]["a"]["medias"][0]
        assert set(their_leg) - set(my_leg) == set()
        their_stream, my_stream = their_leg["streams"][0], my_leg["streams"][0]
        assert set(their_stream) - set(my_stream) <= {"ingress SSRCs", "egress SSRCs"}
        assert their_stream["endpoint"] == my_stream["endpoint"]
        assert [s["flags"][0] for s in their_leg["streams"]] == [s["flags"][0] for s in my_leg["streams"]]


async def test_a_first_offer_moves_from_a_silent_relay_to_rtpengine(peer: Peer, tmp_path: Path) -> None:
    asker = Asker("udp:127.0.0.1:16999", f"udp:127.0.0.1:{peer.port}", directory=tmp_path)
    async with asker.running():
        for number in range(4):
            answer = await asker.ask("offer", f"m{number}", sdp=sdp(*PHONE), from_tag="a", **WISHES)
            assert reply_of(answer)["result"] == "ok"
            assert answer.relay == f"udp:127.0.0.1:{peer.port}"


@asynccontextmanager
async def _ours(directory: Path) -> AsyncIterator[None]:
    server = Server(Handler(engine(f"pub/{ADVERTISED}")), allow=[ip_network("127.0.0.0/8")])
    service = NgService(server, [ControlAddress.parse(f"unix:{directory}/ours.sock")], directory=directory)
    async with trio.open_nursery() as nursery:
        await nursery.start(service.serve)
        yield
        nursery.cancel_scope.cancel()
