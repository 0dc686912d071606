from __future__ import annotations

from nattrav.control.hep.packet import Capture, MessageCopy, encode, find_call_id
from nattrav.net.address import TransportAddress

SEEDS = [b"OPTIONS sip:a SIP/2.0\r\nCall-ID: x\r\n\r\n"]
HERE = TransportAddress("192.0.2.1", 5060)


def target(data: bytes) -> None:
    """A copy of any octets is one HEP3 datagram whose length field is right, and its Call-ID is short."""
    packet = encode(MessageCopy("udp", HERE, HERE, 1.5, data), Capture(1, "n"))
    assert int.from_bytes(packet[4:6], "big") == len(packet) < 65_507
    assert len(find_call_id(data)) <= 255
