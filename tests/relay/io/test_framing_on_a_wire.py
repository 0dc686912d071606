"""Whole frames over a veth pair: the tests of the plane and the attacker again, and what only frames can do wrong."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

import pytest

from nattrav.net.address import TransportAddress
from nattrav.net.options import open_udp
from relay.io.framing import Framing
from relay.io.pump import DataPlane, open_plane
from relay.plane import DropReason
from tests.natlab.namespaces import execute, missing, within
from tests.relay.io import test_attack
from tests.relay.io.pairs import Pair, Party, local_of, rtp, soon
from tests.relay.io.test_attack import (  # noqa: F401  the same tests, over a wire
    Scene,
    test_a_reinvite_does_not_reopen_the_door,
    test_after_the_lock_nothing_is_forwarded_for_the_attacker_and_nothing_sent_to_him,
    test_an_attacker_who_was_first_is_pushed_out_by_the_first_packet_of_the_party,
)
from tests.relay.io.test_pump import (  # noqa: F401
    test_a_closed_peer_is_no_peer,
    test_a_third_party_neither_hears_nor_is_heard,
    test_closing_gives_exact_figures_and_frees_the_port,
    test_flows_come_and_go_while_others_lose_nothing,
    test_ipv6_and_ipv4_are_bridged,
    test_packets_leave_from_the_address_the_party_was_given,
    test_renegotiation_does_not_interrupt,
    test_rules_change_between_packets,
    test_two_parties_hear_each_other,
)
from tests.relay.offload.far import MakeParty, far_host, far_parties
from tests.relay.offload.wires import FAR, NEAR, PARTIES, PARTIES6, RELAY, RELAY6, Seen, Wire, read, wire


@pytest.fixture(scope="module")
def cable() -> Iterator[Wire]:
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    with wire() as made:
        yield made


@pytest.fixture
def plane(cable: Wire, backend: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[DataPlane]:
    monkeypatch.setattr("tests.relay.io.pairs.HOSTS", {4: RELAY, 6: RELAY6})
    # Every packet makes a flow worth a look.
    monkeypatch.setattr("relay.tally.RIPE_SHIFT", 0)
    monkeypatch.setattr("relay.io.shard.SETTLE_AT", 1)
    opened = open_plane(1, backend, transmit="frame")
    opened.start()
    yield opened
    opened.stop()


@pytest.fixture
def party(cable: Wire) -> Iterator[MakeParty]:
    yield from far_parties(cable)


@pytest.fixture
def scene(cable: Wire, plane: DataPlane, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(test_attack, "RELAY", RELAY)
    monkeypatch.setattr(test_attack, "Host", far_host(cable))
    with contextlib.ExitStack() as stack:
        yield Scene(plane, stack)


@pytest.fixture
def tap(cable: Wire) -> Iterator[socket.socket]:
    """Sees what arrives at the parties' end."""

    def opened() -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        sock.bind((FAR, 3))
        sock.settimeout(0.3)
        return sock

    with within(cable.there, opened) as sock:
        yield sock


class Talk:
    """Two parties whose packets have come to leave as frames."""

    def __init__(self, plane: DataPlane, a: Party, b: Party, **more: object) -> None:
        self.plane, self.a, self.b = plane, a, b
        self.pair = Pair(plane, a.address, b.address, **more)
        self.sequence = 0
        self.settle(2)

    def settle(self, framed: int) -> None:
        before = self.sequence
        while self.plane.framed() != framed:
            self.speak()
            assert self.sequence < before + 500

    def speak(self, size: int = 160) -> None:
        self.sequence += 1
        self.a.send(rtp(self.sequence, size=size), self.pair.local[0])
        self.b.send(rtp(self.sequence, size=size), self.pair.local[1])
        assert self.b.receive() == [rtp(self.sequence, size=size)]
        assert self.a.receive() == [rtp(self.sequence, size=size)]


def seen(tap: socket.socket, target: TransportAddress, count: int = 1) -> list[bytes]:
    """Frames that arrive for a party."""
    found = []
    with contextlib.suppress(TimeoutError):
        while len(found) < count:
            frame = tap.recv(2048)
            udp = frame[14 + (40 if frame[12:14] == b"\x86\xdd" else 20) :]
            if frame[12:14] in (b"\x08\x00", b"\x86\xdd") and struct.unpack_from("!H", udp, 2)[0] == target.port:
                found.append(frame)
    return found


def atomic(frame: bytes) -> bool:
    """It is ours: a socket's IPv4 packets may be fragmented."""
    return struct.unpack_from("!HH", frame, 18) == (0, 0x4000)


@pytest.mark.parametrize("family", [4, 6])
def test_a_frame_says_on_the_wire_what_the_sockets_packet_would(
    plane: DataPlane, party: MakeParty, tap: socket.socket, cable: Wire, family: int
) -> None:
    talk = Talk(plane, party(family), party(family), tos=0xB8)
    seen(tap, talk.b.address, 1000)
    for size in (160, 160, 0, 1, 480, 160):
        talk.speak(size)
        (frame,) = seen(tap, talk.b.address)
        assert family == 6 or atomic(frame)
        found = read(frame)
        assert found == Seen(
            cable.far_mac + cable.near_mac,
            talk.pair.local[1],
            talk.b.address,
            64,
            0xB8,
            rtp(talk.sequence, size=size),
            found.checksum,
            True,
        )
        assert found.checksum
    figures = plane.figures(talk.pair.flow[0])
    assert figures.packets_in == figures.packets_out == talk.sequence
    assert figures.drops == {}


