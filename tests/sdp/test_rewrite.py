from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nattrav.net.address import TransportAddress
from nattrav.sdp.description import Connection, parse
from nattrav.sdp.media import DIRECTIONS, addresses
from nattrav.sdp.rewrite import Unplaceable, Wording, compose
from tests.sdp.samples import BROWSER, FAX, PHONE, SOFTPHONE, sdp


@dataclass(frozen=True)
class At:
    rtp: TransportAddress | None
    rtcp: TransportAddress | None = None
    rtcp_mux: bool = False
    port_count: int = 1
    rejected: bool = False
    family: int = 4


def at(port: int = 30120, host: str = "203.0.113.5", *, mux: bool = False) -> At:
    return At(TransportAddress(host, port), TransportAddress(host, port + 1), mux, family=6 if ":" in host else 4)


REJECTED = At(None, rejected=True)


def rewritten(*lines: str, places: list[At] | None = None, wording: Wording | None = None) -> list[str]:
    text = compose(parse(sdp(*lines)), places if places is not None else [at()], wording or Wording())
    assert text.endswith(b"\r\n")
    return text.decode("latin-1").split("\r\n")[:-1]


def test_the_documented_example_comes_out_byte_for_byte() -> None:
    assert rewritten(*PHONE) == [
        "v=0",
        "o=al 11 22 IN IP4 192.168.1.7",
        "s=-",
        "t=0 0",
        "m=audio 30120 RTP/AVP 0 101",
        "c=IN IP4 203.0.113.5",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=x-foo:bar",
        "a=sendrecv",
        "a=rtcp:30121",
        "a=ptime:20",
    ]


def test_a_real_softphones_offer_is_ordered_by_payload_type() -> None:
    assert rewritten(*SOFTPHONE) == [
        "v=0",
        "o=- 3868331676 3868331676 IN IP4 10.0.0.2",
        "s=call",
        "b=AS:84",
        "t=0 0",
        "a=X-nat:0",
        "m=audio 30120 RTP/AVP 96 97 98 99 3 0 8 9 120 121 122",
        "c=IN IP4 203.0.113.5",
        "b=TIAS:64000",
        "a=rtpmap:96 speex/16000",
        "a=rtpmap:97 speex/8000",
        "a=rtpmap:98 speex/32000",
        "a=rtpmap:99 iLBC/8000",
        "a=fmtp:99 mode=30",
        "a=rtpmap:3 GSM/8000",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:8 PCMA/8000",
        "a=rtpmap:9 G722/8000",
        "a=rtpmap:120 telephone-event/16000",
        "a=fmtp:120 0-16",
        "a=rtpmap:121 telephone-event/8000",
        "a=fmtp:121 0-16",
        "a=rtpmap:122 telephone-event/32000",
        "a=fmtp:122 0-16",
        "a=ssrc:1191159442 cname:66b2d4ae0d4b1b4e",
        "a=sendrecv",
        "a=rtcp:30121",
    ]


def test_ice_is_gone_and_keys_stay() -> None:
    out = rewritten(*BROWSER, places=[at(mux=True), REJECTED])
    assert out[5:] == [
        "m=audio 30120 UDP/TLS/RTP/SAVPF 111 0",
        "c=IN IP4 203.0.113.5",
        "a=mid:0",
        "a=rtpmap:111 opus/48000/2",
        "a=fmtp:111 minptime=10;useinbandfec=1",
        "a=rtcp-fb:111 transport-cc",
        "a=rtpmap:0 PCMU/8000",
        "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
        "a=ssrc:3570614608 cname:4TOk42mSjXCkVIa6",
        "a=sendrecv",
        "a=rtcp:30121",
        "a=rtcp-mux",
        "a=setup:actpass",
        "a=fingerprint:sha-256 19:E2:1C:3B",
        "m=video 0 UDP/TLS/RTP/SAVPF 96",
        "c=IN IP4 0.0.0.0",
        "a=mid:1",
    ]


def test_session_level_keys_move_into_the_sections() -> None:
    out = rewritten(*PHONE[:5], "a=fingerprint:sha-1 AA", "a=setup:active", "m=audio 1 RTP/SAVP 0")
    assert out[-2:] == ["a=setup:active", "a=fingerprint:sha-1 AA"]


def test_crypto_lines_pass_in_order() -> None:
    crypto = ["a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x", "a=crypto:2 AES_CM_128_HMAC_SHA1_32 inline:y"]
    out = rewritten(*PHONE[:5], "m=audio 1 RTP/SAVP 0", *crypto, "a=ptime:20")
    assert out[-3:] == [*crypto, "a=ptime:20"]


