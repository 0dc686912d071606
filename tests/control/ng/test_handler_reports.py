"""What query, delete, list and statistics tell, on the real engine and an in-memory data plane."""

from __future__ import annotations

from nattrav.net.address import TransportAddress
from relay.plane import DropReason, FlowFigures, RtpFigures
from tests.control.ng.requests import ANSWER, OFFER, Driver, places
from tests.relay.calls import plane_of


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
