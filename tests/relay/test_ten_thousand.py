"""Ten thousand sessions at once: bounded work per second, and everything given back at the end."""

from __future__ import annotations

import json
import time

from relay.effects import SessionClosed
from relay.legs import Condition
from relay.session import CallKey, SideOptions
from tests.relay.calls import ALICE, BOB, audio, opener_of, plane_of
from tests.relay.planes import engine

SESSIONS = 10_000


def test_ten_thousand_sessions_are_opened_kept_and_closed() -> None:
    relay = engine(*(f"public{n}/203.0.113.{n + 1}" for n in range(2)), low=20001, high=60000)
    options = SideOptions(from_interface="public0", to_interface="public1")
    alice, bob = [audio(ALICE)], [audio(BOB)]
    started = time.process_time()
    for number in range(SESSIONS):
        relay.offer(CallKey(f"call-{number}", "a", None, "z"), alice, options, 0.0)
        relay.answer(CallKey(f"call-{number}", "a", "b", "z"), bob, options, 0.0)
    set_up = time.process_time() - started
    assert len(relay.sessions) == SESSIONS
    assert len(opener_of(relay).bound) == 4 * SESSIONS

    records, gone, _ = relay.take_changes()
    assert (len(records), gone) == (SESSIONS, [])
    assert len(json.dumps(records[0])) < 4000

    started = time.process_time()
    for second in range(10):
        relay.look_at_quality(20.0 + second, 1.0)
    surveyed = time.process_time() - started
    assert relay.survey.findings(relay.sessions).conditions == {Condition.NO_MEDIA: SESSIONS}

    started = time.process_time()
    ended = [effect for effect in relay.handle_timeout(61.0) if isinstance(effect, SessionClosed)]
    closed = time.process_time() - started
    assert len(ended) == SESSIONS
    assert opener_of(relay).bound == set()
    assert plane_of(relay).settings == {}
    assert sum(pool.quarantined for pool in relay.interfaces.pools) == 4 * SESSIONS
    print(f"set up {set_up:.2f} s, surveyed {surveyed:.2f} s, closed {closed:.2f} s")
    # Generous bounds: what matters is that nothing grows with the number of sessions.
    assert set_up < 20
    assert surveyed < 10
