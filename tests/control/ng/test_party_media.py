from __future__ import annotations

import pytest

from nattrav.control.ng.party_media import IncompleteDescription, party_media
from nattrav.net.address import TransportAddress
from nattrav.sdp.description import parse
from relay.session import Carriage, Direction, PartyMedia
from tests.sdp.samples import BROWSER, FAX, PHONE, sdp


def one(*lines: str, host: str | None = None, source: str | None = None) -> PartyMedia:
    (media,) = party_media(parse(sdp(*lines)), host, source=source)
    return media


def test_a_plain_stream_says_where_its_packets_go_and_what_they_are() -> None:
    assert one(*PHONE) == PartyMedia(
        media="audio",
        protocol="RTP/AVP",
        carriage=Carriage.RTP,
        rtp=TransportAddress("192.168.1.7", 4000),
        rtcp=TransportAddress("192.168.1.7", 4001),
        payload_types=frozenset({0, 101}),
        clock_rates={0: 8000, 101: 8000},
        codecs={0: "PCMU", 101: "telephone-event"},
    )


def test_the_sip_source_replaces_the_address_but_neither_port() -> None:
    media = one(*PHONE, "a=rtcp:5000 IN IP4 192.168.1.7", host="198.51.100.1")
    assert media.rtp == TransportAddress("198.51.100.1", 4000)
    assert media.rtcp == TransportAddress("198.51.100.1", 5000)


def test_a_null_address_is_hold_even_behind_nat() -> None:
    media = one(*PHONE[:3], "c=IN IP4 0.0.0.0", *PHONE[4:], host="198.51.100.1")
    assert media.null_address
    assert media.rtp is None


def test_a_domain_name_is_guessed_from_the_sip_source() -> None:
    lines = (*PHONE[:3], "c=IN IP4 media.example.com", *PHONE[4:])
    assert one(*lines, source="198.51.100.1").rtp == TransportAddress("198.51.100.1", 4000)


def test_a_domain_name_without_a_sip_source_is_no_address_at_all() -> None:
    lines = (*PHONE[:3], "c=IN IP4 media.example.com", *PHONE[4:])
    with pytest.raises(IncompleteDescription):
        one(*lines)
    assert one(*lines[:4], "m=video 0 RTP/AVP 31").rejected


def test_mux_has_no_rtcp_address_of_its_own() -> None:
    media = one(*PHONE, "a=rtcp-mux")
    assert media.rtcp_mux
    assert media.rtcp is None
    assert one(*PHONE, "a=rtcp:4000").rtcp_mux


def test_a_rejected_stream_says_nothing_else() -> None:
    media = one(*PHONE[:3], PHONE[4], "m=video 0 RTP/AVP 31", "a=mid:v")
    assert (media.rejected, media.rtp, media.mid) == (True, None, "v")


def test_fax_is_datagrams_and_streams_are_not_carried() -> None:
    fax = one(*FAX)
    assert (fax.carriage, fax.rtp, fax.rtcp) == (Carriage.DATAGRAM, TransportAddress("192.0.2.10", 5000), None)
    assert one(*PHONE[:3], PHONE[4], "m=message 9 TCP/MSRP *").carriage is Carriage.NONE


def test_keys_mark_a_stream_as_secured_and_direction_is_read() -> None:
    browser = party_media(parse(sdp(*BROWSER)))[0]
    assert browser.secured
    assert browser.mid == "0"
    assert one(*PHONE, "a=recvonly").direction is Direction.RECVONLY


def test_a_stream_without_any_address_is_incomplete() -> None:
    with pytest.raises(IncompleteDescription):
        one(*PHONE[:3], *PHONE[4:])
    assert one(*PHONE[:3], *PHONE[4:], host="198.51.100.1").rtp is not None
