"""ng requests against the real engine on an in-memory data plane."""

from __future__ import annotations

import pytest

from nattrav.net.address import TransportAddress
from relay.plane import DropReason, FlowFigures, RtpFigures
from relay.policy import LimitSettings, Policy
from tests.control.ng.requests import MARK, Driver, lines, places
from tests.relay.calls import plane_of
from tests.relay.planes import engine as memory_engine
from tests.sdp.samples import BROWSER, FAX, PHONE, SOFTPHONE, sdp

OFFER = sdp(*PHONE)
CALLEE = (
    "v=0",
    "o=bob 1 1 IN IP4 198.51.100.20",
    "s=-",
    "c=IN IP4 198.51.100.20",
    "t=0 0",
    "m=audio 6000 RTP/AVP 0 101",
    "a=rtpmap:101 telephone-event/8000",
)
ANSWER = sdp(*CALLEE)


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


def test_a_port_count_is_not_passed_on_because_the_next_ports_are_other_calls() -> None:
    relay = Driver()
    layered = OFFER.replace(b"m=audio 4000 ", b"m=audio 4000/2 ")
    assert layered != OFFER
    assert lines(relay.offer(layered))[4].split()[1].isdigit()
    assert lines(relay.answer(ANSWER.replace(b"m=audio 6000 ", b"m=audio 6000/2 ")))[4].split()[1].isdigit()
    assert len(plane_of(relay.engine).settings) == 4


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


@pytest.mark.parametrize(
    ("command", "missing", "reason"),
    [
        ("offer", "sdp", "No SDP body in message"),
        ("offer", "call_id", "No call-id in message"),
        ("offer", "from_tag", "No from-tag in message"),
        ("answer", "sdp", "No SDP body in message"),
        ("answer", "call_id", "No call-id in message"),
        ("answer", "from_tag", "No from-tag in message"),
        ("answer", "to_tag", "No to-tag in message"),
        ("delete", "call_id", "No call-id in message"),
        ("query", "call_id", "No call-id in message"),
        ("block media", "call_id", "No call-id in message"),
    ],
)
def test_missing_keys_are_named(command: str, missing: str, reason: str) -> None:
    keys: dict[str, str | bytes] = {"sdp": OFFER, "call_id": "c1", "from_tag": "a", "to_tag": "b"}
    del keys[missing]
    assert Driver().ask(command, **keys) == {"result": "error", "error-reason": reason}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"v=0\r\nm=audio\r\n", "Failed to parse SDP"),
        (b"hello", "Failed to parse SDP"),
        (sdp(*PHONE[:3], *PHONE[4:]), "Incomplete SDP specification"),
    ],
)
def test_bad_sdp_is_refused_in_the_known_words(text: bytes, reason: str) -> None:
    relay = Driver()
    assert relay.offer(text) == {"result": "error", "error-reason": reason}
    assert relay.ask("list")["calls"] == []


def test_strangers_are_told_so() -> None:
    relay = Driver()
    assert relay.answer(ANSWER)["error-reason"] == "Unknown call-id"
    assert relay.ask("query", call_id="x")["error-reason"] == "Unknown call-id"
    assert relay.ask("block media", call_id="x")["error-reason"] == "Unknown call-ID"
    unknown = "Call-ID not found or tags didn't match"
    assert relay.ask("delete", call_id="x") == {"warning": unknown, "result": "ok"}
    assert relay.ask("delete", call_id="x", flags=["fatal"]) == {"result": "error", "error-reason": unknown}
    relay.offer(OFFER)
    assert relay.offer(OFFER, to_tag="a")["error-reason"] == "Invalid dialogue association"


def test_more_streams_in_the_answer_than_offered_are_refused() -> None:
    relay = Driver()
    relay.offer(OFFER)
    more = sdp(*CALLEE, "m=video 6002 RTP/AVP 31")
    assert relay.answer(more)["error-reason"] == "Incomplete SDP specification"


def test_a_limit_is_told_as_the_client_understands_it() -> None:
    relay = Driver(engine=memory_engine(policy=Policy(limits=LimitSettings(sessions=1))))
    relay.offer(OFFER)
    refused = relay.offer(OFFER, call_id="c2", supports=["load limit"])
    assert refused == {"result": "load limit", "message": "Parallel session limit reached"}
    refused = relay.offer(OFFER, call_id="c2")
    assert refused == {"result": "error", "error-reason": "Parallel session limit reached"}
    assert relay.offer(OFFER, to_tag="b")["result"] == "ok"


def test_exhausted_ports_have_their_own_word() -> None:
    relay = Driver(engine=memory_engine(low=30000, high=30003, policy=Policy(limits=LimitSettings(ports=0))))
    relay.offer(OFFER)
    assert relay.offer(OFFER, call_id="c2")["error-reason"] == "Ran out of ports"


@pytest.mark.parametrize("command", ["silence media", "play DTMF", "start recording", "block DTMF", "stop forwarding"])
def test_what_we_do_not_carry_out_is_unsupported(command: str) -> None:
    assert Driver().ask(command) == {"result": "error", "error-reason": "unsupported"}


@pytest.mark.parametrize("command", ["publish", "subscribe request", "Ping", "", "offer ", "cli"])
def test_other_words_are_no_commands(command: str) -> None:
    assert Driver().ask(command) == {"result": "error", "error-reason": "Unrecognized command"}


