"""N4: phones whose NAT gives them another address, in mid registration and in mid dialog."""

from __future__ import annotations

from typing import Any

import pytest

from nattrav.net.address import TransportAddress
from nattrav.proxy.call_facts import Party
from tests.proxy.playbook import GATEWAY, OTHER, PHONE, US, Stage, register, request, response, sdp

MOVED = TransportAddress(PHONE.host, 50001)
ELSEWHERE = TransportAddress("192.0.2.77", 61000)
TAGS = {"from_": "<sip:alice@203.0.113.10>;tag=at", "to": "<sip:bob@203.0.113.10>;tag=bt"}


def talking() -> tuple[Stage, str]:
    stage = Stage()
    _, forwarded = stage.send(PHONE, request("INVITE", f"sip:+431@{US}", body=sdp("10.0.0.5")))
    (ok,) = stage.send(GATEWAY, response(forwarded, 200, body=sdp("203.0.113.80")))
    return stage, "".join(f"Route: {value.text}\r\n" for value in ok.message.record_routes)


def inside(method: str, routes: str, cseq: int = 2, **more: Any) -> str:
    settings: dict[str, Any] = {**TAGS, "branch": f"z9hG4bK{method}{cseq}", **more}
    return request(method, "sip:bob@203.0.113.80", cseq=cseq, headers=routes, **settings)


def bye_of_gateway(routes: str) -> str:
    return request(
        "BYE",
        "sip:alice@10.0.0.5:5060",
        via="203.0.113.80",
        branch="z9hG4bKgw",
        from_=TAGS["to"],
        to=TAGS["from_"],
        cseq=7,
        headers=routes,
    )


@pytest.mark.parametrize("source", [MOVED, ELSEWHERE])
def test_a_dialog_follows_a_valid_request_from_a_new_source(source: TransportAddress) -> None:
    stage, routes = talking()
    (onward,) = stage.send(source, inside("INFO", routes))
    assert onward.to == GATEWAY
    (call,) = stage.proxy.rooms.calls
    assert "source_moved" in call.nat[Party.CALLER].names
    assert [log.event for log in stage.logs if log.event == "source_moved"] == ["source_moved"]
    assert stage.proxy.parts.take_counts()[("nattrav_sip_nat_detections_total", ("source_moved",))] == 1
    (down,) = stage.send(GATEWAY, bye_of_gateway(routes))
    assert down.to == source


def test_a_dialog_follows_twice() -> None:
    stage, routes = talking()
    stage.send(MOVED, inside("INFO", routes, 2))
    stage.send(ELSEWHERE, inside("INFO", routes, 3))
    assert stage.send(GATEWAY, bye_of_gateway(routes))[0].to == ELSEWHERE


@pytest.mark.parametrize(
    "wrong",
    [
        {"cseq": 1},
        {"from_": "<sip:alice@203.0.113.10>;tag=other"},
        {"to": "<sip:bob@203.0.113.10>;tag=other"},
        {"call_id": "another"},
    ],
    ids=["old CSeq", "other From tag", "other To tag", "other Call-ID"],
)
def test_a_dialog_does_not_follow_what_is_no_valid_request_of_it(wrong: dict[str, Any]) -> None:
    stage, routes = talking()
    stage.send(ELSEWHERE, inside("INFO", routes, **wrong))
    assert stage.send(GATEWAY, bye_of_gateway(routes))[0].to == PHONE


def test_the_ack_of_a_reinvite_reaches_a_callee_that_moved() -> None:
    stage = Stage()
    stage.send(OTHER, register("bob", private="10.0.0.6:5060"))
    _, forwarded = stage.send(PHONE, request("INVITE", f"sip:bob@{US}", body=sdp("10.0.0.5")))
    (ok,) = stage.send(OTHER, response(forwarded, 200, contact="<sip:bob@10.0.0.6:5060>", body=sdp("10.0.0.6")))
    values = [value.text for value in ok.message.record_routes]
    back = "".join(f"Route: {value}\r\n" for value in values)
    there = "".join(f"Route: {value}\r\n" for value in reversed(values))
    info = request(
        "INFO", "sip:alice@10.0.0.5", branch="z9hG4bKi", from_=TAGS["to"], to=TAGS["from_"], cseq=5, headers=back
    )
    new = TransportAddress(OTHER.host, 55555)
    assert stage.send(new, info)[0].to == PHONE
    (ack,) = stage.send(PHONE, inside("ACK", there, 1))
    assert ack.to == new


def test_after_a_restart_a_request_from_another_port_of_the_phones_nat_still_goes_out() -> None:
    _, routes = talking()
    stage = Stage()
    assert stage.send(MOVED, inside("BYE", routes))[0].to == GATEWAY


def test_a_binding_that_is_refreshed_from_elsewhere_says_so() -> None:
    stage = Stage()
    stage.send(PHONE, register())
    (binding,) = stage.proxy.rooms.location
    assert "source_moved" not in binding.tests
    stage.send(MOVED, register(cseq=2, branch="z9hG4bKr2"))
    (binding,) = stage.proxy.rooms.location
    assert (binding.flow.remote, binding.tests[-1]) == (MOVED, "source_moved")
    assert [log.facts["before"] for log in stage.logs if log.event == "source_moved"]
    stage.send(MOVED, register(cseq=3, branch="z9hG4bKr3"))
    (binding,) = stage.proxy.rooms.location
    assert "source_moved" not in binding.tests


def test_our_byes_count_on_from_the_last_cseq_of_the_side_they_speak_for() -> None:
    stage, routes = talking()
    (onward,) = stage.send(PHONE, inside("INFO", routes, 41))
    stage.send(GATEWAY, response(onward, 200, tag=None))
    byes = stage._carry_out(stage.proxy.kill(list(stage.proxy.rooms.calls), stage.now))
    numbers = {arrival.to: arrival.message.cseq.number for arrival in byes if arrival.line.startswith("BYE")}
    assert numbers == {GATEWAY: 42, PHONE: 1}


def test_when_both_phones_move_at_once_the_first_request_follows_the_second_phone() -> None:
    stage = Stage()
    stage.send(OTHER, register("bob", private="10.0.0.6:5060", branch="z9hG4bKr", call_id="r2"))
    invite = stage.send(PHONE, request("INVITE", f"sip:bob@{US}", body=sdp("10.0.0.5")))[-1]
    ok = stage.send(OTHER, response(invite, 200, contact="<sip:bob@10.0.0.6:5060>", body=sdp("10.0.0.6")))[-1]
    entries = [value.text for value in ok.message.record_routes]
    there, back = ("".join(f"Route: {one}\r\n" for one in order) for order in (reversed(entries), entries))
    bob_moved = TransportAddress(OTHER.host, 50009)
    first = request(
        "INVITE", "sip:bob@10.0.0.6:5060", branch="z9hG4bKa2", cseq=2, headers=there, body=sdp("10.0.0.5", 4002), **TAGS
    )
    assert stage.send(MOVED, first)[-1].to == OTHER
    second = request(
        "INVITE",
        "sip:alice@10.0.0.5:5060",
        via="10.0.0.6:5060",
        branch="z9hG4bKb2",
        cseq=7,
        from_=TAGS["to"],
        to=TAGS["from_"],
        headers=back,
        body=sdp("10.0.0.6", 4102),
    )
    lines = [(one.line.split(" ")[0], one.to) for one in stage.send(bob_moved, second)]
    assert ("INVITE", bob_moved) in lines
    assert ("INVITE", MOVED) in lines
    assert {one.to for one in stage.wait(2) if one.line.startswith("INVITE")} <= {bob_moved, MOVED}
