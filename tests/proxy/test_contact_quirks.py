"""Quirks that change the Contact, the Record-Route or the size of what a device gets."""

from __future__ import annotations

from typing import Any

import pytest

from nattrav.config.sip import Quirk, SipSection, Upstream
from nattrav.net.address import TransportAddress
from nattrav.proxy.contact_mark import marked, unmarked
from nattrav.proxy.listener import Listener
from nattrav.sip.errors import MalformedMessage
from nattrav.sip.transport.flow import listener_id
from nattrav.sip.uri import SipUri
from tests.proxy.playbook import GATEWAY, PHONE, US, Arrival, Stage, register, request, response, sdp, udp_listener

AGENT = "User-Agent: Acme/1\r\n"
CONTACT = "sip:alice@10.0.0.5:5060;x=1"
TAGS = {"from_": "<sip:bob@203.0.113.10>;tag=bt", "to": "<sip:alice@203.0.113.10>;tag=at"}


def stage_with(listeners: list[Listener] | None = None, mode: str = "registrar", **quirk: Any) -> Stage:
    sip = SipSection.model_validate({"registrar": {"authentication": "none"}, "mode": mode})
    quirks = [Quirk.model_validate({"user_agent": "acme", **quirk})]
    upstream = Upstream.model_validate({"name": "gw", "target": str(GATEWAY), "domains": ["example.org"]})
    return Stage(sip=sip, upstreams=[upstream], listeners=listeners, extra={"quirks": quirks})


def invite(stage: Stage, contact: str = f"<{CONTACT}>") -> Arrival:
    text = request("INVITE", f"sip:+431@{US}", contact=contact, headers=AGENT, body=sdp("10.0.0.5"))
    return stage.send(PHONE, text)[-1]


def contact_uri(message: Arrival) -> SipUri:
    contacts = message.message.contacts
    assert contacts != "*"
    return contacts[0].sip_uri


def from_gateway(method: str, uri: str, **more: Any) -> str:
    settings: dict[str, Any] = {**TAGS, "via": "203.0.113.80", "branch": f"z9hG4bK{method}", "cseq": 9, **more}
    return request(method, uri, contact=None, **settings)


@pytest.mark.parametrize(("kind", "host"), [("alias", "10.0.0.5"), ("rewrite", US)])
def test_a_peer_without_route_sets_finds_back_and_the_device_sees_its_own_contact(kind: str, host: str) -> None:
    stage = stage_with(contact=kind)
    forwarded = invite(stage)
    uri = contact_uri(forwarded)
    assert (uri.host, uri.user) == (host, "alice")
    stage.send(GATEWAY, response(forwarded, 200, body=sdp("203.0.113.80")))
    (down,) = stage.send(GATEWAY, from_gateway("BYE", uri.text))
    assert (down.to, down.line) == (PHONE, f"BYE {CONTACT} SIP/2.0")


@pytest.mark.parametrize("kind", ["alias", "rewrite"])
def test_the_mark_survives_a_restart_and_works_with_a_route_set_as_well(kind: str) -> None:
    before = stage_with(contact=kind)
    uri = contact_uri(invite(before)).text
    assert stage_with(contact=kind).send(GATEWAY, from_gateway("BYE", uri))[0].line == f"BYE {CONTACT} SIP/2.0"
    routes = "".join(f"Route: {value.text}\r\n" for value in invite(stage_with(contact=kind)).message.record_routes)
    (down,) = stage_with().send(GATEWAY, from_gateway("BYE", uri, headers=routes))
    assert (down.to, down.line) == (PHONE, f"BYE {CONTACT} SIP/2.0")


@pytest.mark.parametrize("kind", ["alias", "rewrite"])
def test_the_contact_of_a_devices_answers_is_marked_too(kind: str) -> None:
    stage = stage_with(contact=kind)
    stage.send(PHONE, register(headers=AGENT))
    down = stage.send(GATEWAY, request("INVITE", f"sip:alice@{US}", via="203.0.113.80", body=sdp("203.0.113.80")))[-1]
    answer = response(down, 200, contact=f"<{CONTACT}>", headers="Server: Acme/1\r\n", body=sdp("10.0.0.5"))
    (ok,) = stage.send(PHONE, answer)
    uri = contact_uri(ok)
    assert "alias" in uri.params
    (bye,) = stage.send(GATEWAY, from_gateway("BYE", uri.text, to="<sip:alice@x>;tag=bt", from_="<sip:g@x>;tag=at"))
    assert (bye.to, bye.line) == (PHONE, f"BYE {CONTACT} SIP/2.0")


