from __future__ import annotations

from contextlib import suppress

from nattrav.net.address import TransportAddress
from nattrav.sip.errors import MalformedMessage
from nattrav.sip.message import Request
from nattrav.sip.parser import parse_datagram_untrusted
from nattrav.sip.response import respond
from nattrav.sip.transaction import client_key, server_key

_SOURCE = TransportAddress("198.51.100.7", 41234)
_LAZY = ("vias", "contacts", "routes", "record_routes", "paths", "uri")
_SAFE = ("via", "from_", "to", "call_id", "cseq", "max_forwards", "expires", "content_type", "user_agent")


def target(data: bytes) -> None:
    """Only MalformedMessage comes out; what parses renders to the octets read, and its answer parses again."""
    try:
        message = parse_datagram_untrusted(data)
    except MalformedMessage as fault:
        if isinstance(fault.message, Request):
            respond(fault.message, fault.status, to_tag="t")
        return
    rendered = message.render()
    assert data.startswith(rendered)
    for name in _SAFE:
        getattr(message, name)
    for name in _LAZY:
        with suppress(MalformedMessage):
            getattr(message, name, None)
    if isinstance(message, Request):
        server_key(message)
        message.stamp(_SOURCE, force_rport=True)
        assert message.via.received == _SOURCE.host
        assert message.via.rport == _SOURCE.port
        again = parse_datagram_untrusted(message.render())
        assert again.via.text == message.via.text
        answer = parse_datagram_untrusted(respond(message, 200, to_tag="t"))
        assert answer.via.text == message.via.text
        assert answer.call_id == message.call_id
        assert answer.to.tag is not None
    else:
        client_key(message)
