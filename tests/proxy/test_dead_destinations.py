"""Next hops found by name: fail-over to the next address, and memory of those that did not answer (RFC 3263 §4.3)."""

from __future__ import annotations

from nattrav.net.address import TransportAddress
from tests.proxy.playbook import PHONE, Arrival, Stage, request, response

FIRST, SECOND = TransportAddress("192.0.2.1", 5060), TransportAddress("192.0.2.2", 5060)
NAMES: list[tuple[str, tuple[str, int], str | None]] = [
    ("udp", FIRST, "other.example"),
    ("udp", SECOND, "other.example"),
]


def stage() -> Stage:
    made = Stage(upstreams=[])
    made.any_name = NAMES
    return made


def option(made: Stage, number: int) -> list[Arrival]:
    text = request("OPTIONS", "sip:bob@other.example", branch=f"z9hG4bKo{number}", call_id=f"o{number}")
    return [arrival for arrival in made.send(PHONE, text) if arrival.line.startswith("OPTIONS")]


def test_a_next_hop_that_is_silent_is_left_for_the_next_and_tried_last_for_a_while() -> None:
    made = stage()
    (sent,) = option(made, 1)
    assert sent.to == FIRST
    assert {arrival.to for arrival in made.wait(8) if arrival.line.startswith("OPTIONS")} == {FIRST, SECOND}
    assert [arrival.to for arrival in option(made, 2)] == [SECOND]
    made.wait(301)
    assert [arrival.to for arrival in option(made, 3)] == [FIRST]


def test_a_503_is_answered_by_the_next_address_and_its_retry_after_is_kept() -> None:
    made = stage()
    (sent,) = option(made, 1)
    answers = made.send(FIRST, response(sent, 503, "Busy", headers="Retry-After: 20\r\n"))
    assert [arrival.to for arrival in answers] == [SECOND]
    assert [arrival.to for arrival in option(made, 2)] == [SECOND]
    made.wait(21)
    assert [arrival.to for arrival in option(made, 3)] == [FIRST]
