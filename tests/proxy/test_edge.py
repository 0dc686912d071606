"""Edge mode: registrations that go on to a core."""

from __future__ import annotations

from typing import Any

import pytest

from nattrav.config.sip import SipSection, Upstream
from nattrav.net.address import TransportAddress
from nattrav.proxy.flow_token import TokenKind
from nattrav.proxy.listener import Listener
from nattrav.sip.transport.flow import Flow, listener_id
from tests.proxy.playbook import GATEWAY, PHONE, Arrival, Stage, register, request, response, sdp, udp_listener

CORE = GATEWAY


def edge(**more: Any) -> Stage:
    return Stage(sip=SipSection.model_validate({"mode": "edge", "domains": [], **more}))


def only(arrivals: list[Arrival]) -> Arrival:
    assert len(arrivals) == 1, [a.line for a in arrivals]
    return arrivals[0]


def accept(
    forwarded: Arrival, *, expires: int = 3600, path: bool = True, contact: str = "<sip:alice@10.0.0.5:5060>"
) -> str:
    """The core's 200: the contact it has, and the Path it heard."""
    headers = f"Path: {forwarded.message.first('path')}\r\n" if path else ""
    return response(forwarded, 200, "OK", contact=f"{contact};expires={expires}", headers=headers)


def registered(stage: Stage) -> Arrival:
    forwarded = only(stage.send(PHONE, register(expires=60)))
    stage.send(CORE, accept(forwarded))
    return forwarded


def test_register_goes_to_the_core_with_our_path_and_a_long_expiry() -> None:
    stage = edge()
    forwarded = only(stage.send(PHONE, register(expires=60)))
    assert forwarded.to == CORE
    assert forwarded.message.paths[0].sip_uri.user is not None
    assert forwarded.message.paths[0].sip_uri.loose
    assert "path" in forwarded.message.tokens("supported")
    assert forwarded.message.expires == 3600
    assert "Contact: <sip:alice@10.0.0.5:5060>" in forwarded.text
    assert len(stage.proxy.rooms.location) == 0


def test_the_phone_gets_a_short_expiry_and_the_binding_is_cached_from_the_200() -> None:
    stage = edge()
    forwarded = only(stage.send(PHONE, register(expires=60)))
    ok = only(stage.send(CORE, accept(forwarded)))
    assert ok.to == PHONE
    assert "Contact: <sip:alice@10.0.0.5:5060>;expires=120" in ok.text
    assert len(stage.proxy.rooms.location) == 1


def test_the_cores_challenge_passes_and_leaves_no_trace() -> None:
    stage = edge()
    forwarded = only(stage.send(PHONE, register()))
    challenge = only(
        stage.send(CORE, response(forwarded, 401, headers='WWW-Authenticate: Digest realm="c", nonce="n"\r\n'))
    )
    assert challenge.line.startswith("SIP/2.0 401")
    assert len(stage.proxy.rooms.location) == 0


def test_a_refresh_that_changes_nothing_is_answered_here() -> None:
    stage = edge()
    registered(stage)
    stage.wait(60)
    ok = only(stage.send(PHONE, register(cseq=2, branch="z9hG4bKr2")))
    assert ok.to == PHONE
    assert ";expires=120" in ok.text


def test_a_changed_flow_contact_or_removal_goes_to_the_core() -> None:
    for number, (source, text) in enumerate(
        [
            (TransportAddress("198.51.100.7", 50000), register(cseq=2, branch="z9hG4bKr2")),
            (PHONE, register(cseq=2, branch="z9hG4bKr3", contact="<sip:alice@10.0.0.6:5060>")),
            (PHONE, register(cseq=2, branch="z9hG4bKr4", expires=0)),
            (PHONE, register(cseq=1, branch="z9hG4bKr5")),
            (PHONE, register(cseq=2, branch="z9hG4bKr6", call_id="other")),
        ]
    ):
        stage = edge()
        registered(stage)
        assert only(stage.send(source, text)).to == CORE, number


def test_one_refresh_is_let_through_before_the_core_forgets() -> None:
    stage = edge()
    registered(stage)
    stage.now += 3400
    assert only(stage.send(PHONE, register(cseq=2, branch="z9hG4bKr2"))).to == CORE


