"""Each process of the bundle is killed while a call is up: it comes back, and the call goes on."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.natlab import edges
from tests.natlab.calls import TALK_SECONDS, CallRecord, finish, heard_on_wire, place
from tests.natlab.capture import Capture
from tests.natlab.laboratory import BUNDLE, GATEWAY, Laboratory
from tests.natlab.namespaces import LaboratoryFault
from tests.natlab.nats import Kind
from tests.natlab.town import NUMBER, Town
from tests.tones import CALLEE, CALLER

pytestmark = [pytest.mark.lab, pytest.mark.interop, pytest.mark.slow]


@pytest.fixture(scope="module")
def bundle(laboratory: Laboratory) -> edges.NattravEdge:
    return edges.NattravEdge(laboratory, ("alice",))


@pytest.fixture(scope="module")
def town(laboratory: Laboratory, capture: Capture, bundle: edges.NattravEdge, user_agents: None) -> Iterator[Town]:
    with Town(laboratory, bundle, capture) as made:
        made.phone("alice", laboratory.subscriber("alice", Kind.SYMMETRIC).phone)
        yield made


def killed_and_back(bundle: edges.NattravEdge, role: str) -> float:
    """Kill a service; returns the seconds until another process answers for it."""
    old = bundle.children()[role]
    begin = time.monotonic()
    os.kill(old, signal.SIGKILL)
    while time.monotonic() < begin + 10.0:
        if bundle.children().get(role, old) != old:
            try:
                status = json.loads(bundle.ask("status", "--json"))
            except LaboratoryFault:
                continue
            if all(service["up"] for service in status["services"]):
                return time.monotonic() - begin
        time.sleep(0.05)
    raise AssertionError(f"{role} did not come back in 10 s:\n{bundle.log()[-3000:]}")


def call_through_a_death(town: Town, capture: Capture, bundle: edges.NattravEdge, role: str) -> tuple[CallRecord, int]:
    """Kill a service in mid call, talk on, hang up. Returns the record and the capture's place 2 s after the death."""
    alice, gateway = town.phones["alice"], town.gateway
    mark, begin = capture.mark(), time.monotonic()
    alice.dial(NUMBER)
    alice.wait_established(since=begin)
    gateway.wait_established(since=begin)
    time.sleep(1.2)
    death = time.monotonic()
    killed_and_back(bundle, role)
    time.sleep(max(0.0, death + 2.0 - time.monotonic()))
    later = capture.mark()
    time.sleep(1.5)
    seconds = time.monotonic() - begin - 0.3
    return finish(alice, gateway, capture, mark, begin, seconds=seconds), later


def test_the_call_does_not_notice_the_death_of_the_stun_service(
    town: Town, capture: Capture, bundle: edges.NattravEdge
) -> None:
    record, _ = call_through_a_death(town, capture, bundle, "stun")
    assert record.verdict == "both"


def test_media_goes_on_without_the_proxy_and_the_call_is_ended_through_the_new_one(
    town: Town, capture: Capture, bundle: edges.NattravEdge
) -> None:
    record, _ = call_through_a_death(town, capture, bundle, "proxy")
    assert record.verdict == "both"
    assert [one for one in record.all(source=BUNDLE, to=GATEWAY) if one.message.is_request("BYE")], record.ladder
    time.sleep(0.5)
    assert json.loads(bundle.ask("sessions", "list", "--json"))["items"] == []


def test_after_the_death_of_the_proxy_the_phone_holds_and_resumes_through_the_relay(
    town: Town, capture: Capture, bundle: edges.NattravEdge
) -> None:
    alice, gateway = town.phones["alice"], town.gateway
    with Capture(alice.host.namespace) as inside:
        mark, begin = capture.mark(), time.monotonic()
        alice.dial(NUMBER)
        alice.wait_established(since=begin)
        gateway.wait_established(since=begin)
        time.sleep(0.6)
        killed_and_back(bundle, "proxy")
        alice.hold()
        time.sleep(0.6)
        resumed = time.monotonic()
        alice.resume()
        time.sleep(TALK_SECONDS)
        record = finish(alice, gateway, capture, mark, begin, seconds=TALK_SECONDS)
    reinvites = [one.message for one in record.all(source=BUNDLE, to=GATEWAY) if one.message.is_request("INVITE")]
    assert len(reinvites) >= 3, record.ladder
    assert {message.media[0][0] for message in reinvites} == {BUNDLE}, record.ladder
    late = [packet for packet in record.packets if packet.moment > resumed + 0.3]
    at_gateway = [packet for packet in late if packet.destination[0] == GATEWAY]
    at_alice = [packet for packet in inside.packets() if packet.moment > resumed + 0.3]
    assert heard_on_wire(at_gateway, far=CALLER, own=CALLEE).well, record.ladder
    assert heard_on_wire(at_alice, far=CALLEE, own=CALLER).well, record.ladder


def test_the_phone_is_called_although_the_proxy_was_replaced_after_it_registered(
    town: Town, capture: Capture, bundle: edges.NattravEdge
) -> None:
    assert place(town.gateway, town.phones["alice"], "alice", capture).verdict == "both"


def test_media_flows_again_within_two_seconds_of_the_death_of_the_relay(
    town: Town, capture: Capture, bundle: edges.NattravEdge
) -> None:
    record, later = call_through_a_death(town, capture, bundle, "relay")
    public = town.laboratory.subscribers["alice"].public
    after = [packet for packet in capture.packets(later) if packet.is_rtp and packet.source[0] == BUNDLE]
    to_gateway = [packet for packet in after if packet.destination[0] == GATEWAY]
    to_phone = [packet for packet in after if packet.destination[0] == public]
    # Both streams, from the ports of before; only the first second after the mark belongs to this call for sure.
    assert len(to_gateway) > 40, f"{len(to_gateway)} packets to the gateway\n{bundle.log()[-2000:]}"
    assert len(to_phone) > 40, f"{len(to_phone)} packets to the phone\n{bundle.log()[-2000:]}"
    assert len({packet.source for packet in record.packets if packet.is_rtp and packet.source[0] == BUNDLE}) == 2
    heard = heard_on_wire(to_gateway, far=CALLER, own=CALLEE)
    assert heard.first_far is not None


def test_the_next_call_is_like_the_first(town: Town, capture: Capture) -> None:
    record = place(town.phones["alice"], town.gateway, NUMBER, capture)
    assert record.verdict == "both", record.ladder


def test_the_end_of_the_bundle_leaves_no_process_behind(town: Town, bundle: edges.NattravEdge) -> None:
    children = bundle.children()
    begin = time.monotonic()
    assert bundle.program.stop(seconds=8.0) == 0
    assert time.monotonic() - begin < 5.0
    assert [pid for pid in children.values() if os.path.exists(f"/proc/{pid}")] == []
    assert "Traceback" not in bundle.log()
