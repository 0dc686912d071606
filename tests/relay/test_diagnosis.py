"""One-way and missing media: seen while the call is up, and told by its cause."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nattrav.net.address import TransportAddress
from relay.diagnosis import Cause, DirectionReport, directions
from relay.effects import SessionClosed
from relay.engine import Engine
from relay.legs import Condition
from relay.plane import DropReason, Learned, RtpFigures
from relay.session import CallKey, Direction, Placement
from tests.relay.calls import ALICE, BOB, Call, audio, plane_of
from tests.relay.planes import engine


def survey(relay: Engine, now: float) -> None:
    for step in range(10):
        relay.look_at_quality(now + step, 1.0)


def heard(relay: Engine, place: Placement, now: float, packets: int = 100) -> None:
    assert place.rtp is not None
    plane_of(relay).hear(place.rtp, now, packets)
    flow = plane_of(relay).flow(place.rtp)
    figures = plane_of(relay).counted[flow]
    plane_of(relay).counted[flow] = replace(
        figures, rtp=RtpFigures(ssrc=7, expected=figures.packets_in, received=figures.packets_in)
    )


def dropped(relay: Engine, place: Placement, reason: DropReason, count: int = 50) -> None:
    assert place.rtp is not None
    plane = plane_of(relay)
    flow = plane.flow(place.rtp)
    figures = plane.counted[flow]
    plane.counted[flow] = replace(
        figures, packets_in=figures.packets_in + count, drops={reason: figures.drops.get(reason, 0) + count}
    )


def condition(relay: Engine) -> Condition | None:
    return relay.sessions["call-1"].condition


def towards(relay: Engine, tag: str, now: float) -> DirectionReport:
    return next(one for one in directions(relay.sessions["call-1"], relay.streams, now) if one.receiver == tag)


def test_media_both_ways_is_no_condition() -> None:
    relay = engine()
    to_bob, to_alice = Call(relay).up()
    heard(relay, to_bob, 20.0)
    heard(relay, to_alice, 20.0)
    survey(relay, 15.0)
    assert condition(relay) is None


def test_one_way_media_is_seen_within_the_grace_and_gone_when_the_other_way_comes() -> None:
    relay = engine()
    to_bob, to_alice = Call(relay).up()
    heard(relay, to_alice, 5.0)
    relay.look_at_quality(6.0, 100.0)
    assert condition(relay) is None
    heard(relay, to_alice, 20.0)
    survey(relay, 20.0)
    assert condition(relay) is Condition.ONE_WAY
    findings = relay.survey.findings(relay.sessions)
    assert findings.conditions == {Condition.ONE_WAY: 1}
    assert findings.causes == {Cause.NOTHING_RECEIVED: 1}
    heard(relay, to_alice, 35.0)
    heard(relay, to_bob, 35.0)
    survey(relay, 35.0)
    assert condition(relay) is None
    assert relay.survey.findings(relay.sessions).conditions == {}


def test_who_asks_is_told_of_one_way_media_before_the_survey_comes_by() -> None:
    relay = engine()
    _, to_alice = Call(relay).up()
    heard(relay, to_alice, 12.0)
    assert condition(relay) is None
    relay.survey.judge(relay.sessions["call-1"], 12.5)
    assert condition(relay) is Condition.ONE_WAY
    assert relay.survey.findings(relay.sessions).causes == {Cause.NOTHING_RECEIVED: 1}


def test_no_media_at_all_is_told_apart_and_counted_at_the_end() -> None:
    relay = engine()
    Call(relay).up()
    survey(relay, 20.0)
    assert condition(relay) is Condition.NO_MEDIA
    relay.delete(CallKey("call-1"), now=40.0)
    (closed,) = relay.take_effects()
    assert isinstance(closed, SessionClosed)
    assert closed.condition == "no_media"
    assert relay.statistics(41.0).closed_no_media == 1


def test_hold_is_not_one_way() -> None:
    relay = engine()
    call = Call(relay)
    _, to_alice = call.up()
    call.offer(audio(ALICE, direction=Direction.SENDONLY), to_tag="b", now=5.0)
    call.answer(audio(BOB, direction=Direction.RECVONLY), now=6.0)
    heard(relay, to_alice, 30.0)
    survey(relay, 25.0)
    assert condition(relay) is None


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        (DropReason.SOURCE_MISMATCH, Cause.WRONG_SOURCE),
        (DropReason.NOT_RTP, Cause.NOT_RTP),
        (DropReason.NO_PEER, Cause.NO_ADDRESS),
        (DropReason.NAT_WAIT, Cause.WAITING_FOR_NAT),
        (DropReason.SEND_ERROR, Cause.SEND_ERROR),
        (DropReason.WRONG_LOCAL, Cause.OLD_PORT),
    ],
)
def test_what_is_dropped_names_the_cause(reason: DropReason, cause: Cause) -> None:
    relay = engine()
    to_bob, _ = Call(relay).up()
    dropped(relay, to_bob, reason)
    report = towards(relay, "a", 30.0)
    assert report.cause is cause
    assert report.explanation
    assert report.received == 50
    assert report.passed == 0


def test_a_party_that_was_heard_and_fell_silent_has_stopped_sending() -> None:
    relay = engine()
    to_bob, _ = Call(relay).up()
    heard(relay, to_bob, 5.0)
    report = towards(relay, "a", 30.0)
    assert report.cause is Cause.STOPPED_SENDING
    assert report.silent == 25.0


def test_a_party_that_keeps_to_its_old_port_is_found() -> None:
    relay = engine()
    call = Call(relay)
    to_bob, _ = call.up()
    call.offer(audio(TransportAddress("198.51.100.99", 7000)), to_tag="b", now=5.0)
    call.answer(now=6.0)
    dropped(relay, to_bob, DropReason.WRONG_LOCAL)
    assert to_bob.rtp is not None
    flow = plane_of(relay).flow(to_bob.rtp)
    plane_of(relay).counted[flow] = replace(plane_of(relay).counted[flow], last_in=29.0)
    assert towards(relay, "a", 30.0).cause is Cause.OLD_PORT


def test_flowing_media_has_no_cause_and_shows_where_it_goes() -> None:
    relay = engine()
    to_bob, to_alice = Call(relay).up()
    heard(relay, to_bob, 29.0)
    assert to_alice.rtp is not None
    flow = plane_of(relay).flow(to_alice.rtp)
    natted = TransportAddress("198.51.100.200", 55555)
    plane_of(relay).counted[flow] = replace(
        plane_of(relay).counted[flow], packets_in=9, learned=Learned(natted, natted, True)
    )
    report = towards(relay, "a", 30.0)
    assert report.cause is None
    assert report.target == natted


def test_quality_is_measured_once_per_interval_and_kept_with_the_leg() -> None:
    relay = engine()
    to_bob, _ = Call(relay).up()
    heard(relay, to_bob, 5.0, packets=500)
    found = [quality for second in range(5, 14) for quality in relay.look_at_quality(float(second), 1.0)]
    assert len(found) == 1
    assert found[0].mos is not None
    assert found[0].codec == "pcmu"
    heard(relay, to_bob, 16.0, packets=500)
    found = [quality for second in range(16, 27) for quality in relay.look_at_quality(float(second), 1.0)]
    assert len(found) == 1
    bob = relay.query("call-1", "b", now=30.0).parties[0]
    assert bob.legs[0].quality.samples == 2


def test_the_work_of_a_survey_is_spread_over_its_interval() -> None:
    relay = engine(low=30000, high=39999)
    for number in range(100):
        to_bob, _ = Call(relay, f"call-{number}").up()
        heard(relay, to_bob, 5.0)
    shares = [len(relay.look_at_quality(10.0 + second, 1.0)) for second in range(10)]
    assert shares == [10] * 10


def test_a_call_shorter_than_an_interval_is_measured_when_it_ends() -> None:
    relay = engine()
    to_bob, _ = Call(relay).up()
    heard(relay, to_bob, 3.0, packets=150)
    report = relay.delete(CallKey("call-1"), now=4.0)
    bob = next(party for party in report.parties if party.tag == "b")
    assert bob.legs[0].quality.average is not None
    (quality,) = relay.look_at_quality(5.0, 1.0)
    assert quality.expected == 150


def test_loss_is_summed_over_open_and_ended_streams_of_a_pool() -> None:
    relay = engine()
    to_bob, to_alice = Call(relay).up()
    heard(relay, to_bob, 3.0, packets=150)
    relay.look_at_quality(3.5, 100.0)
    assert relay.streams.rtp_by_pool()["public"].expected == 150
    heard(relay, to_alice, 4.0, packets=50)
    relay.delete(CallKey("call-1"), now=5.0)
    assert relay.streams.rtp_by_pool()["public"].expected == 200
