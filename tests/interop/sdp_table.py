"""Exchanges that two relays should word alike: each a list of (command, description, further keys)."""

from __future__ import annotations

from nattrav.control.ng.codec_bencode import Encodable
from tests.sdp.samples import FAX, PHONE, SOFTPHONE, sdp

Step = tuple[str, bytes, dict[str, Encodable]]

HEAD = PHONE[:5]
CALLEE = (
    "v=0",
    "o=bob 5 6 IN IP4 127.0.0.20",
    "s=-",
    "c=IN IP4 127.0.0.20",
    "t=0 0",
    "m=audio 6000 RTP/AVP 0 101",
    "a=rtpmap:101 telephone-event/8000",
)
SIX = (
    "v=0",
    "o=bob 5 6 IN IP6 2001:db8::20",
    "s=-",
    "c=IN IP6 2001:db8::20",
    "t=0 0",
    "m=audio 6000 RTP/AVP 0 101",
    "a=rtpmap:101 telephone-event/8000",
)
FAX_ANSWER = tuple(line.replace("192.0.2.10", "127.0.0.20").replace(" 5000 ", " 6000 ") for line in FAX)
PLAIN: dict[str, Encodable] = {"ICE": "remove"}


def offer(*lines: str, **keys: Encodable) -> Step:
    """The caller's first offer."""
    return "offer", sdp(*lines), {**PLAIN, **_named(keys), "from-tag": "a"}


def answer(*lines: str, **keys: Encodable) -> Step:
    """The callee's answer."""
    return "answer", sdp(*lines), {**PLAIN, **_named(keys), "from-tag": "a", "to-tag": "b"}


def again(*lines: str, **keys: Encodable) -> Step:
    """A re-offer of the caller."""
    return "offer", sdp(*lines), {**PLAIN, **_named(keys), "from-tag": "a", "to-tag": "b"}


def back(*lines: str, **keys: Encodable) -> Step:
    """A re-offer of the callee."""
    return "offer", sdp(*lines), {**PLAIN, **_named(keys), "from-tag": "b", "to-tag": "a"}


def reply(*lines: str, **keys: Encodable) -> Step:
    """The caller's answer to the callee's re-offer."""
    return "answer", sdp(*lines), {**PLAIN, **_named(keys), "from-tag": "b", "to-tag": "a"}


def _named(keys: dict[str, Encodable]) -> dict[str, Encodable]:
    return {name.replace("_", "-"): value for name, value in keys.items()}


AUDIO = "m=audio 4000 RTP/AVP 0 8"
VIDEO = "m=video 4002 RTP/AVP 31"
CALL = [offer(*PHONE), answer(*CALLEE)]

