"""Each half of the bundle with the other half of the usual rig: Kamailio over our relay, our proxy over rtpengine."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.natlab import edges, kamailio
from tests.natlab.calls import TALK_SECONDS, CallRecord, finish, heard_on_wire, place
from tests.natlab.capture import Capture
from tests.natlab.laboratory import BUNDLE, GATEWAY, Laboratory
from tests.natlab.nats import Kind
from tests.natlab.town import NUMBER, Town
from tests.tones import CALLEE, CALLER

pytestmark = [pytest.mark.lab, pytest.mark.interop, pytest.mark.slow]


def kamailio_over_our_relay(laboratory: Laboratory) -> edges.Edge:
    return kamailio.KamailioEdge(
        laboratory,
        name="kamailio + nattrav relay",
        relay_command=(
            "env",
            f"NATTRAV_RUNTIME_DIR={laboratory.directory}/run",
            f"NATTRAV_STATE_DIR={laboratory.directory}/state",
            str(edges.command()),
            *("relay", "serve", "--interface", f"public/{BUNDLE}", "--listen-ng", "127.0.0.1:2223", "--threads", "1"),
        ),
    )


EDGES = {"kamailio + our relay": kamailio_over_our_relay, "our proxy + rtpengine": edges.NattravProxyEdge}


@pytest.fixture(scope="module", params=EDGES)
def town(request: pytest.FixtureRequest, laboratory: Laboratory, capture: Capture, user_agents: None) -> Iterator[Town]:
    reason = kamailio.missing()
    if reason:
        pytest.skip(reason)
    number = list(EDGES).index(request.param)
    with Town(laboratory, EDGES[request.param](laboratory), capture) as made:
        made.phone("alice", laboratory.subscriber(f"alices{number}", Kind.SYMMETRIC).phone)
        made.phone("bob", laboratory.subscriber(f"bobs{number}", Kind.CARRIER_GRADE).phone, answer="manual",
                   frequency=CALLEE)  # fmt: skip
        yield made


def both_hear(record: CallRecord) -> None:
    assert record.verdict == "both", f"{record.verdict} {record.caller} {record.callee}\n{record.ladder}"


def test_a_phone_calls_the_gateway(town: Town, capture: Capture) -> None:
    record = place(town.phones["alice"], town.gateway, NUMBER, capture)
    both_hear(record)
    assert record.first("INVITE", source=BUNDLE, to=GATEWAY).message.media[0][0] == BUNDLE


def test_the_gateway_calls_a_phone(town: Town, capture: Capture) -> None:
    both_hear(place(town.gateway, town.phones["alice"], "alice", capture, callee_hangs_up=True))


def test_phones_behind_different_nats_call_each_other(town: Town, capture: Capture) -> None:
    alice, bob = town.phones["alice"], town.phones["bob"]
    mark, begin = capture.mark(), time.monotonic()
    alice.dial("bob")
    bob.wait("CALL_INCOMING", since=begin)
    bob.accept()
    alice.wait_established(since=begin)
    time.sleep(TALK_SECONDS)
    both_hear(finish(alice, bob, capture, mark, begin, seconds=TALK_SECONDS))


@pytest.mark.parametrize("holder", ["alice", NUMBER])
def test_media_comes_back_after_hold_and_resume_from_either_side(town: Town, capture: Capture, holder: str) -> None:
    alice, gateway = town.phones["alice"], town.gateway
    with Capture(alice.host.namespace) as inside:
        mark, begin = capture.mark(), time.monotonic()
        alice.dial(NUMBER)
        alice.wait_established(since=begin)
        gateway.wait_established(since=begin)
        time.sleep(0.6)
        town.phones[holder].hold()
        time.sleep(0.8)
        resumed = time.monotonic()
        town.phones[holder].resume()
        time.sleep(TALK_SECONDS)
        finish(alice, gateway, capture, mark, begin, seconds=TALK_SECONDS)
    late = [packet for packet in capture.packets(mark) if packet.moment > resumed + 0.2]
    at_gateway = [packet for packet in late if packet.destination[0] == GATEWAY]
    at_alice = [packet for packet in inside.packets() if packet.moment > resumed + 0.2]
    assert heard_on_wire(at_gateway, far=CALLER, own=CALLEE).well
    assert heard_on_wire(at_alice, far=CALLEE, own=CALLER).well


def test_a_caller_who_gives_up_leaves_no_session(town: Town, capture: Capture) -> None:
    alice, bob = town.phones["alice"], town.phones["bob"]
    begin = time.monotonic()
    alice.dial("bob")
    bob.wait("CALL_INCOMING", since=begin)
    alice.hang_up()
    bob.wait("CALL_CLOSED", since=begin)
    time.sleep(0.5)
    statistics = ask_relay(town, "d7:command4:liste")
    assert "5:callsle" in statistics, statistics


def ask_relay(town: Town, command: str) -> str:
    """Send one ng command to the relay's UDP port and return the reply after the cookie."""
    program = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2);"
        f"s.sendto(b'lab {command}', ('127.0.0.1', 2223)); print(s.recv(65536).decode('latin-1'))"
    )
    return town.laboratory.bundle.namespace.execute("python3", "-c", program)
