"""RFC 3261 §16.3, §16.4 and §16.6 where they are easily got wrong: order of checks, strict routers, maddr, sips."""

from __future__ import annotations

import pytest

from nattrav.config.sip import SipSection, Upstream
from nattrav.net.address import TransportAddress
from nattrav.proxy.effects import DropReason
from nattrav.proxy.listener import Listener
from nattrav.sip.message import Request
from nattrav.sip.transport.flow import Flow, listener_id
from tests.proxy.playbook import GATEWAY, PHONE, US, Arrival, Stage, readable, register, request, response, udp_listener


def listener(transport: str, port: int) -> Listener:
    bound = TransportAddress(US, port)
    return Listener(listener_id(transport, bound), transport, bound, US, port)


def only(arrivals: list[Arrival]) -> Arrival:
    assert len(arrivals) == 1, [a.line for a in arrivals]
    return arrivals[0]


# ---- §16.3: syntax, scheme, Max-Forwards, loop, Proxy-Require, credentials


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (("scheme", "max-forwards", "loop", "require"), 416),
        (("max-forwards", "loop", "require"), 483),
        (("loop", "require"), 482),
        (("require",), 420),
        ((), 407),
    ],
)
def test_the_checks_come_in_the_order_of_the_rfc(broken: tuple[str, ...], expected: int) -> None:
    sip = SipSection.model_validate({"registrar": {"authentication": "digest"}})
    stage = Stage(sip=sip, upstreams=[])
    uri = "soap:x" if "scheme" in broken else f"sip:+431@{US}"
    headers = "Proxy-Require: foo\r\n" if "require" in broken else ""
    plain = request("MESSAGE", uri, headers=headers)
    if "loop" in broken:
        probe = stage.proxy.parts.branches
        own = request("MESSAGE", f"sip:+431@{US}", headers=headers)
        branch = probe.new(probe.loop_part(_parsed(own if "scheme" not in broken else plain)))
        plain = plain.replace("Via:", "Via: SIP/2.0/UDP 198.51.100.7;branch=z9hG4bKtop\r\nVia:", 1)
        plain = plain.replace("10.0.0.5:5060;branch=z9hG4bKa1;rport", f"{US};branch={branch}")
    if "max-forwards" in broken:
        plain = plain.replace("Max-Forwards: 70", "Max-Forwards: 0")
    assert int(stage.send(PHONE, plain)[0].line.split()[1]) == expected


def _parsed(text: str) -> Request:
    message = readable(text.encode())
    assert isinstance(message, Request)
    return message


# ---- §16.4: what a strict router made of our Record-Route, and maddr


def test_the_last_route_is_the_target_again_whatever_stands_before_it() -> None:
    stage = Stage()
    routes = "Route: <sip:203.0.113.80;lr>, <sip:203.0.113.81;lr>\r\nRoute: <sip:bob@192.0.2.4>\r\n"
    forwarded = stage.send(PHONE, request("INVITE", f"sip:{US};lr", headers=routes))[-1]
    assert forwarded.line == "INVITE sip:bob@192.0.2.4 SIP/2.0"
    assert forwarded.message.all("route") == ["<sip:203.0.113.80;lr>", "<sip:203.0.113.81;lr>"]
    assert forwarded.to == GATEWAY


def test_both_entries_of_ours_are_used_up_behind_a_strict_router() -> None:
    stage = Stage(listeners=[udp_listener(), listener("tcp", 5060)])
    routes = f"Route: <sip:{US};transport=tcp;lr>, <sip:203.0.113.80;lr>, <sip:bob@192.0.2.4>\r\n"
    forwarded = stage.send(PHONE, request("INVITE", f"sip:{US};lr", headers=routes))[-1]
    assert forwarded.line == "INVITE sip:bob@192.0.2.4 SIP/2.0"
    assert forwarded.message.all("route") == ["<sip:203.0.113.80;lr>"]


def test_the_ack_behind_a_strict_router_goes_the_same_way() -> None:
    stage = Stage()
    _, forwarded = stage.send(PHONE, request("INVITE", f"sip:+431@{US}"))
    ok = only(stage.send(GATEWAY, response(forwarded, 200)))
    ours = ok.message.record_routes[-1].uri
    ack = request("ACK", ours, branch="z9hG4bKack", to="<sip:b@x>;tag=bt", headers="Route: <sip:bob@203.0.113.80>\r\n")
    sent = only(stage.send(PHONE, ack))
    assert (sent.line, sent.message.has("route")) == ("ACK sip:bob@203.0.113.80 SIP/2.0", False)


@pytest.mark.parametrize("uri", [f"sip:+431@elsewhere.example;maddr={US}", f"sip:+431@{US};maddr={US};transport=udp"])
def test_a_maddr_that_names_us_is_stripped_with_port_and_transport(uri: str) -> None:
    stage = Stage(sip=SipSection.model_validate({"registrar": {"authentication": "none"}, "domains": ["x.example"]}))
    stage.any_name = [("udp", ("203.0.113.80", 5060), None)]
    forwarded = stage.send(PHONE, request("INVITE", uri))[-1]
    assert forwarded.to == GATEWAY
    assert "maddr" not in forwarded.line
    assert "transport" not in forwarded.line


def test_another_maddr_is_the_next_hop_and_stays() -> None:
    stage = Stage()
    forwarded = stage.send(PHONE, request("INVITE", "sip:bob@x.example;maddr=203.0.113.80"))[-1]
    assert (forwarded.to, forwarded.line) == (GATEWAY, "INVITE sip:bob@x.example;maddr=203.0.113.80 SIP/2.0")


