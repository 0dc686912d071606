"""What people do with calls: hold, resume, give up, refuse, hang up on either side, sit behind the same router."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.natlab import edges, kamailio
from tests.natlab.baresip import Baresip
from tests.natlab.calls import TALK_SECONDS, CallRecord, finish, heard_on_wire, place
from tests.natlab.capture import Capture
from tests.natlab.laboratory import BUNDLE, GATEWAY, Laboratory
from tests.natlab.nats import Kind
from tests.natlab.town import NUMBER, Town
from tests.tones import CALLEE, CALLER

pytestmark = [pytest.mark.lab, pytest.mark.interop, pytest.mark.slow]

ALICE, HER_SISTER, BOB, TOM = "alice", "sister", "bob", "tom"


@pytest.fixture(scope="module")
def town(laboratory: Laboratory, capture: Capture, user_agents: None) -> Iterator[Town]:
    """Alice and her sister behind one symmetric NAT, Bob (who answers by hand) behind another.

    Tom is on TCP, for his firewall drops SIP over UDP.
    """
    edge = edges.choose(laboratory, [ALICE, HER_SISTER, BOB, TOM])
    if edge.name == "kamailio" and (reason := kamailio.missing()):
        pytest.skip(reason)
    family = laboratory.subscriber("family", Kind.SYMMETRIC, phones=2)
    bobs = laboratory.subscriber("bobs", Kind.PORT_RESTRICTED)
    toms = laboratory.subscriber("toms", Kind.SYMMETRIC)
    toms.block_sip_over_udp()
    with Town(laboratory, edge, capture) as made:
        made.phone(ALICE, family.phones[0])
        made.phone(HER_SISTER, family.phones[1], frequency=CALLEE)
        made.phone(BOB, bobs.phone, frequency=CALLEE, answer="manual", config_extra="call_local_timeout 3")
        made.phone(TOM, toms.phone, transport="tcp")
        yield made


def talk(town: Town, caller: Baresip, callee: Baresip, target: str) -> tuple[int, float]:
    """Set a call up. Returns the capture's place and the moment it began."""
    mark, begin = town.capture.mark(), time.monotonic()
    caller.dial(target)
    caller.wait_established(since=begin)
    callee.wait_established(since=begin)
    time.sleep(1.0)
    return mark, begin


def both_hear(record: CallRecord) -> None:
    assert record.verdict == "both", f"{record.verdict} {record.caller} {record.callee}\n{record.ladder}"


def test_two_phones_behind_one_router_hear_each_other(town: Town, capture: Capture) -> None:
    record = place(town.phones[ALICE], town.phones[HER_SISTER], HER_SISTER, capture)
    both_hear(record)


def test_a_phone_on_tcp_is_called_over_its_connection(town: Town, capture: Capture) -> None:
    record = place(town.gateway, town.phones[TOM], TOM, capture)
    both_hear(record)
    toms = town.laboratory.subscribers["toms"].public
    assert {one.packet.transport for one in record.all(source=BUNDLE, to=toms)} == {"tcp"}


def test_a_phone_on_tcp_calls_a_gateway_on_udp(town: Town, capture: Capture) -> None:
    record = place(town.phones[TOM], town.gateway, NUMBER, capture)
    both_hear(record)
    assert {one.packet.transport for one in record.all(source=BUNDLE, to=GATEWAY)} == {"udp"}


@pytest.mark.parametrize("holder", ["caller", "callee"])
def test_after_hold_and_resume_both_hear_each_other(town: Town, capture: Capture, holder: str) -> None:
    with Capture(town.phones[ALICE].host.namespace) as inside:
        hold_and_resume(town, capture, inside, holder)


