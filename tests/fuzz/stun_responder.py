"""The STUN server: any datagram is answered or dropped, and no answer is larger than the documented amplification."""

from __future__ import annotations

from nattrav.net.address import TransportAddress
from stun.behavior import ServerAddress, lay_out
from stun.credentials import LongTerm
from stun.responder import Answer, Policy, Responder, Transport

_SET = lay_out([ServerAddress("198.51.100.1", alternate="198.51.100.2")], 3478, 3479)
_SERVERS = (
    Responder(_SET),
    Responder(_SET, Policy(response_address="same_ip", software="x")),
    Responder(_SET, Policy(minimal=True)),
    Responder(_SET, Policy(), LongTerm("example.org", {"user": "pass"}, (b"secret",))),
)
_CLIENT = TransportAddress("192.0.2.1", 32853)


def target(data: bytes) -> None:
    """Any datagram is answered or dropped; an answer never exceeds its request by more than 150 bytes."""
    for server in _SERVERS:
        for transport in Transport:
            outcome = server.respond(data, 0, _CLIENT, transport, wall=1e9)
            if isinstance(outcome, Answer):
                assert len(outcome.data) <= len(data) + 150
                assert outcome.to.host == _CLIENT.host
