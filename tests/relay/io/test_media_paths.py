"""Engine and data threads together: what was negotiated is what flows."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from nattrav.net.address import TransportAddress
from relay.engine import Engine
from relay.interfaces import Interfaces, LocalAddress
from relay.io.pump import BackendRefused, open_plane
from relay.io.sockets import UdpOpener, Unpredictable
from relay.ports import PortPool
from relay.selection import Selection
from relay.session import CallKey, Direction, PartyMedia, Placement, RtcpMux, SideOptions
from tests.relay.calls import Call, audio, image

LOW, HIGH = 41900, 41999


class Phone:
    """RTP and RTCP sockets on two neighbouring ports, or one socket for both."""

    def __init__(self, host: str) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        while True:
            self.rtp = socket.socket(family, socket.SOCK_DGRAM)
            self.rtp.bind((host, 0))
            port = self.rtp.getsockname()[1]
            self.rtcp = socket.socket(family, socket.SOCK_DGRAM)
            try:
                self.rtcp.bind((host, port + 1))
            except (OSError, OverflowError):
                self.rtp.close()
                self.rtcp.close()
                continue
            break
        self.address = TransportAddress(host, port)
        self.sequence = 0

    def close(self) -> None:
        self.rtp.close()
        self.rtcp.close()

    def media(self, place: Placement, mark: bytes) -> None:
        """Send one RTP packet to where the SDP said."""
        self.sequence += 1
        header = struct.pack("!BBHII", 0x80, 0, self.sequence, self.sequence * 160, 7)
        assert place.rtp is not None
        self.rtp.sendto(header + mark.ljust(160, b"."), place.rtp)

    def report(self, place: Placement) -> None:
        """Send one RTCP packet to where the SDP said, from the RTP socket under mux."""
        packet = struct.pack("!BBHIIIIII", 0x80, 200, 6, 7, 1, 1, 1, 1, 1)
        assert place.rtcp is not None
        (self.rtp if place.rtcp_mux else self.rtcp).sendto(packet, place.rtcp)

    def datagram(self, place: Placement, data: bytes) -> None:
        assert place.rtp is not None
        self.rtp.sendto(data, place.rtp)

    def hears(self, count: int = 0) -> list[str]:
        """What arrived: marks on the RTP socket, `rtcp@rtp` or `rtcp@rtcp` for RTCP.

        Waits for `count` packets however long a busy machine takes, and a moment for what should not come.
        """
        found: list[str] = []
        while ready := select.select([self.rtp, self.rtcp], [], [], 10.0 if len(found) < count else 0.15)[0]:
            for sock in ready:
                data = sock.recv(2048)
                if len(data) > 1 and data[0] >> 6 == 2 and data[1] == 200:
                    found.append("rtcp@rtp" if sock is self.rtp else "rtcp@rtcp")
                elif len(data) == 172:
                    found.append(data[12:].rstrip(b".").decode())
                else:
                    found.append(data.decode())
        return sorted(found)


class Studio:
    """A relay on both address families, and phones."""

    def __init__(self, engine: Engine, stack: contextlib.ExitStack) -> None:
        self.engine = engine
        self._stack = stack
        self.call = Call(engine)

    def phone(self, host: str) -> Phone:
        phone = Phone(host)
        self._stack.callback(phone.close)
        return phone

    def offer(self, *media: PartyMedia, options: SideOptions | None = None, to_tag: str | None = None) -> Placement:
        return self.call.offer(*media, options=options, to_tag=to_tag, now=time.monotonic())[0]

    def answer(self, *media: PartyMedia, options: SideOptions | None = None) -> Placement:
        return self.call.answer(*media, options=options, now=time.monotonic())[0]


@pytest.fixture(params=["portable", "io_uring"])
def studio(request: pytest.FixtureRequest) -> Iterator[Studio]:
    try:
        plane = open_plane(1, request.param)
    except BackendRefused as refused:
        pytest.skip(str(refused))
    plane.start()
    with contextlib.ExitStack() as stack:
        stack.callback(plane.stop)
        addresses = [
            LocalAddress("public", host, host, PortPool("public", host, LOW, HIGH, choose=Unpredictable()))
            for host in ("127.0.0.1", "::1")
        ]
        yield Studio(Engine(Interfaces(addresses), plane, UdpOpener()), stack)


def both_ways(alice: Phone, bob: Phone, for_alice: Placement, for_bob: Placement) -> None:
    alice.media(for_alice, b"from alice")
    bob.media(for_bob, b"from bob")
    assert bob.hears(1) == ["from alice"]
    assert alice.hears(1) == ["from bob"]


def test_media_and_reports_flow_both_ways(studio: Studio) -> None:
    alice, bob = studio.phone("127.0.0.2"), studio.phone("127.0.0.3")
    for_bob = studio.offer(audio(alice.address))
    for_alice = studio.answer(audio(bob.address))
    both_ways(alice, bob, for_alice, for_bob)
    alice.report(for_alice)
    bob.report(for_bob)
    assert bob.hears(1) == ["rtcp@rtcp"]
    assert alice.hears(1) == ["rtcp@rtcp"]


def test_ipv4_and_ipv6_are_bridged(studio: Studio) -> None:
    alice, bob = studio.phone("127.0.0.2"), studio.phone("::1")
    for_bob = studio.offer(audio(alice.address), options=SideOptions(address_family=6))
    assert for_bob.family == 6
    for_alice = studio.answer(audio(bob.address))
    assert for_alice.family == 4
    both_ways(alice, bob, for_alice, for_bob)
    alice.report(for_alice)
    assert bob.hears(1) == ["rtcp@rtcp"]


def test_mux_on_both_sides(studio: Studio) -> None:
    alice, bob = studio.phone("127.0.0.2"), studio.phone("127.0.0.3")
    for_bob = studio.offer(audio(alice.address, mux=True))
    for_alice = studio.answer(audio(bob.address, mux=True))
    settled = Placement(rejected=False, rtp=for_bob.rtp, rtcp=for_bob.rtp, rtcp_mux=True)
    both_ways(alice, bob, for_alice, settled)
    alice.report(for_alice)
    bob.report(settled)
    assert bob.hears(1) == ["rtcp@rtp"]
    assert alice.hears(1) == ["rtcp@rtp"]


def test_mux_on_one_side_is_split_for_the_other(studio: Studio) -> None:
    alice, bob = studio.phone("127.0.0.2"), studio.phone("127.0.0.3")
    for_bob = studio.offer(audio(alice.address, mux=True), options=SideOptions(rtcp_mux=frozenset({RtcpMux.DEMUX})))
    for_alice = studio.answer(audio(bob.address))
    assert for_alice.rtcp_mux
    both_ways(alice, bob, for_alice, for_bob)
    alice.report(for_alice)
    bob.report(for_bob)
    assert bob.hears(1) == ["rtcp@rtcp"]
    assert alice.hears(1) == ["rtcp@rtp"]


def test_hold_stops_media_one_way_and_resume_brings_it_back(studio: Studio) -> None:
    alice, bob = studio.phone("127.0.0.2"), studio.phone("127.0.0.3")
    for_bob = studio.offer(audio(alice.address))
    for_alice = studio.answer(audio(bob.address))
    both_ways(alice, bob, for_alice, for_bob)
    studio.offer(audio(alice.address, direction=Direction.SENDONLY), to_tag="b")
    studio.answer(audio(bob.address, direction=Direction.RECVONLY))
    alice.media(for_alice, b"music")
    bob.media(for_bob, b"unheard")
    alice.report(for_alice)
    bob.report(for_bob)
    assert bob.hears(2) == ["music", "rtcp@rtcp"]
    assert alice.hears(1) == ["rtcp@rtcp"]
    studio.offer(audio(alice.address), to_tag="b")
    studio.answer(audio(bob.address))
    both_ways(alice, bob, for_alice, for_bob)


def test_old_hold_with_a_null_address_sends_nothing_there_and_remembers(studio: Studio) -> None:
    alice, bob = studio.phone("127.0.0.2"), studio.phone("127.0.0.3")
    for_bob = studio.offer(audio(alice.address))
    for_alice = studio.answer(audio(bob.address))
    both_ways(alice, bob, for_alice, for_bob)
    studio.offer(audio(TransportAddress("0.0.0.0", alice.address.port), null=True), to_tag="b")
    studio.answer(audio(bob.address))
    bob.media(for_bob, b"unheard")
    bob.report(for_bob)
    assert alice.hears() == []
    studio.offer(audio(alice.address), to_tag="b")
    studio.answer(audio(bob.address))
    both_ways(alice, bob, for_alice, for_bob)


def test_an_offer_does_not_interrupt_media_until_it_is_answered(studio: Studio) -> None:
    alice, bob, tablet = studio.phone("127.0.0.2"), studio.phone("127.0.0.3"), studio.phone("127.0.0.4")
    for_bob = studio.offer(audio(alice.address))
    for_alice = studio.answer(audio(bob.address))
    both_ways(alice, bob, for_alice, for_bob)
    moved = studio.offer(audio(tablet.address), to_tag="b")
    assert moved.rtp != for_bob.rtp
    bob.media(for_bob, b"old port")
    assert tablet.hears(1) == ["old port"]
    studio.answer(audio(bob.address))
    both_ways(tablet, bob, for_alice, moved)
    bob.media(for_bob, b"late")
    assert tablet.hears() == []


def test_fax_takes_over_from_audio_and_back(studio: Studio) -> None:
    alice, bob = studio.phone("127.0.0.2"), studio.phone("127.0.0.3")
    for_bob = studio.offer(audio(alice.address))
    for_alice = studio.answer(audio(bob.address))
    both_ways(alice, bob, for_alice, for_bob)
    studio.offer(image(alice.address), to_tag="b")
    both_ways(alice, bob, for_alice, for_bob)
    bob.datagram(for_bob, b"early fax")
    assert alice.hears(1) == ["early fax"]
    studio.answer(image(bob.address))
    alice.datagram(for_alice, b"fax")
    bob.datagram(for_bob, b"fax too")
    assert bob.hears(1) == ["fax"]
    assert alice.hears(1) == ["fax too"]


def test_block_and_unblock(studio: Studio) -> None:
    alice, bob = studio.phone("127.0.0.2"), studio.phone("127.0.0.3")
    for_bob = studio.offer(audio(alice.address))
    for_alice = studio.answer(audio(bob.address))
    both_ways(alice, bob, for_alice, for_bob)
    studio.engine.block(Selection("call-1", from_tag="a", directional=True))
    alice.media(for_alice, b"blocked")
    alice.report(for_alice)
    bob.media(for_bob, b"heard")
    assert bob.hears(1) == ["rtcp@rtcp"]
    assert alice.hears(1) == ["heard"]
    studio.engine.unblock(Selection("call-1", every="all"))
    both_ways(alice, bob, for_alice, for_bob)


def test_the_branch_that_answers_is_connected_and_the_other_one_deleted(studio: Studio) -> None:
    alice, bob, carol = studio.phone("127.0.0.2"), studio.phone("127.0.0.3"), studio.phone("127.0.0.4")
    call, now = studio.call, time.monotonic()
    (for_bob,) = call.offer(audio(alice.address), branch="z1", now=now)
    (for_carol,) = call.offer(audio(alice.address), branch="z2", now=now)
    bob.media(for_bob, b"ring bob")
    carol.media(for_carol, b"ring carol")
    assert alice.hears(2) == ["ring bob", "ring carol"]
    (for_alice,) = call.answer(audio(carol.address), branch="z2", to_tag="c", now=time.monotonic())
    studio.engine.delete(CallKey("call-1", "a", None, "z1"), now=time.monotonic())
    both_ways(alice, carol, for_alice, for_carol)
    bob.media(for_bob, b"too late")
    assert alice.hears() == []


def test_nat_wait_sends_nothing_before_the_first_packet(studio: Studio) -> None:
    alice, bob = studio.phone("127.0.0.2"), studio.phone("127.0.0.3")
    for_bob = studio.offer(audio(alice.address), options=SideOptions(nat_wait=True))
    for_alice = studio.answer(audio(bob.address))
    bob.media(for_bob, b"unheard")
    assert alice.hears() == []
    alice.media(for_alice, b"here I am")
    assert bob.hears(1) == ["here I am"]
    bob.media(for_bob, b"hello")
    assert alice.hears(1) == ["hello"]


@pytest.mark.parametrize("shown", ["127.0.0.1", "198.51.100.7"], ids=["bound address", "address of a 1:1 NAT"])
def test_a_call_that_passes_the_relay_twice_is_heard(shown: str, studio: Studio) -> None:
    pool = PortPool("nat", "127.0.0.1", LOW, HIGH, choose=Unpredictable())
    relay = Engine(Interfaces([LocalAddress("nat", "127.0.0.1", shown, pool)]), studio.engine.plane, UdpOpener())
    alice, bob = studio.phone("127.0.0.2"), studio.phone("127.0.0.3")
    first, second = Call(relay, "first"), Call(relay, "second")
    now = time.monotonic()
    (to_second,) = first.offer(audio(alice.address), now=now)
    (for_bob,) = second.offer(audio(to_second.rtp), now=now)
    (to_first,) = second.answer(audio(bob.address), now=now)
    (for_alice,) = first.answer(audio(to_first.rtp), now=now)

    def reached(place: Placement) -> Placement:
        """What the NAT makes of an address that our SDP shows."""
        assert place.rtp is not None
        assert place.rtcp is not None
        return replace(place, rtp=place.rtp._replace(host="127.0.0.1"), rtcp=place.rtcp._replace(host="127.0.0.1"))

    both_ways(alice, bob, reached(for_alice), reached(for_bob))
    alice.report(reached(for_alice))
    assert bob.hears(1) == ["rtcp@rtcp"]
