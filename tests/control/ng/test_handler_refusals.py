"""ng requests that are refused, in the words that clients know."""

from __future__ import annotations

import pytest

from relay.policy import LimitSettings, Policy
from tests.control.ng.requests import ANSWER, CALLEE, OFFER, Driver
from tests.relay.planes import engine as memory_engine
from tests.sdp.samples import PHONE, sdp


@pytest.mark.parametrize(
    ("command", "missing", "reason"),
    [
        ("offer", "sdp", "No SDP body in message"),
        ("offer", "call_id", "No call-id in message"),
        ("offer", "from_tag", "No from-tag in message"),
        ("answer", "sdp", "No SDP body in message"),
        ("answer", "call_id", "No call-id in message"),
        ("answer", "from_tag", "No from-tag in message"),
        ("answer", "to_tag", "No to-tag in message"),
        ("delete", "call_id", "No call-id in message"),
        ("query", "call_id", "No call-id in message"),
        ("block media", "call_id", "No call-id in message"),
    ],
)
def test_missing_keys_are_named(command: str, missing: str, reason: str) -> None:
    keys: dict[str, str | bytes] = {"sdp": OFFER, "call_id": "c1", "from_tag": "a", "to_tag": "b"}
    del keys[missing]
    assert Driver().ask(command, **keys) == {"result": "error", "error-reason": reason}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"v=0\r\nm=audio\r\n", "Failed to parse SDP"),
        (b"hello", "Failed to parse SDP"),
        (sdp(*PHONE[:3], *PHONE[4:]), "Incomplete SDP specification"),
    ],
)
def test_bad_sdp_is_refused_in_the_known_words(text: bytes, reason: str) -> None:
    relay = Driver()
    assert relay.offer(text) == {"result": "error", "error-reason": reason}
    assert relay.ask("list")["calls"] == []


def test_strangers_are_told_so() -> None:
    relay = Driver()
    assert relay.answer(ANSWER)["error-reason"] == "Unknown call-id"
    assert relay.ask("query", call_id="x")["error-reason"] == "Unknown call-id"
    assert relay.ask("block media", call_id="x")["error-reason"] == "Unknown call-ID"
    unknown = "Call-ID not found or tags didn't match"
    assert relay.ask("delete", call_id="x") == {"warning": unknown, "result": "ok"}
    assert relay.ask("delete", call_id="x", flags=["fatal"]) == {"result": "error", "error-reason": unknown}
    relay.offer(OFFER)
    assert relay.offer(OFFER, to_tag="a")["error-reason"] == "Invalid dialogue association"


def test_more_streams_in_the_answer_than_offered_are_refused() -> None:
    relay = Driver()
    relay.offer(OFFER)
    more = sdp(*CALLEE, "m=video 6002 RTP/AVP 31")
    assert relay.answer(more)["error-reason"] == "Incomplete SDP specification"


def test_a_limit_is_told_as_the_client_understands_it() -> None:
    relay = Driver(engine=memory_engine(policy=Policy(limits=LimitSettings(sessions=1))))
    relay.offer(OFFER)
    refused = relay.offer(OFFER, call_id="c2", supports=["load limit"])
    assert refused == {"result": "load limit", "message": "Parallel session limit reached"}
    refused = relay.offer(OFFER, call_id="c2")
    assert refused == {"result": "error", "error-reason": "Parallel session limit reached"}
    assert relay.offer(OFFER, to_tag="b")["result"] == "ok"


def test_exhausted_ports_have_their_own_word() -> None:
    relay = Driver(engine=memory_engine(low=30000, high=30003, policy=Policy(limits=LimitSettings(ports=0))))
    relay.offer(OFFER)
    assert relay.offer(OFFER, call_id="c2")["error-reason"] == "Ran out of ports"


@pytest.mark.parametrize("command", ["silence media", "play DTMF", "start recording", "block DTMF", "stop forwarding"])
def test_what_we_do_not_carry_out_is_unsupported(command: str) -> None:
    assert Driver().ask(command) == {"result": "error", "error-reason": "unsupported"}


@pytest.mark.parametrize("command", ["publish", "subscribe request", "Ping", "", "offer ", "cli"])
def test_other_words_are_no_commands(command: str) -> None:
    assert Driver().ask(command) == {"result": "error", "error-reason": "Unrecognized command"}