def test_every_reinvite_is_marked_again_also_when_it_does_not_name_its_product() -> None:
    stage = stage_with(contact="rewrite")
    forwarded = invite(stage)
    (ok,) = stage.send(GATEWAY, response(forwarded, 200, body=sdp("203.0.113.80")))
    routes = "".join(f"Route: {value.text}\r\n" for value in ok.message.record_routes)
    again = request(
        "INVITE",
        "sip:bob@203.0.113.80",
        branch="z9hG4bKre",
        to="<sip:bob@203.0.113.10>;tag=bt",
        cseq=2,
        contact=f"<{CONTACT}>",
        headers=routes,
    )
    assert contact_uri(stage.send(PHONE, again)[-1]).host == US


def test_other_devices_contacts_stay_untouched() -> None:
    stage = stage_with(contact="rewrite")
    text = request("INVITE", f"sip:+431@{US}", contact=f"<{CONTACT}>")
    assert contact_uri(stage.send(PHONE, text)[-1]).text == CONTACT


def test_a_contact_without_angle_brackets_gets_them_and_keeps_its_own_parameters() -> None:
    forwarded = invite(stage_with(contact="alias"), contact="sip:alice@10.0.0.5;q=0.5")
    (contact,) = forwarded.message.contacts
    assert not isinstance(contact, str)
    assert contact.params == {"q": "0.5"}
    assert "alias" in contact.sip_uri.params


def test_a_changed_mark_is_403_and_a_foreign_alias_is_nothing_of_ours() -> None:
    stage = stage_with(contact="alias")
    uri = contact_uri(invite(stage))
    token = str(uri.params["alias"])
    forged = uri.with_param("alias", ("A" if token[5] != "A" else "B").join((token[:5], token[6:]))).text
    assert stage.send(GATEWAY, from_gateway("BYE", forged))[-1].line == "SIP/2.0 403 Forbidden"
    foreign = "sip:alice@10.0.0.5;alias=192.0.2.66~5060~1"
    assert stage.send(GATEWAY, from_gateway("BYE", foreign, branch="z9hG4bK2"))[-1].to != TransportAddress(
        "192.0.2.66", 5060
    )


def test_a_kept_contact_that_cannot_be_read_is_a_bad_request_uri() -> None:
    stage = stage_with(contact="rewrite")
    uri = contact_uri(invite(stage)).with_param("was", "!").text
    assert stage.send(GATEWAY, from_gateway("BYE", uri))[-1].line.startswith("SIP/2.0 400")
    with pytest.raises(MalformedMessage):
        unmarked("sip:a@b;alias=" + "x" * 39 + ";was=!!!")


def test_marking_and_unmarking_is_the_identity() -> None:
    tcp = Listener(7, "tcp", TransportAddress("2001:db8::1", 5060), "2001:db8::1", 5060)
    for text in (CONTACT, "sips:10.0.0.5", "sip:a%40b@[2001:db8::9]:5070;transport=tcp;ob"):
        for ours in (None, tcp):
            token = "t" * 39
            assert unmarked(marked(SipUri.parse(text), token, ours)) == (token, text)


