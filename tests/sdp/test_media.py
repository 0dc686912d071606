from __future__ import annotations

import pytest

from nattrav.net.address import TransportAddress
from nattrav.sdp.description import Description, Section, parse
from nattrav.sdp.media import (
    Transport,
    addresses,
    clock_rate,
    direction,
    has_ice,
    has_mux,
    is_null_hold,
    is_secured,
    is_trickling,
    payloads,
    rtcp_address,
    rtp_address,
    transport,
)
from tests.sdp.samples import BROWSER, PHONE, SOFTPHONE, sdp


def one(*extra: str, media: str = "m=audio 4000 RTP/AVP 0 101") -> tuple[Description, Section]:
    description = parse(sdp(*PHONE[:5], media, *extra))
    return description, description.sections[0]


@pytest.mark.parametrize(
    ("protocol", "kind"),
    [
        ("RTP/AVP", Transport.RTP),
        ("rtp/avpf", Transport.RTP),
        ("RTP/SAVP", Transport.RTP),
        ("UDP/TLS/RTP/SAVPF", Transport.RTP),
        ("udptl", Transport.DATAGRAM),
        ("UDPTL", Transport.DATAGRAM),
        ("UDP/DTLS/SCTP", Transport.DATAGRAM),
        ("what/ever", Transport.DATAGRAM),
        ("TCP", Transport.STREAM),
        ("TCP/MSRP", Transport.STREAM),
        ("TCP/TLS/MSRP", Transport.STREAM),
    ],
)
def test_protocols_are_classified_by_how_they_are_carried(protocol: str, kind: Transport) -> None:
    assert transport(protocol) is kind


@pytest.mark.parametrize(
    ("protocol", "secured"),
    [("RTP/AVP", False), ("RTP/SAVP", True), ("UDP/TLS/RTP/SAVPF", True), ("udptl", False), ("UDP/DTLS/SCTP", True)],
)
def test_secured_protocols_are_known(protocol: str, secured: bool) -> None:
    assert is_secured(protocol) is secured


def test_rtcp_is_the_next_port_unless_said_otherwise() -> None:
    description, section = one()
    rtp = rtp_address(description, section)
    assert rtp == TransportAddress("192.168.1.7", 4000)
    assert rtp is not None
    assert rtcp_address(section, rtp) == TransportAddress("192.168.1.7", 4001)


@pytest.mark.parametrize(
    ("line", "address"),
    [
        ("a=rtcp:5555", TransportAddress("192.168.1.7", 5555)),
        ("a=rtcp:5555 IN IP4 192.0.2.9", TransportAddress("192.0.2.9", 5555)),
        ("a=rtcp:5555 IN IP4 0.0.0.0", TransportAddress("192.168.1.7", 5555)),
        ("a=rtcp:5555 IN IP6 2001:db8::9", TransportAddress("2001:db8::9", 5555)),
        ("a=rtcp:garbage", TransportAddress("192.168.1.7", 4001)),
        ("a=rtcp:0", TransportAddress("192.168.1.7", 4001)),
        ("a=rtcp:99999999", TransportAddress("192.168.1.7", 4001)),
        ("a=rtcp:", TransportAddress("192.168.1.7", 4001)),
    ],
)
def test_the_rtcp_attribute_says_port_and_perhaps_address(line: str, address: TransportAddress) -> None:
    description, section = one(line)
    rtp = rtp_address(description, section)
    assert rtp is not None
    assert rtcp_address(section, rtp) == address


def test_the_rtcp_attribute_is_ignored_beside_a_port_count() -> None:
    description, section = one("a=rtcp:5555", media="m=audio 4000/2 RTP/AVP 0")
    rtp = rtp_address(description, section)
    assert rtp is not None
    assert rtcp_address(section, rtp) == TransportAddress("192.168.1.7", 4001)


def test_the_last_port_has_no_next_one() -> None:
    description, section = one(media="m=audio 65535 RTP/AVP 0")
    rtp = rtp_address(description, section)
    assert rtp is not None
    assert rtcp_address(section, rtp) is None


def test_direction_is_the_sections_then_the_sessions_then_both_ways() -> None:
    description, section = one()
    assert direction(section, description.session) == "sendrecv"
    description = parse(sdp(*PHONE[:5], "a=recvonly", "m=audio 1 RTP/AVP 0", "m=video 2 RTP/AVP 31", "a=inactive"))
    assert [direction(s, description.session) for s in description.sections] == ["recvonly", "inactive"]


def test_a_null_address_is_hold() -> None:
    description, section = one("c=IN IP4 0.0.0.0")
    assert is_null_hold(description, section)
    assert rtp_address(description, section) is None


def test_a_null_address_with_trickle_and_port_nine_is_no_hold() -> None:
    description, section = one("c=IN IP4 0.0.0.0", "a=ice-options:trickle", media="m=audio 9 RTP/AVP 0")
    assert is_trickling(description, section)
    assert not is_null_hold(description, section)


def test_a_domain_name_gives_no_address_and_is_no_hold() -> None:
    description, section = one("c=IN IP4 media.example.com")
    assert rtp_address(description, section) is None
    assert not is_null_hold(description, section)


def test_mux_is_seen_in_both_spellings() -> None:
    assert not has_mux(one()[1])
    assert has_mux(one("a=rtcp-mux")[1])
    assert has_mux(one("a=rtcp-mux-only")[1])


def test_ice_is_seen_at_both_levels() -> None:
    description = parse(sdp(*BROWSER))
    assert has_ice(description, description.sections[0])
    assert not has_ice(*one())
    description = parse(sdp(*PHONE[:5], "a=ice-ufrag:x", "m=audio 1 RTP/AVP 0"))
    assert has_ice(description, description.sections[0])


def test_payloads_follow_the_media_line_with_static_types_known() -> None:
    _, section = one(
        "a=rtpmap:101 telephone-event/8000", "a=rtpmap:garbage", media="m=audio 1 RTP/AVP 8 101 0 99 x 300"
    )
    found = payloads(section.formats, section.attributes["rtpmap"])
    assert found == {8: "PCMA/8000", 101: "telephone-event/8000", 0: "PCMU/8000", 99: ""}


@pytest.mark.parametrize(
    ("encoding", "rate"),
    [("PCMU/8000", 8000), ("opus/48000/2", 48000), ("x", None), ("", None), ("x/y", None), ("x/0", None)],
)
def test_clock_rates_are_read_from_the_encoding(encoding: str, rate: int | None) -> None:
    assert clock_rate(encoding) == rate


def test_every_connection_address_is_listed() -> None:
    assert [c.host for c in addresses(parse(sdp(*PHONE)))] == ["192.168.1.7"]
    assert [c.host for c in addresses(parse(sdp(*SOFTPHONE)))] == ["10.0.0.2"]
