"""What the relay is asked about a party is said in full with every offer and answer, the restoring ones too."""

from __future__ import annotations

from tests.proxy.playbook import GATEWAY, PHONE, US, Stage, request, response, sdp
from tests.proxy.test_calls_through_nat import call_out, in_dialog

FROM_PHONE = ["SIP-source-address", "strict-source"]


def test_learning_is_asked_for_and_who_is_behind_nat_is_told() -> None:
    stage = Stage()
    call_out(stage)
    (_, offer), (_, answer) = stage.relay.asked
    assert offer["flags"] == FROM_PHONE
    assert offer["received-from"] == ["IP4", PHONE.host]
    assert offer["endpoint-learning"] == answer["endpoint-learning"] == "heuristic"
    assert offer["supports"] == ["load limit"]
    assert "trust-address" in answer["flags"]


def test_a_failed_re_invite_restores_the_exchange_with_all_it_was_made_with() -> None:
    stage = Stage()
    _, ok = call_out(stage)
    stage.send(PHONE, in_dialog("ACK", ok, by_caller=True, cseq=1))
    before = [arguments for _, arguments in stage.relay.asked]
    renewed = in_dialog("INVITE", ok, by_caller=True, contact="<sip:alice@10.0.0.5:5060>", body=sdp("10.0.0.5", 4444))
    arrived = next(a for a in stage.send(PHONE, renewed) if a.line.startswith("INVITE"))
    stage.send(GATEWAY, response(arrived, 488))
    (first, offer), (second, answer) = stage.relay.asked[-2:]
    assert (first, second) == ("offer", "answer")
    for restored, original in zip((offer, answer), before, strict=True):
        for name in ("sdp", "flags", "received-from", "endpoint-learning", "replace", "ICE"):
            assert restored[name] == original[name], name


def test_the_relay_is_told_whether_an_sdp_came_in_a_request_or_in_which_response() -> None:
    stage = Stage()
    _, forwarded = stage.send(PHONE, request("INVITE", f"sip:+431@{US}", body=sdp("10.0.0.5")))
    stage.send(GATEWAY, response(forwarded, 183, body=sdp("203.0.113.80")))
    stage.send(GATEWAY, response(forwarded, 200, body=sdp("203.0.113.80", 4002)))
    asked = [(command, one["sip-message-type"], one.get("sip-code")) for command, one in stage.relay.asked]
    assert asked == [
        ("offer", "sip_request", None),
        ("answer", "sip_reply", 183),
        ("answer", "sip_reply", 200),
    ]
