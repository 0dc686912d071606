"""A phone behind a NAT and a gateway call each other through the edge, and both hear each other.

`NATTRAV_EDGE=kamailio` runs the same tests against Kamailio and rtpengine.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.natlab import edges, kamailio
from tests.natlab.calls import CallRecord, place
from tests.natlab.capture import Capture, Seen
from tests.natlab.laboratory import BUNDLE, GATEWAY, Laboratory, Subscriber
from tests.natlab.nats import Kind
from tests.natlab.town import NUMBER, Town
from tests.natlab.wire import parameter
from tests.tones import CALLER

pytestmark = [pytest.mark.lab, pytest.mark.interop, pytest.mark.slow]

KINDS = [
    Kind.OPEN,
    Kind.FULL_CONE,
    Kind.RESTRICTED_CONE,
    Kind.PORT_RESTRICTED,
    Kind.SYMMETRIC,
    Kind.SYMMETRIC_FIREWALL,
    Kind.CARRIER_GRADE,
]


@pytest.fixture(scope="module")
def town(laboratory: Laboratory, capture: Capture, user_agents: None) -> Iterator[Town]:
    """The edge, the gateway and one registered phone behind each kind of router; names are the kinds."""
    edge = edges.choose(laboratory, [kind.value for kind in KINDS])
    if edge.name == "kamailio" and (reason := kamailio.missing()):
        pytest.skip(reason)
    with Town(laboratory, edge, capture) as made:
        for kind in KINDS:
            made.user_agent(laboratory.subscriber(kind.value, kind).phone, kind.value, CALLER)
        for phone in made.phones.values():
            phone.wait_registered()
        yield made


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


@pytest.fixture(scope="module")
def household(town: Town, kind: Kind) -> Subscriber:
    return town.laboratory.subscribers[kind.value]


@pytest.fixture(scope="module")
def outgoing(town: Town, capture: Capture, kind: Kind) -> CallRecord:
    """The phone calls the gateway; the phone hangs up."""
    return place(town.phones[kind.value], town.gateway, NUMBER, capture)


@pytest.fixture(scope="module")
def incoming(town: Town, capture: Capture, kind: Kind) -> CallRecord:
    """The gateway calls the phone; the phone hangs up."""
    return place(town.gateway, town.phones[kind.value], kind.value, capture, callee_hangs_up=True)


@pytest.fixture(params=["outgoing", "incoming"])
def record(request: pytest.FixtureRequest, kind: Kind) -> CallRecord:
    """Either call."""
    either: CallRecord = request.getfixturevalue(request.param)
    return either


def mapped(seen: Seen) -> tuple[str, int]:
    return seen.packet.source


def is_relay(town: Town, seen: Seen) -> None:
    """Every stream of this message's SDP is at the relay, on an even port of its range (RFC 3550 §11)."""
    assert seen.message.media, f"no SDP in {seen}"
    for address, port in seen.message.media:
        assert address == BUNDLE, f"c= shows {address} in {seen}"
        assert port in town.edge.media_ports, f"m= shows {port} in {seen}"
        assert port % 2 == 0, f"m= shows the odd port {port} in {seen}"
    assert int(seen.message.first("content-length") or -1) == len(seen.message.body.encode())


def test_the_phone_registers_from_its_mapped_address(town: Town, capture: Capture, household: Subscriber) -> None:
    asked = capture.first(
        lambda one: one.message.is_request("REGISTER") and one.packet.source[0] == household.public, what="REGISTER"
    )
    answered = capture.first(
        lambda one: one.message.is_response(200, "REGISTER") and one.packet.destination[0] == household.public,
        what="200 to REGISTER",
    )
    assert asked.packet.destination == (BUNDLE, 5060)
    assert answered.packet.source == (BUNDLE, 5060)
    assert answered.packet.destination == mapped(asked)
    via = answered.message.all("via")[0]
    assert parameter(via, "received") == household.public or household.kind in (Kind.OPEN, Kind.SYMMETRIC_FIREWALL)
    assert parameter(via, "rport") == str(mapped(asked)[1])


def test_both_hear_each_other_when_the_phone_calls(outgoing: CallRecord) -> None:
    assert outgoing.verdict == "both", f"{outgoing.caller} {outgoing.callee}\n{outgoing.ladder}"


