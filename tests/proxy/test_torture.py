"""RFC 4475 and RFC 5118: what each message leads to at this proxy, all domains ours, with a catch-all upstream."""

from __future__ import annotations

import pytest

from nattrav.config.sip import SipSection, Upstream
from nattrav.net.address import TransportAddress
from nattrav.sip.message import Request, Response
from tests.proxy.playbook import GATEWAY, Arrival, Stage, udp_listener
from tests.vectors import rfc4475, rfc5118
from tests.vectors.vector import DROP, FORWARD, REGISTER, Vector

SENDER = TransportAddress("192.0.2.200", 5060)
DOMAINS = [
    "example.com",
    "example.net",
    "example.org",
    "company.com",
    "registrar.example.com",
    "chair-dnrc.example.com",
]


def stage() -> Stage:
    sip = SipSection.model_validate(
        {
            "registrar": {"authentication": "none"},
            "domains": DOMAINS,
            "force_rport": "always",
            "limits": {"scanners": []},
        }
    )
    gateway = Upstream.model_validate({"name": "gw", "target": str(GATEWAY)})
    on = Stage(sip=sip, upstreams=[gateway], listeners=[udp_listener(), udp_listener("2001:db8::1")])
    on.any_name = [("udp", ("203.0.113.99", 5060), None)]
    return on


def outcome(arrivals: list[Arrival]) -> str | int:
    """A status to the sender, FORWARD when a request went on, DROP when nothing left."""
    for arrival in arrivals:
        if isinstance(arrival.message, Request):
            return FORWARD
    finals = [a.message.status for a in arrivals if isinstance(a.message, Response) and a.message.status >= 200]
    if not finals:
        return DROP
    return REGISTER if finals[0] == 200 else finals[0]


@pytest.mark.parametrize("vector", [*rfc4475.VECTORS, *rfc5118.VECTORS], ids=lambda vector: vector.name)
def test_torture_message_has_an_outcome_that_the_rfc_allows(vector: Vector) -> None:
    on = stage()
    arrivals = on.send(SENDER, vector.octets)
    got = outcome(arrivals)
    assert got in (vector.expected, *vector.also), (got, [a.line for a in arrivals], on.drops)
