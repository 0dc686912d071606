"""Calls of a phone behind a NAT, as sequence diagrams."""

from __future__ import annotations

from nattrav.net.address import TransportAddress
from nattrav.proxy.effects import DropReason
from nattrav.proxy.registrar import behind_nat
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
)


def only(arrivals: list[Arrival]) -> Arrival:
    assert len(arrivals) == 1, [(a.line, a.to) for a in arrivals]
    return arrivals[0]


def call_out(stage: Stage) -> tuple[Arrival, Arrival]:
    """Phone calls the gateway; give the INVITE as the gateway and the 200 as the phone received them."""
    trying, invite = stage.send(PHONE, request("INVITE", f"sip:+431234@{US}", body=sdp("10.0.0.5")))
    assert trying.line == "SIP/2.0 100 Trying"
    assert trying.to == PHONE
    ok = only(stage.send(GATEWAY, response(invite, 200, "OK", body=sdp("203.0.113.80", 7000))))
    return invite, ok


def in_dialog(method: str, invite_or_ok: Arrival, *, by_caller: bool, **more: object) -> str:
    """A request of one party inside the dialog, its route set from the Record-Route it saw."""
    message = invite_or_ok.message
    routes = [value.text for value in message.record_routes]
    if by_caller:
        routes.reverse()
    headers = "".join(f"Route: {route}\r\n" for route in routes)
    settings: dict[str, object] = {
        "uri": "sip:bob@203.0.113.80" if by_caller else "sip:alice@10.0.0.5:5060",
        "from_": "<sip:alice@203.0.113.10>;tag=at" if by_caller else "<sip:bob@203.0.113.10>;tag=bt",
        "to": "<sip:bob@203.0.113.10>;tag=bt" if by_caller else "<sip:alice@203.0.113.10>;tag=at",
        "via": "10.0.0.5:5060" if by_caller else "203.0.113.80",
        "branch": f"z9hG4bK{method}{by_caller}",
        "cseq": 2,
        "contact": None,
        "headers": headers,
    }
    settings.update(more)
    uri = str(settings.pop("uri"))
    return request(method, uri, **settings)  # type: ignore[arg-type]


def test_registration_through_a_nat_is_answered_at_the_mapped_address_and_remembered() -> None:
    stage = Stage()
    ok = only(stage.send(PHONE, register()))
    assert ok.to == PHONE
    assert ok.line == "SIP/2.0 200 OK"
    assert ";received=198.51.100.7;rport=40001" in ok.text
    assert "Contact: <sip:alice@10.0.0.5:5060>;expires=300" in ok.text
    (binding,) = stage.proxy.rooms.location
    assert binding.flow.remote == PHONE
    assert behind_nat(binding)
    assert "contact_nonpublic" in binding.tests


def test_invite_reaches_the_gateway_with_the_relays_address_and_no_private_one_but_contact() -> None:
    stage = Stage()
    invite, ok = call_out(stage)
    assert invite.to == GATEWAY
    assert invite.line.startswith("INVITE sip:+431234@203.0.113.80")
    assert "c=IN IP4 203.0.113.20" in invite.text
    assert "m=audio 30002" in invite.text
    assert "received=198.51.100.7;rport=40001" in invite.text
    assert invite.message.max_forwards == 69
    private = [line for line in invite.text.split("\r\n") if "10.0.0.5" in line]
    assert all(line.startswith(("Contact:", "Via:", "Call-ID:")) for line in private)
    assert int(invite.message.first("content-length") or 0) == len(invite.message.body)
    (route,) = invite.message.record_routes
    assert route.sip_uri.loose
    assert route.sip_uri.user is not None
    assert ok.to == PHONE
    assert "c=IN IP4 203.0.113.20" in ok.text
    assert len(ok.message.vias) == 1
    assert stage.relay.commands == ["offer", "answer"]


def test_the_relay_is_told_who_sent_what() -> None:
    stage = Stage()
    call_out(stage)
    (_, offer), (_, answer) = stage.relay.asked
    assert (offer["call-id"], offer["from-tag"]) == ("call1@10.0.0.5", "at")
    assert offer["received-from"] == ["IP4", "198.51.100.7"]
    assert "to-tag" not in offer
    assert (answer["from-tag"], answer["to-tag"]) == ("at", "bt")
    assert "asymmetric" in answer["flags"]


