"""Sockets of closed flows stay bound for the next flow on their port."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from nattrav.net.address import TransportAddress
from nattrav.net.options import open_udp
from relay.io.pump import DataPlane, open_plane
from relay.io.sockets import UdpOpener
from relay.plane import Content, DropReason, FlowSettings
from tests.relay.io.pairs import Pair, Party, rtp, soon


@pytest.fixture
def plane(backend: str) -> Iterator[DataPlane]:
    opened = open_plane(2, backend, resting=4)
    opened.start()
    yield opened
    opened.stop()


def test_what_comes_to_a_resting_port_is_late_and_goes_nowhere(plane: DataPlane, party: Callable[..., Party]) -> None:
    a, b = party(), party()
    pair = Pair(plane, a.address, b.address)
    a.send(rtp(1), pair.local[0])
    assert b.receive()
    for flow in pair.flow:
        plane.close(flow)
    for n in range(5):
        a.send(rtp(n + 2), pair.local[0])
    assert soon(lambda: plane.sums().drops.get(DropReason.LATE) == 5)
    assert b.hears_nothing()
    assert plane.totals()[2][DropReason.LATE] == 5


@pytest.mark.parametrize("shard", [0, 1])
def test_the_next_flow_on_a_resting_port_begins_with_nothing_of_the_last(
    plane: DataPlane, party: Callable[..., Party], shard: int
) -> None:
    a, b, c = party(), party(), party()
    pair = Pair(plane, a.address, b.address)
    a.send(rtp(1), pair.local[0])
    assert b.receive()
    for flow in pair.flow:
        plane.close(flow)
    opener = UdpOpener(plane)
    socks = [opener.open(local) for local in pair.local]
    settings = [FlowSettings(Content.RTP, advertised=each.address, public=True) for each in (c, b)]
    flows = [
        plane.open(sock, local, each, shard=shard)
        for sock, local, each in zip(socks, pair.local, settings, strict=True)
    ]
    for index in (0, 1):
        plane.set(flows[index], replace(settings[index], egress=flows[1 - index]), relearn=False)
    assert plane.figures(flows[0]).packets_in == 0
    assert not plane.figures(flows[0]).learned.latched

    def heard() -> bool:
        # What comes while a socket goes from one thread to another may still be late.
        c.send(rtp(7), pair.local[0])
        return b.receive(1, 0.1) == [rtp(7)]

    assert soon(heard)
    while b.receive(1, 0.1):
        pass
    a.send(rtp(8), pair.local[0])
    assert b.hears_nothing()
    assert plane.figures(flows[0]).drops == {DropReason.SOURCE_MISMATCH: 1}


def test_a_port_rests_and_is_taken_again_without_a_wake_up_of_an_idle_thread(
    plane: DataPlane, party: Callable[..., Party]
) -> None:
    a, b = party(), party()
    pair = Pair(plane, a.address, b.address)
    for flow in pair.flow:
        plane.close(flow)
    opener = UdpOpener(plane)
    socks = [opener.open(local) for local in pair.local]
    flows = [
        plane.open(sock, local, settings, shard=0)
        for sock, local, settings in zip(socks, pair.local, pair.settings, strict=True)
    ]
    assert flows == pair.flow


def test_instructions_of_one_batch_take_effect_together(plane: DataPlane, party: Callable[..., Party]) -> None:
    a, b = party(), party()
    with plane.gather():
        pair = Pair(plane, a.address, b.address)
        for flow in pair.flow:
            plane.close(flow)
        opener = UdpOpener(plane)
        socks = [opener.open(local) for local in pair.local]
        pair.flow = [
            plane.open(sock, local, settings, shard=0)
            for sock, local, settings in zip(socks, pair.local, pair.settings, strict=True)
        ]
        for index in (0, 1):
            pair.change(index, egress=pair.flow[1 - index])

    def heard() -> bool:
        a.send(rtp(1), pair.local[0])
        return b.receive(1, 0.1) == [rtp(1)]

    assert soon(heard)


def test_the_socket_that_rests_longest_makes_way(plane: DataPlane, party: Callable[..., Party]) -> None:
    a, b = party(), party()
    pairs = [Pair(plane, a.address, b.address) for _ in range(3)]
    for pair in pairs:
        for flow in pair.flow:
            plane.close(flow)

    def is_free(local: TransportAddress) -> bool:
        with contextlib.suppress(OSError):
            open_udp(local).close()
            return True
        return False

    assert soon(lambda: is_free(pairs[0].local[0]) and is_free(pairs[0].local[1]))
    assert not is_free(pairs[2].local[0])


def test_ports_that_may_be_lost_are_left(plane: DataPlane, party: Callable[..., Party]) -> None:
    a, b = party(), party()
    pair = Pair(plane, a.address, b.address)
    for flow in pair.flow:
        plane.close(flow)
    plane.rest_no_more()

    def is_free() -> bool:
        with contextlib.suppress(OSError):
            open_udp(pair.local[0]).close()
            return True
        return False

    assert soon(is_free)


def test_a_port_that_became_no_flow_goes_on_resting(plane: DataPlane, party: Callable[..., Party]) -> None:
    a, b = party(), party()
    pair = Pair(plane, a.address, b.address)
    plane.close(pair.flow[0])
    opener = UdpOpener(plane)
    sock = opener.open(pair.local[0])
    opener.give_back(pair.local[0], sock)
    assert sock.fileno() >= 0
    assert opener.open(pair.local[0]) is sock


def test_a_table_without_room_lets_resting_sockets_go(backend: str, party: Callable[..., Party]) -> None:
    a, b = party(), party()
    plane = open_plane(1, backend, resting=100)
    plane.start()
    try:
        table = plane._shards[0].table
        table.capacity = 10
        for _ in range(4):
            pair = Pair(plane, a.address, b.address)
            for flow in pair.flow:
                plane.close(flow)
        assert soon(lambda: plane.room(0) == 10)
    finally:
        plane.stop()
