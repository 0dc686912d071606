"""Ports that pools and sessions do not agree on."""

from __future__ import annotations

from relay.leaks import Leak, leaks
from relay.ports import PortState, PortTaken
from tests.relay.calls import Call
from tests.relay.planes import MemoryOpener, engine


class Taken(MemoryOpener):
    def open(self, local: object) -> object:  # type: ignore[override]
        raise PortTaken


def test_calls_that_come_and_go_leave_no_leak() -> None:
    relay = engine()
    call = Call(relay)
    call.up()
    assert relay.interfaces.pools[0].used
    assert leaks(relay.interfaces.pools, relay.sessions.values()) == []
    relay.kick(call.call_id, 10.0)
    assert leaks(relay.interfaces.pools, relay.sessions.values()) == []


def test_a_port_that_no_session_has_and_one_that_its_pool_forgot_are_found() -> None:
    relay = engine()
    call = Call(relay)
    call.up()
    (pool,) = relay.interfaces.pools
    lost = pool.open_single(MemoryOpener(), 1.0)
    assert lost is not None
    (session,) = relay.sessions.values()
    forgotten = session.legs()[0].sets()[0].rtp.number
    pool.release(forgotten, 1.0)
    found = {(one.number, one.leak, one.call_id) for one in leaks([pool], relay.sessions.values())}
    assert found == {(lost[0], Leak.NO_SESSION, None), (forgotten, Leak.NOT_BOUND, session.call_id)}


def test_a_port_that_another_program_holds_is_found() -> None:
    relay = engine(low=30000, high=30001)
    (pool,) = relay.interfaces.pools
    assert pool.open_pair(Taken(), 0.0) is None
    assert [(one.number, one.leak) for one in leaks([pool], [])] == [(30000, Leak.FOREIGN)]


def test_a_port_in_use_outside_a_pool_that_shrank_belongs_to_its_call_still() -> None:
    relay = engine(low=30000, high=30999)
    Call(relay).up()
    (pool,) = relay.interfaces.pools
    pool.resize(31000, 31999)
    assert pool.numbers(PortState.USED)
    assert leaks([pool], relay.sessions.values()) == []
