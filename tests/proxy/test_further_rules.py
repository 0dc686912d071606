"""More of the proxy's rules by their ids: what passes untouched, dialogs that begin oddly, where answers go."""

from __future__ import annotations

from typing import Any

import pytest

from nattrav.config.sip import SipSection, User
from nattrav.net.address import TransportAddress
from nattrav.sip.digest_client import answer_challenge
from nattrav.sip.transport.flow import Flow
from tests.proxy.playbook import (
    GATEWAY,
    OTHER,
    PHONE,
    US,
    Arrival,
    Stage,
    register,
    request,
    response,
    sdp,
    udp_listener,
)


def only(arrivals: list[Arrival]) -> Arrival:
    assert len(arrivals) == 1, [a.line for a in arrivals]
    return arrivals[0]


def status(arrivals: list[Arrival]) -> list[int]:
    return [int(a.line.split()[1]) for a in arrivals if a.line.startswith("SIP/2.0")]


def invite(**more: Any) -> str:
    return request("INVITE", f"sip:+431@{US}", **more)


def test_r5_a_notify_inside_a_dialog_is_record_routed_because_it_may_come_before_the_2xx() -> None:
    stage = Stage()
    stage.send(PHONE, register())
    forwarded = stage.send(PHONE, request("SUBSCRIBE", f"sip:+431@{US}", headers="Event: dialog\r\n"))[-1]
    routes = "".join(f"Route: {value.text}\r\n" for value in forwarded.message.record_routes)
    notify = request(
        "NOTIFY",
        "sip:alice@10.0.0.5:5060",
        via="203.0.113.80",
        branch="z9hG4bKn",
        from_="<sip:+431@203.0.113.10>;tag=nt",
        to="<sip:alice@203.0.113.10>;tag=at",
        headers=routes,
    )
    down = only(stage.send(GATEWAY, notify))
    assert (down.to, down.message.record_routes[0].sip_uri.user is not None) == (PHONE, True)
    assert status(stage.send(PHONE, response(down, 200, tag=None))) == [200]


def test_n6_a_notify_before_the_200_of_its_subscribe_passes_and_so_does_the_200() -> None:
    stage = Stage()
    forwarded = stage.send(PHONE, request("SUBSCRIBE", f"sip:+431@{US}", headers="Event: dialog\r\n"))[-1]
    routes = "".join(f"Route: {value.text}\r\n" for value in forwarded.message.record_routes)
    text = request("NOTIFY", "sip:alice@10.0.0.5:5060", via="203.0.113.80", branch="z9hG4bKn", headers=routes)
    text = text.replace("From: <sip:alice@203.0.113.10>;tag=at", "From: <sip:+431@203.0.113.10>;tag=nt")
    text = text.replace("To: <sip:bob@203.0.113.10>", "To: <sip:alice@203.0.113.10>;tag=at")
    assert only(stage.send(GATEWAY, text)).to == PHONE
    assert status(stage.send(GATEWAY, response(forwarded, 200))) == [200]


def test_n6_a_bye_that_crosses_a_reinvite_passes_and_the_491_or_481_goes_back() -> None:
    stage = Stage()
    _, forwarded = stage.send(PHONE, invite(body=sdp("10.0.0.5")))
    ok = only(stage.send(GATEWAY, response(forwarded, 200, body=sdp("203.0.113.80"))))
    routes = "".join(f"Route: {value.text}\r\n" for value in reversed(ok.message.record_routes))
    to = "<sip:bob@203.0.113.10>;tag=bt"
    again = request("INVITE", "sip:bob@203.0.113.80", branch="z9hG4bKre", to=to, cseq=2, headers=routes)
    onward = stage.send(PHONE, again)[-1]
    bye = request(
        "BYE",
        "sip:alice@10.0.0.5:5060",
        via="203.0.113.80",
        branch="z9hG4bKbye",
        from_=to,
        to="<sip:alice@203.0.113.10>;tag=at",
        cseq=9,
        headers=routes,
    )
    down = only(stage.send(GATEWAY, bye))
    assert down.to == PHONE
    assert 200 in status(stage.send(PHONE, response(down, 200, tag=None)))
    assert 481 in status(stage.send(GATEWAY, response(onward, 481, tag=None)))
    assert [record["cause"] for record in stage.records] == ["bye"]


@pytest.mark.parametrize(
    "header",
    [
        "Replaces: 12@x;to-tag=1;from-tag=2",
        "Identity: abc;info=<https://x/cert>;alg=ES256",
        "Service-Route: <sip:orig@x;lr>",
        'Contact-Params: ;pn-provider=acme;pn-prid="1"',
        "P-Charging-Vector: icid-value=1",
        "Date: Sat, 13 Nov 2010 23:29:00 GMT",
    ],
)
def test_n3_what_a_proxy_has_no_part_in_passes_octet_by_octet(header: str) -> None:
    forwarded = Stage().send(PHONE, invite(headers=header + "\r\n"))[-1]
    assert f"\r\n{header}\r\n" in forwarded.text


