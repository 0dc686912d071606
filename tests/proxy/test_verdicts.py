"""`explain` closes with one sentence, and it names the true cause."""

from __future__ import annotations

from typing import Any

import pytest

from nattrav.config.sip import SipSection, Upstream, User
from nattrav.control.ng.client import UNREAD
from nattrav.net.address import TransportAddress
from nattrav.proxy.explain import explain
from tests.proxy.playbook import GATEWAY, OTHER, PHONE, US, Arrival, Stage, register, request, response, sdp
from tests.proxy.test_authorise import answer
from tests.proxy.test_quality import reply as relay_totals

CALL_ID = "call1@10.0.0.5"
MOVED = TransportAddress(PHONE.host, 47777)


def invite(target: str = f"sip:+431@{US}", **more: Any) -> str:
    return request("INVITE", target, body=more.pop("body", sdp("10.0.0.5")), **more)


def said(stage: Stage) -> str:
    """The sentence on the one call, or on the one refusal where no call came of it."""
    calls = stage.proxy.rooms.calls.search(lambda call: call.call_id == CALL_ID)
    if calls:
        sentence = explain(calls[0], stage.proxy.parts, stage.now)["verdict"]
    else:
        (refusal,) = stage.proxy.requests.refusals.find(CALL_ID)
        sentence = refusal.sentence
    assert isinstance(sentence, str)
    assert sentence.endswith(".")
    assert ". " not in sentence, sentence
    return sentence


def established(stage: Stage) -> Arrival:
    sent = stage.send(PHONE, invite())[-1]
    return stage.send(GATEWAY, response(sent, 200, body=sdp("203.0.113.80")))[-1]


def with_bob() -> Stage:
    stage = Stage()
    stage.send(OTHER, register("bob", branch="z9hG4bKb", call_id="rb"))
    return stage


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (486, "the callee is busy: upstream gw at 203.0.113.80:5060 answered 486 Busy Here"),
        (603, "the callee declined: upstream gw"),
        (404, "nobody there has this number: upstream gw"),
        (488, "the callee takes none of the media offered (PCMU/8000): upstream gw"),
        (503, "it cannot take calls at present: upstream gw"),
        (407, "the caller did not prove who it is: upstream gw"),
        (666, "the other side refused: upstream gw"),
    ],
)
def test_what_the_far_side_answered(status: int, words: str) -> None:
    stage = Stage()
    sent = stage.send(PHONE, invite())[-1]
    reason = {486: "Busy Here"}.get(status, "No")
    stage.send(GATEWAY, response(sent, status, reason))
    assert words in said(stage)


def test_an_upstream_that_does_not_answer() -> None:
    stage = Stage()
    stage.send(PHONE, invite())
    stage.wait(40)
    assert said(stage) == ("The call failed with 408: upstream gw at 203.0.113.80:5060 did not answer in time.")


def test_an_upstream_that_nothing_can_be_sent_to() -> None:
    stage = Stage()
    sent = stage.send(PHONE, invite())[-1]
    stage._carry_out(stage.proxy.unreachable(str(sent.message.via.branch), stage.now))
    assert said(stage) == "The call failed with 500: nothing could be sent to upstream gw at 203.0.113.80:5060."


def test_an_upstream_whose_name_leads_nowhere() -> None:
    stage = Stage(upstreams=[Upstream.model_validate({"name": "gw", "target": "gw.example.net"})])
    stage.send(PHONE, invite())
    assert "the DNS knows no address for sip:gw.example.net" in said(stage)


def test_a_phone_that_does_not_answer() -> None:
    stage = with_bob()
    stage.send(PHONE, invite(f"sip:bob@{US}"))
    stage.wait(40)
    assert said(stage) == "The call failed with 408: the callee's phone at 198.51.100.9:40009 did not answer in time."


def test_a_callee_without_a_registration() -> None:
    users = [User.model_validate({"name": "bob", "password": "x"})]
    sip = SipSection.model_validate({"registrar": {"authentication": "none"}})
    stage = Stage(sip=sip, extra={"users": users})
    stage.send(PHONE, invite(f"sip:bob@{US}"))
    assert said(stage) == "The call failed with 480: the callee, bob@*, is a user of ours without a registration."


def test_a_number_that_nobody_has() -> None:
    stage = Stage(upstreams=[])
    stage.send(PHONE, invite(f"sip:nobody@{US}"))
    assert said(stage) == "The call failed with 404: nobody here has this number and no upstream takes it."


@pytest.mark.parametrize(
    ("user", "words"), [("alice", "wrong password for user alice"), ("mallory", "unknown user mallory")]
)
def test_credentials_that_are_wrong(user: str, words: str) -> None:
    users = [User.model_validate({"name": "alice", "password": "secret"})]
    stage = Stage(sip=SipSection(), extra={"users": users})
    (challenge,) = stage.send(PHONE, invite())
    stage.send(PHONE, answer(challenge, invite(), user, "wrong"))
    assert said(stage) == f"The INVITE was refused with 407: {words}."


def test_a_first_challenge_is_no_refusal() -> None:
    stage = Stage(sip=SipSection(), extra={"users": [User.model_validate({"name": "alice", "password": "secret"})]})
    stage.send(PHONE, invite())
    stage.send(PHONE, register())
    assert len(stage.proxy.requests.refusals) == 0


