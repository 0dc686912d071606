"""Sessions are freed when they end; a relay with thousands of them cannot afford to search for garbage."""

from __future__ import annotations

import gc

from relay.legs import Leg, Party, Session
from relay.session import CallKey
from tests.relay.calls import Call
from tests.relay.planes import engine


def alive() -> int:
    return sum(isinstance(thing, (Session, Party, Leg)) for thing in gc.get_objects())


def test_an_ended_session_leaves_no_cycles() -> None:
    it = engine()
    gc.collect()
    before = alive()
    gc.disable()
    try:
        for number in range(20):
            call = Call(it, f"c{number}")
            call.offer(branch="x1")
            call.offer(branch="x2")
            call.answer(branch="x1", to_tag="b1")
            call.answer(branch="x2", to_tag="b2")
            it.delete(CallKey(f"c{number}", "a", via_branch="x2"), now=2.0)
            it.delete(CallKey(f"c{number}"), now=3.0)
        it.handle_timeout(4.0)
        assert not it.sessions
        assert alive() == before
    finally:
        gc.enable()