# ---- sips


def secure_stage() -> tuple[Stage, Flow]:
    tls = listener("tls", 5061)
    gateway = Upstream.model_validate({"name": "gw", "target": "sip:203.0.113.80;transport=tls"})
    stage = Stage(listeners=[udp_listener(), tls], upstreams=[gateway])
    flow = Flow("tls", tls.id, tls.bound, PHONE, 4)
    stage.proxy.flow_opened(flow)
    return stage, flow


def test_our_entry_is_sips_when_the_target_is_and_leads_back() -> None:
    stage, flow = secure_stage()
    forwarded = stage.send(flow, request("INVITE", f"sips:+431@{US}", transport="TLS"))[-1]
    entry = forwarded.message.record_routes[0].sip_uri
    assert (entry.scheme, entry.transport, entry.user is not None) == ("sips", None, True)
    assert forwarded.flow.transport == "tls"
    gateway = Flow("tls", flow.listener, flow.local, TransportAddress("203.0.113.80", 5061), 9)
    bye = request(
        "BYE",
        "sips:alice@10.0.0.5",
        via="203.0.113.80",
        transport="TLS",
        branch="z9hG4bKb",
        from_="<sips:g@x>;tag=bt",
        to="<sips:a@x>;tag=at",
        headers=f"Route: {forwarded.message.record_routes[0].text}\r\n",
    )
    down = only(stage.send(gateway, bye))
    assert (down.flow, down.message.has("route")) == (flow, False)


def test_a_sip_target_keeps_a_sip_entry_with_its_transport() -> None:
    stage, flow = secure_stage()
    forwarded = stage.send(flow, request("INVITE", f"sip:+431@{US}", transport="TLS"))[-1]
    assert (forwarded.message.record_routes[0].sip_uri.scheme, "transport=tls" in forwarded.text) == ("sip", True)


def test_sips_is_never_sent_on_in_the_clear() -> None:
    stage = Stage()
    stage.send(PHONE, register("bob"))
    for uri in (f"sips:+431@{US}", f"SIPS:+432@{US}", f"sips:bob@{US}:5060"):
        refused = stage.send(GATEWAY if "bob" in uri else PHONE, request("INVITE", uri, branch=f"z9hG4bK{uri[:9]}"))
        assert refused[-1].line == "SIP/2.0 480 Temporarily Unavailable", uri
        assert "380" in str(refused[-1].message.first("warning"))


def test_over_secure_websocket_our_uri_says_ws_and_its_port() -> None:
    wss = listener("wss", 443)
    assert wss.uri("t") == f"sip:t@{US}:443;transport=ws"
    assert wss.uri("t", secure=True) == f"sips:t@{US}:443;transport=ws"
    assert listener("wss", 8443).uri(None) == f"sip:{US}:8443;transport=ws"
    assert listener("ws", 80).uri(None) == f"sip:{US};transport=ws"
    assert listener("tls", 5061).uri(None, secure=True) == f"sips:{US}"


# ---- §18.1.2


def test_a_response_whose_topmost_via_is_not_ours_is_dropped() -> None:
    stage = Stage()
    _, forwarded = stage.send(PHONE, request("INVITE", f"sip:+431@{US}"))
    assert stage.send(GATEWAY, response(forwarded, 200).replace(f"UDP {US};", "UDP 192.0.2.66;")) == []
    assert stage.drops == [DropReason.NOT_OUR_VIA]


# ---- strangers that an upstream calls through us

CAROL = TransportAddress("192.0.2.200", 5060)


def upstream_reaches_carol(method: str) -> tuple[Stage, str]:
    """A registrar with digest; give the Route header fields of what Carol sends in the dialog."""
    stage = Stage(sip=SipSection.model_validate({"registrar": {"authentication": "digest"}}))
    text = request(method, "sip:carol@192.0.2.200", via="203.0.113.80", headers="Event: presence\r\n")
    sent = stage.send(GATEWAY, text)[-1]
    assert sent.to == CAROL
    ok = stage.send(CAROL, response(sent, 200, contact="<sip:carol@192.0.2.200>"))[-1]
    return stage, "".join(f"Route: {one.text}\r\n" for one in ok.message.record_routes)


@pytest.mark.parametrize(("method", "inside"), [("INVITE", "BYE"), ("SUBSCRIBE", "NOTIFY")])
def test_a_stranger_whom_an_upstream_reached_answers_inside_the_dialog(method: str, inside: str) -> None:
    stage, routes = upstream_reaches_carol(method)
    back = {"from_": f"<sip:bob@{US}>;tag=bt", "to": f"<sip:alice@{US}>;tag=at", "via": "192.0.2.200"}
    text = request(inside, "sip:gw@203.0.113.80", branch="z9hG4bKin", cseq=3, headers=routes, **back)
    assert stage.send(CAROL, text)[-1].to == GATEWAY
    elsewhere = TransportAddress("192.0.2.201", 5060)
    text = request(inside, "sip:victim@192.0.2.202", branch="z9hG4bKin2", cseq=4, headers=routes, **back)
    assert {one.to for one in stage.send(elsewhere, text)} <= {elsewhere, CAROL}


def test_an_upstream_reaches_the_stranger_again_inside_the_dialog() -> None:
    stage, routes = upstream_reaches_carol("INVITE")
    text = request(
        "BYE",
        "sip:carol@192.0.2.200",
        via="203.0.113.80",
        branch="z9hG4bKb",
        cseq=2,
        to=f"<sip:bob@{US}>;tag=bt",
        headers=routes,
    )
    assert stage.send(GATEWAY, text)[-1].to == CAROL
