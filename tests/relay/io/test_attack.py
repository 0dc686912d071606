"""An attacker off the path: before, during and after learning, on RTP and RTCP, one port or all of them.

Loopback addresses stand for hosts: the relay is 127.0.0.1, Alice 127.0.0.2, Bob 127.0.0.3, the attacker 127.0.0.66.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from nattrav.net.address import TransportAddress
from relay.engine import Engine
from relay.interfaces import Interfaces, LocalAddress
from relay.io.pump import BackendRefused, DataPlane, open_plane
from relay.io.sockets import UdpOpener, Unpredictable
from relay.plane import DropReason, FlowFigures
from relay.policy import Policy
from relay.ports import PortPool
from relay.session import Placement, SideOptions
from tests.relay.calls import Call, audio

LOW, HIGH = 41600, 41899
RELAY = "127.0.0.1"


class Host:
    """A UDP socket of one party or of the attacker."""

    def __init__(self, host: str, port: int = 0) -> None:
        self.name = host
        self.sock = self.opened(host, port)
        self.sock.setblocking(False)
        self.sequence = 0

    def opened(self, host: str, port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((host, port))
        return sock

    @property
    def address(self) -> TransportAddress:
        return TransportAddress(*self.sock.getsockname())

    def rtp(self, port: int, *, ssrc: int = 7, sequence: int | None = None, count: int = 1) -> None:
        for _ in range(count):
            self.sequence += 1
            number = self.sequence if sequence is None else sequence
            header = struct.pack("!BBHII", 0x80, 0, number & 0xFFFF, number * 160, ssrc)
            self.sock.sendto(header + self.name.encode().ljust(160), (RELAY, port))

    def rtcp(self, port: int, *, ssrc: int = 7) -> None:
        self.sock.sendto(struct.pack("!BBHIIIIII", 0x80, 200, 6, ssrc, 1, 1, 1, 1, 1), (RELAY, port))

    def received(self) -> list[str]:
        """Who sent what arrived: the host named in each RTP packet, `rtcp` for RTCP."""
        found: list[str] = []
        while select.select([self.sock], [], [], 0.06 if found else 0.25)[0]:
            data = self.sock.recv(2048)
            found.append("rtcp" if data[1] in (200, 201) else data[12:].decode().strip())
        return found


class Scene:
    """A relay with real data threads, two parties and an attacker."""

    def __init__(self, plane: DataPlane, stack: contextlib.ExitStack, policy: Policy | None = None) -> None:
        self.pool = PortPool("public", RELAY, LOW, HIGH, choose=Unpredictable())
        interfaces = Interfaces([LocalAddress("public", RELAY, RELAY, self.pool)])
        self.engine = Engine(interfaces, plane, UdpOpener(), policy=policy)
        self.plane = plane
        self.alice, self.bob, self.mallory = Host("127.0.0.2"), Host("127.0.0.3"), Host("127.0.0.66")
        for host in (self.alice, self.bob, self.mallory):
            stack.callback(host.sock.close)

    def set_up(
        self, alice_says: TransportAddress | None = None, options: SideOptions | None = None
    ) -> tuple[Placement, Placement]:
        """Set a call up; give where Bob and where Alice is to send."""
        call = Call(self.engine)
        now = time.monotonic()
        (for_bob,) = call.offer(audio(alice_says or self.alice.address), options=options, now=now)
        (for_alice,) = call.answer(audio(self.bob.address), now=now)
        return for_bob, for_alice

    def figures(self, place: Placement) -> FlowFigures:
        assert place.rtp is not None
        time.sleep(0.1)
        return next(
            self.plane.figures(flow)
            for flow, (_, _, port) in self.engine.streams.owners.items()
            if port.number == place.rtp.port
        )


@pytest.fixture(params=["portable", "io_uring"])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    try:
        plane = open_plane(1, request.param)
    except BackendRefused as refused:
        pytest.skip(str(refused))
    plane.start()
    with contextlib.ExitStack() as stack:
        stack.callback(plane.stop)
        yield Scene(plane, stack)


def port(place: Placement) -> int:
    assert place.rtp is not None
    return place.rtp.port


def rtcp_port(place: Placement) -> int:
    assert place.rtcp is not None
    return place.rtcp.port


def test_before_the_answer_nobody_is_learned_on_the_callers_port(scene: Scene) -> None:
    call = Call(scene.engine)
    now = time.monotonic()
    (for_bob,) = call.offer(audio(scene.alice.address), now=now)
    callers = next(
        p.number for _, leg, p in scene.engine.streams.owners.values() if leg.party.tag == "a" and not p.rtcp
    )
    scene.mallory.rtp(callers, count=20)
    scene.bob.rtp(port(for_bob))
    assert scene.alice.received() == ["127.0.0.3"]
    assert scene.bob.received() == []
    assert scene.mallory.received() == []
    (for_alice,) = call.answer(audio(scene.bob.address), now=time.monotonic())
    assert scene.figures(for_alice).drops == {DropReason.NOT_ANSWERED: 20}
    scene.alice.rtp(port(for_alice))
    assert scene.bob.received() == ["127.0.0.2"]


def test_after_the_lock_nothing_is_forwarded_for_the_attacker_and_nothing_sent_to_him(scene: Scene) -> None:
    for_bob, for_alice = scene.set_up()
    scene.alice.rtp(port(for_alice))
    scene.bob.rtp(port(for_bob))
    assert scene.bob.received() == ["127.0.0.2"]
    assert scene.alice.received() == ["127.0.0.3"]
    for place in (for_bob, for_alice):
        scene.mallory.rtp(port(place), ssrc=7, sequence=2, count=50)
        scene.mallory.rtp(port(place), ssrc=0xDEAD, count=50)
    scene.alice.rtp(port(for_alice), count=3)
    scene.bob.rtp(port(for_bob), count=3)
    assert scene.bob.received() == ["127.0.0.2"] * 3
    assert scene.alice.received() == ["127.0.0.3"] * 3
    assert scene.mallory.received() == []
    for place in (for_bob, for_alice):
        assert scene.figures(place).drops == {DropReason.SOURCE_MISMATCH: 100}


def test_rtcp_is_guarded_like_rtp(scene: Scene) -> None:
    for_bob, for_alice = scene.set_up()
    # Each party's RTCP comes from the port its SDP implies.
    alice = Host("127.0.0.2", scene.alice.address.port + 1)
    bob = Host("127.0.0.3", scene.bob.address.port + 1)
    try:
        alice.rtcp(rtcp_port(for_alice))
        bob.rtcp(rtcp_port(for_bob))
        assert bob.received() == ["rtcp"]
        assert alice.received() == ["rtcp"]
        for _ in range(30):
            scene.mallory.rtcp(rtcp_port(for_alice))
            scene.mallory.rtcp(rtcp_port(for_bob))
        assert bob.received() == []
        assert alice.received() == []
        assert scene.mallory.received() == []
    finally:
        alice.sock.close()
        bob.sock.close()


def test_an_attacker_who_was_first_is_pushed_out_by_the_first_packet_of_the_party(scene: Scene) -> None:
    for_bob, for_alice = scene.set_up()
    scene.mallory.rtp(port(for_alice), count=5)
    assert len(scene.bob.received()) == 5
    scene.bob.rtp(port(for_bob), count=4)
    # The exposure: until Alice's first packet, Bob's media goes to whoever was heard.
    assert scene.mallory.received() == ["127.0.0.3"] * 4
    scene.alice.rtp(port(for_alice))
    # Packets of one batch are judged by what was known before it.
    time.sleep(0.05)
    scene.mallory.rtp(port(for_alice), count=20)
    scene.bob.rtp(port(for_bob), count=10)
    assert scene.bob.received() == ["127.0.0.2"]
    assert scene.alice.received() == ["127.0.0.3"] * 10
    assert scene.mallory.received() == []
    assert scene.figures(for_alice).drops == {DropReason.SOURCE_MISMATCH: 20}


def test_a_phone_behind_a_nat_wins_by_the_address_its_signalling_came_from(scene: Scene) -> None:
    private = TransportAddress("192.168.1.7", 4000)
    options = SideOptions(signalling_source="127.0.0.2")
    for_bob, for_alice = scene.set_up(private, options)
    scene.mallory.rtp(port(for_alice))
    scene.bob.received()
    scene.alice.rtp(port(for_alice))
    time.sleep(0.05)
    scene.mallory.rtp(port(for_alice), count=10)
    scene.bob.rtp(port(for_bob), count=10)
    assert scene.bob.received() == ["127.0.0.2"]
    assert scene.alice.received() == ["127.0.0.3"] * 10
    assert scene.mallory.received() == []
    # More than a few strangers at once are not even thought about.
    drops = scene.figures(for_alice).drops
    assert set(drops) <= {DropReason.WORSE_CANDIDATE, DropReason.QUEUE_FULL}
    assert sum(drops.values()) == 10


def test_a_spray_over_every_port_touches_no_call_in_progress(scene: Scene) -> None:
    for_bob, for_alice = scene.set_up()
    scene.alice.rtp(port(for_alice))
    scene.bob.rtp(port(for_bob))
    scene.bob.received()
    scene.alice.received()
    for _ in range(3):
        for number in range(LOW, HIGH + 1):
            with contextlib.suppress(ConnectionRefusedError):
                scene.mallory.rtp(number)
            with contextlib.suppress(ConnectionRefusedError):
                scene.mallory.rtcp(number)
    scene.alice.rtp(port(for_alice), count=5)
    scene.bob.rtp(port(for_bob), count=5)
    assert scene.bob.received() == ["127.0.0.2"] * 5
    assert scene.alice.received() == ["127.0.0.3"] * 5
    with contextlib.suppress(ConnectionRefusedError):
        assert scene.mallory.received() == []


def test_a_reinvite_does_not_reopen_the_door(scene: Scene) -> None:
    for_bob, for_alice = scene.set_up()
    scene.alice.rtp(port(for_alice))
    scene.bob.rtp(port(for_bob))
    scene.bob.received()
    scene.alice.received()
    call = Call(scene.engine)
    now = time.monotonic()
    call.offer(audio(scene.alice.address), to_tag="b", now=now)
    call.answer(audio(scene.bob.address), now=now)
    scene.mallory.rtp(port(for_alice), count=20)
    scene.bob.rtp(port(for_bob), count=3)
    assert scene.mallory.received() == []
    assert scene.alice.received() == ["127.0.0.3"] * 3
    assert scene.bob.received() == []


def test_a_port_of_a_finished_call_carries_nothing_into_the_next(scene: Scene) -> None:
    for_bob, _ = scene.set_up()
    scene.engine.kick("call-1", time.monotonic())
    assert scene.pool.quarantined == 4
    for _ in range(20):
        (placed,) = Call(scene.engine, "next").offer(audio(scene.alice.address), now=time.monotonic())
        assert placed.rtp != for_bob.rtp
        scene.engine.kick("next", time.monotonic())