def test_fax_keeps_its_attributes_and_gets_none_of_rtps() -> None:
    assert rewritten(*FAX, places=[At(TransportAddress("203.0.113.5", 30120))])[4:] == [
        "m=image 30120 udptl t38",
        "c=IN IP4 203.0.113.5",
        "a=T38FaxVersion:0",
        "a=T38MaxBitRate:14400",
        "a=T38FaxRateManagement:transferredTCF",
    ]


def test_a_data_channel_loses_its_candidates() -> None:
    lines = ("a=candidate:1 1 udp 1 192.168.1.9 9 typ host", "a=ice-ufrag:x", "a=setup:actpass", "a=sctp-port:5000")
    out = rewritten(*PHONE[:5], "m=application 9 UDP/DTLS/SCTP webrtc-datachannel", *lines)
    assert out[-2:] == ["a=setup:actpass", "a=sctp-port:5000"]


def test_a_stream_over_tcp_keeps_its_own_address_and_port() -> None:
    out = rewritten(*PHONE[:5], "m=message 7654 TCP/MSRP *", "a=path:msrp://x", places=[At(None)])
    assert out[4:] == ["m=message 7654 TCP/MSRP *", "c=IN IP4 192.168.1.7", "a=path:msrp://x"]


def test_datagrams_without_a_place_are_refused_and_never_passed() -> None:
    with pytest.raises(Unplaceable):
        rewritten(*PHONE, places=[At(None)])
    with pytest.raises(Unplaceable):
        rewritten(*PHONE, places=[])


@pytest.mark.parametrize(
    ("received", "written"),
    [
        (None, "sendonly"),
        ("sendrecv", "sendonly"),
        ("sendonly", "sendonly"),
        ("recvonly", "inactive"),
        ("inactive",) * 2,
    ],
)
def test_a_null_address_stays_null_and_the_direction_says_hold(received: str | None, written: str) -> None:
    extra = [] if received is None else [f"a={received}"]
    out = rewritten(*PHONE[:3], "c=IN IP4 0.0.0.0", *PHONE[4:6], *extra)
    assert out[4:6] == ["m=audio 30120 RTP/AVP 0 101", "c=IN IP4 0.0.0.0"]
    assert f"a={written}" in out


def test_with_zero_address_replaced_ours_is_written() -> None:
    out = rewritten(*PHONE[:3], "c=IN IP4 0.0.0.0", *PHONE[4:6], wording=Wording(zero_address=True))
    assert out[5] == "c=IN IP4 203.0.113.5"


def test_the_family_of_the_place_is_written() -> None:
    out = rewritten(*PHONE, places=[at(host="2001:db8::5")])
    assert out[5] == "c=IN IP6 2001:db8::5"
    out = rewritten(*PHONE, places=[At(None, rejected=True, family=6)])
    assert out[4:] == ["m=audio 0 RTP/AVP 0 101", "c=IN IP6 ::"]


def test_another_address_may_be_printed() -> None:
    out = rewritten(*PHONE, wording=Wording(host=Connection(6, "2001:db8::7", literal=True), rtcp="full"))
    assert out[5] == "c=IN IP6 2001:db8::7"
    assert "a=rtcp:30121 IN IP6 2001:db8::7" in out


def test_the_rtcp_attribute_is_short_full_or_absent() -> None:
    assert "a=rtcp:30121 IN IP4 203.0.113.5" in rewritten(*PHONE, wording=Wording(rtcp="full"))
    assert not [line for line in rewritten(*PHONE, wording=Wording(rtcp="none")) if line.startswith("a=rtcp")]


def test_mux_without_fallback_names_the_rtp_port() -> None:
    place = At(TransportAddress("203.0.113.5", 30120), TransportAddress("203.0.113.5", 30120), rtcp_mux=True)
    out = rewritten(*PHONE, places=[place])
    assert out[-3:] == ["a=rtcp:30120", "a=rtcp-mux", "a=ptime:20"]


def test_mux_only_disappears_with_mux() -> None:
    lines = (*PHONE, "a=rtcp-mux", "a=rtcp-mux-only")
    assert "a=rtcp-mux-only" not in rewritten(*lines)
    assert "a=rtcp-mux-only" in rewritten(*lines, places=[at(mux=True)])


def test_the_direction_may_be_left_as_received() -> None:
    wording = Wording(own_direction=True)
    assert not {f"a={word}" for word in DIRECTIONS} & set(rewritten(*PHONE, wording=wording))
    assert "a=recvonly" in rewritten(*PHONE, "a=recvonly", wording=wording)


def test_mids_are_made_where_missing() -> None:
    out = rewritten(*PHONE, "m=video 0 RTP/AVP 31", places=[at(), REJECTED], wording=Wording(make_mid=True))
    assert [line for line in out if line.startswith("a=mid")] == ["a=mid:1", "a=mid:2"]