def test_n3_gruu_and_push_parameters_of_a_contact_come_back_as_registered() -> None:
    stage = Stage()
    contact = '<sip:alice@10.0.0.5:5060;ob;pn-provider=acme;pn-prid=ZXlKaGJHY2lP>;+sip.instance="<urn:uuid:1>"'
    ok = only(stage.send(PHONE, register(contact=contact)))
    assert contact in ok.text
    down = stage.send(GATEWAY, request("INVITE", f"sip:alice@{US}", via="203.0.113.80"))[-1]
    assert down.line == "INVITE sip:alice@10.0.0.5:5060;ob;pn-provider=acme;pn-prid=ZXlKaGJHY2lP SIP/2.0"


def test_n2_a_phone_that_offers_keepalives_is_told_how_often() -> None:
    stage = Stage()
    text = register().replace(";rport", ";rport;keep")
    ok = only(stage.send(PHONE, text))
    assert ok.message.via.params["keep"] == "25"
    forwarded = stage.send(PHONE, invite(rport=";keep;rport"))[-1]
    assert forwarded.message.vias[1].params["keep"] == "25"
    other = stage.send(PHONE, invite(rport=";rport;keepalive", branch="z9hG4bK4", call_id="4"))[-1]
    assert "keep" not in other.message.vias[1].params
    odd = stage.send(PHONE, invite(rport=";rport;keep=7", branch="z9hG4bK5", call_id="5"))[-1]
    assert odd.message.vias[1].params["keep"] == "7"


def test_r12_credentials_for_other_realms_stay_beside_ours() -> None:
    sip = SipSection.model_validate({"registrar": {"authentication": "digest"}, "realm": "ours"})
    user = User.model_validate({"name": "alice", "password": "secret"})
    stage = Stage(sip=sip, extra={"users": [user]})
    challenge = stage.send(PHONE, invite(branch="z9hG4bKc"))[-1]
    offered = challenge.message.all("proxy-authenticate")
    mine = answer_challenge(offered, user="alice", password="secret", method="INVITE", uri=f"sip:+431@{US}", cnonce="c")
    other = 'Digest realm="elsewhere", username="x", nonce="1", uri="sip:x", response="2"'
    headers = f"Proxy-Authorization: {mine}\r\nProxy-Authorization: {other}\r\n"
    forwarded = stage.send(PHONE, invite(headers=headers, cseq=2))[-1]
    assert forwarded.message.all("proxy-authorization") == [other]


def test_a_tel_uri_leads_to_a_phone_of_that_number_before_it_leads_to_a_gateway() -> None:
    stage = Stage()
    stage.send(PHONE, register("+431234"))
    down = stage.send(OTHER, request("INVITE", "tel:+43-1234", branch="z9hG4bKt", call_id="t"))[-1]
    assert down.to == PHONE
    out = stage.send(OTHER, request("INVITE", "tel:+43-999", branch="z9hG4bKt2", call_id="t2"))[-1]
    assert (out.to, out.line) == (GATEWAY, "INVITE tel:+43-999 SIP/2.0")


def test_n10_the_answer_leaves_from_the_address_that_was_asked() -> None:
    second = "203.0.113.11"
    stage = Stage(listeners=[udp_listener(), udp_listener(second)])
    at = stage.proxy.parts.listeners.all[1]
    flow = Flow("udp", at.id, at.bound, PHONE)
    answer = only(stage.send(flow, request("OPTIONS", f"sip:{second}", contact=None)))
    assert answer.flow.local.host == second


def test_t4_names_default_ports_and_maddr_of_a_sent_by() -> None:
    stage = Stage()
    text = request("OPTIONS", f"sip:{US}", via="phone.example", rport="", contact=None)
    assert only(stage.send(PHONE, text)).to == TransportAddress(PHONE.host, 5060)
    invalid = request("OPTIONS", f"sip:{US}", via="df7jal23ls0d.invalid", rport=";rport", branch="z9hG4bK2")
    assert only(stage.send(PHONE, invalid)).to == PHONE
    multicast = request("OPTIONS", f"sip:{US}", rport=";maddr=224.0.1.75;ttl=1", branch="z9hG4bK3", contact=None)
    assert only(stage.send(PHONE, multicast)).to.host == PHONE.host


def test_d14_media_that_has_a_relay_already_is_left_alone() -> None:
    stage = Stage()
    forwarded = stage.send(PHONE, invite(body=sdp("203.0.113.99") + "a=nortpproxy:yes\r\n"))[-1]
    assert "203.0.113.99" in forwarded.text
    ok = only(stage.send(GATEWAY, response(forwarded, 200, body=sdp("203.0.113.80"))))
    assert "c=IN IP4 203.0.113.80" in ok.text
    assert stage.relay.commands == []
