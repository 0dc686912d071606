"""Session descriptions that several tests read."""

from __future__ import annotations


def sdp(*lines: str, end: str = "\r\n") -> bytes:
    """Join lines into a description."""
    return "".join(line + end for line in lines).encode("latin-1")


PHONE = (
    "v=0",
    "o=al 11 22 IN IP4 192.168.1.7",
    "s=-",
    "c=IN IP4 192.168.1.7",
    "t=0 0",
    "m=audio 4000 RTP/AVP 0 101",
    "a=rtpmap:101 telephone-event/8000",
    "a=ptime:20",
    "a=x-foo:bar",
)

SOFTPHONE = (
    "v=0",
    "o=- 3868331676 3868331676 IN IP4 10.0.0.2",
    "s=call",
    "b=AS:84",
    "t=0 0",
    "a=X-nat:0",
    "m=audio 4000 RTP/AVP 96 97 98 99 3 0 8 9 120 121 122",
    "c=IN IP4 10.0.0.2",
    "b=TIAS:64000",
    "a=rtcp:4001 IN IP4 10.0.0.2",
    "a=sendrecv",
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
)

BROWSER = (
    "v=0",
    "o=- 4962303333179871722 1 IN IP4 0.0.0.0",
    "s=-",
    "t=0 0",
    "a=group:BUNDLE 0 1",
    "a=ice-options:trickle",
    "a=msid-semantic: WMS",
    "m=audio 54609 UDP/TLS/RTP/SAVPF 111 0",
    "c=IN IP4 192.168.1.9",
    "a=candidate:1 1 udp 2113937151 192.168.1.9 54609 typ host",
    "a=rtcp:9 IN IP4 0.0.0.0",
    "a=ice-ufrag:eYYk",
    "a=ice-pwd:TbYQcMUJxZmkrJPI5HGWdLzG",
    "a=fingerprint:sha-256 19:E2:1C:3B",
    "a=setup:actpass",
    "a=mid:0",
    "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
    "a=sendrecv",
    "a=rtcp-mux",
    "a=rtpmap:111 opus/48000/2",
    "a=rtcp-fb:111 transport-cc",
    "a=fmtp:111 minptime=10;useinbandfec=1",
    "a=ssrc:3570614608 cname:4TOk42mSjXCkVIa6",
    "m=video 0 UDP/TLS/RTP/SAVPF 96",
    "c=IN IP4 0.0.0.0",
    "a=mid:1",
    "a=rtpmap:96 VP8/90000",
)

FAX = (
    "v=0",
    "o=fax 1 2 IN IP4 192.0.2.10",
    "s=fax",
    "c=IN IP4 192.0.2.10",
    "t=0 0",
    "m=image 5000 udptl t38",
    "a=T38FaxVersion:0",
    "a=T38MaxBitRate:14400",
    "a=T38FaxRateManagement:transferredTCF",
)
