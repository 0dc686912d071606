"""Media facts in call records."""

from __future__ import annotations

from nattrav.control.ng import codec_bencode
from nattrav.control.ng.client import UNREAD
from nattrav.proxy.quality import media_facts
from tests.proxy.playbook import GATEWAY, PHONE, US, Stage, request, response, sdp


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
    def leg(address: str, packets: int) -> dict[str, object]:
        return {
            "medias": [
                {"index": 1, "streams": [stream(address, 40002, packets, "RTP"), stream(address, 40003, 3, "RTCP")]}
            ]
        }

    return codec_bencode.encode(
        {
            "created": 1,
            "tags": {"at": leg("198.51.100.7", first), "bt": leg("203.0.113.80", second)},
            "totals": {
                "RTP": {"packets": first + second, "bytes": (first + second) * 172, "errors": 0},
                "RTCP": {"packets": 6, "bytes": 600, "errors": 0},
            },
            "result": "ok",
        }
    )


def test_packets_and_where_they_were_sent_are_read_off_the_reply() -> None:
    assert media_facts({"result": "ok", UNREAD: reply(300, 250)}) == {
        "packets": 550,
        "bytes": 550 * 172,
        "legs": [
            {"sent_to": "198.51.100.7:40002", "packets": 300, "bytes": 300 * 172},
            {"sent_to": "203.0.113.80:40002", "packets": 250, "bytes": 250 * 172},
        ],
    }


def test_another_reply_says_nothing() -> None:
    assert media_facts(None) is None
    assert media_facts({"result": "ok"}) is None
    assert media_facts({UNREAD: b"d6:totalsle6:result2:oke"}) is None


def test_the_record_waits_for_the_relay_and_is_written_once() -> None:
    stage = Stage()
    _, invite = stage.send(PHONE, request("INVITE", f"sip:+431@{US}", body=sdp("10.0.0.5")))
    stage.held = []
    stage.send(GATEWAY, response(invite, 486))
    assert stage.records == []
    stage.relay_answers()
    assert [record["code"] for record in stage.records] == [486]
