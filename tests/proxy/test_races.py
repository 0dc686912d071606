"""Forks, races and their ends: CANCEL, several answers, failures that come late, redirections in a circle."""

from __future__ import annotations

from typing import Any

import pytest

from nattrav.config.sip import SipSection, Upstream
from nattrav.net.address import TransportAddress
from nattrav.proxy.call_facts import CallState
from nattrav.proxy.effects import DropReason
from nattrav.proxy.listener import Listener
from nattrav.sip.transport.flow import Flow, Target, listener_id
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


def stage_with(**sip: Any) -> Stage:
    return Stage(sip=SipSection.model_validate({"registrar": {"authentication": "none"}, **sip}))


def forked(stage: Stage) -> tuple[Arrival, Arrival]:
    stage.send(PHONE, register("bob"))
    stage.send(OTHER, register("bob", private="10.0.0.6:5060", branch="z9hG4bK2", call_id="r2"))
    text = request("INVITE", f"sip:bob@{US}", via="203.0.113.80", body=sdp("203.0.113.80"))
    rings = {a.to: a for a in stage.send(GATEWAY, text) if a.line.startswith("INVITE")}
    return rings[PHONE], rings[OTHER]


def cancels(arrivals: list[Arrival]) -> list[Arrival]:
    return [a for a in arrivals if a.line.startswith("CANCEL")]


def finals(arrivals: list[Arrival], to: TransportAddress = GATEWAY) -> list[int]:
    codes = [int(a.line.split()[1]) for a in arrivals if a.line.startswith("SIP/2.0") and a.to == to]
    return [code for code in codes if code >= 200]


# ---- CANCEL and its Reason (RFC 3326)


def test_phones_that_lost_the_race_learn_that_the_call_was_answered_elsewhere() -> None:
    stage = Stage()
    one, two = forked(stage)
    stage.send(OTHER, response(two, 180))
    (cancel,) = cancels(stage.send(PHONE, response(one, 200, body=sdp("10.0.0.5"))))
    assert cancel.to == OTHER
    assert cancel.message.first("reason") == 'SIP;cause=200;text="Call completed elsewhere"'


def test_the_reason_of_the_callers_cancel_goes_on() -> None:
    stage = Stage()
    _, forwarded = stage.send(PHONE, request("INVITE", f"sip:+431@{US}"))
    stage.send(GATEWAY, response(forwarded, 180))
    reason = 'Q.850;cause=16;text="Terminated"'
    arrivals = stage.send(PHONE, request("CANCEL", f"sip:+431@{US}", headers=f"Reason: {reason}\r\n"))
    assert [cancel.message.first("reason") for cancel in cancels(arrivals)] == [reason]


def test_a_6xx_says_so_to_the_others() -> None:
    stage = Stage()
    one, two = forked(stage)
    stage.send(OTHER, response(two, 180))
    assert cancels(stage.send(PHONE, response(one, 603)))[0].message.first("reason") == "SIP;cause=603"


def test_a_cancel_while_the_relay_is_asked_ends_the_call_without_any_invite() -> None:
    stage = Stage()
    stage.held = []
    stage.send(PHONE, request("INVITE", f"sip:+431@{US}", body=sdp("10.0.0.5")))
    stage.send(PHONE, request("CANCEL", f"sip:+431@{US}"))
    arrivals = stage.relay_answers()
    assert [a.line for a in arrivals] == ["SIP/2.0 487 Request Terminated"]


# ---- answers


def test_a_2xx_with_the_sdp_of_a_183_waits_for_the_relay_and_not_for_its_retransmission() -> None:
    stage = Stage()
    *_, forwarded = stage.send(PHONE, request("INVITE", f"sip:+431@{US}", body=sdp("10.0.0.5")))
    stage.held = []
    assert stage.send(GATEWAY, response(forwarded, 183, body=sdp("203.0.113.80"))) == []
    assert stage.send(GATEWAY, response(forwarded, 200, body=sdp("203.0.113.80"))) == []
    arrivals = stage.relay_answers()
    assert [a.line for a in arrivals] == ["SIP/2.0 183 Whatever", "SIP/2.0 200 Whatever"]
    assert arrivals[0].message.body == arrivals[1].message.body