def test_a_relay_without_ports_and_one_that_is_silent() -> None:
    stage = Stage()
    stage.relay.reply = lambda command, arguments: {"result": "error", "error-reason": "Ran out of ports"}  # type: ignore[method-assign]
    stage.send(PHONE, invite())
    assert said(stage) == "The call failed with 503: the relay refused the offer: Ran out of ports."
    stage = Stage()
    stage.relay.refuse = {"offer"}
    stage.send(PHONE, invite())
    assert said(stage) == "The call failed with 503: no relay answered."


def test_a_forged_route() -> None:
    stage = Stage()
    stage.send(PHONE, invite(headers=f"Route: <sip:{'A' * 39}@{US};lr>\r\n"))
    assert "a flow token in its Route set is not one of ours: forged" in said(stage)


def test_a_route_to_a_stranger() -> None:
    stage = Stage(sip=SipSection.model_validate({"mode": "edge"}))
    stage.send(PHONE, invite(headers="Route: <sip:192.0.2.1;lr>\r\n"))
    assert "its Route asks us to relay to a stranger, 192.0.2.1" in said(stage)


def test_a_loop() -> None:
    stage = Stage()
    sent = stage.send(PHONE, invite())[-1]
    call = stage.proxy.rooms.calls.search(lambda call: True)[0]
    stage.proxy.kill([call], stage.now)
    stage.proxy.rooms.calls.history.clear()
    first, _, rest = invite(branch="z9hG4bKa2").partition("\r\nVia")
    ours = sent.message.lines[0]
    looped = f"{first}\r\nVia: SIP/2.0/UDP 203.0.113.80;branch=z9hG4bKcore\r\n{ours}\r\nVia{rest}"
    stage.send(GATEWAY, looped)
    assert "it came round unchanged" in said(stage)


def test_a_call_that_passed_too_many_hops() -> None:
    stage = Stage()
    stage.send(PHONE, invite(max_forwards=0))
    assert "its Max-Forwards is used up" in said(stage)


@pytest.mark.parametrize(
    ("caller", "callee", "words"),
    [
        (0, 50, "The callee heard nothing, for no media came from the caller (look for a firewall or ALG"),
        (50, 0, "The caller heard nothing, for no media came from the callee; the call ended by a BYE"),
    ],
)
def test_a_direction_whose_media_is_blocked(caller: int, callee: int, words: str) -> None:
    stage = Stage()
    accepted = established(stage)
    plain = stage.relay.reply

    stage.relay.reply = lambda command, arguments: (  # type: ignore[method-assign]
        plain(command, arguments) if command != "delete" else {"result": "ok", UNREAD: relay_totals(caller, callee)}
    )
    hangs_up(stage, accepted)
    assert words in said(stage)


def hangs_up(stage: Stage, accepted: Arrival, source: TransportAddress = PHONE) -> None:
    routes = "".join(f"Route: {one}\r\n" for one in reversed(accepted.message.all("record-route")))
    text = request(
        "BYE", "sip:bob@203.0.113.80", branch="z9hG4bKbye", to=f"<sip:+431@{US}>;tag=bt", cseq=2, headers=routes
    )
    stage.now += 5
    stage.send(GATEWAY, response(stage.send(source, text)[-1], 200))


def test_a_nat_that_made_a_new_mapping_in_mid_call() -> None:
    stage = Stage()
    hangs_up(stage, established(stage), MOVED)
    assert "in mid call the caller moved to 198.51.100.7:47777: a new mapping of its NAT" in said(stage)


def test_a_mapping_that_was_lost_in_mid_call() -> None:
    stage = Stage()
    accepted = established(stage)
    text = request(
        "INVITE",
        "sip:alice@10.0.0.5:5060",
        via="203.0.113.80",
        branch="z9hG4bKre",
        from_=f"<sip:+431@{US}>;tag=bt",
        to=f"<sip:alice@{US}>;tag=at",
        cseq=2,
        headers="".join(f"Route: {one}\r\n" for one in accepted.message.all("record-route")),
    )
    stage.send(GATEWAY, text)
    stage.wait(40)
    assert "ended because the phone at 198.51.100.7:40001 did not answer any more" in said(stage)


def test_a_caller_who_gives_up() -> None:
    stage = Stage()
    sent = stage.send(PHONE, invite())[-1]
    stage.send(GATEWAY, response(sent, 180))
    stage.now += 3
    stage.send(PHONE, request("CANCEL", f"sip:+431@{US}", contact=None))
    stage.send(GATEWAY, response(sent, 487))
    assert said(stage) == "The caller gave up 3.0 s after dialling, before anybody answered."


def test_refusals_are_bounded_and_found_by_call_id_user_and_source() -> None:
    stage = Stage(upstreams=[])
    refusals = stage.proxy.requests.refusals
    for number in range(1100):
        source = TransportAddress(f"198.51.{number % 250}.7", 5060)
        stage.send(source, invite(call_id=f"c{number}", branch=f"z9hG4bK{number}", max_forwards=0))
    assert len(refusals) == 1000
    assert [one.call_id for one in refusals.find("c1099")] == ["c1099"]
    assert refusals.find("c99") == []
    assert len(refusals.find("alice")) == 1000
    assert [one.call_id for one in refusals.find("198.51.99.7")] == ["c1099", "c849", "c599", "c349"]