def test_in_edge_mode_a_registration_is_rewritten_and_found_again_after_a_restart() -> None:
    stage = stage_with(mode="edge", contact="rewrite")
    text = register(headers=AGENT, contact=f"<{CONTACT}>").replace(f"<sip:alice@{US}>", "<sip:alice@example.org>")
    (forwarded,) = stage.send(PHONE, text.replace(f"REGISTER sip:{US}", "REGISTER sip:example.org"))
    uri = contact_uri(forwarded)
    assert (uri.host, forwarded.message.has("path")) == (US, False)
    (ok,) = stage.send(GATEWAY, response(forwarded, 200, contact=f"<{uri.text}>;expires=300"))
    assert contact_uri(ok).text == CONTACT
    call = request("INVITE", uri.text, via="203.0.113.80")
    assert stage.send(GATEWAY, call)[-1].line == f"INVITE {CONTACT} SIP/2.0"
    stage.proxy.requests.edge.confirmed.clear()
    again = stage.send(GATEWAY, call.replace("z9hG4bKa1", "z9hG4bKa2"))[-1]
    assert (again.to, again.line) == (PHONE, f"INVITE {CONTACT} SIP/2.0")


def test_a_quirk_for_one_user_is_found_by_the_from_of_a_request() -> None:
    sip = SipSection.model_validate({"registrar": {"authentication": "none"}})
    quirk = Quirk.model_validate({"aor": f"alice@{US}", "contact": "alias"})
    stage = Stage(sip=sip, extra={"quirks": [quirk]})
    assert "alias" in contact_uri(invite(stage)).params


# ---- max_udp


def test_a_request_too_large_for_the_device_is_written_compactly() -> None:
    stage = stage_with(max_udp=800)
    stage.send(PHONE, register(headers=AGENT))
    filler = "".join(f"X-Filler: {'x' * 20}\r\n" for _ in range(10))
    text = request("INVITE", f"sip:alice@{US}", via="203.0.113.80", headers=filler)
    down = stage.send(GATEWAY, text)[-1]
    assert (down.to, len(down.data) <= 800) == (PHONE, True)
    assert "\r\nv:SIP/2.0/UDP" in down.text
    assert [log.level for log in stage.logs if log.event == "over_device_limit"] == ["info"]


def test_a_request_that_stays_too_large_is_513() -> None:
    stage = stage_with(max_udp=600)
    stage.send(PHONE, register(headers=AGENT))
    text = request("INVITE", f"sip:alice@{US}", via="203.0.113.80", headers=f"X-Filler: {'x' * 500}\r\n")
    assert [a.line for a in stage.send(GATEWAY, text)][-1] == "SIP/2.0 513 Message Too Large"
    assert [record["code"] for record in stage.records] == [513]


def test_a_response_too_large_for_the_device_is_written_compactly_and_sent_in_any_case() -> None:
    stage = stage_with(max_udp=700)
    forwarded = invite(stage)
    (ok,) = stage.send(GATEWAY, response(forwarded, 200, headers=f"X-Filler: {'x' * 600}\r\n"))
    assert (ok.to, ok.message.has("record-route")) == (PHONE, True)
    assert "\r\nv:SIP/2.0/UDP" in ok.text
    assert [log.level for log in stage.logs if log.event == "over_device_limit"] == ["warning"]


# ---- rr_transport


def test_record_route_names_the_transport_towards_the_device_that_is_called_and_that_calls() -> None:
    stage = stage_with(rr_transport="explicit")
    stage.send(PHONE, register(headers=AGENT))
    down = stage.send(GATEWAY, request("INVITE", f"sip:alice@{US}", via="203.0.113.80"))[-1]
    assert down.message.record_routes[0].sip_uri.transport == "udp"
    assert invite(stage).message.record_routes[-1].sip_uri.transport == "udp"
    plain = stage_with(contact="alias")
    plain.send(PHONE, register(headers=AGENT))
    down = plain.send(GATEWAY, request("INVITE", f"sip:alice@{US}", via="203.0.113.80"))[-1]
    assert down.message.record_routes[0].sip_uri.transport is None


def test_a_rewritten_contact_names_the_transport_of_the_side_it_is_shown_to() -> None:
    bound = TransportAddress(US, 5060)
    tcp = Listener(listener_id("tcp", bound), "tcp", bound, US, 5060)
    stage = stage_with([udp_listener(), tcp], contact="rewrite")
    stage.proxy.rooms.upstreams.all[0].uri = SipUri.parse(f"sip:{GATEWAY};transport=tcp")
    assert contact_uri(invite(stage)).transport == "tcp"
