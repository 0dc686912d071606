from __future__ import annotations

from nattrav.location.bindings import Limits, Registered
from nattrav.location.memory import MemoryLocation
from nattrav.location.registration import read_registration
from nattrav.net.address import TransportAddress
from nattrav.sip.errors import MalformedMessage
from nattrav.sip.message import Request
from nattrav.sip.parser import parse_datagram_untrusted
from nattrav.sip.transport.flow import Flow
from tests.vectors.rfc4475 import VECTORS

_FLOW = Flow("udp", 7, TransportAddress("203.0.113.10", 5060), TransportAddress("198.51.100.7", 41234))
SEEDS = [vector.octets for vector in VECTORS if vector.octets.startswith(b"REGISTER")] + [
    b"REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKa\r\nFrom: <sip:a@example.com>;tag=1\r\n"
    b"To: <sip:a@example.com>\r\nCall-ID: x\r\nCSeq: 1 REGISTER\r\nSupported: outbound, path\r\nExpires: 600\r\n"
    b'Contact: <sip:a@10.0.0.5;ob>;+sip.instance="<urn:uuid:1>";reg-id=1;expires=60;q=0.5, <sip:b@h>;expires=0\r\n'
    b"Path: <sip:p;lr>\r\nContent-Length: 0\r\n\r\n"
]


def target(data: bytes) -> None:
    """A REGISTER is carried out whole or not at all, and its bindings can be listed in an answer."""
    location = MemoryLocation(Limits(min_expires=0, per_aor=3))
    try:
        message = parse_datagram_untrusted(data)
        if not isinstance(message, Request):
            return
        registration = read_registration(message, "sip:a@example.com", _FLOW)
        outcome = location.register(registration, 1000.0)
    except MalformedMessage:
        assert len(location) == 0
        return
    if isinstance(outcome, Registered):
        assert sorted(binding.serial for binding in location) == sorted(b.serial for b in outcome.bindings)
        for binding in outcome.bindings:
            assert "\n" not in binding.contact_value(1000.0)
    else:
        assert len(location) == 0
