"""The proxy rules T, R, S and N, one test or more each, named after their ids."""

from __future__ import annotations

from typing import Any

import pytest

from nattrav.config.sip import SipSection, Upstream
from nattrav.net.address import TransportAddress
from nattrav.proxy.effects import DropReason
from nattrav.proxy.listener import Listener
from nattrav.sip.transport.flow import Flow, listener_id
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

OPEN = {"registrar": {"authentication": "none"}}


def stage_with(**sip: Any) -> Stage:
    return Stage(sip=SipSection.model_validate({**OPEN, **sip}))


def only(arrivals: list[Arrival]) -> Arrival:
    assert len(arrivals) == 1, [a.line for a in arrivals]
    return arrivals[0]


def status(arrivals: list[Arrival]) -> list[int]:
    return [int(a.line.split()[1]) for a in arrivals if a.line.startswith("SIP/2.0")]


def tcp_listener(host: str = US) -> Listener:
    bound = TransportAddress(host, 5060)
    return Listener(listener_id("tcp", bound), "tcp", bound, host, 5060)


def bye_along(route: str) -> str:
    to, headers = "<sip:a@x>;tag=q", f"Route: {route}\r\n"
    return request("BYE", "sip:alice@10.0.0.5", via="203.0.113.80", branch="z9hG4bKb", to=to, headers=headers)


def invite(**more: Any) -> str:
    return request("INVITE", f"sip:+431@{US}", **more)


# ---- T: server transactions and responses


def test_t1_an_rfc_2543_client_without_a_branch_is_matched_by_its_header_fields() -> None:
    stage = Stage()
    text = invite(branch="old").replace(";branch=old", "")
    assert len(stage.send(PHONE, text)) == 2
    assert only(stage.send(PHONE, text)).line == "SIP/2.0 100 Trying"


def test_t2_an_invite_gets_its_100_before_anything_else() -> None:
    stage = Stage()
    stage.held = []
    assert only(stage.send(PHONE, invite(body=sdp("10.0.0.5")))).line == "SIP/2.0 100 Trying"
    assert only(stage.relay_answers()).line.startswith("INVITE")


@pytest.mark.parametrize(
    ("policy", "rport", "source", "via", "expected"),
    [
        ("auto", ";rport", ("198.51.100.7", 40001), "10.0.0.5:5060", 40001),
        ("auto", "", ("198.51.100.7", 40001), "10.0.0.5:5060", 40001),
        ("auto", "", ("198.51.100.7", 40001), "198.51.100.7:5062", 5062),
        ("auto", "", ("198.51.100.7", 40001), "198.51.100.7", 5060),
        ("always", "", ("198.51.100.7", 40001), "198.51.100.7:5062", 40001),
        ("never", "", ("198.51.100.7", 40001), "10.0.0.5:5062", 5062),
    ],
)
def test_t3_where_the_answer_goes(policy: str, rport: str, source: tuple[str, int], via: str, expected: int) -> None:
    stage = stage_with(force_rport=policy)
    text = request("OPTIONS", f"sip:{US}", via=via, rport=rport, contact=None)
    answer = only(stage.send(TransportAddress(*source), text))
    assert answer.to == TransportAddress("198.51.100.7", expected)


def test_t3_received_is_added_when_the_sent_by_is_a_name() -> None:
    stage = Stage()
    answer = only(stage.send(PHONE, request("OPTIONS", f"sip:{US}", via="phone.example", rport="", contact=None)))
    assert ";received=198.51.100.7" in answer.text


def test_t6_an_invite_after_its_2xx_is_absorbed_and_a_second_2xx_passes() -> None:
    stage = Stage()
    text = invite()
    _, forwarded = stage.send(PHONE, text)
    stage.send(GATEWAY, response(forwarded, 200))
    assert stage.send(PHONE, text) == []
    assert status(stage.send(GATEWAY, response(forwarded, 200, tag="other"))) == [200]