def test_a_call_from_the_core_goes_down_the_flow_in_its_route() -> None:
    stage = edge()
    forwarded = registered(stage)
    path = forwarded.message.paths[0].text
    text = request(
        "INVITE",
        "sip:alice@10.0.0.5:5060",
        via="203.0.113.80",
        call_id="in1",
        contact="<sip:core@203.0.113.80>",
        headers=f"Route: {path}\r\n",
        body=sdp("203.0.113.80"),
    )
    _, invite = stage.send(CORE, text)
    assert invite.to == PHONE
    assert invite.line == "INVITE sip:alice@10.0.0.5:5060 SIP/2.0"
    assert not invite.message.has("route")
    assert stage.relay.commands == ["offer"]


def test_a_changed_path_token_is_403() -> None:
    stage = edge()
    forwarded = registered(stage)
    path = forwarded.message.paths[0].text
    changed = path[:20] + ("A" if path[20] != "A" else "B") + path[21:]
    text = request("INVITE", "sip:alice@10.0.0.5:5060", via="203.0.113.80", headers=f"Route: {changed}\r\n")
    assert only(stage.send(CORE, text)).line == "SIP/2.0 403 Forbidden"


def test_a_core_that_ignores_path_gets_our_token_in_the_contact_and_the_phone_sees_its_own() -> None:
    stage = edge()
    first = only(stage.send(PHONE, register(expires=60)))
    stage.send(CORE, accept(first, path=False))
    again = only(stage.send(PHONE, register(cseq=2, branch="z9hG4bKr2", call_id="c2")))
    contact = again.message.contacts[0]
    assert contact.sip_uri.host == "203.0.113.10"
    ok = only(stage.send(CORE, accept(again, path=False, contact=f"<{contact.uri}>")))
    assert "<sip:alice@10.0.0.5:5060>" in ok.text
    assert contact.uri not in ok.text
    _, invite = stage.send(CORE, request("INVITE", contact.uri, via="203.0.113.80", call_id="in2"))
    assert invite.to == PHONE
    assert invite.line == "INVITE sip:alice@10.0.0.5:5060 SIP/2.0"


def test_the_first_refresh_after_the_core_ignored_our_path_is_not_absorbed() -> None:
    stage = edge()
    first = only(stage.send(PHONE, register(expires=60)))
    stage.send(CORE, accept(first, path=False))
    again = only(stage.send(PHONE, register(cseq=2, branch="z9hG4bKr2")))
    assert (again.to, again.message.contacts[0].sip_uri.host) == (CORE, "203.0.113.10")


def test_while_the_core_is_down_known_phones_stay_and_new_ones_come_back_later() -> None:
    stage = edge()
    registered(stage)
    stage.now += 3700
    stage.send(PHONE, register(cseq=2, branch="z9hG4bKr2"))
    assert [a.line for a in stage.wait(33) if a.to == PHONE and a.line.startswith("SIP/2.0 2")] == ["SIP/2.0 200 OK"]
    stranger = TransportAddress("198.51.100.99", 6000)
    stage.send(stranger, register("carol", branch="z9hG4bKr3", call_id="c3"))
    refused = [a for a in stage.wait(33) if a.to == stranger]
    assert refused[-1].line == "SIP/2.0 503 Service Unavailable"
    assert refused[-1].message.has("retry-after")


def test_calls_of_phones_go_to_the_core_with_their_request_uri_untouched() -> None:
    stage = edge()
    _, invite = stage.send(PHONE, request("INVITE", "sip:bob@example.org", body=sdp("10.0.0.5")))
    assert invite.to == CORE
    assert invite.line == "INVITE sip:bob@example.org SIP/2.0"


def test_a_route_to_a_stranger_is_refused() -> None:
    stage = edge()
    text = request("INVITE", "sip:bob@example.org", headers="Route: <sip:192.0.2.99;lr>\r\n")
    assert stage.send(PHONE, text)[-1].line == "SIP/2.0 403 Forbidden"


@pytest.mark.parametrize("flow_failed", [430, 480])
def test_a_core_is_told_in_its_own_words_that_a_flow_is_gone(flow_failed: int) -> None:
    bound = TransportAddress("203.0.113.10", 5060)
    tcp = Listener(listener_id("tcp", bound), "tcp", bound, bound.host, 5060)
    core = Upstream.model_validate({"name": "core", "target": str(CORE), "flow_failed": flow_failed})
    sip = SipSection.model_validate({"mode": "edge"})
    stage = Stage(sip=sip, upstreams=[core], listeners=[udp_listener(), tcp])
    token = stage.proxy.rooms.routing.token_for(Flow("tcp", tcp.id, bound, PHONE, 7), stage.now, kind=TokenKind.EDGE)
    route = f"Route: <sip:{token}@{bound.host};transport=tcp;lr>\r\n"
    refused = stage.send(CORE, request("INVITE", "sip:alice@10.0.0.5:5060", via="203.0.113.80", headers=route))[-1]
    assert refused.line.split()[1] == str(flow_failed)