def hold_and_resume(town: Town, capture: Capture, inside: Capture, holder: str) -> None:
    alice, gateway = town.phones[ALICE], town.gateway
    mark, begin = talk(town, alice, gateway, NUMBER)
    side = alice if holder == "caller" else gateway
    other = GATEWAY if holder == "caller" else town.laboratory.subscribers["family"].public
    paused = capture.mark()
    side.hold()
    held = capture.first(
        lambda one: one.message.is_request("INVITE") and one.packet.destination[0] == other, since=paused
    )
    assert "a=sendonly" in held.message.body
    assert {address for address, _ in held.message.media} == {BUNDLE}
    capture.first(lambda one: one.message.is_request("ACK") and one.packet.destination[0] == other, since=paused)
    time.sleep(0.7)
    resumed = capture.mark()
    side.resume()
    again = capture.first(
        lambda one: one.message.is_request("INVITE") and one.packet.destination[0] == other, since=resumed
    )
    assert again.message.media == held.message.media, "the relay's ports changed in mid call"
    time.sleep(TALK_SECONDS)
    finish(alice, gateway, capture, mark, begin, seconds=TALK_SECONDS)
    # Baresip stops recording when it is held, so the wire at the ear is examined.
    at_gateway = [packet for packet in capture.packets(resumed) if packet.destination[0] == GATEWAY]
    at_alice = [packet for packet in inside.packets() if packet.moment > again.packet.moment]
    assert heard_on_wire(at_gateway, far=CALLER, own=CALLEE).well
    assert heard_on_wire(at_alice, far=CALLEE, own=CALLER).well


def test_a_caller_who_gives_up_stops_the_ringing(town: Town, capture: Capture) -> None:
    alice, bob = town.phones[ALICE], town.phones[BOB]
    mark, begin = capture.mark(), time.monotonic()
    alice.dial(BOB)
    alice.wait("CALL_RINGING", "CALL_PROGRESS", since=begin)
    alice.hang_up()
    bob.wait("CALL_CLOSED", since=begin)
    bobs = town.laboratory.subscribers["bobs"].public
    family = town.laboratory.subscribers["family"].public
    capture.first(
        lambda one: one.message.is_request("CANCEL") and one.packet.destination[0] == bobs, since=mark, what="CANCEL"
    )
    capture.first(
        lambda one: one.message.is_response(487, "INVITE") and one.packet.destination[0] == family,
        since=mark,
        what="487 to the caller",
    )


def test_a_refused_call_is_busy_for_the_caller(town: Town, capture: Capture) -> None:
    alice, bob = town.phones[ALICE], town.phones[BOB]
    mark, begin = capture.mark(), time.monotonic()
    alice.dial(BOB)
    bob.wait("CALL_INCOMING", since=begin)
    bob.hang_up()
    ended = alice.wait("CALL_CLOSED", since=begin)
    assert "486" in ended.text, ended
    family = town.laboratory.subscribers["family"].public
    refused = capture.first(
        lambda one: one.message.is_response(486, "INVITE") and one.packet.destination[0] == family, since=mark
    )
    assert refused.packet.source == (BUNDLE, 5060)


def test_a_call_that_nobody_answers_ends(town: Town, capture: Capture) -> None:
    alice = town.phones[ALICE]
    begin = time.monotonic()
    alice.dial(BOB)
    ended = alice.wait("CALL_CLOSED", since=begin, seconds=12.0)
    assert 2.0 < ended.moment - begin < 8.0


def test_a_phone_that_answers_late_is_heard_from_the_first_word(town: Town, capture: Capture) -> None:
    alice, bob = town.phones[ALICE], town.phones[BOB]
    mark, begin = capture.mark(), time.monotonic()
    alice.dial(BOB)
    bob.wait("CALL_INCOMING", since=begin)
    time.sleep(1.0)
    bob.accept()
    alice.wait_established(since=begin)
    time.sleep(TALK_SECONDS)
    record = finish(alice, bob, capture, mark, begin, seconds=TALK_SECONDS)
    both_hear(record)


def test_a_number_that_nobody_has_is_not_found(town: Town) -> None:
    alice = town.phones[ALICE]
    begin = time.monotonic()
    alice.dial("nobody")
    assert "404" in alice.wait("CALL_CLOSED", since=begin).text


@pytest.mark.parametrize("caller", [ALICE, TOM])
def test_many_short_calls_leave_nothing_behind(town: Town, capture: Capture, caller: str) -> None:
    for _ in range(3):
        place(town.phones[caller], town.gateway, NUMBER, capture, seconds=0.3)
    mark = capture.mark()
    time.sleep(0.5)
    assert [str(packet) for packet in capture.rtp(mark)] == []
    if isinstance(town.edge, edges.NattravEdge):
        assert json.loads(town.edge.ask("sessions", "list", "--json"))["items"] == []
        assert json.loads(town.edge.ask("calls", "list", "--json"))["items"] == []


def test_nobody_was_told_an_address_of_the_inside(town: Town, capture: Capture) -> None:
    told = [f"{one} {one.message.private_addresses}" for one in capture.sip() if one.message.private_addresses]
    assert [line for line in told if line.startswith(f"{BUNDLE}:")] == []
