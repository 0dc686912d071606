"""ng requests against the real engine on an in-memory data plane."""

from __future__ import annotations

import pytest

from nattrav.net.address import TransportAddress
from tests.control.ng.requests import ANSWER, CALLEE, MARK, OFFER, Driver, lines, places
from tests.relay.calls import plane_of
from tests.sdp.samples import BROWSER, FAX, PHONE, SOFTPHONE, sdp


def test_the_documented_example_comes_out_byte_for_byte_but_for_the_port() -> None:
    shown = lines(Driver().offer(OFFER))
    port = int(shown[4].split()[1])
    assert port % 2 == 0
    assert shown == [
        "v=0",
        "o=al 11 22 IN IP4 192.168.1.7",
        "s=-",
        "t=0 0",
        f"m=audio {port} RTP/AVP 0 101",
        "c=IN IP4 203.0.113.5",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=x-foo:bar",
        "a=sendrecv",
        f"a=rtcp:{port + 1}",
        "a=ptime:20",
    ]


def test_a_port_count_asks_for_pairs_in_a_row() -> None:
    relay = Driver()
    layered = OFFER.replace(b"m=audio 4000 ", b"m=audio 4000/3 ")
    assert layered != OFFER
    offer = lines(relay.offer(layered))
    first, _, count = offer[4].split()[1].partition("/")
    assert count == "3"
    assert not any(line.startswith("a=rtcp:") for line in offer)
    answer = lines(relay.answer(ANSWER.replace(b"m=audio 6000 ", b"m=audio 6000/2 ")))
    other, _, fewer = answer[4].split()[1].partition("/")
    assert fewer == "2"
    plane = plane_of(relay.engine)
    assert len(plane.settings) == 12
    for pair in range(3):
        for rtcp in range(2):
            at_caller = plane.at(TransportAddress("203.0.113.5", int(other) + 2 * pair + rtcp))
            at_callee = plane.at(TransportAddress("203.0.113.5", int(first) + 2 * pair + rtcp))
            assert at_caller.advertised == TransportAddress("192.168.1.7", 4000 + 2 * pair + rtcp)
            wanted = TransportAddress("198.51.100.20", 6000 + 2 * pair + rtcp) if pair < 2 else None
            assert at_callee.advertised == wanted
            way = "egress_rtcp" if rtcp else "egress"
            into = plane.locals[getattr(at_caller, way)]
            assert into == TransportAddress("203.0.113.5", int(first) + 2 * pair + rtcp)


def test_more_pairs_than_a_stream_may_have_are_not_promised() -> None:
    relay = Driver()
    offer = lines(relay.offer(OFFER.replace(b"m=audio 4000 ", b"m=audio 4000/999 ")))
    assert offer[4].split()[1].partition("/")[2] == "8"
    assert len(plane_of(relay.engine).settings) == 32


def test_a_later_offer_for_more_pairs_gets_new_ports_and_one_for_fewer_keeps_them() -> None:
    relay = Driver()
    relay.offer(OFFER)
    relay.answer(ANSWER)
    (single,) = places(relay.offer(OFFER, **{"to-tag": "b"}))
    shown = lines(relay.offer(OFFER.replace(b"m=audio 4000 ", b"m=audio 4000/2 "), **{"to-tag": "b"}))[4].split()[1]
    assert shown.endswith("/2")
    assert not shown.startswith(str(single[1]))
    again = lines(relay.offer(OFFER, **{"to-tag": "b"}))[4].split()[1]
    assert again == shown.removesuffix("/2")