def test_both_hear_each_other_when_the_gateway_calls(incoming: CallRecord) -> None:
    assert incoming.verdict == "both", f"{incoming.caller} {incoming.callee}\n{incoming.ladder}"


def test_the_invite_is_answered_at_once_where_it_came_from(outgoing: CallRecord, household: Subscriber) -> None:
    asked = outgoing.first("INVITE", source=household.public, to=BUNDLE)
    trying = outgoing.first(100, source=BUNDLE, to=household.public)
    assert trying.packet.source == (BUNDLE, 5060)
    assert trying.packet.destination == mapped(asked)
    assert trying.packet.moment - asked.packet.moment < 0.2


def test_every_message_to_the_phone_goes_from_port_5060_to_its_mapped_address(
    outgoing: CallRecord, household: Subscriber
) -> None:
    asked = outgoing.first("INVITE", source=household.public, to=BUNDLE)
    to_phone = outgoing.all(source=BUNDLE, to=household.public)
    assert {one.packet.source for one in to_phone} == {(BUNDLE, 5060)}
    assert {one.packet.destination for one in to_phone} == {mapped(asked)}


def test_the_gateway_is_offered_the_relay(town: Town, outgoing: CallRecord) -> None:
    is_relay(town, outgoing.first("INVITE", source=BUNDLE, to=GATEWAY))


def test_the_gateway_sees_where_the_phone_really_is(outgoing: CallRecord, household: Subscriber) -> None:
    asked = outgoing.first("INVITE", source=household.public, to=BUNDLE)
    received = outgoing.first("INVITE", source=BUNDLE, to=GATEWAY).message
    own, phones = received.all("via")[:2]
    assert own.split()[1].split(";")[0] in (BUNDLE, f"{BUNDLE}:5060")
    assert parameter(phones, "rport") == str(mapped(asked)[1])
    assert parameter(phones, "received") == household.public or household.kind in (Kind.OPEN, Kind.SYMMETRIC_FIREWALL)
    assert any(BUNDLE in value for value in received.all("record-route"))


def test_the_phone_is_answered_with_the_relay(town: Town, outgoing: CallRecord, household: Subscriber) -> None:
    answered = outgoing.first(200, source=BUNDLE, to=household.public)
    is_relay(town, answered)
    asked = outgoing.first("INVITE", source=household.public, to=BUNDLE)
    assert parameter(answered.message.all("via")[0], "rport") == str(mapped(asked)[1])


def test_the_called_phone_is_offered_the_relay_through_its_own_mapping(
    town: Town, incoming: CallRecord, household: Subscriber
) -> None:
    offered = incoming.first("INVITE", source=BUNDLE, to=household.public)
    is_relay(town, offered)
    assert offered.packet.source == (BUNDLE, 5060)
    is_relay(town, incoming.first(200, source=BUNDLE, to=GATEWAY))


def test_no_private_address_leaves_the_bundle(record: CallRecord) -> None:
    shown = {str(one): one.message.private_addresses for one in record.all(source=BUNDLE)}
    assert not {line: addresses for line, addresses in shown.items() if addresses}


def test_media_passes_only_between_the_relay_and_the_parties(
    town: Town, record: CallRecord, household: Subscriber
) -> None:
    if town.edge.name == "kamailio":
        pytest.skip("rtpengine sends to the private address until it has learned the mapped one")
    flows = record.rtp_flows()
    pairs = {frozenset((source[0], destination[0])) for source, destination in flows}
    assert pairs == {frozenset((BUNDLE, household.public)), frozenset((BUNDLE, GATEWAY))}, flows
    signalled = {
        port
        for one in record.all(source=BUNDLE)
        for _, port in one.message.media
    }  # fmt: skip
    used = {address[1] for flow in flows for address in flow if address[0] == BUNDLE}
    assert used == signalled


def test_the_call_ends_for_everybody(record: CallRecord) -> None:
    byes = [one for one in record.seen if one.message.is_request("BYE")]
    ends = [one for one in record.seen if one.message.is_response(200, "BYE")]
    assert len(byes) == 2, record.ladder
    assert len(ends) == 2, record.ladder
    after = [packet for packet in record.packets if packet.is_rtp and packet.moment > ends[-1].packet.moment + 0.15]
    assert after == []
