"""Limits refuse new sessions only, in the words that clients know."""

from __future__ import annotations

import pytest

from relay.policy import LimitSettings, Policy
from relay.session import Refusal
from tests.relay.calls import ALICE, CAROL, Call, audio
from tests.relay.planes import engine


def test_the_session_limit_refuses_new_sessions_and_no_reoffer() -> None:
    relay = engine(policy=Policy(limits=LimitSettings(sessions=1)))
    call = Call(relay, "one")
    call.up()
    with pytest.raises(Refusal, match="Parallel session limit reached") as refused:
        Call(relay, "two").offer()
    assert refused.value.load_limit
    call.offer(audio(ALICE), audio(CAROL, media="video"), to_tag="b", now=5.0)
    assert relay.statistics(6.0).rejected == 1


def test_nearly_used_up_ports_refuse_new_sessions_while_reoffers_still_find_some() -> None:
    relay = engine(policy=Policy(limits=LimitSettings(ports=0.5)), low=30000, high=30011)
    call = Call(relay, "one")
    call.up()
    Call(relay, "two").offer()
    with pytest.raises(Refusal, match="Parallel session limit reached"):
        Call(relay, "three").offer()
    call.offer(audio(ALICE), audio(CAROL, media="video"), to_tag="b", now=5.0)


def test_packet_rate_and_bandwidth_refuse_new_sessions() -> None:
    relay = engine(policy=Policy(limits=LimitSettings(packets=1000.0, bytes=100_000.0)))
    relay.limits.note_load(1000.0, 10.0)
    with pytest.raises(Refusal, match="Load limit exceeded"):
        Call(relay).offer()
    relay.limits.note_load(10.0, 100_000.0)
    with pytest.raises(Refusal, match="Bandwidth limit exceeded"):
        Call(relay).offer()
    relay.limits.note_load(10.0, 10.0)
    Call(relay).offer()


def test_a_descriptor_budget_refuses_before_the_system_does() -> None:
    relay = engine(policy=Policy(limits=LimitSettings(sockets=8, ports=1.0)))
    Call(relay, "one").offer()
    Call(relay, "two").offer()
    with pytest.raises(Refusal, match="Parallel session limit reached"):
        Call(relay, "three").offer()


def test_draining_refuses_new_sessions_and_serves_the_others() -> None:
    relay = engine()
    call = Call(relay, "one")
    call.offer()
    relay.limits.draining = True
    with pytest.raises(Refusal, match="Parallel session limit reached"):
        Call(relay, "two").offer()
    call.answer()
