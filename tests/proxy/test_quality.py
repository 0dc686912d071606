"""Media facts in call records."""

from __future__ import annotations

import pytest

from nattrav.control.ng import codec_bencode
from nattrav.control.ng.client import UNREAD
from nattrav.control.ng.report import session_reply
from nattrav.net.address import TransportAddress
from nattrav.proxy.explain import verdict
from nattrav.proxy.listener import Listener
from nattrav.proxy.quality import media_facts
from nattrav.sip.transport.flow import listener_id
from relay.plane import FlowFigures, RtpFigures
from relay.quality import NO_QUALITY, StreamQuality
from relay.report import ComponentReport, LegReport, PartyReport, SessionReport
from relay.session import Carriage
from tests.proxy.playbook import GATEWAY, PHONE, US, Stage, request, response, sdp, udp_listener


def stream(address: str, port: int, packets: int, kind: str) -> dict[str, object]:
    return {
        "local port": 46002,
        "local address": "127.0.0.1",
        "family": "IPv4",
        "endpoint": {"family": "IPv4", "address": address, "port": port},
        "advertised endpoint": {"family": "IPv4", "address": "10.0.0.5", "port": 4000},
        "last packet": 0,
        "flags": [kind, "filled", "confirmed"],
        "stats": {"packets": packets, "bytes": packets * 172, "errors": 0},
        "stats_out": {"packets": 9, "bytes": 9, "errors": 0},
    }


def reply(first: int, second: int) -> bytes:
    def leg(tag: str, address: str, packets: int) -> dict[str, object]:
        return {
            "tag": tag,
            "medias": [
                {"index": 1, "streams": [stream(address, 40002, packets, "RTP"), stream(address, 40003, 3, "RTCP")]}
            ],
        }

    return codec_bencode.encode(
        {
            "created": 1,
            "tags": {"at": leg("at", "198.51.100.7", first), "bt": leg("bt", "203.0.113.80", second)},
            "totals": {
                "RTP": {"packets": first + second, "bytes": (first + second) * 172, "errors": 0},
                "RTCP": {"packets": 6, "bytes": 600, "errors": 0},
            },
            "result": "ok",
        }
    )


def test_packets_and_where_they_were_sent_are_read_off_the_reply() -> None:
    assert media_facts({"result": "ok", UNREAD: reply(300, 250)}, "at") == {
        "packets": 550,
        "bytes": 550 * 172,
        "legs": [
            {"sent_to": "198.51.100.7:40002", "from": "caller", "packets": 300, "bytes": 300 * 172},
            {"sent_to": "203.0.113.80:40002", "from": "callee", "packets": 250, "bytes": 250 * 172},
        ],
        "verdict": "both",
    }


@pytest.mark.parametrize(
    ("caller", "callee", "verdict"),
    [(9, 9, "both"), (0, 9, "callee_deaf"), (9, 0, "caller_deaf"), (0, 0, "none")],
)
def test_the_verdict_says_who_did_not_hear_the_other(caller: int, callee: int, verdict: str) -> None:
    facts = media_facts({"result": "ok", UNREAD: reply(caller, callee)}, "at")
    assert facts is not None
    assert facts["verdict"] == verdict


def measured(tag: str, partner: str, ssrc: int, lost: int, mos: float) -> PartyReport:
    quality = NO_QUALITY.with_sample(StreamQuality("audio", "pcmu", 500, 0.02, 0.0042, mos), 10.0)
    rtp = RtpFigures(ssrc=ssrc, received=490, lost=lost, highest_sequence=500, timestamp=80000)
    figures = FlowFigures(packets_in=490, bytes_in=84280, packets_out=0, bytes_out=0, last_in=50.0, rtp=rtp)
    local, peer = TransportAddress("203.0.113.20", 30000), TransportAddress("198.51.100.7", 40002)
    component = ComponentReport(False, local, local, peer, None, figures)
    leg = LegReport(1, "audio", "RTP/AVP", Carriage.RTP, "sendrecv", "PCMU", True, False, (component,), quality=quality)
    return PartyReport(tag, None, (), None, 1000.0, True, False, "public", (partner,), (leg,))


def test_loss_jitter_and_mos_of_each_direction_are_read_off_our_relays_reply() -> None:
    parties = (measured("at", "bt", 77, 10, 4.3), measured("bt", "at", 4000000001, 0, 3.9))
    report = SessionReport("c", "answered", 1000.0, 1010.0, None, None, False, None, parties)
    payload = codec_bencode.encode({**session_reply(report, epoch=0.0), "result": "ok"})
    facts = media_facts({"result": "ok", UNREAD: payload}, "at")
    assert facts is not None
    assert [(leg["from"], leg["loss"], leg["jitter"], leg["mos"]) for leg in facts["legs"]] == [
        ("caller", 0.02, 0.004, 4.3),
        ("callee", 0.0, 0.004, 3.9),
    ]


@pytest.mark.parametrize(("transport", "words"), [("tcp", "its media needs UDP"), ("udp", "look for a firewall")])
def test_explain_says_where_to_look_when_nothing_came_from_a_phone(transport: str, words: str) -> None:
    bound = TransportAddress(US, 5060)
    stage = Stage(listeners=[udp_listener(), Listener(listener_id("tcp", bound), "tcp", bound, US, 5060)])
    flow = stage.flow(PHONE, transport, serial=1 if transport == "tcp" else 0)
    stage.proxy.flow_opened(flow)
    text = request("INVITE", f"sip:+431@{US}", body=sdp("10.0.0.5"), transport=transport.upper())
    invite = stage.send(flow, text)[-1]
    stage.send(GATEWAY, response(invite, 200, body=sdp("203.0.113.80")))
    (call,) = stage.proxy.rooms.calls
    stage.proxy.kill([call], stage.now)
    call.quality = media_facts({"result": "ok", UNREAD: reply(0, 9)}, "at")
    told = verdict(call)
    assert "The callee heard nothing" in told
    assert words in told


def test_another_reply_says_nothing() -> None:
    assert media_facts(None, "at") is None
    assert media_facts({"result": "ok"}, "at") is None
    assert media_facts({UNREAD: b"d6:totalsle6:result2:oke"}, "at") is None


def test_the_record_waits_for_the_relay_and_is_written_once() -> None:
    stage = Stage()
    _, invite = stage.send(PHONE, request("INVITE", f"sip:+431@{US}", body=sdp("10.0.0.5")))
    stage.held = []
    stage.send(GATEWAY, response(invite, 486))
    assert stage.records == []
    stage.relay_answers()
    assert [record["code"] for record in stage.records] == [486]
