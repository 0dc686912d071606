from __future__ import annotations

from ipaddress import ip_network

from nattrav.control.ng.codec_bencode import Encodable, encode
from nattrav.control.ng.handler import Handler
from nattrav.control.ng.server import Drop, Server
from tests.relay.planes import engine
from tests.sdp.samples import BROWSER, FAX, PHONE, SOFTPHONE, sdp

_OPTIONS: dict[str, Encodable] = {
    "call-id": "c",
    "from-tag": "a",
    "flags": ["strict source", "loop-protect"],
    "rtpp-flags": "a=[b c] ICE=remove",
    "replace": ["origin", "SDP version"],
    "direction": ["public", "public"],
    "rtcp-mux": ["demux"],
}
SEEDS = [
    *(
        b"1 " + encode({"command": "offer", "sdp": sdp(*lines), **_OPTIONS})
        for lines in (PHONE, SOFTPHONE, BROWSER, FAX)
    ),
    b'2 {"command":"offer","sdp":"v=0","call-id":"c","from-tag":"x"}',
    b"3 " + encode({"command": "block media", "call-id": "x", "all": "all"}),
    b"4 " + encode({"command": "list", "limit": "3"}),
]


def target(data: bytes) -> None:
    """Any datagram to the ng server is answered under its cookie or dropped for a known reason."""
    server = Server(Handler(engine()), allow=[ip_network("127.0.0.0/8")])
    outcome = server.receive(data, "127.0.0.1", 0.0, 0.0)
    if outcome.reply is None:
        assert outcome.result in {drop.value for drop in Drop}
    else:
        assert outcome.reply.startswith(data.partition(b" ")[0] + b" ")
