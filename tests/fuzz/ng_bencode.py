from __future__ import annotations

from nattrav.control.ng.codec_bencode import MalformedMessage, decode, encode


def target(data: bytes) -> None:
    """What decodes encodes and decodes to itself; anything else raises MalformedMessage."""
    try:
        value = decode(data)
    except MalformedMessage:
        return
    assert decode(encode(value)) == value
