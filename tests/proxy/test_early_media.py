"""Which of several phones' early media the caller hears."""

from __future__ import annotations

import pytest

from nattrav.config.sip import SipSection
from tests.proxy.playbook import GATEWAY, OTHER, PHONE, US, Arrival, Stage, register, request, response, sdp


def forked(policy: str) -> tuple[Stage, Arrival, Arrival]:
    sip = SipSection.model_validate({"registrar": {"authentication": "none"}, "early_media": policy})
    stage = Stage(sip=sip)
    stage.send(PHONE, register("bob"))
    stage.send(OTHER, register("bob", private="10.0.0.6:5060", branch="z9hG4bK2", call_id="r2"))
    text = request("INVITE", f"sip:bob@{US}", via="203.0.113.80", body=sdp("203.0.113.80"))
    rings = {a.to: a for a in stage.send(GATEWAY, text) if a.line.startswith("INVITE")}
    return stage, rings[PHONE], rings[OTHER]


def heard(stage: Stage, ring: Arrival, status: int, tag: str, *, headers: str = "", body: bool = True) -> list[bool]:
    """Let a phone answer; give for each response that reaches the caller whether it has an SDP."""
    text = response(ring, status, tag=tag, headers=headers, body=sdp("10.0.0.5") if body else "")
    return [bool(a.message.body) for a in stage.send(ring.to, text) if a.to == GATEWAY]


@pytest.mark.parametrize(("policy", "other"), [("last", [True]), ("first", [False]), ("single", [])])
def test_the_early_media_of_a_second_phone(policy: str, other: list[bool]) -> None:
    stage, one, two = forked(policy)
    assert heard(stage, one, 183, "t1") == [True]
    assert heard(stage, two, 183, "t2") == other
    assert heard(stage, one, 183, "t1") == [True]
    assert heard(stage, two, 180, "t2", body=False) == [False]


@pytest.mark.parametrize("policy", ["last", "first", "single"])
def test_the_answer_of_the_second_phone_passes_with_its_media_whatever_came_before(policy: str) -> None:
    stage, one, two = forked(policy)
    heard(stage, one, 183, "t1")
    heard(stage, two, 183, "t2")
    assert heard(stage, two, 200, "t2") == [True]


@pytest.mark.parametrize("policy", ["first", "single"])
def test_a_response_that_must_be_acknowledged_is_never_kept_back(policy: str) -> None:
    stage, one, two = forked(policy)
    heard(stage, one, 183, "t1")
    assert heard(stage, two, 183, "t2", headers="Require: 100rel\r\nRSeq: 1\r\n") == [True]


def test_where_the_sdp_was_taken_off_nothing_of_it_is_left() -> None:
    stage, one, two = forked("first")
    heard(stage, one, 183, "t1")
    (up,) = stage.send(two.to, response(two, 183, tag="t2", body=sdp("10.0.0.6")))
    assert (up.message.has("content-type"), up.message.first("content-length")) == (False, "0")