# ---- R: request path


def test_r1_max_forwards_0_is_483_and_an_options_for_us_is_answered() -> None:
    stage = Stage()
    assert status(stage.send(PHONE, invite(max_forwards=0))) == [483]
    text = request("OPTIONS", f"sip:{US}", branch="z9hG4bKo", max_forwards=0)
    assert status(stage.send(PHONE, text)) == [200]


def test_r1_an_unknown_proxy_require_is_420_with_its_tokens_and_require_is_not_ours() -> None:
    stage = Stage()
    refused = only(stage.send(PHONE, invite(headers="Proxy-Require: foo, bar\r\nRequire: baz\r\n")))
    assert (status([refused]), refused.message.first("unsupported")) == ([420], "foo, bar")


def test_r1_an_unknown_scheme_is_416() -> None:
    assert status(Stage().send(PHONE, request("INVITE", "soap.beep://192.0.2.103"))) == [416]


def test_r2_max_forwards_counts_down_and_is_added_when_missing() -> None:
    stage = Stage()
    assert stage.send(PHONE, invite(max_forwards=10))[-1].message.max_forwards == 9
    assert stage.send(PHONE, invite(max_forwards=None, branch="z9hG4bK2", call_id="2"))[-1].message.max_forwards == 70


def test_r3_our_own_topmost_routes_are_popped_and_the_next_one_is_followed() -> None:
    stage = Stage()
    text = request("INVITE", "sip:bob@203.0.113.99", headers=f"Route: <sip:{US};lr>, <sip:203.0.113.80;lr>\r\n")
    forwarded = stage.send(PHONE, text)[-1]
    assert forwarded.to == GATEWAY
    assert forwarded.message.all("route") == ["<sip:203.0.113.80;lr>"]


def test_r3_a_strict_next_hop_gets_its_uri_as_request_uri_and_ours_at_the_end() -> None:
    stage = Stage()
    text = request("INVITE", "sip:bob@203.0.113.99", headers=f"Route: <sip:{US};lr>\r\nRoute: <sip:203.0.113.80>\r\n")
    forwarded = stage.send(PHONE, text)[-1]
    assert forwarded.line == "INVITE sip:203.0.113.80 SIP/2.0"
    assert forwarded.message.all("route") == ["<sip:bob@203.0.113.99>"]
    assert forwarded.to == GATEWAY


def test_r3_a_strict_router_before_us_is_undone() -> None:
    stage = Stage()
    text = request("INVITE", f"sip:{US};lr", headers="Route: <sip:bob@203.0.113.80>\r\n")
    forwarded = stage.send(PHONE, text)[-1]
    assert forwarded.line == "INVITE sip:bob@203.0.113.80 SIP/2.0"
    assert not forwarded.message.has("route")


def test_r5_record_route_on_dialog_forming_requests_only() -> None:
    stage = Stage()
    for number, (method, expected) in enumerate(
        [
            ("INVITE", True),
            ("SUBSCRIBE", True),
            ("REFER", True),
            ("NOTIFY", True),
            ("MESSAGE", False),
            ("OPTIONS", False),
        ]
    ):
        text = request(method, f"sip:+431@{US}", branch=f"z9hG4bK{number}", call_id=f"c{number}")
        assert stage.send(PHONE, text)[-1].message.has("record-route") is expected, method


