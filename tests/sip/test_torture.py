"""The torture messages of RFC 4475 and RFC 5118 in front of the parser."""

from __future__ import annotations

import pytest

from nattrav.sip.errors import MalformedMessage, UnsupportedScheme
from nattrav.sip.framer import StreamFramer
from nattrav.sip.message import Request, Response
from nattrav.sip.name_addr import NameAddr
from nattrav.sip.parser import parse_datagram_untrusted
from nattrav.sip.uri import SipUri
from tests.vectors import rfc4475, rfc5118
from tests.vectors.vector import DROP, Vector

ALL = rfc4475.VECTORS + rfc5118.VECTORS
WELL_FORMED = [vector for vector in ALL if vector.well_formed]
MALFORMED = [vector for vector in ALL if not vector.well_formed]
BY_NAME = {vector.name: vector for vector in ALL}


def name(vector: Vector) -> str:
    return vector.name


def request(vector_name: str) -> Request:
    message = parse_datagram_untrusted(BY_NAME[vector_name].octets)
    assert isinstance(message, Request)
    return message


def fault(vector_name: str) -> MalformedMessage:
    with pytest.raises(MalformedMessage) as caught:
        parse_datagram_untrusted(BY_NAME[vector_name].octets)
    return caught.value


def test_there_are_49_and_12_messages() -> None:
    assert len({vector.name for vector in rfc4475.VECTORS}) == 49
    assert len({vector.name for vector in rfc5118.VECTORS}) == 12


@pytest.mark.parametrize("vector", WELL_FORMED, ids=name)
def test_a_well_formed_message_parses_and_renders_to_the_same_octets(vector: Vector) -> None:
    message = parse_datagram_untrusted(vector.octets)
    assert vector.octets.startswith(message.render())
    if vector.name != "dblreq":
        assert message.render() == vector.octets
    assert message.vias[0].text == message.via.text


@pytest.mark.parametrize("vector", WELL_FORMED, ids=name)
def test_the_content_lengths_of_well_formed_messages_are_right(vector: Vector) -> None:
    message = parse_datagram_untrusted(vector.octets)
    if message.has("Content-Length") and vector.name != "dblreq":
        head, _, body = vector.octets.partition(b"\r\n\r\n")
        assert int(message.first("Content-Length") or "") == len(body), head


@pytest.mark.parametrize("vector", MALFORMED, ids=name)
def test_a_malformed_message_is_refused_with_the_status_the_rfc_asks_for(vector: Vector) -> None:
    problem = fault(vector.name)
    assert problem.message is not None
    if vector.expected == DROP:
        assert isinstance(problem.message, Response)
    else:
        assert isinstance(problem.message, Request)
        assert problem.status == vector.expected


def test_wsinv_is_understood_through_folding_case_and_white_space() -> None:
    message = request("wsinv")
    assert message.max_forwards == 68
    assert message.cseq == (9, "INVITE")
    assert message.to.tag == "1918181833n"
    assert message.from_.tag == "98asjd8"
    assert message.from_.display_name == 'J Rosenberg \\"'
    assert [(via.transport, via.host, via.branch) for via in message.vias] == [
        ("udp", "192.0.2.2", "390skdjuw"),
        ("tcp", "spindle.example.com", "z9hG4bK9ikj8"),
        ("udp", "192.168.255.111", "z9hG4bK30239"),
    ]
    assert not message.via.has_cookie
    assert message.first("Subject") == ""
    assert message.routes[0].sip_uri.loose
    assert message.contacts != "*"
    assert message.contacts[0].params == {"newparam": "newvalue", "secondparam": None, "q": "0.33"}
    assert message.first("NewFangledHeader") == "newfangled value continued newfangled value"
    assert message.all("UnknownHeaderWithUnusualValue") == [";;", "", ";;", ";"]
    assert message.content_type == "application/sdp"


def test_intmeth_keeps_every_odd_character() -> None:
    message = request("intmeth")
    assert message.method == "!interesting-Method0123456789_*+`.%indeed'~"
    assert message.to.display_name == "BEL:\x07 NUL:\x00 DEL:\x7f"
    assert message.from_.tag == "_token~1'+`*%!-."
    assert message.from_.display == "token1~` token2'+_ token3*%!.-"
    uri = message.uri
    assert isinstance(uri, SipUri)
    assert uri.user == "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"
    assert uri.password == "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"
    assert message.via.branch == "z9hG4bK-.!%66*_+`'~"


def test_esc01_goes_to_its_host_and_its_escapes_compare_equal() -> None:
    message = request("esc01")
    uri = message.uri
    assert isinstance(uri, SipUri)
    assert (uri.scheme, uri.host) == ("sip", "example.net")
    assert message.to.sip_uri == SipUri.parse("sip:user@example.com")
    assert message.contacts != "*"
    contact = message.contacts[0].sip_uri
    assert contact.host == "host5.example.net"
    assert contact == SipUri.parse("sip:caller@host5.example.net;%6C%72;n%61me=value%25%34%31")
    assert contact != SipUri.parse("sip:caller@host5.example.net;n%61me=valueA")


