"""More of what people do with phones: transfer, hold two calls, press digits, listen before the answer."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.natlab import edges, kamailio
from tests.natlab.calls import finish, heard_on_wire
from tests.natlab.capture import Capture
from tests.natlab.laboratory import BUNDLE, GATEWAY, Laboratory
from tests.natlab.nats import Kind
from tests.natlab.town import NUMBER, Town
from tests.tones import CALLEE, CALLER

pytestmark = [pytest.mark.lab, pytest.mark.interop, pytest.mark.slow]

ALICE, SISTER, BOB, EVE = "alice", "sister", "bob", "eve"


@pytest.fixture(scope="module")
def town(laboratory: Laboratory, capture: Capture, user_agents: None) -> Iterator[Town]:
    """Alice and her sister behind one symmetric NAT; Bob behind another; Eve plays before she answers."""
    edge = edges.choose(laboratory, [ALICE, SISTER, BOB, EVE])
    if edge.name == "kamailio" and (reason := kamailio.missing()):
        pytest.skip(reason)
    family = laboratory.subscriber("family", Kind.SYMMETRIC, phones=2)
    bobs = laboratory.subscriber("bobs", Kind.PORT_RESTRICTED)
    eves = laboratory.subscriber("eves", Kind.SYMMETRIC)
    with Town(laboratory, edge, capture) as made:
        made.phone(ALICE, family.phones[0])
        made.phone(SISTER, family.phones[1], frequency=CALLEE)
        made.phone(BOB, bobs.phone, frequency=CALLEE)
        made.phone(EVE, eves.phone, frequency=CALLEE, answer="early")
        yield made


def established(town: Town, caller: str, callee: str) -> tuple[int, float]:
    mark, begin = town.capture.mark(), time.monotonic()
    one = town.phones[caller]
    other = town.gateway if callee == NUMBER else town.phones[callee]
    one.dial(callee)
    one.wait_established(since=begin)
    other.wait_established(since=begin)
    return mark, begin


def test_a_transferred_call_goes_on_between_the_other_two(town: Town, capture: Capture) -> None:
    alice, bob, sister = (town.phones[name] for name in (ALICE, BOB, SISTER))
    mark, _ = established(town, BOB, ALICE)
    time.sleep(0.5)
    moved = time.monotonic()
    alice.command("transfer", f"sip:{SISTER}@{town.edge.domain}")
    sister.wait_established(since=moved)
    bob.wait_established(since=moved)
    alice.wait("CALL_CLOSED", since=moved)
    talk = capture.mark()
    time.sleep(1.2)
    sister.hang_up()
    bob.wait("CALL_CLOSED", since=moved)
    bobs = town.laboratory.subscribers["bobs"].public
    refer = capture.first(lambda one: one.message.is_request("REFER") and one.packet.destination[0] == bobs, since=mark)
    assert refer.packet.source == (BUNDLE, 5060)
    at_bob = [packet for packet in capture.packets(talk) if packet.destination[0] == bobs]
    assert len([packet for packet in at_bob if packet.is_rtp]) > 30


def test_a_phone_holds_two_calls_at_once(town: Town, capture: Capture) -> None:
    alice, bob = town.phones[ALICE], town.phones[BOB]
    _, first = established(town, ALICE, NUMBER)
    second = time.monotonic()
    alice.dial(BOB)
    bob.wait_established(since=second)
    alice.wait_established(since=second)
    time.sleep(0.3)
    ended = time.monotonic()
    alice.hang_up()
    bob.wait("CALL_CLOSED", since=ended)
    alice.command("line", "1")
    alice.hang_up()
    town.gateway.wait("CALL_CLOSED", since=first)


def test_digits_arrive_as_telephone_events(town: Town, capture: Capture) -> None:
    alice = town.phones[ALICE]
    mark, begin = established(town, ALICE, NUMBER)
    time.sleep(0.5)
    alice.command("sndcode", "7")
    time.sleep(0.6)
    finish(alice, town.gateway, capture, mark, begin, seconds=1.0)
    events = [
        packet.payload[12]
        for packet in capture.packets(mark)
        if packet.is_rtp and packet.destination[0] == GATEWAY and packet.payload[1] & 0x7F == 101
    ]
    assert set(events) == {7}


def test_media_passes_before_the_answer(town: Town, capture: Capture) -> None:
    """Baresip answers early with 183 and sends nothing then, so the caller's voice is looked for."""
    alice, eve = town.phones[ALICE], town.phones[EVE]
    mark, begin = capture.mark(), time.monotonic()
    alice.dial(EVE)
    alice.wait("CALL_PROGRESS", since=begin)
    time.sleep(1.5)
    eves = town.laboratory.subscribers["eves"].public
    early = [packet for packet in capture.packets(mark) if packet.destination[0] == eves]
    assert heard_on_wire(early, far=CALLER, own=CALLEE).well
    eve.accept()
    alice.wait_established(since=begin)
    finish(alice, eve, capture, mark, begin, seconds=0.5)


def test_signalling_that_is_lost_for_a_while_is_repeated_until_it_arrives(town: Town, capture: Capture) -> None:
    alice = town.phones[ALICE]
    family = town.laboratory.subscribers["family"]
    begin = time.monotonic()
    with family.signalling_lost():
        alice.dial(BOB)
        time.sleep(2.5)
    alice.wait_established(since=begin, seconds=20.0)
    ended = time.monotonic()
    with family.signalling_lost():
        alice.hang_up()
        time.sleep(1.5)
    town.phones[BOB].wait("CALL_CLOSED", since=ended, seconds=15.0)
