"""The proxy's core under mutated messages from phones, strangers and its gateway."""

from __future__ import annotations

from nattrav.config.sip import Quirk, SipSection, Upstream, User
from nattrav.net.address import TransportAddress
from nattrav.proxy.core import Proxy
from nattrav.proxy.effects import AskRelay, Lookup, Send
from nattrav.proxy.listener import Listener
from nattrav.proxy.parts import Settings
from nattrav.sip.transport.flow import Flow, listener_id

US = TransportAddress("203.0.113.10", 5060)
GATEWAY = TransportAddress("203.0.113.80", 5060)
PHONE = TransportAddress("198.51.100.7", 40001)
LISTENER = Listener(listener_id("udp", US), "udp", US, US.host, US.port)
SEEDS = [
    (
        b"%b SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bK%d;rport\r\nMax-Forwards: 70\r\n"
        b"From: <sip:alice@203.0.113.10>;tag=a\r\nTo: <sip:bob@203.0.113.10>%b\r\nCall-ID: c%d\r\nCSeq: 1 %b\r\n"
        b"Contact: <sip:alice@10.0.0.5:5060>\r\n%bContent-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%b"
    )
    % (line, number, tag, number % 3, line.split()[0], extra, len(body), body)
    for number, (line, tag, extra, body) in enumerate(
        (
            (b"REGISTER sip:203.0.113.10", b"", b"Expires: 60\r\n", b""),
            (
                b"INVITE sip:bob@203.0.113.10",
                b"",
                b"",
                b"v=0\r\no=- 1 1 IN IP4 10.0.0.5\r\ns=-\r\nc=IN IP4 10.0.0.5\r\n",
            ),
            (b"INVITE sip:+431@203.0.113.10", b"", b"Route: <sip:203.0.113.10;lr>\r\n", b"v=0\r\n"),
            (b"BYE sip:alice@10.0.0.5", b";tag=b", b"Route: <sip:203.0.113.80;lr>\r\n", b""),
            (b"CANCEL sip:bob@203.0.113.10", b"", b"", b""),
            (b"ACK sip:bob@203.0.113.10", b";tag=b", b"", b"v=0\r\n"),
            (b"OPTIONS sip:203.0.113.10", b"", b"Proxy-Require: x\r\n", b""),
            (b"UPDATE sip:bob@203.0.113.80", b";tag=b", b"Session-Expires: 90\r\n", b"v=0\r\n"),
            (b"SUBSCRIBE sip:bob@203.0.113.10", b"", b'Proxy-Authorization: Digest realm="nattrav"\r\n', b""),
        )
    )
]


def _proxy(mode: str, users: list[User]) -> Proxy:
    sip = SipSection.model_validate(
        {
            "mode": mode,
            "registrar": {"authentication": "digest" if users else "none"},
            "limits": {"requests_per_source": 1e9, "burst": 10**9, "failures_before_ban": 10**9, "scanners": []},
        }
    )
    settings = Settings(
        sip,
        [Upstream.model_validate({"name": "gw", "target": str(GATEWAY)})],
        users,
        [Quirk.model_validate({"user_agent": "x", "rport": "never"})],
    )
    return Proxy(settings, [LISTENER], [b"k" * 32], lambda length: bytes(length))


_PROXIES = [
    _proxy("registrar", []),
    _proxy("registrar", [User.model_validate({"name": "alice", "password": "x"})]),
    _proxy("edge", []),
]
_now = 0.0


def target(data: bytes) -> None:
    """No message makes the core raise, and what it answers to one message is a handful of effects."""
    global _now
    _now += 0.05
    for proxy in _PROXIES:
        sent = []
        for source in (PHONE, GATEWAY):
            flow = Flow("udp", LISTENER.id, US, source)
            effects = proxy.receive(flow, data, _now)
            assert len(effects) < 40
            for effect in effects:
                if isinstance(effect, AskRelay):
                    reply = {"result": "ok", "sdp": effect.arguments["sdp"]} if "sdp" in effect.arguments else None
                    effects = effects + proxy.relay_reply(effect.request, reply, _now)
                elif isinstance(effect, Lookup):
                    proxy.next_hops(effect.request, [("udp", ("203.0.113.99", 5060), None)], _now)
            sent += [effect for effect in effects if isinstance(effect, Send)]
        for effect in sent[:6]:
            # The other side answers with what it got, turned into a response.
            if effect.data[:8] != b"SIP/2.0 ":
                head = b"SIP/2.0 200 OK" if _now % 0.1 < 0.05 else b"SIP/2.0 486 Busy"
                proxy.receive(effect.flow, head + effect.data[effect.data.find(b"\r\n") :], _now)
        proxy.handle_timeout(_now)