def test_r6_two_entries_when_the_transport_changes_and_both_are_popped_again() -> None:
    tcp = tcp_listener()
    stage = Stage(
        upstreams=[Upstream.model_validate({"name": "gw", "target": "sip:203.0.113.80;transport=tcp"})],
        listeners=[udp_listener(), tcp],
    )
    forwarded = stage.send(PHONE, invite())[-1]
    first, second = forwarded.message.record_routes
    assert (first.sip_uri.transport, first.sip_uri.user) == ("tcp", None)
    assert second.sip_uri.user is not None
    gateway = Flow("tcp", tcp.id, tcp.bound, GATEWAY, 7)
    ok = only(stage.send(gateway, response(forwarded, 200)))
    routes = "".join(f"Route: {value.text}\r\n" for value in ok.message.record_routes)
    bye = request(
        "BYE",
        "sip:alice@10.0.0.5:5060",
        via="203.0.113.80",
        transport="TCP",
        from_="<sip:bob@203.0.113.10>;tag=bt",
        to="<sip:alice@203.0.113.10>;tag=at",
        cseq=9,
        headers=routes,
    )
    down = only(stage.send(gateway, bye))
    assert down.to == PHONE
    assert not down.message.has("route")


def test_r7_a_request_that_comes_round_unchanged_is_482_and_a_spiral_passes() -> None:
    stage = stage_with(domains=["example.org"])
    forwarded = stage.send(PHONE, invite())[-1]
    looped = forwarded.text.replace(forwarded.line, f"INVITE sip:+431@{US} SIP/2.0").replace(
        "\r\nRecord-Route", "\r\nX-R"
    )
    looped = looped.replace("Via:", "Via: SIP/2.0/UDP 203.0.113.80;branch=z9hG4bKup\r\nVia:", 1)
    assert 482 in status(stage.send(GATEWAY, looped))
    spiral = looped.replace("sip:+431@", "sip:+432@", 1).replace("z9hG4bKup", "z9hG4bKup2")
    assert 482 not in status(stage.send(GATEWAY, spiral))


def test_r7_cancel_and_failure_ack_reuse_the_branch_of_their_invite() -> None:
    stage = Stage()
    _, forwarded = stage.send(PHONE, invite())
    stage.send(GATEWAY, response(forwarded, 180))
    cancel = [a for a in stage.send(PHONE, request("CANCEL", f"sip:+431@{US}")) if a.line.startswith("CANCEL")]
    ack = [a for a in stage.send(GATEWAY, response(forwarded, 487)) if a.line.startswith("ACK")]
    assert {only(cancel).message.via.branch, only(ack).message.via.branch} == {forwarded.message.via.branch}
    assert len(only(ack).message.vias) == 1


def test_r9_a_name_is_looked_up_and_its_second_address_tried_when_the_first_is_silent() -> None:
    stage = Stage(upstreams=[Upstream.model_validate({"name": "gw", "target": "gw.example.net"})])
    stage.names["sip:gw.example.net"] = [("udp", ("203.0.113.91", 5060), None), ("udp", ("203.0.113.92", 5060), None)]
    first = stage.send(PHONE, invite())[-1]
    assert first.to.host == "203.0.113.91"
    second = [a for a in stage.wait(6) if a.to.host == "203.0.113.92"]
    assert second[0].line.startswith("INVITE")
    assert second[0].message.via.branch != first.message.via.branch


def test_r10_bindings_of_equal_q_ring_together_and_lower_ones_later() -> None:
    stage = Stage()
    stage.send(PHONE, register("bob", contact="<sip:bob@10.0.0.5:5060>;q=0.9"))
    stage.send(OTHER, register("bob", branch="z9hG4bK2", call_id="r2", contact="<sip:bob@10.0.0.6:5060>;q=0.9"))
    third = TransportAddress("198.51.100.11", 7000)
    stage.send(third, register("bob", branch="z9hG4bK3", call_id="r3", contact="<sip:bob@10.0.0.7:5060>;q=0.1"))
    rings = [a for a in stage.send(GATEWAY, request("INVITE", f"sip:bob@{US}", via="203.0.113.80")) if a.to != GATEWAY]
    assert {a.to for a in rings} == {PHONE, OTHER}
    for ring in rings:
        arrivals = stage.send(ring.to, response(ring, 480))
    assert [a.to for a in arrivals if a.line.startswith("INVITE")] == [third]


