from __future__ import annotations

from nattrav.control.ng.codec_bencode import MalformedMessage, decode, encode

SEEDS = [encode({"a": [1, {"b": "c"}], "z": -5}), b"d1:ali1ei-20ee1:bd0:0:ee"]


def target(data: bytes) -> None:
    """What decodes encodes and decodes to itself; anything else raises MalformedMessage."""
    try:
        value = decode(data)
    except MalformedMessage:
        return
    assert decode(encode(value)) == value
