from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nattrav.sdp.description import MalformedMessage, origin_fields, parse, parse_connection
from tests.sdp.samples import BROWSER, FAX, PHONE, SOFTPHONE, sdp


@pytest.mark.parametrize("lines", [PHONE, SOFTPHONE, BROWSER, FAX])
@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_a_parsed_description_renders_octet_for_octet(lines: tuple[str, ...], end: str) -> None:
    text = sdp(*lines, end=end)
    assert parse(text).render() == text


def test_mixed_line_ends_and_octets_beyond_ascii_survive() -> None:
    text = b"v=0\no=- 1 1 IN IP4 192.0.2.1\r\ns=\xff\xc3\xa9\nt=0 0\r\n"
    assert parse(text).render() == text


def test_the_media_line_is_read_field_by_field() -> None:
    section = parse(sdp(*PHONE[:5], "m=audio 49170/2 RTP/AVP 0 8")).sections[0]
    assert (section.media, section.port, section.port_count, section.protocol, section.formats) == (
        "audio",
        49170,
        2,
        "RTP/AVP",
        ["0", "8"],
    )


def test_a_section_without_connection_line_uses_the_sessions() -> None:
    description = parse(sdp(*PHONE))
    connection = description.connection(description.sections[0])
    assert connection is not None
    assert connection.host == "192.168.1.7"


def test_the_sections_own_connection_line_wins() -> None:
    description = parse(sdp(*PHONE, "c=IN IP6 2001:DB8::1"))
    connection = description.connection(description.sections[0])
    assert connection is not None
    assert (connection.family, connection.host) == (6, "2001:db8::1")


def test_multicast_suffixes_are_cut_off() -> None:
    assert parse_connection("c=IN IP4 233.252.0.1/127/3").host == "233.252.0.1"


def test_a_domain_name_is_kept_and_is_no_literal() -> None:
    connection = parse_connection("c=IN IP4 media.example.com")
    assert (connection.host, connection.literal, connection.null) == ("media.example.com", False, False)


def test_a_mapped_address_is_read_as_ipv4() -> None:
    connection = parse_connection("c=IN IP6 ::ffff:192.0.2.1")
    assert (connection.family, connection.host) == (4, "192.0.2.1")


def test_null_addresses_of_both_families_are_known() -> None:
    assert parse_connection("c=IN IP4 0.0.0.0").null
    assert parse_connection("c=IN IP6 ::").null


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\r\n",
        b"v=1\r\n",
        b"o=- 1 1 IN IP4 192.0.2.1\r\n",
        sdp(*PHONE, "o=- 1 1 IN IP4 192.0.2.1"),
        sdp(*PHONE, "s=x"),
        sdp(*PHONE, "t=0 0"),
        sdp(*PHONE, "v=0"),
        sdp(*PHONE, "x=y"),
        sdp(*PHONE, "garbage"),
        sdp(*PHONE[:5], "m=audio"),
        sdp(*PHONE[:5], "m=audio x RTP/AVP 0"),
        sdp(*PHONE[:5], "m=audio 99999 RTP/AVP 0"),
        sdp(*PHONE[:5], "m=audio 4000/0 RTP/AVP 0"),
        sdp(*PHONE[:5], "m=audio -1 RTP/AVP 0"),
        sdp("v=0", "c=IN IP4"),
        sdp("v=0", "c=ATM IP4 192.0.2.1"),
        sdp("v=0", "c=IN IP9 192.0.2.1"),
        sdp("v=0", "c=IN IP4 2001:db8::1"),
        sdp("v=0", "c=IN IP6 fe80::1%eth0"),
        sdp("v=0", "c=IN IP4 999.1.1.1"),
        sdp("v=0", "a=x\ry:z"),
        sdp("v=0", "a=x\0"),
        sdp("v=0", *["m=audio 1 RTP/AVP 0"] * 65),
        sdp("v=0", *["a=x"] * 2001),
        b"v=0\r\n" + b"a=" + b"x" * 70000,
    ],
)
def test_what_is_no_description_is_refused(text: bytes) -> None:
    with pytest.raises(MalformedMessage):
        parse(text)


def test_a_body_without_media_is_a_description() -> None:
    assert parse(sdp(*PHONE[:5])).sections == []


def test_origin_needs_six_fields() -> None:
    assert origin_fields("al 11 22 IN IP4 192.168.1.7") == ["al", "11", "22", "IN", "IP4", "192.168.1.7"]
    assert origin_fields("al 11 22") is None


@given(st.binary(max_size=300))
def test_no_octets_raise_anything_but_malformed(data: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        assert parse(b"v=0\r\n" + data).render() == b"v=0\r\n" + data


_line = st.sampled_from(
    ["a=sendonly", "a=x:y", "a=rtcp:9", "i=info", "b=AS:1", "k=x", "", "a=", "a=:", "c=IN IP4 192.0.2.1", "a=candidate"]
)


@given(st.lists(_line, max_size=12), st.sampled_from(["\r\n", "\n"]))
def test_every_order_of_known_lines_survives(lines: list[str], end: str) -> None:
    text = sdp(*PHONE[:6], *lines, end=end)
    assert parse(text).render() == text
