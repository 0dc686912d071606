"""Offer and answer wherever they may stand (RFC 3264, 3262, 3311, 6337), and what the relay is told of them."""

from __future__ import annotations

from typing import Any

import pytest

from nattrav.config.sip import Quirk, SipSection, Upstream
from nattrav.net.address import TransportAddress
from tests.proxy.playbook import GATEWAY, PHONE, US, Arrival, Stage, register, request, response, sdp

RELAY = "203.0.113.20"


class Dialog:
    """A call from the phone to the gateway, and requests of both inside it."""

    def __init__(self, stage: Stage, *, offer: bool = True) -> None:
        self.stage = stage
        self.sequence = 1
        self.invite = stage.send(PHONE, request("INVITE", f"sip:+431@{US}", body=sdp("10.0.0.5") if offer else ""))[-1]

    def gateway(self, status: int, body: str = "", **more: Any) -> Arrival:
        return next(
            a for a in self.stage.send(GATEWAY, response(self.invite, status, body=body, **more)) if a.to == PHONE
        )

    def inside(self, method: str, *, by_phone: bool, body: str = "", cseq: int | None = None) -> list[Arrival]:
        self.sequence += 1
        routes = [value.text for value in self.invite.message.record_routes]
        phone, gateway = "<sip:alice@203.0.113.10>;tag=at", "<sip:bob@203.0.113.10>;tag=bt"
        text = request(
            method,
            "sip:bob@203.0.113.80" if by_phone else "sip:alice@10.0.0.5:5060",
            via="10.0.0.5:5060" if by_phone else "203.0.113.80",
            branch=f"z9hG4bKin{self.sequence}",
            from_=phone if by_phone else gateway,
            to=gateway if by_phone else phone,
            cseq=cseq or self.sequence,
            headers="".join(f"Route: {route}\r\n" for route in routes),
            body=body,
        )
        return self.stage.send(PHONE if by_phone else GATEWAY, text)

    @property
    def asked(self) -> list[tuple[str, str, str | None]]:
        return [(c, a["from-tag"], a.get("to-tag")) for c, a in self.stage.relay.asked]


def test_unreliable_early_answer_then_final_answer_of_the_same_tag() -> None:
    dialog = Dialog(Stage())
    assert RELAY in dialog.gateway(183, sdp("203.0.113.80")).text
    assert RELAY in dialog.gateway(200, sdp("203.0.113.80")).text
    assert dialog.asked[0] == ("offer", "at", None)
    assert set(dialog.asked[1:]) == {("answer", "at", "bt")}


def test_many_183s_with_different_tags_all_pass() -> None:
    dialog = Dialog(Stage())
    for tag in ("b1", "b2", "b3"):
        assert RELAY in dialog.gateway(183, sdp("203.0.113.80"), tag=tag).text
    assert [to for _, _, to in dialog.asked[1:]] == ["b1", "b2", "b3"]


def test_offer_in_a_reliable_183_is_answered_in_prack() -> None:
    dialog = Dialog(Stage(), offer=False)
    dialog.gateway(183, sdp("203.0.113.80"), headers="Require: 100rel\r\nRSeq: 1\r\n")
    prack = dialog.inside("PRACK", by_phone=True, body=sdp("10.0.0.5"))[-1]
    assert RELAY in prack.text
    assert dialog.asked == [("offer", "bt", "at"), ("answer", "bt", "at")]


@pytest.mark.parametrize("method", ["UPDATE", "INVITE"])
@pytest.mark.parametrize("by_phone", [True, False])
def test_a_new_offer_in_mid_call_from_either_side(method: str, by_phone: bool) -> None:
    dialog = Dialog(Stage())
    dialog.gateway(200, sdp("203.0.113.80"))
    host, other = ("10.0.0.5", "203.0.113.80") if by_phone else ("203.0.113.80", "10.0.0.5")
    forwarded = dialog.inside(method, by_phone=by_phone, body=sdp(host, 5000))[-1]
    assert forwarded.to == (GATEWAY if by_phone else PHONE)
    assert RELAY in forwarded.text
    back = dialog.stage.send(forwarded.to, response(forwarded, 200, body=sdp(other, 5002)))[-1]
    assert RELAY in back.text
    mine, theirs = ("at", "bt") if by_phone else ("bt", "at")
    assert dialog.asked[2:] == [("offer", mine, theirs), ("answer", mine, theirs)]


