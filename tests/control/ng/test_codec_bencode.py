from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nattrav.control.ng.codec_bencode import DEPTH_LIMIT, MalformedMessage, Value, decode, decode_prefix, encode


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"d7:command4:pinge", {b"command": b"ping"}),
        (b"d1:b1:x1:a1:ye", {b"b": b"x", b"a": b"y"}),
        (b"d1:al1:b1:cee", {b"a": [b"b", b"c"]}),
        (b"d1:ai-42e1:bi0ee", {b"a": -42, b"b": 0}),
        (b"0:", b""),
        (b"le", []),
        (b"de", {}),
        (b"d1:k3:\xff\x00\ne", {b"k": b"\xff\x00\n"}),
        (b"d1:ad1:bd1:ci1eeee", {b"a": {b"b": {b"c": 1}}}),
        (b"d1:a1:x1:a1:ye", {b"a": b"y"}),
        (b"d0:0:e", {b"": b""}),
    ],
)
def test_known_texts_decode(text: bytes, value: Value) -> None:
    assert decode(text) == value


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"x",
        b"d",
        b"de ",
        b"d1:ae",
        b"di1e1:ae",
        b"d1:a",
        b"d1:a5:xe",
        b"l",
        b"i",
        b"ie",
        b"i-e",
        b"i-0e",
        b"i007e",
        b"i1",
        b"i1.5e",
        b"i 1e",
        b"i" + b"9" * 30 + b"e",
        b"01:a",
        b"d01:a1:be",
        b"d1:a01:be",
        b"-1:a",
        b"d1:a-1:be",
        b"1a:x",
        b"9999999:x",
        b"99999999:x",
        b"\xb2:ab",
        b"5:ab",
        b"l" * 100,
        b"d1:a" * 100,
        b"4:abcde",
    ],
)
def test_broken_texts_are_refused(text: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode(text)


def test_depth_is_bounded() -> None:
    assert decode(b"l" * DEPTH_LIMIT + b"e" * DEPTH_LIMIT)
    with pytest.raises(MalformedMessage):
        decode(b"l" * (DEPTH_LIMIT + 1) + b"e" * (DEPTH_LIMIT + 1))


def test_a_beginning_is_told_from_nonsense() -> None:
    text = b"d7:command5:offer3:sdp3:abc1:ni-12e1:ll1:x2:yyee"
    assert decode_prefix(text + b"rest", 0)[1] == len(text)
    for end in range(len(text)):
        with pytest.raises(MalformedMessage) as refused:
            decode_prefix(text[:end], 0)
        assert refused.value.incomplete, text[:end]


def test_entries_are_written_in_order_and_text_as_octets() -> None:
    assert encode({"z": "é", "a": b"\xff", "n": -1, "t": True, "f": 1.5, "l": ["x", 2]}) == (
        b"d1:z1:\xe91:a1:\xff1:ni-1e1:ti1e1:f3:1.51:ll1:xi2eee"
    )


def test_characters_beyond_octets_are_written_as_utf8() -> None:
    assert (
        encode({"€": "€", "x": ["é", {b"k": "€"}]}) == b"d3:\xe2\x82\xac3:\xe2\x82\xac1:xl1:\xe9d1:k3:\xe2\x82\xaceee"
    )


_values: st.SearchStrategy[Value] = st.recursive(
    st.binary(max_size=40) | st.integers(-(10**18), 10**18),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.binary(max_size=10), inner, max_size=5),
    max_leaves=20,
)


@given(_values)
def test_what_is_encoded_decodes_to_itself(value: Value) -> None:
    assert decode(encode(value)) == value


@given(st.binary(max_size=80))
def test_what_decodes_encodes_to_itself_unless_a_key_came_twice(data: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        value = decode(data)
        assert decode(encode(value)) == value
