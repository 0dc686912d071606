"""Messages on a stream: cut at any point, and a stream that is not STUN is noticed at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stun.attributes import AttributeType, MalformedMessage
from stun.framing import Framer
from stun.message import BINDING, SHARED_SECRET, MessageClass, encode

T = AttributeType
MESSAGES = [
    encode(BINDING, MessageClass.REQUEST, bytes(12)),
    encode(BINDING, MessageClass.REQUEST, bytes(range(12)), [(T.SOFTWARE, b"abc")]),
    encode(SHARED_SECRET, MessageClass.REQUEST, bytes(range(16))),
]


@given(st.lists(st.sampled_from(MESSAGES), max_size=5), st.lists(st.integers(0, 200), max_size=8))
def test_T2_messages_come_out_whole_however_the_stream_is_cut(messages: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(messages)
    framer = Framer()
    found = []
    start = 0
    for cut in [*sorted(c for c in cuts if c <= len(stream)), len(stream)]:
        found += framer.feed(stream[start:cut])
        start = cut
    assert found == messages
    assert not framer.partial


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x80" + bytes(19),
        b"\0\1\0\3" + MESSAGES[0][4:],
        b"\0\1\x08\0" + MESSAGES[0][4:],
        encode(BINDING, MessageClass.REQUEST, bytes(range(16))),
    ],
)
def test_T3_what_is_no_stun_stream_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        Framer().feed(data)


def test_a_partial_message_is_kept() -> None:
    framer = Framer()
    assert framer.feed(MESSAGES[1][:25]) == []
    assert framer.partial
    assert framer.feed(MESSAGES[1][25:]) == [MESSAGES[1]]
