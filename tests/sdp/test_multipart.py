from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nattrav.sdp.multipart import find, replace

MIXED = (
    b"preamble\r\n--b1\r\nContent-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n\r\n"
    b"--b1\r\nContent-Type: text/plain\r\n\r\nv=0\r\n--b1--\r\nepilogue"
)


def test_a_plain_body_is_one_part() -> None:
    parts = find("application/SDP ; charset=utf-8", b"v=0\r\n")
    assert [(p.start, p.end, p.disposition) for p in parts] == [(0, 5, "session")]


def test_other_types_and_empty_bodies_have_none() -> None:
    assert find("text/plain", b"v=0\r\n") == []
    assert find("application/sdp", b"") == []


def test_an_encoded_body_is_found_and_marked() -> None:
    assert find("application/sdp", b"\x1f\x8b", encoded=True)[0].encoded


def test_only_the_sdp_part_changes_and_its_length_is_mended() -> None:
    parts = find('multipart/mixed;boundary="b1"', MIXED)
    assert [MIXED[p.start : p.end] for p in parts] == [b"v=0\r\n"]
    changed = replace(MIXED, parts, [b"v=0\r\ns=longer\r\n"])
    assert changed == MIXED.replace(b"Length: 5\r\n\r\nv=0\r\n", b"Length: 15\r\n\r\nv=0\r\ns=longer\r\n")


@pytest.mark.parametrize("kind", ["multipart/mixed", "multipart/alternative", "multipart/related"])
@pytest.mark.parametrize("boundary", ["boundary=b1", 'BOUNDARY="b1"', 'x=y; boundary="b\\1"'])
def test_every_multipart_and_spelling_of_the_boundary_is_read(kind: str, boundary: str) -> None:
    assert len(find(f"{kind}; {boundary}", MIXED)) == 1


def test_one_multipart_inside_another_is_looked_into_but_no_deeper() -> None:
    inner = b"--i\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--i--"
    body = b"--o\r\nContent-Type: multipart/alternative;boundary=i\r\n\r\n" + inner + b"\r\n--o--\r\n"
    assert [body[p.start : p.end] for p in find("multipart/mixed;boundary=o", body)] == [b"v=0"]
    deeper = b"--x\r\nContent-Type: multipart/mixed;boundary=o\r\n\r\n" + body + b"\r\n--x--\r\n"
    assert find("multipart/mixed;boundary=x", deeper) == []


def test_disposition_and_encoding_of_a_part_are_told() -> None:
    body = (
        b"--b\nContent-Type: application/sdp\nContent-Disposition: early-session;handling=optional\n\nv=0\n"
        b"--b\nContent-Type: application/sdp\nContent-Transfer-Encoding: base64\n\ndj0w\n--b--\n"
    )
    assert [(p.disposition, p.encoded) for p in find("multipart/mixed;boundary=b", body)] == [
        ("early-session", False),
        ("session", True),
    ]


def test_a_part_without_header_is_text() -> None:
    assert find("multipart/mixed;boundary=b", b"--b\r\n\r\nv=0\r\n--b--") == []


@pytest.mark.parametrize(
    "content_type", ["multipart/mixed", "multipart/mixed;boundary=", "multipart/mixed;boundary=zz"]
)
def test_broken_structure_has_no_parts(content_type: str) -> None:
    assert find(content_type, MIXED) == []


@given(st.binary(max_size=200))
def test_replacing_parts_with_themselves_changes_nothing(data: bytes) -> None:
    for body in (data, MIXED[:60] + data + MIXED[60:]):
        parts = find("multipart/mixed;boundary=b1", body)
        texts = [body[p.start : p.end] for p in parts]
        if not any(p.header for p in parts):
            assert replace(body, parts, texts) == body
        assert len(replace(body, parts, [b""] * len(parts))) <= len(body)