def test_r12_only_our_own_credentials_are_removed() -> None:
    stage = Stage()
    text = invite(headers='Proxy-Authorization: Digest realm="elsewhere", username="x"\r\nX-Unknown: kept\r\n')
    forwarded = stage.send(PHONE, text)[-1]
    assert forwarded.message.has("proxy-authorization")
    assert forwarded.message.first("x-unknown") == "kept"


# ---- S: response path


def test_s1_100_is_not_forwarded_and_strays_are_dropped() -> None:
    stage = Stage()
    _, forwarded = stage.send(PHONE, invite())
    assert stage.send(GATEWAY, response(forwarded, 100)) == []
    stray = response(forwarded, 180).replace(str(forwarded.message.via.branch), "z9hG4bKnobody")
    assert stage.send(GATEWAY, stray) == []
    assert stage.drops == [DropReason.STRAY_RESPONSE]


def forked(stage: Stage) -> tuple[Arrival, Arrival]:
    stage.send(PHONE, register("bob"))
    stage.send(OTHER, register("bob", private="10.0.0.6:5060", branch="z9hG4bK2", call_id="r2"))
    arrivals = stage.send(GATEWAY, request("INVITE", f"sip:bob@{US}", via="203.0.113.80", body=sdp("203.0.113.80")))
    one, two = [a for a in arrivals if a.line.startswith("INVITE")]
    return (one, two) if one.to == PHONE else (two, one)


def finals(arrivals: list[Arrival]) -> list[int]:
    return [code for code in status([a for a in arrivals if a.to == GATEWAY]) if code >= 200]


@pytest.mark.parametrize(
    ("first", "second", "best"),
    [(486, 404, (486, 404)), (480, 401, (401,)), (503, 486, (486,)), (302, 486, (302,)), (486, 603, (603,))],
)
def test_s2_the_best_failure_goes_back(first: int, second: int, best: tuple[int, ...]) -> None:
    stage = Stage()
    one, two = forked(stage)
    stage.send(PHONE, response(one, 180))
    assert finals(stage.send(PHONE, response(one, first))) == []
    assert finals(stage.send(OTHER, response(two, second)))[0] in best


def test_s2_a_6xx_cancels_the_rest() -> None:
    stage = Stage()
    one, two = forked(stage)
    stage.send(OTHER, response(two, 180))
    arrivals = stage.send(PHONE, response(one, 603))
    assert [a.to for a in arrivals if a.line.startswith("CANCEL")] == [OTHER]
    assert finals(stage.send(OTHER, response(two, 487))) == [603]


def test_s2_challenges_of_all_branches_are_collected() -> None:
    stage = Stage()
    one, two = forked(stage)
    stage.send(PHONE, response(one, 401, headers='WWW-Authenticate: Digest realm="a", nonce="1"\r\n'))
    arrivals = stage.send(OTHER, response(two, 407, headers='Proxy-Authenticate: Digest realm="b", nonce="2"\r\n'))
    answer = next(a for a in arrivals if a.to == GATEWAY)
    assert answer.message.has("www-authenticate")
    assert answer.message.has("proxy-authenticate")


def test_s3_a_cancel_without_its_invite_is_481() -> None:
    assert status(Stage().send(PHONE, request("CANCEL", f"sip:+431@{US}"))) == [481]


def test_s3_a_cancel_before_any_provisional_waits_for_it() -> None:
    stage = Stage()
    _, forwarded = stage.send(PHONE, invite())
    assert status(stage.send(PHONE, request("CANCEL", f"sip:+431@{US}"))) == [200]
    assert [a.line.split()[0] for a in stage.send(GATEWAY, response(forwarded, 100))] == ["CANCEL"]


