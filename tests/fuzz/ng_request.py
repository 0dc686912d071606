from __future__ import annotations

from ipaddress import ip_network

from nattrav.control.ng.handler import Handler
from nattrav.control.ng.server import Drop, Server
from tests.relay.planes import engine


def target(data: bytes) -> None:
    """Any datagram to the ng server is answered under its cookie or dropped for a known reason."""
    server = Server(Handler(engine()), allow=[ip_network("127.0.0.0/8")])
    outcome = server.receive(data, "127.0.0.1", 0.0, 0.0)
    if outcome.reply is None:
        assert outcome.result in {drop.value for drop in Drop}
    else:
        assert outcome.reply.startswith(data.partition(b" ")[0] + b" ")
