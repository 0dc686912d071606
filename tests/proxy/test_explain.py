"""What happened to a call and why."""

from __future__ import annotations

from nattrav.cli.explain import ladder
from nattrav.config.sip import SipSection
from nattrav.proxy.explain import changes, explain, matches
from tests.proxy.playbook import GATEWAY, PHONE, US, Stage, request, response, sdp


def one_call(stage: Stage, call_id: str = "call1@10.0.0.5") -> None:
    text = request("INVITE", f"sip:+431234@{US}", call_id=call_id, branch=f"z9hG4bK{call_id[:5]}", body=sdp("10.0.0.5"))
    _, invite = stage.send(PHONE, text)
    stage.send(GATEWAY, response(invite, 200, body=sdp("203.0.113.80")))


def test_every_changed_line_names_its_rule() -> None:
    stage = Stage()
    one_call(stage)
    (call,) = stage.proxy.rooms.calls
    told = explain(call, stage.proxy.parts, stage.now)
    invite = next(step for step in told["messages"] if step["direction"] == "out" and step["line"].startswith("INVITE"))
    rules = {change["line"].partition(":")[0].partition("=")[0]: change["rule"] for change in invite["changes"]}
    assert rules["Record-Route"] == "R5"
    assert rules["Max-Forwards"] == "R2"
    assert rules["Via"] == "R7"
    assert rules["c"] == "D2"
    assert told["nat"]["caller"]["nat"] is True
    assert told["verdict"].startswith("The call is in progress; the caller sat behind a NAT, media went")


def test_the_ladder_is_readable() -> None:
    stage = Stage()
    one_call(stage)
    (call,) = stage.proxy.rooms.calls
    lines = ladder(explain(call, stage.proxy.parts, stage.now))
    assert any("INVITE sip:+431234" in line for line in lines)
    assert any("+ Record-Route" in line and "[R5" in line for line in lines)
    assert lines[-1].startswith("The call is in progress")


def test_a_call_is_found_by_call_id_number_user_and_address() -> None:
    stage = Stage()
    one_call(stage)
    (call,) = stage.proxy.rooms.calls
    for wanted in ("call1@10.0.0.5", "+431234", "alice", "alice@203.0.113.10", "198.51.100.7"):
        assert matches(call, wanted)
    for other in ("43", "alice@203.0.113.1", "203.0.113.10", "sip"):
        assert not matches(call, other)


def test_only_the_newest_calls_keep_their_messages() -> None:
    stage = Stage(sip=SipSection.model_validate({"registrar": {"authentication": "none"}, "history": 3}))
    for number in range(5):
        one_call(stage, f"{number}call@10.0.0.5")
    kept = [call.messages is not None for call in stage.proxy.rooms.calls]
    assert kept == [False, False, True, True, True]


def test_when_media_dies_both_sides_get_a_bye_and_the_record_says_so() -> None:
    stage = Stage()
    one_call(stage)
    effects = stage._carry_out(stage.proxy.session_closed("call1@10.0.0.5", "timeout", stage.now))
    byes = {arrival.to: arrival for arrival in effects}
    assert set(byes) == {PHONE, GATEWAY}
    assert byes[PHONE].line == "BYE sip:alice@10.0.0.5:5060 SIP/2.0"
    assert byes[PHONE].message.from_.tag == "bt"
    assert byes[GATEWAY].line == "BYE sip:bob@203.0.113.80 SIP/2.0"
    assert byes[GATEWAY].message.from_.tag == "at"
    assert stage.records[0]["cause"] == "media_timeout"
    stage.send(PHONE, response(byes[PHONE], 200))
    stage.send(GATEWAY, response(byes[GATEWAY], 481))
    assert stage.wait(40) == []


def test_the_quirk_a_device_is_treated_by_is_named() -> None:
    stage = Stage()
    text = request("INVITE", f"sip:+431@{US}", headers="User-Agent: Linphone/4\r\n", body=sdp("10.0.0.5"))
    stage.send(PHONE, text)
    (call,) = stage.proxy.rooms.calls
    told = explain(call, stage.proxy.parts, stage.now)
    assert (told["nat"]["caller"]["quirk"], told["nat"]["callee"]["quirk"]) == ("linphone", None)
    assert "treated by linphone" in "\n".join(ladder(told))


def test_credentials_taken_off_a_message_are_named_without_their_secrets() -> None:
    before = b'INVITE sip:b@x SIP/2.0\r\nProxy-Authorization: Digest username="a", response="5ecret"\r\n\r\n'
    (gone,) = changes(before, b"INVITE sip:b@x SIP/2.0\r\n\r\n")
    assert (gone["rule"], gone["line"]) == ("R12", 'Proxy-Authorization: Digest username="a", response=***')