@pytest.mark.parametrize("wish", ['expires="soon"', "expires=soon", "expires=-1", "expires", "expires=99999999999"])
def test_an_expires_that_is_no_number_counts_as_none(wish: str) -> None:
    stage = edge()
    forwarded = only(stage.send(PHONE, register(contact=f"<sip:alice@10.0.0.5:5060>;{wish}")))
    assert forwarded.message.expires == 3600


def test_each_contact_of_a_list_is_shown_with_its_own_time() -> None:
    stage = edge()
    forwarded = only(stage.send(PHONE, register(expires=60)))
    listed = "<sip:alice@10.0.0.77>;expires=3000, <sip:alice@10.0.0.5:5060>;q=0.5;expires=3600;x=1"
    ok = only(stage.send(CORE, accept(forwarded, contact=listed).replace("x=1;expires=3600", "x=1")))
    assert ok.message.all("contact") == [
        "<sip:alice@10.0.0.77>;expires=3000",
        "<sip:alice@10.0.0.5:5060>;q=0.5;expires=120;x=1",
    ]


def test_a_core_that_says_the_time_in_expires_only_is_understood() -> None:
    stage = edge()
    forwarded = only(stage.send(PHONE, register(expires=60)))
    text = accept(forwarded).replace(">;expires=3600", ">").replace("Content-Length", "Expires: 1800\r\nContent-Length")
    assert ";expires=120" in only(stage.send(CORE, text)).message.all("contact")[0]
    (binding,) = stage.proxy.rooms.location
    assert binding.expires_at - binding.registered_at == 1800


def test_a_core_may_write_the_contact_in_another_way() -> None:
    stage = edge()
    forwarded = only(stage.send(PHONE, register("Alice", contact="<sip:Alice@Phone.Example.COM:5060>")))
    stage.send(CORE, accept(forwarded, contact="<sip:%41lice@phone.example.com:5060>"))
    assert len(stage.proxy.rooms.location) == 1


@pytest.mark.parametrize("granted", [5, 86400])
def test_the_core_alone_says_how_long_a_binding_lasts(granted: int) -> None:
    stage = edge()
    forwarded = only(stage.send(PHONE, register(expires=60)))
    stage.send(CORE, accept(forwarded, expires=granted))
    (binding,) = stage.proxy.rooms.location
    assert binding.expires_at - binding.registered_at == granted


def test_a_contact_without_brackets_gets_the_token_for_cores_that_ignore_path() -> None:
    stage = edge()
    plain = register(contact="sip:alice@10.0.0.5:5060")
    stage.send(CORE, accept(only(stage.send(PHONE, plain)), path=False))
    again = plain.replace("CSeq: 1", "CSeq: 2").replace("z9hG4bKreg1", "z9hG4bKreg2")
    forwarded = only(stage.send(PHONE, again))
    assert forwarded.message.contacts[0].sip_uri.host == "203.0.113.10"
    ok = only(stage.send(CORE, accept(forwarded, path=False, contact=forwarded.message.contacts[0].text)))
    assert ok.message.contacts[0].uri == "sip:alice@10.0.0.5:5060"


def test_while_the_core_is_down_the_mapping_of_a_phone_that_refreshes_is_kept_open() -> None:
    stage = edge(edge={"core_expires": 300.0, "phone_expires": 60.0, "grace": 600.0})
    stage.send(CORE, accept(only(stage.send(PHONE, register(expires=60))), expires=300))
    kept = 0
    for number in range(2, 12):
        for one in stage.wait(60):
            if one.line.startswith("OPTIONS") and one.to == PHONE:
                kept += stage.now > 450
                stage.send(PHONE, response(one, 200))
        text = register(expires=60, cseq=number, branch=f"z9hG4bKr{number}")
        stage.send(PHONE, text)
    assert len(stage.proxy.rooms.location) == 1
    assert kept > 3
