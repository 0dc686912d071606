"""Responses and requests that did not arrive: other ways by the DNS of sent-by (RFC 3263 §5), fail-over at once."""

from __future__ import annotations

from typing import Any

import pytest

from nattrav.config.sip import SipSection, Upstream
from nattrav.net.address import TransportAddress
from nattrav.proxy.listener import Listener
from nattrav.sip.transport.flow import Flow, Target, Undelivered, listener_id
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

SECOND = TransportAddress("203.0.113.81", 5062)
THIRD = TransportAddress("203.0.113.82", 5062)


def stage(**more: Any) -> Stage:
    bound = TransportAddress(US, 5060)
    sip = SipSection.model_validate({"registrar": {"authentication": "none"}})
    made = Stage(
        sip=sip, listeners=[udp_listener(), Listener(listener_id("tcp", bound), "tcp", bound, US, 5060)], **more
    )
    made.send(PHONE, register("alice"))
    return made


def calls(stage: Stage, source: TransportAddress | Flow, via: str, transport: str = "UDP") -> Arrival:
    text = request(
        "INVITE",
        f"sip:alice@{US}",
        via=via,
        branch="z9hG4bKcore1",
        from_="<sip:gw@core.example.net>;tag=gt",
        to=f"<sip:alice@{US}>",
        contact="<sip:gw@core.example.net>",
        body=sdp("203.0.113.80"),
        transport=transport,
    )
    return stage.send(source, text)[-1]


def lost(stage: Stage, arrival: Arrival, *, whole: bool = True) -> list[Arrival]:
    data = arrival.data if whole else arrival.data[:400]
    return stage._carry_out(stage.proxy.undelivered(Undelivered(arrival.flow, data, whole), stage.now))


def test_a_response_whose_connection_is_gone_and_comes_not_back_goes_to_the_next_target_of_sent_by() -> None:
    staged = stage()
    staged.names["sip:core.example.net;transport=tcp"] = [
        ("tcp", (GATEWAY.host, 5060), "core.example.net"),
        ("tcp", (SECOND.host, SECOND.port), "core.example.net"),
        ("tcp", (THIRD.host, THIRD.port), "core.example.net"),
    ]
    flow = staged.flow(TransportAddress(GATEWAY.host, 41000), "tcp", 3)
    staged.proxy.flow_opened(flow)
    invite = calls(staged, flow, "core.example.net", "TCP")
    staged._carry_out(staged.proxy.flow_closed(flow, staged.now))
    (first,) = staged.send(PHONE, response(invite, 486))[:1]
    assert first.flow == Target("tcp", GATEWAY, "core.example.net")
    (second,) = lost(staged, first)
    assert second.flow == Target("tcp", SECOND, "core.example.net")
    assert second.data == first.data
    (third,) = lost(staged, second)
    assert third.to == THIRD
    assert lost(staged, third) == []


def test_a_response_that_icmp_sends_back_goes_by_the_next_target_also_when_it_is_repeated() -> None:
    staged = stage()
    staged.names["sip:core.example.net;transport=udp"] = [("udp", (SECOND.host, SECOND.port), None)]
    invite = calls(staged, GATEWAY, "core.example.net")
    busy = next(one for one in staged.send(PHONE, response(invite, 486)) if one.to == GATEWAY)
    (again,) = lost(staged, busy, whole=False)
    assert (again.to, again.data) == (SECOND, busy.data)
    assert {one.to for one in staged.wait(2)} == {SECOND}


def test_a_200_that_icmp_sends_back_is_repeated_by_the_phone_and_then_goes_by_the_next_target() -> None:
    staged = stage()
    staged.names["sip:core.example.net;transport=udp"] = [("udp", (SECOND.host, SECOND.port), None)]
    invite = calls(staged, GATEWAY, "core.example.net")
    answer = response(invite, 200, contact="<sip:alice@10.0.0.5:5060>", body=sdp("10.0.0.5"))
    (accepted,) = staged.send(PHONE, answer)
    assert lost(staged, accepted, whole=False) == []
    (again,) = staged.send(PHONE, answer)
    assert again.to == SECOND


def test_a_sent_by_of_a_phone_is_not_followed() -> None:
    staged = stage(upstreams=[])
    staged.any_name = [("udp", ("192.0.2.66", 5060), None)]
    refused = staged.send(OTHER, request("INVITE", f"sip:nobody@{US}", via="victim.example.net", branch="z9hG4bKx"))[-1]
    assert lost(staged, refused) == []


def test_tries_are_bounded() -> None:
    staged = stage()
    many = [("udp", (f"203.0.113.{number}", 5062), None) for number in range(100, 120)]
    staged.names["sip:core.example.net;transport=udp"] = list(many)
    invite = calls(staged, GATEWAY, "core.example.net")
    arrivals = [one for one in staged.send(PHONE, response(invite, 486)) if one.to == GATEWAY]
    tried = 0
    while arrivals:
        arrivals = lost(staged, arrivals[0])
        tried += 1
    assert tried == 5


def test_a_request_that_icmp_sends_back_fails_over_at_once() -> None:
    gateways = [
        Upstream.model_validate({"name": "a", "target": str(GATEWAY)}),
        Upstream.model_validate({"name": "b", "target": str(SECOND), "priority": 1}),
    ]
    staged = stage(upstreams=gateways)
    sent = staged.send(OTHER, request("INVITE", f"sip:+431@{US}", body=sdp("10.0.0.5")))[-1]
    assert sent.to == GATEWAY
    again = lost(staged, sent, whole=False)[-1]
    assert again.to == SECOND
    assert again.message.via.branch != sent.message.via.branch


def test_an_icmp_error_from_somewhere_else_or_behind_an_answer_changes_nothing() -> None:
    staged = stage()
    sent = staged.send(OTHER, request("INVITE", f"sip:+431@{US}", body=sdp("10.0.0.5")))[-1]
    elsewhere = Arrival(sent.flow._replace(remote=SECOND), sent.message, sent.data)
    assert lost(staged, elsewhere) == []
    staged.send(GATEWAY, response(sent, 180))
    assert lost(staged, sent) == []


@pytest.mark.parametrize("data", [b"", b"SIP/2.0 200", b"INVITE sip:a SIP/2.0\r\nVia: x\r\n", b"\xff" * 50])
def test_what_icmp_repeats_may_be_anything(data: bytes) -> None:
    staged = stage()
    assert staged.proxy.undelivered(Undelivered(staged.flow(GATEWAY), data, False), staged.now) == []