def test_a_reinvite_without_sdp_offers_in_its_200_and_answers_in_its_ack() -> None:
    dialog = Dialog(Stage())
    dialog.gateway(200, sdp("203.0.113.80"))
    forwarded = dialog.inside("INVITE", by_phone=True)[-1]
    back = dialog.stage.send(GATEWAY, response(forwarded, 200, body=sdp("203.0.113.80", 7100)))[-1]
    assert RELAY in back.text
    ack = dialog.inside("ACK", by_phone=True, body=sdp("10.0.0.5", 4100), cseq=dialog.sequence)[-1]
    assert RELAY in ack.text
    assert dialog.asked[2:] == [("offer", "bt", "at"), ("answer", "bt", "at")]


@pytest.mark.parametrize("status", [488, 491, 500])
def test_a_refused_reinvite_puts_the_old_media_back(status: int) -> None:
    dialog = Dialog(Stage())
    dialog.gateway(200, sdp("203.0.113.80"))
    forwarded = dialog.inside("INVITE", by_phone=False, body=sdp("203.0.113.80", 7777))[-1]
    dialog.stage.send(PHONE, response(forwarded, status))
    assert dialog.asked[-2:] == [("offer", "at", "bt"), ("answer", "at", "bt")]
    assert len(dialog.stage.proxy.rooms.calls) == 1


@pytest.mark.parametrize("status", [408, 481])
def test_481_and_408_to_a_reinvite_end_the_call(status: int) -> None:
    dialog = Dialog(Stage())
    dialog.gateway(200, sdp("203.0.113.80"))
    forwarded = dialog.inside("INVITE", by_phone=True, body=sdp("10.0.0.5", 4100))[-1]
    dialog.stage.send(GATEWAY, response(forwarded, status))
    assert dialog.stage.relay.commands[-1] == "delete"
    assert len(dialog.stage.proxy.rooms.calls) == 0


def test_hold_and_resume_go_to_the_relay_as_they_are() -> None:
    dialog = Dialog(Stage())
    dialog.gateway(200, sdp("203.0.113.80"))
    held = sdp("10.0.0.5") + "a=sendonly\r\n"
    assert "a=sendonly" in dialog.inside("INVITE", by_phone=True, body=held)[-1].text
    assert dialog.stage.relay.asked[-1][1]["sdp"].endswith(b"a=sendonly\r\n")


def test_a_relay_that_refuses_a_reinvite_leaves_the_call_and_says_488() -> None:
    dialog = Dialog(Stage())
    dialog.gateway(200, sdp("203.0.113.80"))
    dialog.stage.relay.refuse.add("offer")
    arrivals = dialog.inside("INVITE", by_phone=True, body=sdp("10.0.0.5", 4100))
    assert arrivals[-1].line.startswith("SIP/2.0 488")
    assert len(dialog.stage.proxy.rooms.calls) == 1


def test_a_relay_that_does_not_take_the_answer_lets_the_200_pass() -> None:
    dialog = Dialog(Stage())
    dialog.stage.relay.refuse.add("answer")
    assert dialog.gateway(200, sdp("203.0.113.80")).line.startswith("SIP/2.0 200")
    assert any(log.event == "relay_answer_failed" for log in dialog.stage.logs)


def test_without_a_relay_the_call_may_pass_when_the_operator_wants_it() -> None:
    sip = SipSection.model_validate({"registrar": {"authentication": "none"}, "relay_required": False})
    stage = Stage(sip=sip)
    stage.relay.refuse.add("offer")
    dialog = Dialog(stage)
    assert "10.0.0.5" in dialog.invite.message.body.decode()


