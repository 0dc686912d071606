"""What the registrar checks in a REGISTER, and what OPTIONS learns of the proxy itself."""

from __future__ import annotations

import pytest

from tests.proxy.playbook import PHONE, US, Arrival, Stage, register, request

INSTANCE = '+sip.instance="<urn:uuid:00000000-0000-1000-8000-000a95a0e128>"'
OUTBOUND = "Supported: path, outbound\r\n"


def only(arrivals: list[Arrival]) -> Arrival:
    assert len(arrivals) == 1, [a.line for a in arrivals]
    return arrivals[0]


def test_an_extension_that_a_register_requires_and_we_do_not_know_is_420() -> None:
    refused = only(Stage().send(PHONE, register(headers="Require: outbound, teleport\r\n")))
    assert refused.line == "SIP/2.0 420 Bad Extension"
    assert refused.message.tokens("unsupported") == ["teleport"]


def test_options_to_us_with_an_unknown_requirement_is_420() -> None:
    refused = only(Stage().send(PHONE, request("OPTIONS", f"sip:{US}", headers="Require: teleport\r\n")))
    assert refused.line == "SIP/2.0 420 Bad Extension"


def test_options_to_us_learns_methods_types_and_extensions() -> None:
    told = only(Stage().send(PHONE, request("OPTIONS", f"sip:{US}"))).message
    assert {"INVITE", "REFER", "PRACK"} <= set(told.tokens("allow"))
    assert told.tokens("supported") == ["path", "outbound"]


def test_a_register_that_arrives_with_its_last_hop_has_arrived() -> None:
    text = register().replace("Max-Forwards: 70", "Max-Forwards: 0")
    assert only(Stage().send(PHONE, text)).line == "SIP/2.0 200 OK"


def test_reg_id_without_an_instance_is_ignored() -> None:
    contact = "<sip:alice@10.0.0.5:5060>;reg-id=1"
    stage = Stage()
    text = register(contact=contact, headers=f"{OUTBOUND}Path: <sip:192.0.2.1;lr>\r\n")
    assert only(stage.send(PHONE, text)).line == "SIP/2.0 200 OK"
    assert [one.reg_id for one in stage.proxy.rooms.location] == [None]


@pytest.mark.parametrize(
    ("further", "status"),
    [
        ("", "200"),
        ("Via: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bKzz\r\n", "439"),
        ("Via: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bKzz\r\nPath: <sip:192.0.2.1;lr;ob>\r\n", "200"),
        ("Via: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bKzz\r\nPath: <sip:192.0.2.1;lr>\r\n", "439"),
    ],
)
def test_outbound_needs_a_first_hop_that_does_it(further: str, status: str) -> None:
    text = register(contact=f"<sip:alice@10.0.0.5:5060>;reg-id=1;{INSTANCE}", headers=OUTBOUND + further)
    assert only(Stage().send(PHONE, text)).line.split(" ")[1] == status
