"""Debian's Kamailio drives our relay: with its own default configuration, unmodified but for a port, and with ours.

Signalling and media are real and on loopback; both phones claim private addresses and ports that are not theirs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.interop.kamailios import AROUND_SNIPPET, SHIPPED, kamailio, our_relay
from tests.interop.rtpengines import Peer
from tests.interop.talkers import Talker, assert_both_hear, connect, hang_up

pytestmark = pytest.mark.interop

OUR_PORTS = range(16500, 16560)


@dataclass
class Edge:
    """Kamailio in front of our relay."""

    address: tuple[str, int]
    relay: Peer

    def calls(self) -> list[str]:
        """What the relay carries."""
        found = self.relay.ask("list", {})["calls"]
        assert isinstance(found, list)
        return found

    def without_calls(self) -> bool:
        """Wait until the relay carries nothing."""
        for _ in range(50):
            if not self.calls():
                return True
            time.sleep(0.02)
        return False


@pytest.fixture(scope="module", params=["Debian's configuration", "our snippet"])
def edge(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    directory = tmp_path_factory.mktemp("kamailio")
    text = AROUND_SNIPPET if request.param == "our snippet" else SHIPPED.read_text() if SHIPPED.exists() else ""
    with our_relay(directory / "relay", OUR_PORTS) as relay, kamailio(directory, text, [relay]) as address:
        yield Edge(address, relay)


@pytest.fixture
def phones(edge: Edge, request: pytest.FixtureRequest) -> Iterator[tuple[Talker, Talker]]:
    mark = str(abs(hash(request.node.name)))[:8]
    alice, bob = Talker(f"a{mark}", edge.address, "10.0.0.7"), Talker(f"b{mark}", edge.address, "192.168.3.9")
    alice.register()
    bob.register()
    yield alice, bob
    alice.close()
    bob.close()


def test_a_call_is_anchored_heard_and_ended(edge: Edge, phones: tuple[Talker, Talker]) -> None:
    alice, bob = phones
    connect(alice, bob)
    assert alice.media is not None
    assert bob.media is not None
    assert alice.media[0] == bob.media[0] == "127.0.0.1"
    assert {alice.media[1], bob.media[1]} <= set(OUR_PORTS)
    assert_both_hear(alice, bob)
    assert len(edge.calls()) == 1
    hang_up(alice, bob)
    assert edge.without_calls()


def test_no_private_address_reaches_the_other_side(edge: Edge, phones: tuple[Talker, Talker]) -> None:
    alice, bob = phones
    alice.invite(bob.uri)
    invite = bob.request("INVITE")
    assert b"10.0.0.7" not in invite.body
    bob.respond(invite, 200, bob.sdp())
    assert b"192.168.3.9" not in alice.response(200).body
    alice.ack()
    bob.request("ACK")
    hang_up(bob, alice)
    assert edge.without_calls()


def test_hold_and_resume_by_the_caller(edge: Edge, phones: tuple[Talker, Talker]) -> None:
    alice, bob = phones
    connect(alice, bob)
    assert_both_hear(alice, bob)
    before = bob.media
    held = renew(alice, bob, alice.sdp("a=sendonly"), bob.sdp("a=recvonly"))
    assert b"a=sendonly" in held
    assert bob.media == before
    renew(alice, bob, alice.sdp(), bob.sdp())
    assert_both_hear(alice, bob)
    hang_up(alice, bob)
    assert edge.without_calls()


def test_hold_in_the_old_way(edge: Edge, phones: tuple[Talker, Talker]) -> None:
    alice, bob = phones
    connect(alice, bob)
    media = bob.media
    held = renew(alice, bob, alice.sdp(address="0.0.0.0"), bob.sdp())
    assert b"c=IN IP4 0.0.0.0" in held
    bob.media = media
    renew(alice, bob, alice.sdp(), bob.sdp())
    assert_both_hear(alice, bob)
    hang_up(alice, bob)
    assert edge.without_calls()


def test_a_re_invite_by_the_callee_keeps_the_media(edge: Edge, phones: tuple[Talker, Talker]) -> None:
    alice, bob = phones
    connect(alice, bob)
    assert_both_hear(alice, bob)
    ports = alice.media, bob.media
    renew(bob, alice, bob.sdp(), alice.sdp())
    assert (alice.media, bob.media) == ports
    assert_both_hear(alice, bob)
    hang_up(bob, alice)
    assert edge.without_calls()


def test_early_media_reaches_the_caller(edge: Edge, phones: tuple[Talker, Talker]) -> None:
    alice, bob = phones
    alice.invite(bob.uri)
    invite = bob.request("INVITE")
    bob.respond(invite, 183, bob.sdp())
    alice.response(183)
    alice.speak()
    bob.speak()
    assert alice.hears(bob)
    bob.respond(invite, 200, bob.sdp())
    alice.response(200)
    alice.ack()
    bob.request("ACK")
    assert_both_hear(alice, bob)
    hang_up(alice, bob)
    assert edge.without_calls()


def test_a_call_given_up_leaves_nothing(edge: Edge, phones: tuple[Talker, Talker]) -> None:
    alice, bob = phones
    alice.invite(bob.uri)
    invite = bob.request("INVITE")
    bob.respond(invite, 180)
    alice.response(180)
    assert len(edge.calls()) == 1
    alice.cancel()
    cancel = bob.request("CANCEL")
    bob.respond(cancel, 200)
    bob.respond(invite, 487)
    alice.response(487)
    assert edge.without_calls()


def test_a_busy_callee_leaves_nothing(edge: Edge, phones: tuple[Talker, Talker]) -> None:
    alice, bob = phones
    alice.invite(bob.uri)
    bob.respond(bob.request("INVITE"), 486)
    alice.response(486)
    assert edge.without_calls()


def test_a_call_forked_to_two_phones_is_heard_by_the_one_that_answers(
    edge: Edge, phones: tuple[Talker, Talker]
) -> None:
    alice, bob = phones
    other = Talker(bob.name, edge.address, "192.168.4.4")
    other.register()
    try:
        alice.invite(bob.uri)
        first, second = bob.request("INVITE"), other.request("INVITE")
        bob.respond(first, 183, bob.sdp())
        alice.response(183)
        other.respond(second, 200, other.sdp())
        alice.response(200)
        alice.ack()
        other.request("ACK")
        bob.respond(bob.request("CANCEL"), 200)
        bob.respond(first, 487)
        assert_both_hear(alice, other)
        hang_up(alice, other)
        assert edge.without_calls()
    finally:
        other.close()


def renew(offerer: Talker, answerer: Talker, offer: bytes, answer: bytes) -> bytes:
    """Exchange offer and answer anew; give the offer as it arrived."""
    offerer.reinvite(offer)
    arrived = answerer.request("INVITE")
    answerer.respond(arrived, 200, answer)
    offerer.response(200)
    offerer.ack()
    answerer.request("ACK")
    return arrived.body