def test_s3_a_2xx_that_won_the_race_passes_and_its_media_stays() -> None:
    stage = Stage()
    _, forwarded = stage.send(PHONE, invite(body=sdp("10.0.0.5")))
    stage.send(GATEWAY, response(forwarded, 180))
    stage.send(PHONE, request("CANCEL", f"sip:+431@{US}"))
    assert 200 in status(stage.send(GATEWAY, response(forwarded, 200, body=sdp("203.0.113.80"))))
    assert "delete" not in stage.relay.commands
    assert len(stage.proxy.rooms.calls) == 1


def test_s3_nobody_answers_the_cancel_and_the_caller_gets_487() -> None:
    stage = Stage()
    _, forwarded = stage.send(PHONE, invite())
    stage.send(GATEWAY, response(forwarded, 180))
    stage.send(PHONE, request("CANCEL", f"sip:+431@{US}"))
    assert 487 in status(stage.wait(40))


def test_s4_the_ack_of_a_failure_is_absorbed_and_that_of_a_success_passes_once_each() -> None:
    stage = Stage()
    _, forwarded = stage.send(PHONE, invite())
    ok = only(stage.send(GATEWAY, response(forwarded, 200)))
    routes = "".join(f"Route: {value.text}\r\n" for value in reversed(ok.message.record_routes))
    ack = request("ACK", "sip:bob@203.0.113.80", branch="z9hG4bKack", to="<sip:bob@x>;tag=bt", headers=routes)
    first, again = only(stage.send(PHONE, ack)), only(stage.send(PHONE, ack))
    assert first.data == again.data


def test_s5_timer_c_cancels_what_rings_for_ever() -> None:
    stage = Stage()
    _, forwarded = stage.send(PHONE, invite())
    stage.send(GATEWAY, response(forwarded, 180))
    assert any(a.line.startswith("CANCEL") for a in stage.wait(186))


def test_s5_a_request_other_than_invite_never_gets_a_408() -> None:
    stage = Stage()
    stage.send(PHONE, request("MESSAGE", f"sip:+431@{US}"))
    arrivals = stage.wait(70)
    assert status(arrivals) == [100]
    assert len([a for a in arrivals if a.line.startswith("MESSAGE")]) == 10


def test_s7_a_transport_failure_is_the_503_of_its_branch() -> None:
    stage = Stage()
    _, forwarded = stage.send(PHONE, invite())
    arrivals = stage._carry_out(stage.proxy.unreachable(str(forwarded.message.via.branch), stage.now))
    assert status(arrivals) == [500]


def test_s8_every_2xx_of_a_fork_passes_with_its_own_tag() -> None:
    stage = Stage()
    one, two = forked(stage)
    first = [a for a in stage.send(PHONE, response(one, 200, tag="t1", body=sdp("10.0.0.5"))) if a.to == GATEWAY]
    second = [a for a in stage.send(OTHER, response(two, 200, tag="t2", body=sdp("10.0.0.6"))) if a.to == GATEWAY]
    assert [only(first).message.to.tag, only(second).message.to.tag] == ["t1", "t2"]


# ---- N: NAT


def test_n1_a_flow_that_is_gone_is_430_and_its_binding_with_it() -> None:
    tcp = tcp_listener()
    stage = Stage(listeners=[udp_listener(), tcp])
    flow = Flow("tcp", tcp.id, tcp.bound, PHONE, 5)
    stage.proxy.flow_opened(flow)
    stage.send(flow, register().replace("SIP/2.0/UDP", "SIP/2.0/TCP"))
    forwarded = stage.send(GATEWAY, request("INVITE", f"sip:alice@{US}", via="203.0.113.80"))[-1]
    assert forwarded.flow == flow
    route = forwarded.message.record_routes[0].text
    stage.proxy.flow_closed(flow, stage.now)
    assert len(stage.proxy.rooms.location) == 0
    bye = request(
        "BYE",
        "sip:alice@10.0.0.5",
        via="203.0.113.80",
        branch="z9hG4bKb",
        to="<sip:a@x>;tag=q",
        headers=f"Route: {route}\r\n",
    )
    assert status(stage.send(GATEWAY, bye)) == [430]


