"""A relay behind its ng server, in memory: requests in, replies out."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from nattrav.control.ng.client import plain
from nattrav.control.ng.codec_bencode import Encodable, decode, encode
from nattrav.control.ng.handler import Handler
from nattrav.control.ng.server import Server
from relay.engine import Engine
from tests.relay.planes import engine as memory_engine
from tests.sdp.samples import PHONE, sdp

MARK = "0123456789ab"
OFFER = sdp(*PHONE)
CALLEE = (
    "v=0",
    "o=bob 1 1 IN IP4 198.51.100.20",
    "s=-",
    "c=IN IP4 198.51.100.20",
    "t=0 0",
    "m=audio 6000 RTP/AVP 0 101",
    "a=rtpmap:101 telephone-event/8000",
)
ANSWER = sdp(*CALLEE)


class Driver:
    """An ng client and the relay it drives. Cookies count up."""

    def __init__(self, *interfaces: str, engine: Engine | None = None) -> None:
        self.engine = engine if engine is not None else memory_engine(*interfaces)
        self.handler = Handler(self.engine, mark=MARK, epoch=1e9)
        self.server = Server(self.handler, allow=[ip_network("127.0.0.0/8")])
        self.cookie = 0
        self.now = 0.0

    def ask(self, command: str, **arguments: Encodable) -> dict[str, Any]:
        """Send one request; `_` in a name stands for `-`. Give the reply as Python data."""
        self.cookie += 1
        keys = {name.replace("_", "-"): value for name, value in arguments.items()}
        return self.raw(b"%d %b" % (self.cookie, encode({**keys, "command": command})))

    def raw(self, datagram: bytes) -> dict[str, Any]:
        """Send one datagram; give the decoded reply."""
        reply = self.server.receive(datagram, "127.0.0.1", self.now, 0.0).reply
        assert reply is not None
        cookie, _, body = reply.partition(b" ")
        assert cookie == datagram.partition(b" ")[0]
        result = plain(decode(body))
        assert isinstance(result, dict)
        return result

    def offer(self, sdp: bytes, *, call_id: str = "c1", from_tag: str = "a", **more: Encodable) -> dict[str, Any]:
        """An offer."""
        return self.ask("offer", sdp=sdp, call_id=call_id, from_tag=from_tag, **more)

    def answer(
        self, sdp: bytes, *, call_id: str = "c1", from_tag: str = "a", to_tag: str = "b", **more: Encodable
    ) -> dict[str, Any]:
        """An answer."""
        return self.ask("answer", sdp=sdp, call_id=call_id, from_tag=from_tag, to_tag=to_tag, **more)


def lines(reply: dict[str, Any]) -> list[str]:
    """The lines of a reply's SDP."""
    assert reply["result"] == "ok", reply
    sdp = reply["sdp"]
    assert isinstance(sdp, bytes)
    return sdp.decode("latin-1").split("\r\n")[:-1]


def places(reply: dict[str, Any]) -> list[tuple[str, int]]:
    """Address and port of each section of a reply's SDP."""
    found: list[tuple[str, int]] = []
    for line in lines(reply):
        if line.startswith("m="):
            found.append(("", int(line.split()[1].partition("/")[0])))
        elif line.startswith("c=") and found:
            found[-1] = (line.split()[2], found[-1][1])
    return found
