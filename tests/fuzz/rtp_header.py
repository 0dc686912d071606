"""RTP headers and kinds: any datagram has one kind by either way of asking, and a header or a reason why not."""

from __future__ import annotations

import numpy as np

from relay.rtp import HEADER, Kind, MalformedMessage, decode_header, encode_header, kind_of, kinds_of

SEEDS = [
    encode_header(0, 1, 160, 7) + bytes(20),
    encode_header(111, 65535, 0xFFFFFFFF, 0xFFFFFFFF, marker=True),
    bytes.fromhex("92000001000000000000000700000001000000 02BEDE000110AA0000".replace(" ", "")),
    bytes.fromhex("a0000001000000000000000701020304"),
    bytes.fromhex("80c80006") + bytes(24),
]


def target(data: bytes) -> None:
    """Any datagram has one kind by either way of asking, and a header or a reason why not."""
    kind = kind_of(data)
    if len(data) >= 2:
        start = np.array([data[0] | data[1] << 8], np.uint16)
        assert kinds_of(start, np.array([len(data)], np.int32))[0] == kind
    try:
        header = decode_header(data)
    except MalformedMessage:
        return
    assert kind in (Kind.RTP, Kind.RTCP)
    assert HEADER <= header.header_length <= len(data)
    again = encode_header(header.payload_type, header.sequence, header.timestamp, header.ssrc, marker=header.marker)
    assert again[1:HEADER] == data[1:HEADER]
