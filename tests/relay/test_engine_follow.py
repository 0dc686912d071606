"""A relay with calls is given other settings: calls go on, new ones go by the new settings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.effects import CloseReason, SessionClosed
from relay.interfaces import Interfaces, LocalAddress
from relay.policy import LimitSettings, Policy, TimeOuts
from relay.ports import PortPool
from relay.session import Refusal
from tests.relay.calls import Call
from tests.relay.planes import engine


def test_limits_count_for_the_next_session_and_no_call_ends() -> None:
    relay = engine()
    Call(relay, "one").up()
    Call(relay, "two").up()
    relay.follow(relay.interfaces, replace(relay.policy, limits=LimitSettings(sessions=1)), 5.0)
    with pytest.raises(Refusal, match="Parallel session limit reached"):
        Call(relay, "three").offer(now=5.0)
    assert list(relay.sessions) == ["one", "two"]


def test_time_outs_count_for_calls_that_are_up() -> None:
    relay = engine(policy=Policy(time_outs=TimeOuts(media=60.0)))
    Call(relay, "one").up()
    assert relay.handle_timeout(20.0) == []
    relay.follow(relay.interfaces, replace(relay.policy, time_outs=TimeOuts(media=10.0)), 20.0)
    closed = [effect for effect in relay.handle_timeout(21.0) if isinstance(effect, SessionClosed)]
    assert [effect.reason for effect in closed] == [CloseReason.TIMEOUT]


def test_new_sessions_take_ports_of_the_new_range_and_old_ones_keep_theirs() -> None:
    relay = engine(low=30000, high=30099)
    old = Call(relay, "old")
    old.up()
    before = {port.number for leg in relay.sessions["old"].legs() for ports in leg.sets() for port in ports.ports()}
    relay.interfaces.pools[0].resize(31000, 31099)
    relay.follow(relay.interfaces, relay.policy, 5.0)
    Call(relay, "new").up()
    new = {port.number for leg in relay.sessions["new"].legs() for ports in leg.sets() for port in ports.ports()}
    assert all(30000 <= number < 30100 for number in before)
    assert all(31000 <= number < 31100 for number in new)
    old.offer(to_tag="b", now=6.0)
    relay.kick("old", 7.0)
    relay.kick("new", 7.0)
    assert relay.interfaces.pools[0].used == 0


def test_an_added_interface_is_there_for_the_next_session() -> None:
    relay = engine()
    Call(relay, "old").up()
    pool = PortPool("inside", "10.0.0.1", 32000, 32009, choose=lambda n: 0)
    added = LocalAddress("inside", "10.0.0.1", "10.0.0.1", pool)
    relay.follow(Interfaces([*relay.interfaces.addresses, added]), relay.policy, 1.0)
    assert relay.interfaces.named("inside")
    Call(relay, "old").offer(to_tag="b", now=2.0)