def test_a_retransmitted_invite_causes_nothing_but_the_last_response_again() -> None:
    stage = Stage()
    text = request("INVITE", f"sip:+431234@{US}", body=sdp("10.0.0.5"))
    stage.send(PHONE, text)
    again = only(stage.send(PHONE, text))
    assert again.line == "SIP/2.0 100 Trying"
    assert stage.relay.commands == ["offer"]


def test_ack_of_a_success_goes_to_the_gateway_by_the_route_set() -> None:
    stage = Stage()
    _, ok = call_out(stage)
    ack = only(stage.send(PHONE, in_dialog("ACK", ok, by_caller=True, cseq=1)))
    assert ack.to == GATEWAY
    assert ack.line == "ACK sip:bob@203.0.113.80 SIP/2.0"
    assert not ack.message.has("route")


def test_bye_of_the_phone_ends_the_call_and_the_relay_session() -> None:
    stage = Stage()
    _, ok = call_out(stage)
    bye = only(stage.send(PHONE, in_dialog("BYE", ok, by_caller=True)))
    assert bye.to == GATEWAY
    done = only(stage.send(GATEWAY, response(bye, 200)))
    assert done.to == PHONE
    assert stage.relay.commands == ["offer", "answer", "delete"]
    assert stage.records[0]["cause"] == "bye"
    assert len(stage.proxy.rooms.calls) == 0


def test_what_only_an_offer_to_come_would_need_goes_with_the_call() -> None:
    stage = Stage()
    _, ok = call_out(stage)
    (call,) = stage.proxy.rooms.calls
    assert call.accepted is not None
    assert call.media.stable is not None
    stage.send(GATEWAY, response(only(stage.send(PHONE, in_dialog("BYE", ok, by_caller=True))), 200))
    assert (call.accepted, call.media.stable, call.media.wishes) == (None, None, {})


def test_bye_of_the_gateway_goes_down_the_flow_that_the_token_names() -> None:
    stage = Stage()
    invite, _ = call_out(stage)
    bye = only(stage.send(GATEWAY, in_dialog("BYE", invite, by_caller=False)))
    assert bye.to == PHONE
    assert bye.line == "BYE sip:alice@10.0.0.5:5060 SIP/2.0"
    done = only(stage.send(PHONE, response(bye, 200)))
    assert done.to == GATEWAY
    assert stage.records[0]["cause"] == "bye"


def test_after_a_restart_the_token_alone_still_finds_the_phone() -> None:
    stage = Stage()
    invite, _ = call_out(stage)
    restarted = Stage()
    bye = only(restarted.send(GATEWAY, in_dialog("BYE", invite, by_caller=False)))
    assert bye.to == PHONE


def test_a_forged_token_is_refused_with_403() -> None:
    stage = Stage()
    invite, _ = call_out(stage)
    user = invite.message.record_routes[0].sip_uri.user or ""
    changed = ("A" if user[20] != "A" else "B").join((user[:20], user[21:]))
    text = in_dialog("BYE", invite, by_caller=False).replace(user, changed)
    assert only(stage.send(GATEWAY, text)).line == "SIP/2.0 403 Forbidden"


def test_an_ack_with_a_forged_token_is_dropped_silently() -> None:
    stage = Stage()
    _, ok = call_out(stage)
    user = ok.message.record_routes[0].sip_uri.user or ""
    text = in_dialog("ACK", ok, by_caller=True, cseq=1).replace(user, user[::-1])
    assert stage.send(PHONE, text) == []
    assert stage.drops == [DropReason.FORGERY]


def test_gateway_calls_the_registered_phone_down_its_flow() -> None:
    stage = Stage()
    stage.send(PHONE, register())
    text = request(
        "INVITE",
        f"sip:alice@{US}",
        via="203.0.113.80",
        from_="<sip:+43999@203.0.113.80>;tag=gt",
        to=f"<sip:alice@{US}>",
        contact="<sip:+43999@203.0.113.80>",
        call_id="in1",
        body=sdp("203.0.113.80", 7000),
    )
    trying, invite = stage.send(GATEWAY, text)
    assert trying.to == GATEWAY
    assert invite.to == PHONE
    assert invite.line == "INVITE sip:alice@10.0.0.5:5060 SIP/2.0"
    assert "c=IN IP4 203.0.113.20" in invite.text
    ok = only(
        stage.send(
            PHONE,
            response(invite, 200, contact="<sip:alice@10.0.0.5:5060>", body=sdp("10.0.0.5")),
        )
    )
    assert ok.to == GATEWAY
    assert "10.0.0.5" not in ok.text.partition("\r\n\r\n")[2]
    route = ok.message.record_routes[0].text
    bye = request(
        "BYE",
        "sip:alice@10.0.0.5:5060",
        via="203.0.113.80",
        branch="z9hG4bKbye",
        from_="<sip:+43999@203.0.113.80>;tag=gt",
        to=f"<sip:alice@{US}>;tag=bt",
        call_id="in1",
        cseq=2,
        contact=None,
        headers=f"Route: {route}\r\n",
    )
    assert only(stage.send(GATEWAY, bye)).to == PHONE