def test_a_2xx_passes_when_the_relay_did_not_answer_for_its_183() -> None:
    stage = Stage()
    *_, forwarded = stage.send(PHONE, request("INVITE", f"sip:+431@{US}", body=sdp("10.0.0.5")))
    stage.relay.reply = lambda command, arguments: None  # type: ignore[method-assign]
    stage.send(GATEWAY, response(forwarded, 183, body=sdp("203.0.113.80")))
    arrivals = stage.send(GATEWAY, response(forwarded, 200, body=sdp("203.0.113.80")))
    assert [a.line for a in arrivals] == ["SIP/2.0 200 Whatever"]


def test_a_2xx_of_a_fork_that_comes_behind_a_failure_passes() -> None:
    stage = Stage()
    one, two = forked(stage)
    stage.send(PHONE, response(one, 180))
    stage.send(OTHER, response(two, 180))
    stage.send(GATEWAY, request("CANCEL", f"sip:bob@{US}", via="203.0.113.80"))
    stage.send(PHONE, response(one, 487))
    stage.wait(33)
    assert len(stage.proxy.rooms.calls) == 0
    server = next(iter(stage.proxy.parts.transactions.servers.values()))
    server.respond(200, b"SIP/2.0 200 OK\r\n\r\n", stage.now)
    effects = stage.proxy.take_effects()
    assert [getattr(effect, "data", b"")[:15] for effect in effects] == [b"SIP/2.0 200 OK\r"]


def test_two_phones_answer_and_the_bye_of_one_dialog_leaves_the_other() -> None:
    stage = Stage()
    one, two = forked(stage)
    (ok,) = [a for a in stage.send(PHONE, response(one, 200, tag="t1", body=sdp("10.0.0.5"))) if a.to == GATEWAY]
    stage.send(OTHER, response(two, 200, tag="t2", body=sdp("10.0.0.6")))
    (call,) = stage.proxy.rooms.calls
    assert call.callee_tags == {"t1", "t2"}

    def bye(tag: str, arrival: Arrival) -> list[Arrival]:
        routes = "".join(f"Route: {value.text}\r\n" for value in reversed(arrival.message.record_routes))
        text = request(
            "BYE",
            "sip:bob@10.0.0.5",
            via="203.0.113.80",
            branch=f"z9hG4bK{tag}",
            to=f"<sip:bob@x>;tag={tag}",
            cseq=2,
            headers=routes,
        )
        (down,) = stage.send(GATEWAY, text)
        return stage.send(down.to, response(down, 200, tag=None))

    bye("t2", two)
    assert call.state is CallState.CONFIRMED
    (command, arguments) = stage.relay.asked[-1]
    assert (command, arguments["to-tag"], arguments["flags"]) == ("delete", "t2", ["to-tag"])
    bye("t1", ok)
    assert call.state is CallState.ENDED
    assert "to-tag" not in stage.relay.asked[-1][1]
    assert [record["cause"] for record in stage.records] == ["bye"]


def test_an_update_that_fails_in_an_early_dialog_does_not_end_the_call() -> None:
    stage = Stage()
    _, forwarded = stage.send(PHONE, request("INVITE", f"sip:+431@{US}", body=sdp("10.0.0.5")))
    (ring,) = stage.send(GATEWAY, response(forwarded, 183, body=sdp("203.0.113.80")))
    routes = "".join(f"Route: {value.text}\r\n" for value in reversed(ring.message.record_routes))
    update = request(
        "UPDATE", "sip:bob@203.0.113.80", branch="z9hG4bKu", to="<sip:bob@x>;tag=bt", cseq=2, headers=routes
    )
    (onward,) = stage.send(PHONE, update)
    stage.send(GATEWAY, response(onward, 481, tag=None))
    (call,) = stage.proxy.rooms.calls
    assert call.state is CallState.EARLY
    assert finals(stage.send(GATEWAY, response(forwarded, 200, body=sdp("203.0.113.80"))), PHONE) == [200]