def test_n2_outbound_registrations_get_flow_timer() -> None:
    stage = Stage()
    contact = '<sip:alice@10.0.0.5:5060>;reg-id=1;+sip.instance="<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>"'
    ok = only(stage.send(PHONE, register(contact=contact, headers="Supported: path, outbound\r\n")))
    assert ok.message.first("flow-timer") == "25"
    assert "reg-id=1" in ok.text


def test_n4_a_retransmission_from_a_new_port_is_answered_there() -> None:
    stage = Stage()
    text = request("OPTIONS", f"sip:{US}", contact=None)
    stage.send(PHONE, text)
    moved = TransportAddress(PHONE.host, 50001)
    assert only(stage.send(moved, text)).to == moved


def test_n4_a_binding_moves_with_the_next_register_and_old_tokens_follow() -> None:
    stage = Stage()
    stage.send(PHONE, register())
    forwarded = stage.send(GATEWAY, request("INVITE", f"sip:alice@{US}", via="203.0.113.80"))[-1]
    route = forwarded.message.record_routes[0].text
    moved = TransportAddress(PHONE.host, 50001)
    stage.send(moved, register(cseq=2, branch="z9hG4bKr2"))
    bye = request(
        "BYE",
        "sip:alice@10.0.0.5",
        via="203.0.113.80",
        branch="z9hG4bKb",
        to="<sip:a@x>;tag=q",
        headers=f"Route: {route}\r\n",
    )
    assert only(stage.send(GATEWAY, bye)).to == moved


def test_n9_no_connection_is_ever_opened_towards_a_phone() -> None:
    tcp = tcp_listener()
    stage = Stage(listeners=[udp_listener(), tcp])
    flow = Flow("tcp", tcp.id, tcp.bound, PHONE, 5)
    stage.proxy.flow_opened(flow)
    stage.send(flow, register().replace("SIP/2.0/UDP", "SIP/2.0/TCP"))
    stage.proxy.parts.connections.clear()
    assert status(stage.send(GATEWAY, request("INVITE", f"sip:alice@{US}", via="203.0.113.80")))[-1] == 430


def test_n7_a_session_that_nobody_refreshes_ends_and_a_refreshed_one_goes_on() -> None:
    stage = Stage()
    _, forwarded = stage.send(PHONE, invite(body=sdp("10.0.0.5")))
    ok = only(
        stage.send(
            GATEWAY, response(forwarded, 200, headers="Session-Expires: 90;refresher=uac\r\n", body=sdp("203.0.113.80"))
        )
    )
    stage.wait(80)
    routes = "".join(f"Route: {value.text}\r\n" for value in reversed(ok.message.record_routes))
    update = request(
        "UPDATE", "sip:bob@203.0.113.80", branch="z9hG4bKu", to="<sip:bob@x>;tag=bt", cseq=2, headers=routes
    )
    again = only(stage.send(PHONE, update))
    stage.send(GATEWAY, response(again, 200, headers="Session-Expires: 90;refresher=uac\r\n"))
    stage.wait(100)
    assert len(stage.proxy.rooms.calls) == 1
    byes = [a.to for a in stage.wait(40) if a.line.startswith("BYE")]
    assert {PHONE, GATEWAY} <= set(byes)
    assert stage.records[0]["cause"] == "session_timer"
    assert stage.relay.commands[-1] == "delete"


def test_n7_a_refresh_without_an_interval_ends_the_session_timer() -> None:
    stage = Stage()
    _, forwarded = stage.send(PHONE, invite(body=sdp("10.0.0.5")))
    timed = response(forwarded, 200, headers="Session-Expires: 90;refresher=uac\r\n", body=sdp("203.0.113.80"))
    ok = only(stage.send(GATEWAY, timed))
    routes = "".join(f"Route: {value.text}\r\n" for value in reversed(ok.message.record_routes))
    update = request(
        "UPDATE", "sip:bob@203.0.113.80", branch="z9hG4bKu", to="<sip:bob@x>;tag=bt", cseq=2, headers=routes
    )
    stage.send(GATEWAY, response(only(stage.send(PHONE, update)), 200))
    assert not [a.line for a in stage.wait(1000) if a.line.startswith("BYE")]
    assert len(stage.proxy.rooms.calls) == 1