def test_cancel_is_answered_at_once_and_goes_on_after_a_provisional_response() -> None:
    stage = Stage()
    text = request("INVITE", f"sip:+431234@{US}", body=sdp("10.0.0.5"))
    _, invite = stage.send(PHONE, text)
    cancel = request("CANCEL", f"sip:+431234@{US}", contact=None)
    ok = only(stage.send(PHONE, cancel))
    assert ok.line == "SIP/2.0 200 OK"
    (ringing,) = (stage.send(GATEWAY, response(invite, 180)),)
    cancelled = [a for a in ringing if a.line.startswith("CANCEL")]
    assert only(cancelled).to == GATEWAY
    assert cancelled[0].message.via.branch == invite.message.via.branch
    arrivals = stage.send(GATEWAY, response(invite, 487))
    assert {(a.line.split()[0] if a.line.startswith("ACK") else a.line.split()[1]) for a in arrivals} == {"ACK", "487"}
    assert stage.relay.commands == ["offer", "delete"]
    assert stage.records[0]["cause"] == "cancel"


def test_busy_is_passed_back_acknowledged_and_frees_the_relay() -> None:
    stage = Stage()
    _, invite = stage.send(PHONE, request("INVITE", f"sip:+431234@{US}", body=sdp("10.0.0.5")))
    arrivals = stage.send(GATEWAY, response(invite, 486, "Busy Here"))
    ack = only([a for a in arrivals if a.line.startswith("ACK")])
    busy = only([a for a in arrivals if "486" in a.line])
    assert (ack.to, busy.to) == (GATEWAY, PHONE)
    assert ack.message.via.branch == invite.message.via.branch
    assert ack.message.cseq.method == "ACK"
    assert stage.relay.commands == ["offer", "delete"]
    ack_of_phone = request("ACK", f"sip:+431234@{US}", to="<sip:bob@203.0.113.10>;tag=bt", contact=None)
    assert stage.send(PHONE, ack_of_phone) == []
    assert stage.wait(40) == []


def test_a_failure_is_repeated_until_the_phone_acknowledges_it() -> None:
    stage = Stage()
    _, invite = stage.send(PHONE, request("INVITE", f"sip:+431234@{US}"))
    stage.send(GATEWAY, response(invite, 486))
    repeated = stage.wait(3.6)
    assert [a.line for a in repeated] == ["SIP/2.0 486 Whatever"] * 3


def test_an_unanswered_invite_is_repeated_and_then_answered_with_408() -> None:
    stage = Stage()
    stage.send(PHONE, request("INVITE", f"sip:+431234@{US}", body=sdp("10.0.0.5")))
    arrivals = stage.wait(33)
    assert [a.line.split()[0] for a in arrivals[:6]] == ["INVITE"] * 6
    assert any("408" in a.line for a in arrivals)
    assert stage.relay.commands == ["offer", "delete"]


def test_a_retransmitted_200_is_passed_on_with_the_same_sdp_and_no_second_answer() -> None:
    stage = Stage()
    _, invite = stage.send(PHONE, request("INVITE", f"sip:+431234@{US}", body=sdp("10.0.0.5")))
    text = response(invite, 200, body=sdp("203.0.113.80", 7000))
    first, second = only(stage.send(GATEWAY, text)), only(stage.send(GATEWAY, text))
    assert first.data == second.data
    assert stage.relay.commands == ["offer", "answer"]


def test_late_offer_swaps_the_tags_and_takes_its_answer_from_the_ack() -> None:
    stage = Stage()
    _, invite = stage.send(PHONE, request("INVITE", f"sip:+431234@{US}"))
    ok = only(stage.send(GATEWAY, response(invite, 200, body=sdp("203.0.113.80", 7000))))
    assert "203.0.113.20" in ok.text
    ack = only(stage.send(PHONE, in_dialog("ACK", ok, by_caller=True, cseq=1, body=sdp("10.0.0.5"))))
    assert "203.0.113.20" in ack.text
    (first, offer), (second, answer) = stage.relay.asked
    assert (first, offer["from-tag"], offer["to-tag"]) == ("offer", "bt", "at")
    assert (second, answer["from-tag"], answer["to-tag"]) == ("answer", "bt", "at")


