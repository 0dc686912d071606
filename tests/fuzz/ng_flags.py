from __future__ import annotations

from nattrav.control.ng.flags import parse_rtpp_flags, to_value

SEEDS = [
    b"a=[b=[c d] e=f] RTP/AVP replace-origin direction=x from-tag=y",
    b"SRTP AVPF ICE=remove internal codec-strip-x--1",
]


def target(data: bytes) -> None:
    """Any string of flags becomes keys whose values bencode can carry."""
    for key, words in parse_rtpp_flags(data.decode("latin-1")).items():
        assert isinstance(key, str)
        to_value(words)