@pytest.mark.parametrize("status", [491, 500, 504])
def test_glare_and_other_failures_of_an_update_pass_and_restore_the_media(status: int) -> None:
    stage = Stage()
    _, forwarded = stage.send(PHONE, request("INVITE", f"sip:+431@{US}", body=sdp("10.0.0.5")))
    (ok,) = stage.send(GATEWAY, response(forwarded, 200, body=sdp("203.0.113.80")))
    routes = "".join(f"Route: {value.text}\r\n" for value in reversed(ok.message.record_routes))
    update = request(
        "UPDATE",
        "sip:bob@203.0.113.80",
        branch="z9hG4bKu",
        to="<sip:bob@x>;tag=bt",
        cseq=2,
        headers=routes,
        body=sdp("10.0.0.5", 4444),
    )
    (onward,) = stage.send(PHONE, update)
    assert finals(stage.send(GATEWAY, response(onward, status, tag=None)), PHONE) == [status]
    assert stage.relay.commands == ["offer", "answer", "offer", "offer", "answer"]


# ---- redirection


def test_a_phone_that_redirects_to_itself_is_not_asked_again() -> None:
    stage = stage_with(recurse=True)
    stage.send(PHONE, register("bob"))
    down = stage.send(GATEWAY, request("INVITE", f"sip:bob@{US}", via="203.0.113.80"))[-1]
    arrivals = stage.send(PHONE, response(down, 302, headers=f"Contact: <sip:bob@{US}>\r\n"))
    assert [a for a in arrivals if a.line.startswith("INVITE")] == []
    assert finals(arrivals) == [302]


@pytest.mark.parametrize(("recurse", "expected"), [(False, []), (True, [OTHER])])
def test_r11_a_redirection_inside_our_domain_is_followed_only_when_wanted(
    recurse: bool, expected: list[TransportAddress]
) -> None:
    stage = stage_with(recurse=recurse)
    stage.send(PHONE, register("bob"))
    stage.send(OTHER, register("carol", private="10.0.0.6:5060", branch="z9hG4bK2", call_id="r2"))
    down = stage.send(GATEWAY, request("INVITE", f"sip:bob@{US}", via="203.0.113.80"))[-1]
    arrivals = stage.send(PHONE, response(down, 302, headers=f"Contact: <sip:carol@{US}>\r\n"))
    assert [a.to for a in arrivals if a.line.startswith("INVITE")] == expected
    assert finals(arrivals) == ([] if recurse else [302])


def test_r11_a_redirection_to_a_stranger_is_handed_back() -> None:
    stage = stage_with(recurse=True)
    stage.send(PHONE, register("bob"))
    down = stage.send(GATEWAY, request("INVITE", f"sip:bob@{US}", via="203.0.113.80"))[-1]
    arrivals = stage.send(PHONE, response(down, 302, headers="Contact: <sip:x@192.0.2.99>\r\n"))
    assert (finals(arrivals), [a for a in arrivals if a.line.startswith("INVITE")]) == ([302], [])


# ---- next hops that cannot be found


def test_a_destination_that_cannot_be_found_does_not_hold_up_the_others_failure() -> None:
    one = Upstream.model_validate({"name": "gw", "target": "gw.example.net"})
    stage = Stage(upstreams=[one])
    stage.names["sip:gw.example.net"] = []
    assert finals(stage.send(PHONE, request("INVITE", f"sip:+431@{US}")), PHONE) == [503]