def test_a_failed_reinvite_restores_the_media_of_before() -> None:
    stage = Stage()
    _, ok = call_out(stage)
    reinvite = in_dialog("INVITE", ok, by_caller=True, body=sdp("10.0.0.5", 4444))
    _, forwarded = stage.send(PHONE, reinvite)
    stage.send(GATEWAY, response(forwarded, 488))
    assert stage.relay.commands == ["offer", "answer", "offer", "offer", "answer"]
    assert b"m=audio 4000" in stage.relay.asked[3][1]["sdp"]
    assert len(stage.proxy.rooms.calls) == 1


def test_a_phone_that_moved_in_mid_dialog_is_still_the_sender_of_its_own_bye() -> None:
    stage = Stage()
    _, ok = call_out(stage)
    moved = TransportAddress("198.51.100.7", 50777)
    assert only(stage.send(moved, in_dialog("BYE", ok, by_caller=True))).to == GATEWAY


def test_two_phones_get_two_tokens_and_each_finds_the_other() -> None:
    stage = Stage()
    stage.send(PHONE, register())
    stage.send(OTHER, register("bob", private="192.168.1.7:5060", branch="z9hG4bKreg2", call_id="reg2"))
    _, invite = stage.send(PHONE, request("INVITE", f"sip:bob@{US}", body=sdp("10.0.0.5")))
    assert invite.to == OTHER
    assert invite.line == "INVITE sip:bob@192.168.1.7:5060 SIP/2.0"
    assert len(invite.message.record_routes) == 2
    ok = only(stage.send(OTHER, response(invite, 200, contact="<sip:bob@192.168.1.7:5060>", body=sdp("192.168.1.7"))))
    assert ok.to == PHONE
    ack = only(stage.send(PHONE, in_dialog("ACK", ok, by_caller=True, cseq=1, uri="sip:bob@192.168.1.7:5060")))
    assert ack.to == OTHER
    bye = only(stage.send(OTHER, in_dialog("BYE", invite, by_caller=False, via="192.168.1.7:5060")))
    assert bye.to == PHONE


def test_other_methods_pass_both_ways() -> None:
    stage = Stage()
    stage.send(PHONE, register())
    for number, method in enumerate(("MESSAGE", "SUBSCRIBE", "NOTIFY", "INFO", "OPTIONS", "PUBLISH", "FROBNICATE")):
        text = request(
            method,
            f"sip:alice@{US}",
            via="203.0.113.80",
            branch=f"z9hG4bKm{number}",
            call_id=f"m{number}",
            contact=None,
        )
        arrived = only(stage.send(GATEWAY, text))
        assert arrived.to == PHONE
        assert only(stage.send(PHONE, response(arrived, 200))).to == GATEWAY


def test_unknown_user_404_registered_elsewhere_nothing_leaks_to_the_gateway() -> None:
    stage = Stage(upstreams=[])
    arrivals = stage.send(PHONE, request("INVITE", f"sip:nobody@{US}"))
    assert [a.line for a in arrivals] == ["SIP/2.0 100 Trying", "SIP/2.0 404 Not Found"]


def test_without_a_relay_the_call_is_refused_with_503() -> None:
    stage = Stage()
    stage.relay.refuse.add("offer")
    arrivals = stage.send(PHONE, request("INVITE", f"sip:+431234@{US}", body=sdp("10.0.0.5")))
    assert arrivals[-1].line == "SIP/2.0 503 Media relay not available"


def test_keepalives_go_to_the_natted_phone_until_it_answers_no_more() -> None:
    stage = Stage()
    stage.send(PHONE, register(expires=3600))
    ping = only([a for a in stage.wait(26) if a.line.startswith("OPTIONS")])
    assert ping.to == PHONE
    stage.send(PHONE, response(ping, 404))
    lost = [a for a in stage.wait(60) if a.line.startswith("OPTIONS")]
    assert len(lost) == 3
    assert len(stage.proxy.rooms.location) == 0
    assert stage.wait(100) == []


def test_silence_of_the_media_ends_the_call() -> None:
    stage = Stage()
    call_out(stage)
    stage.proxy.session_closed("call1@10.0.0.5", "timeout", stage.now)
    assert len(stage.proxy.rooms.calls) == 0