def test_bandwidths_have_their_order_and_strange_ones_go() -> None:
    out = rewritten(*PHONE, "b=TIAS:5", "b=X-YZ:1", "b=RS:3", "b=AS:1", "b=CT:4", "b=RR:2")
    assert [line for line in out if line.startswith("b=")] == ["b=AS:1", "b=RR:2", "b=RS:3", "b=CT:4", "b=TIAS:5"]


def test_feedback_for_all_payload_types_stands_before_other_attributes() -> None:
    out = rewritten(*PHONE[:7], "a=foo", "a=rtcp-fb:* nack", "a=rtcp-fb:0 pli")
    assert out[6:12] == [
        "a=rtpmap:0 PCMU/8000",
        "a=rtcp-fb:0 pli",
        "a=rtpmap:101 telephone-event/8000",
        "a=rtcp-fb:* nack",
        "a=foo",
        "a=sendrecv",
    ]


def test_maps_of_payload_types_that_are_not_offered_go() -> None:
    assert "a=rtpmap:97 x/8000" not in rewritten(*PHONE, "a=rtpmap:97 x/8000", "a=fmtp:97 y")


def test_a_payload_type_that_is_listed_twice_is_written_once() -> None:
    out = rewritten(*PHONE[:5], "m=audio 4000 RTP/AVP 0 8 0")
    assert out[4] == "m=audio 30120 RTP/AVP 0 8"
    assert out.count("a=rtpmap:0 PCMU/8000") == 1


def test_an_answer_is_limited_to_what_was_offered() -> None:
    out = rewritten(*PHONE, wording=Wording(allowed={0: {"0"}}))
    assert out[4] == "m=audio 30120 RTP/AVP 0"
    assert "a=rtpmap:101 telephone-event/8000" not in out


def test_an_answer_with_nothing_in_common_keeps_its_formats() -> None:
    assert rewritten(*PHONE, wording=Wording(allowed={0: {"18"}}))[4] == "m=audio 30120 RTP/AVP 0 101"


def test_the_loop_mark_stands_after_the_timing() -> None:
    out = rewritten(*PHONE[:5], "a=tool:x", *PHONE[5:], wording=Wording(loop_mark="0123456789ab"))
    assert out[3:6] == ["t=0 0", "a=rtpengine:0123456789ab", "a=tool:x"]


def test_session_lines_that_only_describe_the_sender_go() -> None:
    out = rewritten(
        *PHONE[:5], "r=0 0 0", "z=0 0", "k=clear:x", "a=group:BUNDLE 0", "a=sendonly", "a=ice-lite", *PHONE[5:]
    )
    assert out[:5] == [*PHONE[:3], "t=0 0", "m=audio 30120 RTP/AVP 0 101"]
    assert "a=sendonly" in out


def test_missing_name_and_timing_are_filled_in() -> None:
    assert rewritten("v=0", *PHONE[3:4], *PHONE[5:])[:3] == ["v=0", "s=-", "t=0 0"]


def test_contact_lines_stand_where_the_rfc_wants_them() -> None:
    out = rewritten(*PHONE[:3], "e=a@b", "p=1", "u=http://x", "i=info", *PHONE[3:])
    assert out[3:7] == ["i=info", "u=http://x", "e=a@b", "p=1"]


def test_origin_and_name_can_be_replaced() -> None:
    out = rewritten(*PHONE, wording=Wording(origin="al 11 22 IN IP4 203.0.113.5", name="x"))
    assert out[1:3] == ["o=al 11 22 IN IP4 203.0.113.5", "s=x"]


_lines = st.lists(
    st.sampled_from(
        [
            "c=IN IP4 10.1.2.3",
            "c=IN IP4 0.0.0.0",
            "a=rtcp:9 IN IP4 10.1.2.3",
            "a=candidate:1 1 udp 1 10.1.2.3 9 typ host",
            "a=sendonly",
            "a=rtcp-mux",
            "a=x-unknown:1",
            "i=x",
            "m=audio 4002 RTP/AVP 8",
            "m=image 4004 udptl t38",
            "m=video 0 RTP/AVP 31",
        ]
    ),
    max_size=14,
)


@given(_lines)
def test_no_private_address_is_left_and_the_result_is_its_own_fixed_point(lines: list[str]) -> None:
    description = parse(sdp(*PHONE, *lines))
    places = [REJECTED if s.port == 0 else at(30000 + 2 * i) for i, s in enumerate(description.sections)]
    once = compose(description, places)
    again = parse(once)
    assert "10.1.2.3" not in once.decode("latin-1")
    assert {c.host for c in addresses(again)} <= {"203.0.113.5", "0.0.0.0"}
    assert [s.media for s in again.sections] == [s.media for s in description.sections]
    assert compose(again, places) == once
