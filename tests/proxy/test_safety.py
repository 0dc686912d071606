"""No open relay, no help for scanners, no growth without bound."""

from __future__ import annotations

from typing import Any

import pytest

from nattrav.config.sip import SipLimits, SipSection
from nattrav.net.address import TransportAddress
from nattrav.proxy.admission import SOURCES, Admission
from nattrav.proxy.effects import DropReason
from tests.proxy.playbook import GATEWAY, PHONE, US, Stage, register, request, response, sdp

STRANGER = TransportAddress("192.0.2.66", 5066)


def stage_with(**limits: Any) -> Stage:
    return Stage(sip=SipSection.model_validate({"registrar": {"authentication": "none"}, "limits": limits}))


def test_a_known_scanner_gets_no_packet_at_all_and_is_banned() -> None:
    stage = Stage()
    text = request("OPTIONS", f"sip:100@{US}", headers="User-Agent: friendly-scanner\r\n")
    assert stage.send(STRANGER, text) == []
    assert stage.send(STRANGER, request("OPTIONS", f"sip:{US}", branch="z9hG4bK2")) == []
    assert stage.drops == [DropReason.SCANNER, DropReason.BANNED]


def test_a_ban_ends() -> None:
    stage = Stage()
    stage.send(STRANGER, request("OPTIONS", f"sip:100@{US}", headers="User-Agent: sipvicious\r\n"))
    stage.now += 601
    assert len(stage.send(STRANGER, request("OPTIONS", f"sip:{US}", branch="z9hG4bK2"))) == 1


def test_guessing_numbers_is_banned_even_with_an_ordinary_user_agent() -> None:
    stage = Stage(upstreams=[])
    for number in range(20):
        stage.send(STRANGER, request("INVITE", f"sip:{number}@{US}", branch=f"z9hG4bK{number}", call_id=f"c{number}"))
    assert stage.send(STRANGER, request("OPTIONS", f"sip:{US}", branch="z9hG4bKo")) == []
    assert any(log.event == "source_banned" for log in stage.logs)


def test_a_flood_from_one_source_is_dropped_and_others_are_served() -> None:
    stage = stage_with(burst=10, requests_per_source=1)
    answers = sum(
        len(stage.send(STRANGER, request("OPTIONS", f"sip:{US}", branch=f"z9hG4bK{number}"))) for number in range(50)
    )
    assert answers == 10
    assert len(stage.send(PHONE, request("OPTIONS", f"sip:{US}", branch="z9hG4bKp"))) == 1
    stage.now += 5
    assert len(stage.send(STRANGER, request("OPTIONS", f"sip:{US}", branch="z9hG4bKlater"))) == 1


def test_the_gateway_is_not_limited() -> None:
    stage = stage_with(burst=1, requests_per_source=0.1)
    for number in range(5):
        text = request("OPTIONS", f"sip:{US}", branch=f"z9hG4bK{number}", via="203.0.113.80")
        assert len(stage.send(GATEWAY, text)) == 1


def test_a_preloaded_route_to_a_stranger_is_refused() -> None:
    stage = Stage(sip=SipSection(), upstreams=[])
    text = request("INVITE", "sip:bob@192.0.2.99", headers="Route: <sip:192.0.2.99;lr>\r\n")
    assert stage.send(STRANGER, text)[-1].line == "SIP/2.0 403 Forbidden"


def test_a_foreign_request_uri_from_a_stranger_is_refused() -> None:
    stage = Stage(sip=SipSection())
    assert stage.send(STRANGER, request("INVITE", "sip:bob@192.0.2.99"))[-1].line == "SIP/2.0 403 Forbidden"


def test_a_request_that_only_pretends_to_be_in_a_dialog_is_not_relayed() -> None:
    stage = Stage(sip=SipSection())
    text = request("INVITE", "sip:bob@192.0.2.99", to="<sip:bob@192.0.2.99>;tag=made-up")
    assert stage.send(STRANGER, text)[-1].line.startswith("SIP/2.0 48")


@pytest.mark.parametrize("method", ["MESSAGE", "INVITE", "BYE", "ACK"])
@pytest.mark.parametrize("further", ["", "Route: <sip:192.0.2.99;lr>\r\n"])
def test_our_own_route_entry_without_a_token_opens_no_relay(method: str, further: str) -> None:
    stage = Stage(sip=SipSection.model_validate({"registrar": {"authentication": "digest"}}))
    routes = f"Route: <sip:{US};lr>\r\n{further}"
    text = request(method, "sip:victim@192.0.2.77", to="<sip:victim@example.com>;tag=x", headers=routes)
    assert {one.to for one in stage.send(STRANGER, text)} <= {STRANGER}


def test_what_a_client_claims_about_its_address_is_overwritten() -> None:
    stage = Stage()
    text = request("INVITE", f"sip:+431@{US}", rport=";rport=1;received=203.0.113.99", body=sdp("10.0.0.5"))
    _, invite = stage.send(PHONE, text)
    assert "received=203.0.113.99" not in invite.text
    assert "received=198.51.100.7;rport=40001" in invite.text


def test_a_claimed_received_in_contact_does_not_steer_calls() -> None:
    stage = Stage()
    stage.send(PHONE, register(contact="<sip:alice@10.0.0.5:5060>;received=192.0.2.1"))
    _, invite = stage.send(GATEWAY, request("INVITE", f"sip:alice@{US}", via="203.0.113.80", call_id="in"))
    assert invite.to == PHONE


def test_a_user_has_only_so_many_calls() -> None:
    stage = stage_with(calls=1)
    stage.send(PHONE, request("INVITE", f"sip:+431@{US}"))
    refused = stage.send(PHONE, request("INVITE", f"sip:+431@{US}", branch="z9hG4bK2", call_id="c2"))
    assert refused[-1].line == "SIP/2.0 503 Service Unavailable"


def test_tables_of_sources_are_bounded() -> None:
    admission = Admission(SipLimits())
    for number in range(SOURCES + 100):
        admission.refuses(f"source-{number}", 0.0)
        admission.fault(f"source-{number}", "x", 0.0)
    assert len(admission._buckets) <= SOURCES
    assert len(admission._faults) <= SOURCES


def test_after_a_call_nothing_of_it_is_left() -> None:
    stage = Stage()
    for number in range(50):
        _, invite = stage.send(
            PHONE, request("INVITE", f"sip:+431@{US}", branch=f"z9hG4bK{number}", call_id=f"c{number}")
        )
        stage.send(GATEWAY, response(invite, 486))
        stage.wait(0.1)
    stage.wait(100)
    parts = stage.proxy.parts
    assert len(parts.transactions) == 0
    assert len(parts.waiting) == 0
    assert len(parts.timers) == 0
    assert len(stage.proxy.rooms.calls) == 0