def test_a_call_gives_each_side_ports_of_its_own_and_ends() -> None:
    relay = Driver()
    (to_callee,) = places(relay.offer(OFFER))
    (to_caller,) = places(relay.answer(ANSWER))
    assert to_callee != to_caller
    plane = plane_of(relay.engine)
    assert plane.at(TransportAddress(*to_callee)).advertised == TransportAddress("198.51.100.20", 6000)
    assert plane.at(TransportAddress(*to_caller)).advertised == TransportAddress("192.168.1.7", 4000)
    assert relay.ask("list") == {"calls": ["c1"], "result": "ok"}
    gone = relay.ask("delete", call_id="c1", from_tag="a", to_tag="b")
    assert gone["result"] == "ok"
    assert set(gone["tags"]) == {"a", "b"}
    assert relay.ask("list") == {"calls": [], "result": "ok"}
    assert not plane.settings


def test_the_same_offer_under_a_new_cookie_gives_the_same_text() -> None:
    relay = Driver()
    replace = ["origin", "SDP version"]
    first = relay.offer(OFFER, replace=replace)
    assert relay.offer(OFFER, replace=replace) == first
    answer = relay.answer(ANSWER)
    assert relay.answer(ANSWER) == answer


def test_the_same_cookie_is_not_carried_out_again() -> None:
    relay = Driver()
    relay.offer(OFFER)
    relay.cookie = 0
    assert relay.ask("delete", call_id="c1")["sdp"]
    assert relay.ask("list")["calls"] == ["c1"]


def test_an_address_behind_nat_is_replaced_by_where_the_sip_came_from() -> None:
    relay = Driver()
    relay.offer(OFFER, flags=["SIP source address"], received_from=["IP4", "198.51.100.77"])
    (to_caller,) = places(relay.answer(ANSWER))
    assert plane_of(relay.engine).at(TransportAddress(*to_caller)).advertised == TransportAddress("198.51.100.77", 4000)


def test_a_re_offer_from_either_side_keeps_the_ports() -> None:
    relay = Driver()
    to_callee = places(relay.offer(OFFER))
    to_caller = places(relay.answer(ANSWER))
    assert places(relay.offer(OFFER, to_tag="b")) == to_callee
    assert places(relay.answer(ANSWER)) == to_caller
    assert places(relay.offer(ANSWER, from_tag="b", to_tag="a")) == to_caller
    assert places(relay.answer(OFFER, from_tag="b", to_tag="a")) == to_callee


def test_hold_and_resume_in_the_new_way() -> None:
    relay = Driver()
    to_callee = places(relay.offer(OFFER))
    relay.answer(ANSWER)
    held = relay.offer(sdp(*PHONE, "a=sendonly"), to_tag="b")
    assert places(held) == to_callee
    assert "a=sendonly" in lines(held)
    assert "a=recvonly" in lines(relay.answer(sdp(*CALLEE, "a=recvonly")))
    resumed = relay.offer(OFFER, to_tag="b")
    assert places(resumed) == to_callee
    assert "a=sendrecv" in lines(resumed)


def test_hold_in_the_old_way_stays_visible() -> None:
    relay = Driver()
    ((host, port),) = places(relay.offer(OFFER))
    relay.answer(ANSWER)
    held = relay.offer(sdp(*PHONE[:3], "c=IN IP4 0.0.0.0", *PHONE[4:]), to_tag="b")
    assert places(held) == [("0.0.0.0", port)]
    assert "a=sendonly" in lines(held)
    shown = relay.offer(sdp(*PHONE[:3], "c=IN IP4 0.0.0.0", *PHONE[4:]), to_tag="b", replace=["zero address"])
    assert places(shown) == [(host, port)]


def test_forks_have_ports_of_their_own_and_are_deleted_alone() -> None:
    relay = Driver()
    one = places(relay.offer(OFFER, via_branch="z9hG4bK1"))
    two = places(relay.offer(OFFER, via_branch="z9hG4bK2"))
    assert one != two
    relay.answer(ANSWER, to_tag="b1", via_branch="z9hG4bK1")
    relay.answer(sdp(*CALLEE), to_tag="b2", via_branch="z9hG4bK2")
    relay.ask("delete", call_id="c1", from_tag="a", via_branch="z9hG4bK2")
    assert relay.ask("list")["calls"] == ["c1"]
    assert set(relay.ask("query", call_id="c1")["tags"]) == {"a", "b1"}


