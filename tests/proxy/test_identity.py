"""Asserted identities (RFC 3325): phones assert nothing, and learn nothing that is private."""

from __future__ import annotations

import pytest

from nattrav.config.sip import SipSection
from tests.proxy.playbook import GATEWAY, PHONE, US, Stage, register, request, response

ASSERTED = "P-Asserted-Identity: <sip:boss@example.org>\r\nRemote-Party-ID: <sip:boss@example.org>;party=calling\r\n"
PRIVATE = "Privacy: header; id\r\n"


def names(stage: Stage, headers: str, *, from_phone: bool) -> set[str]:
    """Which identities a request still has where it arrives."""
    stage.send(PHONE, register())
    if from_phone:
        arrived = stage.send(PHONE, request("INVITE", f"sip:+431@{US}", headers=headers))[-1]
    else:
        arrived = stage.send(GATEWAY, request("INVITE", f"sip:alice@{US}", via="203.0.113.80", headers=headers))[-1]
    return {"p-asserted-identity", "remote-party-id"} & set(arrived.message.names)


def test_what_a_phone_asserts_ends_here() -> None:
    assert names(Stage(), ASSERTED, from_phone=True) == set()


def test_what_a_gateway_asserts_reaches_the_phone() -> None:
    assert len(names(Stage(), ASSERTED, from_phone=False)) == 2
    assert len(names(Stage(), ASSERTED + "Privacy: none\r\n", from_phone=False)) == 2


@pytest.mark.parametrize("privacy", [PRIVATE, "privacy: ID\r\n", "Privacy: user\r\n"])
def test_what_is_to_be_private_does_not(privacy: str) -> None:
    assert names(Stage(), ASSERTED + privacy, from_phone=False) == set()


def test_an_operator_may_trust_his_phones() -> None:
    sip = SipSection.model_validate({"registrar": {"authentication": "none"}, "guard_identity": False})
    assert len(names(Stage(sip=sip), ASSERTED, from_phone=True)) == 2


def test_the_answer_of_a_phone_asserts_nothing_either() -> None:
    stage = Stage()
    stage.send(PHONE, register())
    down = stage.send(GATEWAY, request("INVITE", f"sip:alice@{US}", via="203.0.113.80"))[-1]
    (ok,) = stage.send(PHONE, response(down, 200, headers=ASSERTED))
    assert not ok.message.has("p-asserted-identity")
    _, out = stage.send(PHONE, request("INVITE", f"sip:+431@{US}", branch="z9hG4bK2", call_id="2"))
    (ok,) = stage.send(GATEWAY, response(out, 200, headers=ASSERTED))
    assert ok.message.has("p-asserted-identity")


def test_a_phone_behind_another_edge_registers_through_it() -> None:
    stage = Stage()
    instance = ';reg-id=1;+sip.instance="<urn:uuid:1>"'
    text = register(
        private="203.0.113.80:5060",
        contact=f"<sip:alice@10.9.9.9>{instance}",
        headers="Supported: path, outbound\r\nPath: <sip:TOKEN@203.0.113.80;lr;ob>\r\n",
    )
    (ok,) = stage.send(GATEWAY, text)
    assert (ok.line, ok.message.paths[0].text) == ("SIP/2.0 200 OK", "<sip:TOKEN@203.0.113.80;lr;ob>")
    down = stage.send(PHONE, request("INVITE", f"sip:alice@{US}"))[-1]
    assert (down.to, down.line) == (GATEWAY, "INVITE sip:alice@10.9.9.9 SIP/2.0")
    assert down.message.all("route") == ["<sip:TOKEN@203.0.113.80;lr;ob>"]


def test_outbound_through_a_first_hop_that_does_not_know_it_is_439() -> None:
    text = register(
        private="203.0.113.80:5060",
        contact='<sip:alice@10.9.9.9>;reg-id=1;+sip.instance="<urn:uuid:1>"',
        headers="Supported: path, outbound\r\nPath: <sip:203.0.113.80;lr>\r\n",
    )
    (refused,) = Stage().send(GATEWAY, text)
    assert refused.line == "SIP/2.0 439 First Hop Lacks Outbound Support"