def test_each_fork_has_its_own_branch_at_the_relay_and_a_failed_call_frees_it() -> None:
    stage = Stage()
    stage.send(PHONE, register("bob"))
    other = TransportAddress("198.51.100.9", 40009)
    stage.send(other, register("bob", private="10.0.0.6:5060", branch="z9hG4bK2", call_id="r2"))
    arrivals = stage.send(GATEWAY, request("INVITE", f"sip:bob@{US}", via="203.0.113.80", body=sdp("203.0.113.80")))
    rings = [a for a in arrivals if a.line.startswith("INVITE")]
    assert len({a["via-branch"] for _, a in stage.relay.asked}) == 2
    for ring in rings:
        stage.send(ring.to, response(ring, 486))
    assert stage.relay.commands[-1] == "delete"


@pytest.mark.parametrize(
    ("policy", "private", "relayed"),
    [
        ("always", True, True),
        ("always", False, True),
        ("auto", True, True),
        ("auto", False, False),
        ("never", True, False),
    ],
)
def test_the_relay_policy(policy: str, private: bool, relayed: bool) -> None:
    sip = SipSection.model_validate({"registrar": {"authentication": "none"}, "relay": policy})
    stage = Stage(sip=sip)
    host = "10.0.0.5" if private else "198.51.100.7"
    port = "5060" if private else "40001"
    text = request(
        "INVITE", f"sip:+431@{US}", via=f"{host}:{port}", contact=f"<sip:alice@{host}:{port}>", body=sdp(host)
    )
    stage.send(PHONE, text)
    assert bool(stage.relay.commands) is relayed


def test_an_upstreams_own_policy_wins() -> None:
    gateway = Upstream.model_validate({"name": "gw", "target": str(GATEWAY), "relay": "never"})
    stage = Stage(upstreams=[gateway])
    Dialog(stage)
    assert stage.relay.commands == []


def test_a_body_that_is_no_sdp_passes_untouched() -> None:
    stage = Stage()
    text = request("INVITE", f"sip:+431@{US}", body="fruit salad", content_type="application/fruit")
    assert stage.send(PHONE, text)[-1].message.body == b"fruit salad"
    assert stage.relay.commands == []


def test_multipart_bodies_have_only_their_sdp_part_changed() -> None:
    stage = Stage()
    body = (
        "--b1\r\nContent-Type: application/sdp\r\n\r\n" + sdp("10.0.0.5") + "\r\n--b1\r\n"
        "Content-Type: application/pidf+xml\r\n\r\n<presence/>\r\n--b1--\r\n"
    )
    text = request("INVITE", f"sip:+431@{US}", body=body, content_type='multipart/mixed;boundary="b1"')
    forwarded = stage.send(PHONE, text)[-1]
    assert stage.relay.commands == ["offer"]
    assert b"10.0.0.5" not in forwarded.message.body
    assert b"<presence/>" in forwarded.message.body


def test_a_device_that_does_ice_by_itself_is_left_to_it() -> None:
    """D9: candidates are taken out by the relay, or the relay stays out; never both."""
    sip = SipSection.model_validate({"registrar": {"authentication": "none"}})
    quirk = Quirk.model_validate({"user_agent": "acme", "ice": "pass"})
    stage = Stage(sip=sip, extra={"quirks": [quirk]})
    body = sdp("203.0.113.99") + "a=candidate:1 1 UDP 1 203.0.113.99 4000 typ host\r\n"
    for number, (agent, text) in enumerate([("Acme", body), ("Acme", sdp("203.0.113.99")), ("Other", body)]):
        names = {"branch": f"z9hG4bK{number}", "call_id": f"c{number}", "headers": f"User-Agent: {agent}\r\n"}
        stage.send(PHONE, request("INVITE", f"sip:+431@{US}", body=text, **names))
    assert [arguments["call-id"] for _, arguments in stage.relay.asked] == ["c1", "c2"]
