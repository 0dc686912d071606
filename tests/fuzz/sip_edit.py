from __future__ import annotations

from nattrav.sip.edit import Edit
from nattrav.sip.errors import MalformedMessage
from nattrav.sip.parser import parse_datagram_untrusted

_OURS = "SIP/2.0/UDP 203.0.113.10;branch=z9hG4bKours;rport"


def target(data: bytes) -> None:
    """What a proxy does to a good message leaves a good message, and undoing it on the way back restores the Vias."""
    try:
        message = parse_datagram_untrusted(data)
        vias = [via.text for via in message.vias]
    except MalformedMessage:
        return
    edit = Edit(message).prepend("Via", _OURS).set("Max-Forwards", "69").prepend("Record-Route", "<sip:us;lr>")
    sent = parse_datagram_untrusted(edit.body(b"v=0\r\n", "application/sdp").framed().render())
    assert [via.text for via in sent.vias] == [_OURS, *vias]
    assert (sent.max_forwards, sent.body) == (69, b"v=0\r\n")
    assert sent.routes == message.routes if "route" not in message.names else True
    back = parse_datagram_untrusted(Edit(sent).remove_top("Via").remove_top("Record-Route").render())
    assert [via.text for via in back.vias] == vias
    assert back.count("Record-Route") == message.count("Record-Route")
