"""Upstreams: order, shares, failing over."""

from __future__ import annotations

from nattrav.config.sip import Upstream
from nattrav.net.address import TransportAddress
from tests.proxy.playbook import PHONE, US, Arrival, Stage, request, response, sdp

ONE, TWO = TransportAddress("203.0.113.81", 5060), TransportAddress("203.0.113.82", 5060)


def staged(**second: object) -> Stage:
    return Stage(
        upstreams=[
            Upstream.model_validate({"name": "one", "target": str(ONE)}),
            Upstream.model_validate({"name": "two", "target": str(TWO), "priority": 1, **second}),
        ]
    )


def invites(arrivals: list[Arrival]) -> list[TransportAddress]:
    return [arrival.to for arrival in arrivals if arrival.line.startswith("INVITE")]


def call(stage: Stage, number: int = 0) -> list[Arrival]:
    text = request("INVITE", f"sip:+431@{US}", branch=f"z9hG4bK{number}", call_id=f"c{number}", body=sdp("10.0.0.5"))
    return stage.send(PHONE, text)


def test_503_moves_the_call_to_the_next_upstream_on_a_new_branch() -> None:
    stage = staged()
    first = call(stage)[-1]
    assert first.to == ONE
    arrivals = stage.send(ONE, response(first, 503, headers="Retry-After: 30\r\n"))
    (second,) = [a for a in arrivals if a.line.startswith("INVITE")]
    assert second.to == TWO
    assert second.message.via.branch != first.message.via.branch
    assert invites(call(stage, 1)) == [TWO]
    stage.now += 31
    assert invites(call(stage, 2)) == [ONE]


def test_silence_moves_the_call_on_after_the_short_wait() -> None:
    stage = staged()
    call(stage)
    assert TWO in invites(stage.wait(6))


def test_when_all_are_spent_a_lone_503_becomes_500() -> None:
    stage = staged()
    first = call(stage)[-1]
    second = next(a for a in stage.send(ONE, response(first, 503)) if a.line.startswith("INVITE"))
    answers = stage.send(TWO, response(second, 503))
    assert [a.line for a in answers if a.to == PHONE] == ["SIP/2.0 500 Server Internal Error"]


def test_equal_upstreams_share_by_weight() -> None:
    stage = staged(priority=0, weight=3)
    chosen = [invites(call(stage, number))[0] for number in range(40)]
    assert chosen.count(TWO) == 30


def test_the_longest_prefix_wins() -> None:
    stage = staged(prefixes=["+43"])
    assert invites(call(stage)) == [TWO]