def test_ping_and_list() -> None:
    relay = Driver()
    assert relay.ask("ping") == {"result": "pong"}
    assert relay.ask("list", limit=0) == {"calls": [], "result": "ok"}
    assert relay.ask("list", limit=-1)["error-reason"] == "invalid limit, must be >= 0"
    assert relay.ask("list", limit="x")["error-reason"] == "invalid limit, must be >= 0"
    for number in range(3):
        relay.offer(OFFER, call_id=f"c{number}")
    assert len(relay.ask("list", limit="2")["calls"]) == 2


def test_query_describes_legs_ports_and_packets() -> None:
    relay = Driver()
    (to_callee,) = places(relay.offer(OFFER, label="caller", metadata="m"))
    relay.answer(ANSWER)
    plane_of(relay.engine).hear(TransportAddress(*to_callee), 5.0, packets=3)
    found = relay.ask("query", call_id="c1")
    assert list(found)[-1] == "result"
    assert found["metadata"] == "m"
    assert found["totals"]["RTP"] == {"packets": 3, "bytes": 516, "errors": 0}
    leg = found["tags"]["b"]["medias"][0]
    assert (leg["index"], leg["type"], leg["protocol"]) == (1, "audio", "RTP/AVP")
    rtp, rtcp = leg["streams"]
    assert (rtp["local address"], rtp["local port"], rtp["family"]) == (*to_callee, "IPv4")
    assert rtp["endpoint"] == {"family": "IPv4", "address": "198.51.100.20", "port": 6000}
    assert rtp["flags"][0] == "RTP"
    assert rtcp["flags"][0] == "RTCP"
    assert rtp["stats"]["packets"] == 3
    assert found["tags"]["a"]["label"] == "caller"
    assert found["tags"]["a"]["subscriptions"] == [{"tag": "b", "type": "offer/answer"}]
    assert set(relay.ask("query", call_id="c1", from_tag="zz")["tags"]) == set()


def test_an_unanswered_side_has_a_made_up_name() -> None:
    relay = Driver()
    relay.offer(OFFER)
    assert set(relay.ask("query", call_id="c1")["tags"]) == {"a", "<untagged 1>"}


def test_a_fast_delete_says_no_more_than_ok() -> None:
    relay = Driver()
    relay.offer(OFFER)
    assert relay.ask("delete", call_id="c1", flags=["fast"]) == {"result": "ok"}


def test_a_delayed_delete_can_be_taken_back() -> None:
    relay = Driver()
    to_callee = places(relay.offer(OFFER))
    relay.answer(ANSWER)
    assert relay.ask("delete", call_id="c1", delete_delay=30)["result"] == "ok"
    assert relay.ask("list")["calls"] == ["c1"]
    assert places(relay.offer(OFFER, to_tag="b")) == to_callee
    relay.engine.handle_timeout(40.0)
    assert relay.ask("list")["calls"] == ["c1"]


def test_media_is_blocked_and_unblocked() -> None:
    relay = Driver()
    relay.offer(OFFER)
    (to_caller,) = places(relay.answer(ANSWER))
    plane = plane_of(relay.engine)
    assert relay.ask("block media", call_id="c1", from_tag="a", flags=["directional"]) == {"result": "ok"}
    assert plane.at(TransportAddress(*to_caller)).blocked
    assert relay.ask("unblock media", call_id="c1", flags=["all"]) == {"result": "ok"}
    assert not plane.at(TransportAddress(*to_caller)).blocked
    refused = relay.ask("block media", call_id="c1", label="nobody")
    assert refused["error-reason"] == "No monologue matching the given label"


def test_statistics_tell_quality_and_the_traffic_of_each_interface() -> None:
    relay = Driver("public/203.0.113.5", "inside/10.0.0.1")
    (to_callee,) = places(relay.offer(OFFER, direction=["public", "inside"]))
    relay.answer(ANSWER)
    plane = plane_of(relay.engine)
    flow = plane.flow(TransportAddress(*to_callee))
    heard = RtpFigures(ssrc=7, received=490, expected=500, lost=10, jitter=0.004)
    plane.counted[flow] = FlowFigures(packets_in=500, bytes_in=86000, drops={DropReason.NOT_RTP: 3}, rtp=heard)
    relay.engine.look_at_quality(10.0, 10.0)
    relay.now = 11.0
    found = relay.ask("statistics")["statistics"]
    assert found["mos"]["mos_samples_total"] == 1
    assert 3.0 < float(found["mos"]["mos_average"]) < 4.5
    assert found["voip_metrics"]["packetloss_average"] == "2.000000"
    assert found["voip_metrics"]["jitter_measured_total"] == "4.000000"
    assert found["voip_metrics"]["packets_lost"] == 10
    traffic = {one["name"]: (one["ingress"], one["egress"]["packets"]) for one in found["interfaces"]}
    assert traffic == {
        "public": ({"packets": 0, "bytes": 0, "errors": 0}, 0),
        "inside": ({"packets": 500, "bytes": 86000, "errors": 3}, 0),
    }
    relay.ask("delete", call_id="c1")
    found = relay.ask("statistics")["statistics"]
    assert [one["ingress"]["packets"] for one in found["interfaces"]] == [0, 500]


def test_statistics_have_their_groups() -> None:
    relay = Driver()
    relay.offer(OFFER)
    found = relay.ask("statistics")["statistics"]
    assert found["currentstatistics"]["sessionsown"] == 1
    assert found["totalstatistics"]["managedsessions"] == 1
    assert isinstance(found["totalstatistics"]["uptime"], str)
    assert found["interfaces"][0]["ports"]["used"] == 4
    assert found["controlstatistics"]["proxies"] == []


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
