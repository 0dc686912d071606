"""Signs of a SIP ALG in front of phones."""

from __future__ import annotations

import pytest

from nattrav.net.address import TransportAddress
from nattrav.proxy.alg import HOSTS, REMEMBERED, AlgSign, AlgWatch
from nattrav.proxy.explain import explain
from nattrav.sip.transport.flow import Flow
from tests.proxy.playbook import GATEWAY, PHONE, US, Stage, register, request, response, sdp

PUBLIC = f"{PHONE.host}:5060"


def signs(stage: Stage) -> tuple[str, ...]:
    return stage.proxy.parts.alg.suspicion(PHONE.host, stage.now).signs


def invite(**more: str) -> str:
    return request("INVITE", f"sip:+431@{US}", **more)  # type: ignore[arg-type]


def test_a_plain_phone_behind_a_nat_shows_no_sign() -> None:
    stage = Stage()
    stage.send(PHONE, register())
    stage.send(PHONE, invite(body=sdp("10.0.0.5")))
    assert signs(stage) == ()


def test_a_phone_that_learned_its_address_by_stun_shows_no_sign() -> None:
    stage = Stage()
    contact = f"<sip:alice@{PUBLIC}>"
    stage.send(PHONE, register(private=PUBLIC, contact=contact))
    stage.send(PHONE, invite(via=PUBLIC, contact=contact, body=sdp(PHONE.host)))
    assert signs(stage) == ()


def test_a_phone_that_repairs_its_contact_from_received_shows_no_sign() -> None:
    stage = Stage()
    stage.send(PHONE, register(contact=f"<sip:alice@{PUBLIC}>"))
    assert signs(stage) == ()


def test_a_via_that_was_rewritten_while_contact_was_not_is_a_sign() -> None:
    stage = Stage()
    stage.send(PHONE, register(private=PUBLIC, contact="<sip:alice@10.0.0.5:5060>"))
    assert signs(stage) == ("via_rewritten",)


def test_a_public_c_line_over_a_private_origin_is_a_sign() -> None:
    stage = Stage()
    body = sdp(PHONE.host).replace(f"o=- 1 1 IN IP4 {PHONE.host}", "o=- 1 1 IN IP4 192.168.1.5")
    stage.send(PHONE, invite(body=body))
    assert signs(stage) == ("sdp_origin_private",)


def test_a_damaged_bandwidth_line_is_a_sign_and_a_whole_one_is_none() -> None:
    stage = Stage()
    stage.send(PHONE, invite(body=sdp("10.0.0.5").replace("t=0", "b=AS:64\r\nt=0")))
    assert signs(stage) == ()
    stage.send(PHONE, invite(branch="z9hG4bK2", call_id="2", body=sdp("10.0.0.5").replace("t=0", "b=AS:\r\nt=0")))
    assert signs(stage) == ("bandwidth_damaged",)


@pytest.mark.parametrize(("octets", "expected"), [(6, ("body_length",)), (-6, ("body_length",)), (-200, ())])
def test_a_length_off_by_an_address_is_a_sign(octets: int, expected: tuple[str, ...]) -> None:
    stage = Stage()
    body = sdp("10.0.0.5")
    text = invite(body=body)
    wrong = text.replace(f"Content-Length: {len(body)}", f"Content-Length: {len(body) - octets}")
    stage.send(PHONE, wrong)
    assert signs(stage) == expected


def test_line_ends_after_the_body_are_no_sign() -> None:
    stage = Stage()
    stage.send(PHONE, invite(body=sdp("10.0.0.5")) + "\r\n\r\n")
    assert signs(stage) == ()


def test_a_branch_that_changes_between_a_request_and_its_retransmission_is_a_sign() -> None:
    stage = Stage()
    stage.send(PHONE, invite())
    stage.send(PHONE, invite())
    assert signs(stage) == ()
    stage.send(PHONE, invite(branch="z9hG4bKother"))
    assert signs(stage) == ("branch_altered",)


@pytest.mark.parametrize("altered", [False, True])
def test_the_answer_to_the_first_keepalive_must_repeat_what_was_asked(altered: bool) -> None:
    stage = Stage()
    stage.send(PHONE, register())
    (ping,) = [a for a in stage.wait(30) if a.line.startswith("OPTIONS")]
    answer = response(ping, 200, contact=None)
    assert f"To: <sip:{PHONE}>" in answer
    if altered:
        answer = answer.replace(f"To: <sip:{PHONE}>", "To: <sip:10.0.0.5:5060>")
    stage.send(PHONE, answer)
    assert signs(stage) == (("canary_altered",) if altered else ())


def test_what_an_encrypted_flow_shows_is_nothing_a_nat_did() -> None:
    watch = AlgWatch()
    assert watch.suspicion("198.51.100.7", 0.0).score == 0
    stage = Stage()
    stage.send(PHONE, register(private=PUBLIC, contact="<sip:alice@10.0.0.5:5060>"))
    assert len(stage.proxy.parts.alg) == 1


def test_the_score_adds_up_is_forgotten_and_the_table_bounded() -> None:
    watch = AlgWatch()

    def flow(number: int) -> Flow:
        address = TransportAddress(f"198.51.{number >> 8}.{number & 255}", 5060)
        return Flow("udp", 1, TransportAddress(US, 5060), address)

    assert watch.note(flow(1), AlgSign.VIA_REWRITTEN, 0.0)
    assert not watch.note(flow(1), AlgSign.VIA_REWRITTEN, 1.0)
    assert watch.note(flow(1), AlgSign.CANARY_ALTERED, 1.0)
    assert (watch.suspicion("198.51.0.1", 2.0).score, watch.suspicion("198.51.0.1", 2.0).named) == (100, True)
    assert watch.suspicion("198.51.0.1", 2.0 + REMEMBERED).score == 0
    for number in range(HOSTS + 10):
        watch.note(flow(number), AlgSign.BODY_LENGTH, 3.0)
    assert len(watch) == HOSTS


def test_explain_names_the_alg_and_what_to_do() -> None:
    stage = Stage()
    text = invite(via=PUBLIC, contact="<sip:alice@10.0.0.5:5060>", body=sdp("10.0.0.5"))
    forwarded = stage.send(PHONE, text)[-1]
    stage.send(GATEWAY, response(forwarded, 200, body=sdp("203.0.113.80")))
    (call,) = stage.proxy.rooms.calls
    told = explain(call, stage.proxy.parts, stage.now)
    assert told["nat"]["caller"]["alg_signs"] == ["via_rewritten"]
    assert "switch its SIP ALG off" in told["verdict"]
    assert stage.proxy.parts.take_counts()[("nattrav_sip_alg_signs_total", ("via_rewritten",))] == 1
