"""When silence ends a session, and when it must not."""

from __future__ import annotations

import pytest

from relay.effects import CloseReason, SessionClosed
from relay.engine import Engine
from relay.policy import Policy, TimeOuts
from relay.session import Direction
from tests.relay.calls import ALICE, BOB, Call, audio, plane_of
from tests.relay.planes import engine


def ends(relay: Engine, until: float, *, start: float = 0.0, step: float = 1.0) -> tuple[float, CloseReason] | None:
    now = start
    while now <= until:
        for effect in relay.handle_timeout(now):
            if isinstance(effect, SessionClosed):
                return now, effect.reason
        now += step
    return None


def test_a_session_nobody_sends_to_ends_after_the_media_time_out() -> None:
    relay = engine()
    Call(relay).up()
    assert ends(relay, 100.0) == (60.0, CloseReason.TIMEOUT)
    assert relay.sessions == {}
    assert plane_of(relay).settings == {}


def test_any_accepted_packet_keeps_a_session_alive() -> None:
    relay = engine()
    to_bob, _ = Call(relay).up()
    assert to_bob.rtp is not None
    assert to_bob.rtcp is not None
    plane = plane_of(relay)
    for second in range(0, 300, 50):
        plane.hear(to_bob.rtcp, float(second))
        assert ends(relay, second + 50.0, start=float(second)) is None
    assert ends(relay, 400.0, start=300.0) == (310.0, CloseReason.TIMEOUT)


def test_one_way_media_keeps_a_session_alive() -> None:
    relay = engine()
    _, to_alice = Call(relay).up()
    assert to_alice.rtp is not None
    plane_of(relay).hear(to_alice.rtp, 55.0)
    assert ends(relay, 114.0) is None


def test_a_call_on_hold_at_both_ends_has_the_silent_time_out() -> None:
    relay = engine()
    call = Call(relay)
    call.up()
    call.offer(audio(ALICE, direction=Direction.INACTIVE), to_tag="b", now=10.0)
    call.answer(audio(BOB, direction=Direction.INACTIVE), now=11.0)
    assert ends(relay, 3000.0, step=10.0) is None
    assert ends(relay, 4000.0, start=3000.0) == (3611.0, CloseReason.SILENT_TIMEOUT)


def test_music_on_hold_is_expected_and_its_absence_ends_the_call() -> None:
    relay = engine()
    call = Call(relay)
    call.up()
    call.offer(audio(ALICE, direction=Direction.SENDONLY), to_tag="b", now=10.0)
    call.answer(audio(BOB, direction=Direction.RECVONLY), now=11.0)
    assert ends(relay, 100.0) == (71.0, CloseReason.TIMEOUT)


def test_an_unanswered_offer_ends() -> None:
    relay = engine()
    Call(relay).offer()
    assert ends(relay, 300.0) == (240.0, CloseReason.OFFER_TIMEOUT)


def test_signalling_counts_as_a_packet() -> None:
    relay = engine()
    call = Call(relay)
    call.up()
    call.offer(to_tag="b", now=50.0)
    assert ends(relay, 109.0) is None


def test_an_absolute_limit_ends_even_a_busy_call() -> None:
    relay = engine(policy=Policy(time_outs=TimeOuts(final=90.0)))
    to_bob, _ = Call(relay).up()
    assert to_bob.rtp is not None
    plane_of(relay).hear(to_bob.rtp, 80.0)
    assert ends(relay, 100.0) == (90.0, CloseReason.FINAL_TIMEOUT)


@pytest.mark.parametrize("limits", [TimeOuts(media=0, silent=0, offer=0)])
def test_every_time_out_can_be_switched_off(limits: TimeOuts) -> None:
    relay = engine(policy=Policy(time_outs=limits))
    Call(relay, "one").up()
    Call(relay, "two").offer()
    assert relay.next_timeout() is None
    assert ends(relay, 100000.0, step=1000.0) is None


def test_the_next_time_out_is_known() -> None:
    relay = engine()
    assert relay.next_timeout() is None
    Call(relay).up()
    assert relay.next_timeout() == 60.0