def large() -> str:
    return invite(headers=f"X-Filler: {'x' * 1300}\r\n")


def test_r8_a_large_request_goes_over_tcp_and_back_to_udp_when_nobody_answers_there() -> None:
    stage = Stage(listeners=[udp_listener(), tcp_listener()])
    first = stage.send(PHONE, large())[-1]
    assert (first.flow.transport, first.to) == ("tcp", GATEWAY)
    assert "SIP/2.0/TCP" in first.message.via.text
    (second,) = stage._carry_out(stage.proxy.unreachable(str(first.message.via.branch), stage.now))
    assert (second.flow.transport, second.to) == ("udp", GATEWAY)
    assert [log.facts["sent_by"] for log in stage.logs if log.event == "over_mtu"] == ["tcp", "no TCP there"]
    assert all(log.facts["call_id"] for log in stage.logs if log.event == "over_mtu")
    assert stage.proxy.rooms.upstreams.all[0].usable(stage.now)
    third = stage.send(PHONE, large().replace("z9hG4bKa1", "z9hG4bKa2").replace("call1", "call2"))[-1]
    assert third.flow.transport == "udp"


def test_r8_towards_a_phone_a_large_request_stays_on_its_flow() -> None:
    stage = Stage(listeners=[udp_listener(), tcp_listener()])
    stage.send(PHONE, register())
    text = request("INVITE", f"sip:alice@{US}", via="203.0.113.80", headers=f"X-Filler: {'x' * 1300}\r\n")
    assert stage.send(GATEWAY, text)[-1].to == PHONE


def test_t3_a_phone_that_sends_high_and_listens_on_5060_is_reached_there_and_known_by_its_host() -> None:
    stage = Stage()
    high = TransportAddress("198.51.100.7", 49999)
    listening = TransportAddress("198.51.100.7", 5060)
    cisco = {"via": "198.51.100.7:5060", "rport": "", "headers": "User-Agent: Cisco-CP7970G/8.5\r\n"}
    text = register(private="198.51.100.7:5060").replace(";rport", "")
    assert only(stage.send(high, text)).to == listening
    assert stage.send(GATEWAY, request("INVITE", f"sip:alice@{US}", via="203.0.113.80"))[-1].to == listening
    text = invite(contact="<sip:alice@198.51.100.7:5060>", call_id="c2", branch="z9hG4bK2", **cisco)
    forwarded = stage.send(high, text)[-1]
    ok = only(stage.send(GATEWAY, response(forwarded, 200)))
    assert ok.to == listening
    routes = "".join(f"Route: {value.text}\r\n" for value in ok.message.record_routes)
    fresh = Stage()
    to = "<sip:bob@x>;tag=bt"
    bye = request("BYE", "sip:bob@203.0.113.80", via="198.51.100.7:5060", rport="", to=to, call_id="c2", headers=routes)
    assert fresh.send(high, bye)[-1].to == GATEWAY


@pytest.mark.parametrize(("via", "port"), [("10.0.0.5:5060", PHONE.port), (f"{PHONE.host}:5062", 5062)])
def test_t3_a_broken_request_is_answered_where_a_whole_one_would_be(via: str, port: int) -> None:
    text = request("OPTIONS", f"sip:{US}", via=via, rport="", contact=None).replace("CSeq: 1 ", "CSeq: x ")
    answer = only(Stage().send(PHONE, text))
    assert (status([answer]), answer.to) == ([400], TransportAddress(PHONE.host, port))
