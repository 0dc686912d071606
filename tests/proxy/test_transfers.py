"""Transfers: the Contact that a REFER names leads nowhere from where it is asked for."""

from __future__ import annotations

from nattrav.config.sip import SipSection
from nattrav.net.address import TransportAddress
from tests.proxy.playbook import OTHER, PHONE, US, Arrival, Stage, register, request, response, sdp

CAROL = TransportAddress("198.51.100.20", 45000)
STRANGER = TransportAddress("192.0.2.66", 5060)
INSIDE = "192.168.1.7:5060"


def in_a_call(contact: str) -> Stage:
    """Alice talks to Bob, whose Contact is an address of his inside."""
    stage = Stage()
    stage.send(OTHER, register("bob", private=INSIDE, branch="z9hG4bKb", call_id="rb", contact=f"<{contact}>"))
    invite = stage.send(PHONE, request("INVITE", f"sip:bob@{US}", body=sdp("10.0.0.5")))[-1]
    assert invite.to == OTHER
    stage.send(OTHER, response(invite, 200, contact=f"<{contact}>", body=sdp("192.168.1.7")))
    return stage


def asks(stage: Stage, target: str, *, replaces: str = "", source: TransportAddress = CAROL) -> Arrival:
    headers = f"Replaces: {replaces}\r\n" if replaces else ""
    text = request(
        "INVITE",
        target,
        via="10.9.9.9",
        branch="z9hG4bKtransfer",
        call_id="transferred",
        from_=f"<sip:carol@{US}>;tag=ct",
        to=f"<{target}>",
        headers=headers,
        body=sdp("10.9.9.9"),
    )
    return stage.send(source, text)[-1]


def test_who_replaces_a_dialog_reaches_the_phone_that_has_it() -> None:
    contact = f"sip:xyz@{INSIDE}"
    invite = asks(in_a_call(contact), contact, replaces="call1@10.0.0.5;to-tag=bt;from-tag=at")
    assert invite.to == OTHER
    assert invite.line == f"INVITE {contact} SIP/2.0"


def test_the_caller_of_a_dialog_can_be_asked_for_too() -> None:
    invite = asks(
        in_a_call(f"sip:xyz@{INSIDE}"), "sip:alice@10.0.0.5:5060", replaces="call1@10.0.0.5;to-tag=at;from-tag=bt"
    )
    assert invite.to == PHONE


def test_a_registered_contact_is_found_by_its_user() -> None:
    assert asks(in_a_call(f"sip:bob@{INSIDE}"), f"sip:bob@{INSIDE}").to == OTHER


def test_a_call_that_nobody_knows_replaces_nothing() -> None:
    stage = in_a_call(f"sip:xyz@{INSIDE}")
    assert asks(stage, f"sip:xyz@{INSIDE}", replaces="other@10.0.0.5;to-tag=bt;from-tag=at").to != OTHER


def test_a_stranger_reaches_no_phone_by_its_contact() -> None:
    stage = in_a_call(f"sip:bob@{INSIDE}")
    stage.proxy.follow(
        type(stage.proxy.parts.settings)(SipSection.model_validate({"registrar": {"authentication": "auto"}})),
        stage.now,
    )
    refused = asks(stage, f"sip:bob@{INSIDE}", replaces="call1@10.0.0.5;to-tag=bt;from-tag=at", source=STRANGER)
    assert refused.to == STRANGER
    assert refused.line == "SIP/2.0 403 Forbidden"
