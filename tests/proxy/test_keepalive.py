"""Keepalives: who gets them, how often, and what is learned of NATs on the way."""

from __future__ import annotations

from typing import Any

import pytest

from nattrav.config.sip import Quirk, SipSection
from nattrav.net.address import TransportAddress
from nattrav.proxy.lifetimes import Lifetimes
from tests.proxy.playbook import OTHER, PHONE, Arrival, Stage, register, response


def staged(**keepalive: Any) -> Stage:
    sip = SipSection.model_validate({"registrar": {"authentication": "none"}, "keepalive": keepalive})
    return Stage(sip=sip, upstreams=[])


def pings(arrivals: list[Arrival]) -> list[Arrival]:
    return [arrival for arrival in arrivals if arrival.line.startswith("OPTIONS")]


def living(stage: Stage, seconds: float, lifetime: float = 1e9) -> list[float]:
    """Let a phone answer every keepalive that its NAT lets through; give the times of the keepalives."""
    times: list[float] = []
    last = stage.now
    end = stage.now + seconds
    while stage.now < end:
        for ping in pings(stage.wait(1.0)):
            times.append(stage.now)
            if stage.now - last <= lifetime:
                stage.send(PHONE, response(ping, 200))
                last = stage.now
    return times


def test_a_phone_without_a_nat_gets_none() -> None:
    stage = staged()
    public = TransportAddress("198.51.100.7", 5060)
    stage.send(public, register(private="198.51.100.7:5060"))
    assert stage.wait(100) == []


def test_flows_are_spread_over_the_interval() -> None:
    stage = staged()
    for number in range(50):
        source = TransportAddress("198.51.100.7", 40000 + number)
        stage.send(source, register(f"u{number}", branch=f"z9hG4bK{number}", call_id=f"r{number}", expires=3600))
    per_second = [len(pings(stage.wait(1.0))) for _ in range(30)]
    assert sum(per_second) >= 50
    assert max(per_second) < 15


def test_two_bindings_of_one_flow_are_pinged_once() -> None:
    stage = staged(adaptive=False)
    stage.send(PHONE, register("alice"))
    stage.send(PHONE, register("bob", branch="z9hG4bK2", call_id="r2"))
    assert len(pings(stage.wait(26))) == 1


def test_a_device_may_be_left_in_peace() -> None:
    quiet = Quirk.model_validate({"user_agent": "Sleepy", "ping": "none"})
    stage = staged()
    stage = Stage(sip=stage.sip, upstreams=[], extra={"quirks": [quiet]})
    stage.send(PHONE, register(headers="User-Agent: Sleepy/2\r\n"))
    assert stage.wait(100) == []


@pytest.mark.parametrize(
    "change",
    [
        ("", ""),
        ("Via: SIP/2.0/UDP", "v:SIP/2.0/UDP"),
        ("Via: SIP/2.0/UDP", "VIA :  SIP / 2.0 / UDP"),
        (";branch=", ";received=198.51.100.7;branch="),
        ("SIP/2.0 200 Whatever", "SIP/2.0 405 Method Not Allowed"),
        ("SIP/2.0 200 Whatever\r\n", "SIP/2.0 200 OK\r\nServer: phone\r\n"),
    ],
)
def test_an_answer_proves_life_however_it_is_written(change: tuple[str, str]) -> None:
    stage = staged(adaptive=False)
    stage.send(PHONE, register(expires=3600))
    for _ in range(10):
        for ping in pings(stage.wait(25)):
            assert stage.send(PHONE, response(ping, 200).replace(*change)) == []
    assert len(stage.proxy.rooms.location) == 1
    assert stage.drops == []


def test_an_answer_from_elsewhere_proves_nothing() -> None:
    stage = staged(adaptive=False)
    stage.send(PHONE, register(expires=3600))
    for _ in range(3):
        for ping in pings(stage.wait(25)):
            stage.send(OTHER, response(ping, 200))
    assert len(stage.proxy.rooms.location) == 0


def test_a_phone_that_answers_no_more_is_unregistered_after_three_losses() -> None:
    stage = staged(adaptive=False)
    stage.send(PHONE, register(expires=3600))
    assert len(pings(stage.wait(60))) == 3
    assert len(stage.proxy.rooms.location) == 0


def test_the_interval_grows_on_a_patient_nat_up_to_the_limit() -> None:
    stage = staged(longest=100)
    stage.send(PHONE, register(expires=3600))
    stage.proxy.parts.wall_offset += 3500  # the refresh is near: probing costs little
    for _ in range(6):
        living(stage, 80)
        stage.proxy.parts.wall_offset -= 80
    known = stage.proxy.keepalive.lifetimes.of(("198.51.100.7", ""))
    assert known.good == 100


def test_a_lost_test_ends_no_registration_and_narrows_the_search() -> None:
    lifetimes = Lifetimes(25.0, 170.0)
    key, real = ("198.51.100.7", "Acme"), 60.0
    now = 0.0
    for _ in range(40):
        wait, testing = lifetimes.interval(key, "flow", now, may_probe=True)
        now += wait
        if not testing:
            break
        if wait <= real:
            lifetimes.answered(key, "flow")
        else:
            assert lifetimes.lost(key, "flow")
    known = lifetimes.of(key)
    assert known.good <= real
    assert known.good > 0.85 * real
    assert wait <= 0.8 * real + 0.001
    assert lifetimes.interval(key, "other", now, may_probe=True) == (wait, False)


def test_only_one_flow_of_a_nat_is_the_probe_and_other_traffic_voids_the_test() -> None:
    lifetimes = Lifetimes(25.0, 170.0)
    key = ("198.51.100.7", "Acme")
    assert lifetimes.interval(key, "one", 0.0, may_probe=True) == (37.5, True)
    assert lifetimes.interval(key, "two", 0.0, may_probe=True) == (25.0, False)
    lifetimes.disturbed(key, "one")
    lifetimes.answered(key, "one")
    assert lifetimes.of(key).good == 25.0


def test_a_nat_that_is_known_to_be_short_is_never_tested_to_death() -> None:
    stage = staged()
    stage.send(OTHER, register("bob", branch="z9hG4bKo", call_id="ro", private="192.168.1.5:5060"))
    stage.send(PHONE, register(expires=120))
    living(stage, 110, lifetime=30.0)
    assert any(binding.aor.startswith("alice") for binding in stage.proxy.rooms.location)


def test_a_phone_that_keeps_its_flow_alive_by_itself_is_not_asked_in_between() -> None:
    stage = staged()
    stage.send(PHONE, register(expires=3600))
    flow = stage.flow(PHONE)
    assert stage.proxy.keepalive.seen(flow) is None
    for _ in range(6):
        stage.proxy.kept(flow, stage.now)
        assert pings(stage.wait(20)) == []
    assert stage.proxy.keepalive.seen(flow) == stage.now - 20
    assert len(pings(stage.wait(10))) == 1


def test_a_keepalive_of_nobody_is_nothing() -> None:
    stage = staged()
    stage.proxy.kept(stage.flow(OTHER), stage.now)
    assert stage.wait(60) == []
