from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nattrav.control.ng.codec_bencode import MalformedMessage
from nattrav.control.ng.codec_json import decode, encode


def test_text_becomes_octets_and_back() -> None:
    assert decode('{"call-id":"é","n":5,"l":["x"],"d":{"k":null},"t":true,"f":1.5}'.encode()) == {
        b"call-id": "é".encode(),
        b"n": 5,
        b"l": [b"x"],
        b"d": {b"k": b""},
        b"t": 1,
        b"f": b"1.5",
    }
    assert (
        encode({"a": "\xc3\xa9", "b": b"\xff", "c": 1, "d": [{"e": 1.5}]})
        == '{"a":"é","b":"ÿ","c":1,"d":[{"e":1.5}]}'.encode()
    )


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"{}x",
        b"\xff",
        b'{"a":' * 50 + b"1" + b"}" * 50,
        b"[" * 100000,
        b'{"n":' + b"9" * 5000 + b"}",
    ],
)
def test_broken_documents_are_refused(text: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode(text)


_leaves = st.text(max_size=20) | st.integers(-(10**18), 10**18)
_documents = st.dictionaries(
    st.text(max_size=10),
    st.recursive(
        _leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_size=5,
)


@given(_documents)
def test_what_is_encoded_decodes_to_the_same(document: dict[str, object]) -> None:
    octets = decode(encode(document))  # type: ignore[arg-type]
    assert decode(encode(octets)) == octets
