from __future__ import annotations

import json
from dataclasses import replace

from nattrav.control.ng import codec_json
from nattrav.control.ng.codec_bencode import decode, encode
from nattrav.control.ng.report import session_reply
from nattrav.net.address import TransportAddress
from relay.plane import DropReason, FlowFigures, Learned, RtpFigures
from relay.quality import NO_QUALITY, StreamQuality
from relay.report import ComponentReport, LegReport, PartyReport, SessionReport
from relay.session import Carriage

LOCAL = TransportAddress("10.0.0.1", 30000)
FIGURES = FlowFigures(
    packets_in=10,
    bytes_in=1720,
    packets_out=7,
    bytes_out=1204,
    last_in=50.0,
    drops={DropReason.SOURCE_MISMATCH: 2},
    learned=Learned(target=TransportAddress("2001:db8::9", 5000), latched=True),
    rtp=RtpFigures(ssrc=77, received=10, lost=1, highest_sequence=65536 + 5, timestamp=1600),
)


def leg(**changes: object) -> LegReport:
    component = ComponentReport(
        False, LOCAL, TransportAddress("203.0.113.5", 30000), TransportAddress("192.168.1.7", 4000), None, FIGURES
    )
    made = LegReport(1, "audio", "RTP/AVP", Carriage.RTP, "sendonly", "PCMU", True, True, (component,))
    return replace(made, **changes)  # type: ignore[arg-type]


def report(*legs: LegReport) -> SessionReport:
    party = PartyReport("a", "z9", ("a2",), None, 1000.25, True, True, "public", (None, "b"), legs)
    return SessionReport("c", "answered", 1000.25, 1010.0, None, None, False, None, (party,))


def test_a_stream_shows_both_addresses_counters_and_state() -> None:
    reply = session_reply(report(leg()), epoch=1e6)
    assert (reply["created"], reply["created_us"], reply["last signal"]) == (1000, 250000, 1010)
    assert reply["totals"] == {
        "RTP": {"packets": 10, "bytes": 1720, "errors": 2},
        "RTCP": {"packets": 0, "bytes": 0, "errors": 0},
    }
    party = reply["tags"]["a"]  # type: ignore[index,call-overload]
    assert party["tag-aliases"] == ["a2"]  # type: ignore[index,call-overload]
    assert json.loads(codec_json.encode(party["medias"])) == [  # type: ignore[index,call-overload]
        {
            "index": 1,
            "type": "audio",
            "protocol": "RTP/AVP",
            "codec": "PCMU",
            "streams": [
                {
                    "local port": 30000,
                    "local address": "10.0.0.1",
                    "family": "IPv4",
                    "endpoint": {"family": "IPv6", "address": "2001:db8::9", "port": 5000},
                    "advertised endpoint": {"family": "IPv4", "address": "192.168.1.7", "port": 4000},
                    "last packet": 1000050,
                    "last kernel packet": 0,
                    "last user packet": 1000050,
                    "SSRC": 77,
                    "flags": ["RTP", "filled", "confirmed"],
                    "stats": {"packets": 10, "bytes": 1720, "errors": 2},
                    "stats_out": {"packets": 7, "bytes": 1204, "errors": 0},
                }
            ],
            "flags": ["initialized", "send", "rtcp-mux", "blocked"],
            "ingress SSRCs": [{"SSRC": 77}],
            "egress SSRCs": [],
        }
    ]


def test_a_source_has_its_last_numbers_and_no_mos_before_it_was_measured() -> None:
    reply = session_reply(report(leg()), epoch=0.0)
    assert reply["SSRC"] == {
        "77": {
            "bytes": 1720,
            "packets": 10,
            "last RTP timestamp": 1600,
            "last RTP seq": 5,
            "cumulative loss": 1,
        }
    }


def test_quality_is_written_in_the_known_units() -> None:
    quality = NO_QUALITY
    for mos, now in ((4.31, 10.0), (3.9, 20.0)):
        quality = quality.with_sample(StreamQuality("audio", "pcmu", 500, 0.02, 0.0042, mos), now)
    source = session_reply(report(leg(quality=quality)), epoch=1000.0)["SSRC"]["77"]  # type: ignore[index,call-overload]
    assert source["average MOS"] == {"MOS": 41, "jitter": 4, "packet loss": 2, "samples": 2}  # type: ignore[index,call-overload]
    assert source["lowest MOS"] == {"MOS": 39, "reported at": 1020}  # type: ignore[index,call-overload]
    assert source["highest MOS"] == {"MOS": 43, "reported at": 1010}  # type: ignore[index,call-overload]


def test_every_report_can_be_sent() -> None:
    made = report(leg(codec="\xfcber", media="vid\xe9o"), leg(components=(), codec=None))
    party = replace(made.parties[0], tag="\u4e2d")
    reply = session_reply(replace(made, parties=(party,)), epoch=0.0)
    text = decode(encode(reply))
    assert isinstance(text, dict)
    (told,) = text[b"tags"].values()  # type: ignore[union-attr]
    assert told[b"tag"] == "\u4e2d".encode()  # type: ignore[index,call-overload]
    assert [media.get(b"codec") for media in told[b"medias"]] == [b"\xfcber", None]  # type: ignore[union-attr,index,call-overload]
    assert json.loads(codec_json.encode(reply))["tags"]["\u4e2d"]["medias"][0]["type"] == "vid\xe9o"