@pytest.mark.parametrize(
    ("wish", "offered", "fallback"),
    [
        (None, True, True),
        ("offer", True, True),
        ("require", True, False),
        ("demux", False, True),
        ("reject", True, True),
    ],
)
def test_rtcp_mux_is_offered_as_wished(wish: str | None, offered: bool, fallback: bool) -> None:
    relay = Driver()
    mux = sdp(*PHONE, "a=rtcp-mux")
    shown = lines(relay.offer(mux, **({"rtcp_mux": [wish]} if wish else {})))
    port = int(shown[4].split()[1])
    assert ("a=rtcp-mux" in shown) is offered
    assert f"a=rtcp:{port + fallback}" in shown


def test_rtcp_mux_split_for_a_callee_without_it() -> None:
    relay = Driver()
    relay.offer(sdp(*PHONE, "a=rtcp-mux"), rtcp_mux=["demux"])
    shown = lines(relay.answer(ANSWER))
    port = int(shown[4].split()[1])
    assert "a=rtcp-mux" in shown
    assert f"a=rtcp:{port}" in shown


def test_an_answer_decides_mux_for_both() -> None:
    relay = Driver()
    relay.offer(sdp(*PHONE, "a=rtcp-mux"))
    assert "a=rtcp-mux" not in lines(relay.answer(ANSWER))
    relay.offer(sdp(*PHONE, "a=rtcp-mux"), call_id="c2")
    assert "a=rtcp-mux" in lines(relay.answer(sdp(*CALLEE, "a=rtcp-mux"), call_id="c2"))


def test_ipv4_and_ipv6_are_bridged() -> None:
    relay = Driver("public/203.0.113.5", "public/2001:db8::5")
    shown = lines(relay.offer(OFFER, address_family="IP6"))
    assert "c=IN IP6 2001:db8::5" in shown
    six = [line.replace("IP4 198.51.100.20", "IP6 2001:db8::20") for line in CALLEE]
    shown = lines(relay.answer(sdp(*six)))
    assert "c=IN IP4 203.0.113.5" in shown
    assert shown[1] == "o=bob 1 1 IN IP6 2001:db8::20"


def test_interfaces_are_chosen_and_remembered() -> None:
    relay = Driver("inside/10.0.0.1", "outside/203.0.113.5")
    assert places(relay.offer(OFFER, direction=["inside", "outside"]))[0][0] == "203.0.113.5"
    assert places(relay.answer(ANSWER))[0][0] == "10.0.0.1"
    assert places(relay.offer(ANSWER, from_tag="b", to_tag="a"))[0][0] == "10.0.0.1"


def test_fax_is_carried_as_datagrams() -> None:
    relay = Driver()
    shown = lines(relay.offer(sdp(*FAX)))
    assert shown[-3:] == list(FAX[-3:])
    assert shown[4].endswith(" udptl t38")
    assert not [line for line in shown if line.startswith("a=rtcp")]


def test_a_call_may_turn_into_fax() -> None:
    relay = Driver()
    relay.offer(OFFER)
    relay.answer(ANSWER)
    assert lines(relay.offer(sdp(*FAX), from_tag="b", to_tag="a"))[4].startswith("m=image ")
    assert lines(relay.answer(sdp(*FAX), from_tag="b", to_tag="a"))[4].startswith("m=image ")


@pytest.mark.parametrize("ice", [None, "remove", "default", "force"])
def test_ice_is_removed_whatever_is_asked(ice: str | None) -> None:
    relay = Driver()
    shown = lines(relay.offer(sdp(*BROWSER), **({"ICE": ice} if ice else {})))
    assert not [line for line in shown if "candidate" in line or "ice-" in line]
    assert "a=fingerprint:sha-256 19:E2:1C:3B" in shown


def test_ice_that_is_wanted_and_not_done_is_told() -> None:
    relay = Driver()
    relay.offer(sdp(*BROWSER), ICE="force")
    assert relay.handler.take_unknown() == ["ICE=force"]


