"""A message that was cut off anywhere is malformed, and what can be read of it can be read without surprise."""

from __future__ import annotations

import pytest

from nattrav.sip.errors import MalformedMessage
from nattrav.sip.parser import parse_datagram_untrusted

WHOLE = (
    b"INVITE sip:9000@203.0.113.1 SIP/2.0\r\nVia: SIP/2.0/UDP 10.9.9.9:5060;branch=z9hG4bKcut;rport\r\n"
    b"Max-Forwards: 70\r\nFrom: <sip:a@203.0.113.1>;tag=1\r\nTo: <sip:9000@203.0.113.1>\r\nCall-ID: cut\r\n"
    b"CSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
)


@pytest.mark.parametrize("size", range(len(WHOLE)))
def test_a_message_cut_anywhere_is_malformed_and_its_fields_are_readable_or_malformed(size: int) -> None:
    with pytest.raises(MalformedMessage) as caught:
        parse_datagram_untrusted(WHOLE[:size])
    message = caught.value.message
    for name in ("via", "from_", "to", "call_id", "cseq", "vias", "contacts"):
        try:
            getattr(message, name, None)
        except MalformedMessage:
            continue