EXCHANGES: dict[str, list[Step]] = {
    "plain call": CALL,
    "softphone": [offer(*SOFTPHONE), answer(*CALLEE)],
    "c= in the section": [offer(*PHONE[:3], *PHONE[4:6], "c=IN IP4 192.168.1.8", *PHONE[6:])],
    "c= at both levels": [offer(*PHONE[:6], "c=IN IP4 192.168.1.8", *PHONE[6:])],
    "two streams": [offer(*HEAD, AUDIO, VIDEO), answer(*CALLEE, "m=video 6002 RTP/AVP 31")],
    "three streams": [offer(*HEAD, AUDIO, VIDEO, "m=audio 4004 RTP/AVP 8")],
    "first rejected in offer": [offer(*HEAD, "m=audio 0 RTP/AVP 0", VIDEO)],
    "last rejected in offer": [offer(*HEAD, AUDIO, "m=video 0 RTP/AVP 31")],
    "last rejected in answer": [offer(*HEAD, AUDIO, VIDEO), answer(*CALLEE, "m=video 0 RTP/AVP 31")],
    "all rejected in answer": [offer(*HEAD, AUDIO), answer(*CALLEE[:5], "m=audio 0 RTP/AVP 0")],
    "sendonly": [*CALL, again(*PHONE, "a=sendonly"), answer(*CALLEE, "a=recvonly")],
    "inactive": [*CALL, again(*PHONE, "a=inactive"), answer(*CALLEE, "a=inactive")],
    "session-level sendonly": [offer(*HEAD, "a=sendonly", AUDIO)],
    "session-level inactive, section sendrecv": [offer(*HEAD, "a=inactive", AUDIO, "a=sendrecv", VIDEO)],
    "null address": [*CALL, again(*PHONE[:3], "c=IN IP4 0.0.0.0", *PHONE[4:]), answer(*CALLEE)],
    "null address, inactive": [*CALL, again(*PHONE[:3], "c=IN IP4 0.0.0.0", *PHONE[4:], "a=inactive")],
    "null address, recvonly": [*CALL, again(*PHONE[:3], "c=IN IP4 0.0.0.0", *PHONE[4:], "a=recvonly")],
    "null address replaced": [*CALL, again(*PHONE[:3], "c=IN IP4 0.0.0.0", *PHONE[4:], replace=["zero address"])],
    "resume": [*CALL, again(*PHONE, "a=sendonly"), answer(*CALLEE, "a=recvonly"), again(*PHONE), answer(*CALLEE)],
    "re-offer of the callee": [*CALL, back(*CALLEE), reply(*PHONE)],
    "rtcp attribute": [offer(*PHONE, "a=rtcp:4100")],
    "rtcp attribute with address": [offer(*PHONE, "a=rtcp:4100 IN IP4 192.168.1.9")],
    "no rtcp attribute": [offer(*PHONE, flags=["no rtcp attribute"])],
    "full rtcp attribute": [offer(*PHONE, flags=["full rtcp attribute"])],
    "mux offered and taken": [offer(*PHONE, "a=rtcp-mux"), answer(*CALLEE, "a=rtcp-mux")],
    "mux offered and not taken": [offer(*PHONE, "a=rtcp-mux"), answer(*CALLEE)],
    "mux wished by us": [offer(*PHONE, rtcp_mux=["offer"]), answer(*CALLEE, "a=rtcp-mux")],
    "mux required": [offer(*PHONE, "a=rtcp-mux", rtcp_mux=["require"]), answer(*CALLEE, "a=rtcp-mux")],
    "mux split": [offer(*PHONE, "a=rtcp-mux", rtcp_mux=["demux"]), answer(*CALLEE)],
    "mux accepted": [offer(*PHONE, "a=rtcp-mux", rtcp_mux=["accept"]), answer(*CALLEE)],
    "mux refused": [offer(*PHONE, "a=rtcp-mux", rtcp_mux=["reject"]), answer(*CALLEE)],
    "mux kept in a re-offer": [
        offer(*PHONE, "a=rtcp-mux"),
        answer(*CALLEE, "a=rtcp-mux"),
        again(*PHONE, "a=rtcp-mux"),
        answer(*CALLEE, "a=rtcp-mux"),
    ],
    "original sendrecv": [offer(*PHONE, flags=["original sendrecv"])],
    "original sendonly": [offer(*PHONE, "a=sendonly", flags=["original sendrecv"])],
    "origin replaced": [offer(*PHONE, replace=["origin", "session-connection"]), answer(*CALLEE, replace=["origin"])],
    "origin kept": [offer(*PHONE)],
    "session name kept": [offer(*PHONE, replace=["session name"]), answer(*CALLEE, replace=["session name"])],
    "generate mid": [offer(*PHONE, flags=["generate mid"])],
    "mid and label": [offer(*PHONE, "a=mid:x", "a=label:y")],
    "bandwidth everywhere": [offer(*HEAD[:4], "b=AS:100", HEAD[4], AUDIO, "b=AS:64", "b=RR:1", "b=RS:2", "b=TIAS:3")],
    "odd bandwidth": [offer(*PHONE, "b=X-FOO:1")],
    "contact lines": [offer(*PHONE[:3], "i=info", "u=http://x", "e=a@b", "p=1", *PHONE[3:])],
    "section title": [offer(*PHONE[:6], "i=title", *PHONE[6:])],
    "key and repeat lines": [offer(*PHONE[:5], "r=1 2 3", "k=clear:x", *PHONE[5:])],
    "session attributes": [offer(*HEAD, "a=tool:x", "a=x-one", "a=foo:bar baz", AUDIO)],
    "header extensions": [offer(*PHONE, "a=extmap:1 urn:x", "a=extmap:2/sendonly urn:y", "a=extmap-allow-mixed")],
    "feedback": [
        offer(*HEAD, "m=video 4002 RTP/AVPF 96", "a=rtpmap:96 VP8/90000", "a=rtcp-fb:96 nack", "a=rtcp-fb:* pli")
    ],
    "unknown dynamic type": [offer(*HEAD, "m=audio 4000 RTP/AVP 0 99")],
    "maps without a format": [offer(*HEAD, AUDIO, "a=rtpmap:99 x/8000", "a=fmtp:99 y")],
    "parameters of static types": [offer(*HEAD, "m=audio 4000 RTP/AVP 18 4", "a=fmtp:18 annexb=no")],
    "packet time": [offer(*PHONE, "a=maxptime:60")],
    "line ends": [("offer", sdp(*PHONE, end="\n"), {**PLAIN, "from-tag": "a"})],
    "fax": [offer(*FAX), answer(*FAX_ANSWER)],
    "audio turns into fax": [*CALL, back(*FAX_ANSWER), reply(*FAX)],
    "audio and fax": [offer(*HEAD, AUDIO, "m=image 4002 udptl t38", "a=T38FaxVersion:0")],
    "ice removed": [
        offer(
            *HEAD,
            "a=ice-lite",
            AUDIO,
            "a=candidate:1 1 UDP 2130706431 192.168.1.7 4000 typ host",
            "a=candidate:1 2 UDP 2130706430 192.168.1.7 4001 typ host",
            "a=ice-ufrag:abcd",
            "a=ice-pwd:0123456789012345678901",
        ),
    ],
    "ipv4 to ipv6": [offer(*PHONE, address_family="IP6"), answer(*SIX)],
    "ipv6": [offer(*SIX), answer(*SIX)],
    "ipv6 to ipv4": [offer(*SIX, address_family="IP4"), answer(*CALLEE)],
    "ipv6 rejected": [offer(*SIX[:5], "m=audio 0 RTP/AVP 0")],
    "media address": [offer(*PHONE, media_address="192.0.2.77")],
    "profile changed": [
        offer(*PHONE, transport_protocol="RTP/AVPF"),
        answer(*CALLEE[:5], "m=audio 6000 RTP/AVPF 0 101", CALLEE[6]),
    ],
    "answer with fewer types": [
        offer(*HEAD, "m=audio 4000 RTP/AVP 0 8 3"),
        answer(*CALLEE[:5], "m=audio 6000 RTP/AVP 8"),
    ],
    "answer with more types": [offer(*HEAD, "m=audio 4000 RTP/AVP 0"), answer(*CALLEE[:5], "m=audio 6000 RTP/AVP 0 8")],
    "group dropped": [offer(*HEAD, "a=group:BUNDLE 1 2", AUDIO, "a=mid:1", VIDEO, "a=mid:2")],
    "source attributes": [offer(*PHONE, "a=ssrc:1 cname:x", "a=msid:a b", "a=rtcp-rsize", "a=rtcp-xr:voip-metrics")],
    "bad body": [offer("v=0", "m=audio")],
    "version one": [offer("v=1", *PHONE[1:])],
    "unknown line": [offer(*PHONE, "x=y")],
    "no address": [offer(*PHONE[:3], *PHONE[4:])],
    "answer for nobody": [answer(*CALLEE)],
    "answer with more streams": [offer(*PHONE), answer(*CALLEE, "m=video 6002 RTP/AVP 31")],
    "talking to oneself": [offer(*PHONE, **{"to-tag": "a"})],
}