def test_several_streams_and_a_rejected_one() -> None:
    relay = Driver()
    video = ("m=video 4002 RTP/AVP 31", "m=video 0 RTP/AVP 34")
    found = places(relay.offer(sdp(*PHONE, *video)))
    assert [port == 0 for _, port in found] == [False, False, True]
    answered = places(relay.answer(sdp(*CALLEE, "m=video 0 RTP/AVP 31", "m=video 0 RTP/AVP 34")))
    assert [port == 0 for _, port in answered] == [False, True, True]


def test_an_answer_keeps_to_the_offered_payload_types() -> None:
    relay = Driver()
    relay.offer(OFFER)
    shown = lines(relay.answer(sdp(*CALLEE[:5], "m=audio 6000 RTP/AVP 8 0 101", *CALLEE[6:])))
    assert shown[4].endswith(" RTP/AVP 0 101")


def test_the_profile_may_change_within_plain_rtp_and_back() -> None:
    relay = Driver()
    assert " RTP/AVPF " in lines(relay.offer(OFFER, transport_protocol="RTP/AVPF"))[4]
    answer = sdp(*CALLEE[:5], "m=audio 6000 RTP/AVPF 0")
    assert " RTP/AVP " in lines(relay.answer(answer))[4]
    assert " RTP/AVPF " in lines(relay.answer(answer, transport_protocol="accept"))[4]


def test_a_profile_across_the_keys_is_refused_before_ports_are_taken() -> None:
    relay = Driver()
    refused = relay.offer(OFFER, transport_protocol="RTP/SAVP")
    assert refused == {"result": "error", "error-reason": "Error rewriting SDP"}
    assert relay.ask("list")["calls"] == []


def test_origin_is_replaced_and_stays_the_same() -> None:
    relay = Driver()
    shown = lines(relay.offer(OFFER, replace=["origin", "session-connection"]))
    assert shown[1] == "o=al 11 22 IN IP4 203.0.113.5"
    relay.answer(ANSWER)
    newer = OFFER.replace(b"11 22", b"11 23")
    assert lines(relay.offer(newer, to_tag="b", replace=["origin"]))[1] == "o=al 11 23 IN IP4 203.0.113.5"


def test_the_version_counts_changes_of_the_text_only() -> None:
    relay = Driver()
    replace = ["SDP version"]
    assert lines(relay.offer(OFFER, replace=replace))[1].split()[2] == "22"
    relay.answer(ANSWER)
    changed = OFFER.replace(b"11 22", b"11 99").replace(b"x-foo:bar", b"x-foo:baz")
    assert lines(relay.offer(changed, to_tag="b", replace=replace))[1].split()[2] == "23"
    assert lines(relay.offer(changed, to_tag="b", replace=replace))[1].split()[2] == "23"
    forced = ["force-increment-sdp-ver"]
    assert lines(relay.offer(changed, to_tag="b", replace=forced))[1].split()[2] == "24"


def test_the_whole_origin_user_and_session_name_can_be_kept() -> None:
    relay = Driver()
    relay.offer(OFFER, replace=["origin-full", "session name"])
    relay.answer(ANSWER)
    other = OFFER.replace(b"o=al 11 22", b"o=zz 98 99").replace(b"s=-", b"s=new")
    shown = lines(relay.offer(other, to_tag="b", replace=["origin-full", "session name"]))
    assert shown[1:3] == ["o=al 11 22 IN IP4 203.0.113.5", "s=-"]
    shown = lines(relay.offer(other, to_tag="b", replace=["username"]))
    assert shown[1:3] == ["o=zz 98 99 IN IP4 192.168.1.7", "s=new"]


def test_another_media_address_is_printed_everywhere() -> None:
    shown = lines(Driver().offer(OFFER, media_address="192.0.2.99", replace=["origin"]))
    assert shown[1].endswith("IN IP4 192.0.2.99")
    assert shown[5] == "c=IN IP4 192.0.2.99"