def test_escnull_registers_two_contacts_that_differ() -> None:
    contacts = request("escnull").contacts
    assert contacts != "*"
    one, two = (contact.sip_uri for contact in contacts)
    assert one != two


def test_esc02_is_no_register_and_has_two_contacts() -> None:
    message = request("esc02")
    assert message.method == "RE%47IST%45R"
    assert message.count("Contact") == 2
    assert message.from_.display_name == "%Z%45"


def test_longreq_has_34_vias() -> None:
    assert len(request("longreq").vias) == 34


def test_dblreq_ends_where_its_content_length_says() -> None:
    message = request("dblreq")
    assert message.body == b""
    assert b"INVITE" not in message.render()


def test_semiuri_has_its_semicolon_in_the_user_part() -> None:
    uri = request("semiuri").uri
    assert isinstance(uri, SipUri)
    assert (uri.user, uri.host, uri.params) == ("user;par=u%40example.net", "example.com", {})


def test_transports_are_told_apart() -> None:
    assert [via.transport for via in request("transports").vias] == ["udp", "sctp", "tls", "unknown", "tcp"]


def test_mpart01_keeps_its_binary_part() -> None:
    message = request("mpart01")
    assert len(message.body) == 553
    assert b"\x00" in message.body


@pytest.mark.parametrize("vector_name", ["unkscm", "novelsc"])
def test_odd_schemes_parse_and_are_told_as_unsupported(vector_name: str) -> None:
    with pytest.raises(UnsupportedScheme) as caught:
        _ = request(vector_name).uri
    assert caught.value.status == 416


def test_the_contact_of_regbadct_is_refused_only_when_somebody_looks() -> None:
    message = request("regbadct")
    with pytest.raises(MalformedMessage):
        _ = message.contacts


def test_contact_parameters_stay_where_they_were() -> None:
    outside, inside = request("cparam01").contacts, request("cparam02").contacts
    assert isinstance(outside, list)
    assert isinstance(inside, list)
    assert (outside[0].sip_uri.params, outside[0].params) == ({}, {"unknownparam": None})
    assert (inside[0].sip_uri.params, inside[0].params) == ({"unknownparam": None}, {})


def test_regescrt_keeps_the_escaped_header_with_its_uri() -> None:
    contacts = request("regescrt").contacts
    assert isinstance(contacts, list)
    assert contacts[0].sip_uri.headers == "Route=%3Csip:sip.example.com%3E"


def test_insuf_gives_what_there_is_for_the_answer() -> None:
    message = fault("insuf").message
    assert message is not None
    assert message.via.branch == "z9hG4bKkdj.insuf"
    assert message.cseq == (193942, "INVITE")
    assert not message.has("Call-ID")


def test_inv2543_has_neither_branch_nor_tag_nor_lengths() -> None:
    message = request("inv2543")
    assert message.via.branch is None
    assert message.from_.tag is None
    assert message.max_forwards is None
    assert message.body.endswith(b"m=audio 49217 RTP/AVP 0\r\n")


def test_ipv6_references_give_address_and_port() -> None:
    ports = {}
    for vector_name in ("ipv6-good", "port-ambiguous", "port-unambiguous"):
        uri = request(vector_name).uri
        assert isinstance(uri, SipUri)
        ports[vector_name] = (uri.host, uri.port)
    assert ports == {
        "ipv6-good": ("2001:db8::10", None),
        "port-ambiguous": ("2001:db8::10:5070", None),
        "port-unambiguous": ("2001:db8::10", 5070),
    }


def test_received_is_read_with_and_without_brackets() -> None:
    assert request("via-received-param-with-delim").via.received == "2001:db8::9:255"
    assert request("via-received-param-no-delim").via.received == "2001:db8::9:255"


def test_three_colons_are_read_as_two() -> None:
    three, two = request("ipv6-bug-abnf-3-colons").uri, request("ipv6-correct-abnf-2-colons").uri
    assert isinstance(three, SipUri)
    assert isinstance(two, SipUri)
    assert three.host == two.host == "2001:db8::192.0.2.1"


def test_mapped_addresses_are_the_ipv4_address_within() -> None:
    assert request("ipv4-mapped-ipv6").via.sent_by == ("::ffff:192.0.2.10", 19823)
    assert NameAddr.parse("<sip:ted@[::ffff:192.0.2.2]>").sip_uri == SipUri.parse("sip:ted@192.0.2.2")


@pytest.mark.parametrize("vector_name", ["ncl", "mcl01", "inv2543"])
def test_on_a_stream_a_message_without_one_good_length_is_a_fault(vector_name: str) -> None:
    framer = StreamFramer()
    assert framer.feed(BY_NAME[vector_name].octets) == []
    assert framer.fault is not None
    assert framer.fault.status == 400
    assert framer.fault.message is not None


def test_on_a_stream_clerr_waits_for_more() -> None:
    framer = StreamFramer()
    assert framer.feed(BY_NAME["clerr"].octets) == []
    assert framer.fault is None
    assert framer.partial


def test_on_a_stream_dblreq_is_two_messages() -> None:
    framer = StreamFramer()
    octets = BY_NAME["dblreq"].octets
    first, second = framer.feed(octets)
    assert octets.startswith(first + second)
    assert second.startswith(b"INVITE")
    assert framer.partial