# ---- T5: the way back over streams


def tcp_stage() -> tuple[Stage, Listener]:
    bound = TransportAddress(US, 5060)
    tcp = Listener(listener_id("tcp", bound), "tcp", bound, US, 5060)
    stage = Stage(listeners=[udp_listener(), tcp])
    return stage, tcp


def test_t5_an_answer_goes_back_on_the_connection_of_its_request() -> None:
    stage, tcp = tcp_stage()
    flow = Flow("tcp", tcp.id, tcp.bound, TransportAddress(GATEWAY.host, 40123), 3)
    stage.proxy.flow_opened(flow)
    stage.send(PHONE, register("bob"))
    down = stage.send(flow, request("INVITE", f"sip:bob@{US}", via="203.0.113.80", transport="TCP"))[-1]
    assert [a.flow for a in stage.send(PHONE, response(down, 486)) if a.line.startswith("SIP")] == [flow]


def test_t5_when_it_is_gone_a_new_one_is_opened_to_an_upstream_at_its_sent_by() -> None:
    stage, tcp = tcp_stage()
    flow = Flow("tcp", tcp.id, tcp.bound, TransportAddress(GATEWAY.host, 40123), 3)
    stage.proxy.flow_opened(flow)
    stage.send(PHONE, register("bob"))
    down = stage.send(flow, request("INVITE", f"sip:bob@{US}", via="203.0.113.80:5070", transport="TCP"))[-1]
    stage.proxy.flow_closed(flow, stage.now)
    (answer,) = [a for a in stage.send(PHONE, response(down, 486)) if a.line.startswith("SIP")]
    assert isinstance(answer.flow, Target)
    assert (answer.flow.transport, answer.to) == ("tcp", TransportAddress(GATEWAY.host, 5070))


def test_t5_and_none_is_opened_towards_a_phone() -> None:
    stage, tcp = tcp_stage()
    flow = Flow("tcp", tcp.id, tcp.bound, PHONE, 3)
    stage.proxy.flow_opened(flow)
    _, forwarded = stage.send(flow, request("INVITE", f"sip:+431@{US}", transport="TCP"))
    stage.proxy.flow_closed(flow, stage.now)
    arrivals = stage.send(GATEWAY, response(forwarded, 486))
    assert not any(isinstance(a.flow, Target) for a in arrivals)
    assert stage.drops == [DropReason.FLOW_GONE]


def test_ringing_behind_the_cancel_does_not_keep_the_call() -> None:
    stage = Stage()
    invite = stage.send(PHONE, request("INVITE", f"sip:+431@{US}", body=sdp("10.0.0.5")))[-1]
    stage.send(GATEWAY, response(invite, 180))
    stage.send(PHONE, request("CANCEL", f"sip:+431@{US}", contact=None))
    lines: list[str] = []
    for _ in range(4):
        lines += [one.line for one in stage.wait(10)]
        stage.send(GATEWAY, response(invite, 180))
    assert "SIP/2.0 487 Request Terminated" in lines
    assert sum(line.startswith("CANCEL") for line in lines) == 10  # the first went out at once, timer F ends it


def test_media_that_dies_in_many_calls_at_once_is_told_without_a_search_each() -> None:
    stage = Stage()
    for number in range(100):
        text = request("INVITE", f"sip:+431@{US}", call_id=f"c{number}", branch=f"z9hG4bK{number}")
        stage.send(PHONE, text)
    calls = stage.proxy.rooms.calls
    index = []
    for number in range(100):
        (call,) = calls.of_session(f"c{number}")
        index.append(id(calls._by_session))
        calls.end(call, "media_timeout", stage.now)
        assert calls.of_session(f"c{number}") == []
    assert len(set(index)) == 1
    stage.send(PHONE, request("INVITE", f"sip:+431@{US}", call_id="later", branch="z9hG4bKlater"))
    assert len(calls.of_session("later")) == 1