def test_our_own_mark_is_written_and_known() -> None:
    relay = Driver()
    shown = relay.offer(OFFER, flags=["loop protect"])
    assert f"a=rtpengine:{MARK}" in lines(shown)
    assert relay.offer(shown["sdp"], call_id="c2") == {"sdp": shown["sdp"], "result": "ok"}
    assert relay.ask("list")["calls"] == ["c1"]


def test_wording_flags_reach_the_text() -> None:
    shown = lines(Driver().offer(OFFER, flags=["no rtcp attribute", "original sendrecv", "generate mid"]))
    assert not [line for line in shown if line.startswith(("a=rtcp", "a=sendrecv"))]
    assert "a=mid:1" in shown
    assert [
        line for line in lines(Driver().offer(OFFER, flags=["full-rtcp-attribute"])) if " IN IP4 203.0.113.5" in line
    ]


def test_what_a_closed_call_needed_is_forgotten() -> None:
    relay = Driver()
    relay.offer(OFFER, replace=["origin"])
    assert len(relay.handler.memory) == 1
    relay.handler.session_closed("c1")
    assert len(relay.handler.memory) == 0


def test_a_real_softphone_calls_a_browser_like_gateway() -> None:
    relay = Driver()
    shown = lines(relay.offer(sdp(*SOFTPHONE), replace=["origin"], ICE="remove"))
    assert "10.0.0.2" not in "\n".join(shown)


def test_unknown_words_are_told_once() -> None:
    relay = Driver()
    relay.offer(OFFER, flags=["frobnicate"], codec={"strip": ["x"]})
    relay.offer(OFFER, flags=["frobnicate"])
    assert relay.handler.take_unknown() == ["codec", "frobnicate"]
    assert relay.handler.take_unknown() == []


def test_a_block_lets_telephone_events_through() -> None:
    relay = Driver()
    (to_callee,) = places(relay.offer(OFFER))
    relay.answer(ANSWER)
    at_callee = TransportAddress(*to_callee)
    plane = plane_of(relay.engine)
    assert plane.at(at_callee).events == frozenset()
    assert relay.ask("block media", call_id="c1")["result"] == "ok"
    assert plane.at(at_callee).blocked
    assert plane.at(at_callee).events == {101}
    assert not plane.at(at_callee._replace(port=at_callee.port + 1)).events
    assert relay.ask("unblock media", call_id="c1")["result"] == "ok"
    assert not plane.at(at_callee).blocked


def test_tos_is_for_the_whole_call_until_a_message_says_otherwise() -> None:
    relay = Driver()
    plane = plane_of(relay.engine)

    def tos() -> set[int | None]:
        return {settings.tos for settings in plane.settings.values()}

    relay.offer(OFFER, TOS=184)
    relay.answer(ANSWER, TOS=-1)
    assert tos() == {184}
    relay.answer(ANSWER, TOS=-1000)
    assert tos() == {184}
    relay.offer(OFFER, to_tag="b", TOS="40")
    assert tos() == {40}
    relay.offer(OFFER, to_tag="b", TOS=256)
    assert tos() == {relay.engine.policy.tos}
    relay.offer(OFFER, to_tag="b", TOS=8)
    relay.answer(ANSWER)
    assert tos() == {relay.engine.policy.tos}


def test_a_delete_waits_as_long_as_the_offer_asked_unless_it_says_itself() -> None:
    relay = Driver()
    for call_id in ("slow", "quick"):
        relay.offer(OFFER, call_id=call_id, delete_delay=30)
        relay.answer(ANSWER, call_id=call_id)
    relay.ask("delete", call_id="quick", delete_delay=0)
    assert relay.ask("list")["calls"] == ["slow"]
    relay.ask("delete", call_id="slow")
    assert relay.ask("list")["calls"] == ["slow"]
    relay.engine.handle_timeout(31.0)
    assert relay.ask("list")["calls"] == []
