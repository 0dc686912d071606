"""Calls that outlive the proxy: their dialogs route by token, their next offer goes through the relay again."""

from __future__ import annotations

from typing import Any

import pytest

from nattrav.config.sip import SipSection
from tests.proxy.playbook import GATEWAY, OTHER, PHONE, US, Arrival, Stage, register, request, response, sdp

TALKING = {"from_": "<sip:alice@203.0.113.10>;tag=at", "to": "<sip:bob@203.0.113.10>;tag=bt"}
TALKING_BACK = {"from_": TALKING["to"], "to": TALKING["from_"]}


def relayed(message: Arrival) -> bool:
    return "203.0.113.20" in message.text and "10.0.0.5" not in message.text.partition("\r\n\r\n")[2]


def set_up(stage: Stage) -> str:
    """A call from the phone to the gateway; give the Route header fields of requests inside its dialog."""
    _, forwarded = stage.send(PHONE, request("INVITE", f"sip:+431@{US}", body=sdp("10.0.0.5")))
    (ok,) = stage.send(GATEWAY, response(forwarded, 200, body=sdp("203.0.113.80")))
    return "".join(f"Route: {value.text}\r\n" for value in ok.message.record_routes)


def from_phone(method: str, routes: str, **more: Any) -> str:
    return request(
        method, "sip:bob@203.0.113.80", branch=f"z9hG4bK{method}2", cseq=2, headers=routes, **TALKING, **more
    )


def from_gateway(method: str, routes: str, **more: Any) -> str:
    return request(
        method,
        "sip:alice@10.0.0.5:5060",
        via="203.0.113.80",
        branch=f"z9hG4bK{method}9",
        cseq=9,
        contact="<sip:bob@203.0.113.80>",
        headers=routes,
        **TALKING_BACK,
        **more,
    )


def restarted(**sip: Any) -> Stage:
    """Another process: the same key of the tokens, nothing else known."""
    return Stage(sip=SipSection.model_validate({"registrar": {"authentication": "none"}, **sip}))


def test_a_reinvite_of_the_phone_after_the_restart_goes_through_the_relay_and_so_does_its_answer() -> None:
    routes = set_up(Stage())
    stage = restarted()
    _, onward = stage.send(PHONE, from_phone("INVITE", routes, body=sdp("10.0.0.5")))
    assert (onward.to, relayed(onward)) == (GATEWAY, True)
    (ok,) = stage.send(GATEWAY, response(onward, 200, body=sdp("203.0.113.80")))
    assert (ok.to, relayed(ok)) == (PHONE, True)
    (_, offer), (_, answer) = stage.relay.asked
    assert (offer["call-id"], offer["from-tag"], offer["to-tag"]) == ("call1@10.0.0.5", "at", "bt")
    assert (answer["from-tag"], answer["to-tag"]) == ("at", "bt")
    assert "SIP-source-address" in offer["flags"], "the phone's NAT was not seen"
    assert "trust-address" in answer["flags"]


def test_a_reinvite_of_the_gateway_after_the_restart_goes_through_the_relay_and_so_does_its_answer() -> None:
    routes = set_up(Stage())
    stage = restarted()
    down = stage.send(GATEWAY, from_gateway("INVITE", routes, body=sdp("203.0.113.80")))[-1]
    assert (down.to, relayed(down)) == (PHONE, True)
    up = stage.send(PHONE, response(down, 200, tag=None, body=sdp("10.0.0.5")))[-1]
    assert (up.to, relayed(up)) == (GATEWAY, True)
    assert [command for command, _ in stage.relay.asked] == ["offer", "answer"]
    assert "trust-address" in stage.relay.asked[0][1]["flags"]


def test_a_reinvite_without_sdp_is_answered_through_the_relay_in_its_ack() -> None:
    routes = set_up(Stage())
    stage = restarted()
    _, onward = stage.send(PHONE, from_phone("INVITE", routes))
    (ok,) = stage.send(GATEWAY, response(onward, 200, body=sdp("203.0.113.80")))
    assert relayed(ok)
    ack = from_phone("ACK", routes, body=sdp("10.0.0.5"))
    assert relayed(stage.send(PHONE, ack)[0])
    assert stage.relay.commands == ["offer", "answer"]


def test_hold_and_resume_after_the_restart_are_one_call() -> None:
    routes = set_up(Stage())
    stage = restarted()
    for cseq in (2, 3):
        text = from_phone("INVITE", routes, body=sdp("10.0.0.5")).replace("INVITE2", f"INVITE{cseq}")
        onward = stage.send(PHONE, text.replace("CSeq: 2", f"CSeq: {cseq}"))[-1]
        stage.send(GATEWAY, response(onward, 200, body=sdp("203.0.113.80")))
    assert stage.relay.commands == ["offer", "answer"] * 2
    assert len(stage.proxy.rooms.calls) == 1


@pytest.mark.parametrize("side", ["phone", "gateway"])
def test_a_bye_after_the_restart_ends_the_relay_session_and_writes_one_record(side: str) -> None:
    routes = set_up(Stage())
    stage = restarted()
    sender, write = (PHONE, from_phone) if side == "phone" else (GATEWAY, from_gateway)
    (bye,) = stage.send(sender, write("BYE", routes))
    stage.send(bye.to, response(bye, 200, tag=None))
    assert stage.relay.commands == ["delete"]
    (record,) = stage.records
    assert (record["cause"], record["resumed"], record["answer"]) == ("bye", True, None)
    assert list(stage.proxy.rooms.calls.missed) == []


def test_a_straggler_of_a_call_that_ended_here_opens_no_second_record() -> None:
    stage = Stage()
    routes = set_up(stage)
    (bye,) = stage.send(PHONE, from_phone("BYE", routes))
    stage.send(GATEWAY, response(bye, 200, tag=None))
    (late,) = stage.send(GATEWAY, from_gateway("BYE", routes))
    stage.send(PHONE, response(late, 481, tag=None))
    assert len(stage.records) == 1


def test_a_call_between_two_phones_is_resumed_with_both_behind_their_nats() -> None:
    before = Stage()
    before.send(OTHER, register("bob", private="10.0.0.6:5060"))
    _, forwarded = before.send(PHONE, request("INVITE", f"sip:bob@{US}", body=sdp("10.0.0.5")))
    (ok,) = before.send(OTHER, response(forwarded, 200, contact="<sip:bob@10.0.0.6:5060>", body=sdp("10.0.0.6")))
    routes = "".join(f"Route: {value.text}\r\n" for value in reversed(ok.message.record_routes))
    stage = restarted()
    onward = stage.send(PHONE, from_phone("INVITE", routes, body=sdp("10.0.0.5")))[-1]
    assert (onward.to, relayed(onward)) == (OTHER, True)
    (call,) = stage.proxy.rooms.calls
    assert all(call.access.values())


def test_where_no_relay_is_wanted_none_is_asked() -> None:
    routes = set_up(Stage())
    stage = restarted(relay="never")
    onward = stage.send(PHONE, from_phone("INVITE", routes, body=sdp("10.0.0.5")))[-1]
    assert (onward.to, stage.relay.commands) == (GATEWAY, [])


def test_without_our_token_nothing_is_resumed() -> None:
    stage = restarted()
    stage.send(PHONE, from_phone("INVITE", "Route: <sip:203.0.113.10;lr>\r\n", body=sdp("10.0.0.5")))
    assert (len(stage.proxy.rooms.calls), stage.relay.commands) == (0, [])