def test_packets_that_some_path_might_not_take_whole_leave_by_the_socket(
    plane: DataPlane, party: MakeParty, tap: socket.socket
) -> None:
    talk = Talk(plane, party(), party())
    seen(tap, talk.b.address, 1000)
    for size, ours in ((160, True), (1400, False), (536, True), (537, False), (160, True)):
        talk.speak(size)
        (frame,) = seen(tap, talk.b.address)
        assert atomic(frame) is ours
        assert read(frame).sound


def test_packets_of_many_lengths_in_one_batch_arrive_as_they_are(plane: DataPlane, party: MakeParty) -> None:
    talk = Talk(plane, party(), party())
    sent = [rtp(1000 + number, size=number * 37 % 1300) for number in range(60)]
    for payload in sent:
        talk.a.send(payload, talk.pair.local[0])
    assert sorted(talk.b.receive(len(sent))) == sorted(sent)


def test_a_next_hop_with_another_hardware_address_is_followed(
    plane: DataPlane, party: MakeParty, tap: socket.socket, cable: Wire
) -> None:
    talk = Talk(plane, party(), party())
    moved = b"\x02\x00\x00\x00\x77\x01"
    try:
        execute("ip", "-n", cable.here, "neigh", "replace", PARTIES[0], "lladdr", moved.hex(":"), "dev", NEAR)

        def arrived() -> bool:
            talk.a.send(rtp(1), talk.pair.local[0])
            return any(frame[:6] == moved and atomic(frame) for frame in seen(tap, talk.b.address))

        assert soon(arrived)
    finally:
        execute("ip", "-n", cable.here, "neigh", "replace", PARTIES[0], "lladdr", cable.far_mac.hex(":"), "dev", NEAR)
    talk.a.receive(1000, 0.3)
    talk.b.receive(1000, 0.3)


def test_a_next_hop_that_is_forgotten_is_found_again_by_the_socket(
    plane: DataPlane, party: MakeParty, cable: Wire
) -> None:
    talk = Talk(plane, party(), party())
    try:
        execute("ip", "-n", cable.here, "neigh", "del", PARTIES[0], "dev", NEAR)
        talk.settle(0)
        talk.settle(2)
    finally:
        execute("ip", "-n", cable.here, "neigh", "replace", PARTIES[0], "lladdr", cable.far_mac.hex(":"), "dev", NEAR)


def test_a_route_that_is_taken_away_ends_frames_and_is_counted_as_for_a_socket(
    plane: DataPlane, party: MakeParty, cable: Wire
) -> None:
    talk = Talk(plane, party(), party())
    execute("ip", "-n", cable.here, "route", "add", "unreachable", PARTIES[0])
    try:

        def refused() -> bool:
            talk.a.send(rtp(1), talk.pair.local[0])
            return DropReason.SEND_ERROR in plane.figures(talk.pair.flow[0]).drops

        assert soon(refused)
        assert plane.framed() == 0
    finally:
        execute("ip", "-n", cable.here, "route", "del", "unreachable", PARTIES[0])
    talk.a.receive(1000, 0.3)
    talk.b.receive(1000, 0.3)
    talk.speak()


def test_a_link_that_was_down_carries_frames_again(plane: DataPlane, party: MakeParty, cable: Wire) -> None:
    talk = Talk(plane, party(), party())
    execute("ip", "-n", cable.here, "link", "set", NEAR, "down")
    execute("ip", "-n", cable.here, "link", "set", NEAR, "up")
    execute("ip", "-n", cable.here, "addr", "replace", f"{RELAY6}/64", "dev", NEAR, "nodad")
    for host in (*PARTIES, *PARTIES6):
        execute("ip", "-n", cable.here, "neigh", "replace", host, "lladdr", cable.far_mac.hex(":"), "dev", NEAR)
    talk.speak()
    talk.settle(2)


def test_a_change_of_tos_reaches_the_frames(plane: DataPlane, party: MakeParty, tap: socket.socket) -> None:
    talk = Talk(plane, party(), party(), tos=0xB8)
    talk.pair.change(1, tos=0x68)
    talk.speak()
    talk.settle(2)
    seen(tap, talk.b.address, 1000)
    talk.speak()
    (frame,) = seen(tap, talk.b.address)
    assert atomic(frame)
    assert read(frame).tos == 0x68


def test_every_next_hop_gets_packets_from_a_socket_now_and_then(
    plane: DataPlane, party: MakeParty, tap: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = Talk(plane, party(), party())
    monkeypatch.setattr("relay.io.framing.RENEW_EVERY", 0.05)

    def renewed() -> bool:
        talk.speak()
        return not all(atomic(frame) for frame in seen(tap, talk.b.address))

    assert soon(renewed, 5.0)
    monkeypatch.undo()


def test_what_closes_leaves_nothing_behind(plane: DataPlane, party: MakeParty) -> None:
    talk = Talk(plane, party(), party())
    for flow in talk.pair.flow:
        plane.close(flow)
    assert soon(lambda: plane.framed() == 0)
    exits = plane._shards[0].exits
    assert isinstance(exits, Framing)
    assert not exits._through
    assert not exits._renewed
    Talk(plane, talk.a, talk.b).speak()


def test_a_party_on_this_host_is_reached_by_sockets(plane: DataPlane) -> None:
    with open_udp(TransportAddress(RELAY, 0)) as one, open_udp(TransportAddress(RELAY, 0)) as other:
        pair = Pair(plane, local_of(one), local_of(other))
        for number in range(20):
            one.sendto(rtp(number), pair.local[0])
            other.sendto(rtp(number), pair.local[1])
        assert soon(lambda: plane.figures(pair.flow[0]).packets_out == 20)
        assert plane.framed() == 0
