"""Connected twins on real sockets: media takes the short way, and everything else is as without them."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from nattrav.net.address import TransportAddress
from nattrav.net.options import get_tos, open_connected_twin, open_udp
from relay.io.pump import DataPlane, open_plane
from relay.io.twins import Twins
from relay.plane import DropReason
from relay.tally import RIPE_EVERY
from tests.relay.io.pairs import Pair, Party, rtp


@pytest.fixture
def plane(backend: str) -> Iterator[DataPlane]:
    opened = open_plane(1, backend, twins=8)
    opened.start()
    yield opened
    opened.stop()


def twins(plane: DataPlane) -> Twins:
    found = plane._shards[0].exits
    assert isinstance(found, Twins)
    return found


def eventually(condition: Callable[[], bool]) -> None:
    """Wait as long as a busy machine takes."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


class Talk:
    """Two parties that have sent each other enough to be worth a twin each."""

    def __init__(self, plane: DataPlane, a: Party, b: Party, **more: object) -> None:
        self.plane, self.a, self.b = plane, a, b
        self.pair = Pair(plane, a.address, b.address, **more)
        self.sequence = 0
        while len(twins(plane)) < 2:
            self.speak()
            assert self.sequence < 100 * RIPE_EVERY

    def speak(self) -> None:
        self.sequence += 1
        self.a.send(rtp(self.sequence), self.pair.local[0])
        self.b.send(rtp(self.sequence), self.pair.local[1])
        assert self.b.receive() == [rtp(self.sequence)]
        assert self.a.receive() == [rtp(self.sequence)]


def test_without_descriptors_to_spare_there_are_none(party: Callable[..., Party]) -> None:
    plane = open_plane(1)
    plane.start()
    try:
        assert len(twins(plane)) == 0
        assert not twins(plane)._tally.seek
    finally:
        plane.stop()


@pytest.mark.parametrize("family", [4, 6])
def test_media_of_latched_parties_goes_on_through_twins(
    plane: DataPlane, party: Callable[..., Party], family: int
) -> None:
    talk = Talk(plane, party(family), party(family))
    for _ in range(5):
        talk.speak()
    figures = plane.figures(talk.pair.flow[0])
    assert figures.packets_in == figures.packets_out == figures.rtp.received == talk.sequence
    assert figures.drops == {}


def test_a_stranger_is_refused_and_counted_as_ever(plane: DataPlane, party: Callable[..., Party]) -> None:
    talk, stranger = Talk(plane, party(), party()), party()
    stranger.send(rtp(1, ssrc=66), talk.pair.local[0])
    talk.speak()
    assert plane.figures(talk.pair.flow[0]).drops == {DropReason.SOURCE_MISMATCH: 1}
    assert stranger.hears_nothing()


def test_a_party_that_moves_after_signalling_is_followed_and_its_twin_given_up(
    plane: DataPlane, party: Callable[..., Party]
) -> None:
    talk, tablet = Talk(plane, party(), party()), party()
    talk.pair.change(0, relearn=True, advertised=tablet.address)
    tablet.send(rtp(1000, ssrc=9), talk.pair.local[0])
    assert talk.b.receive() == [rtp(1000, ssrc=9)]
    talk.b.send(rtp(1000), talk.pair.local[1])
    assert tablet.receive() == [rtp(1000)]
    talk.b.send(rtp(1001), talk.pair.local[1])
    assert tablet.receive() == [rtp(1001)]
    assert len(twins(plane)) == 1
    talk.a.send(rtp(1), talk.pair.local[0])
    talk.b.send(rtp(1002), talk.pair.local[1])
    assert tablet.receive() == [rtp(1002)]
    assert plane.figures(talk.pair.flow[0]).drops == {DropReason.SOURCE_MISMATCH: 1}


def test_a_twin_that_reports_an_error_is_given_up_and_media_goes_on(
    plane: DataPlane, party: Callable[..., Party]
) -> None:
    talk = Talk(plane, party(), party())
    talk.b.sock.close()
    while twins(plane).holds(talk.pair.flow[1]):
        talk.sequence += 1
        talk.a.send(rtp(talk.sequence), talk.pair.local[0])
        time.sleep(0.002)
    eventually(lambda: plane.figures(talk.pair.flow[0]).packets_in == talk.sequence)
    talk.b.sock = open_udp(talk.b.address)
    for _ in range(2 * RIPE_EVERY):
        talk.speak()
    assert len(twins(plane)) == 1


def test_a_change_of_tos_reaches_the_twin(plane: DataPlane, party: Callable[..., Party]) -> None:
    talk = Talk(plane, party(), party(), tos=0xB8)
    assert {get_tos(sock) for sock in twins(plane)._open.values()} == {0xB8}
    talk.pair.change(1, tos=0x68)
    talk.speak()
    assert {get_tos(sock) for sock in twins(plane)._open.values()} == {0xB8, 0x68}


def test_closing_a_flow_closes_its_twin_before_the_row_is_free(plane: DataPlane, party: Callable[..., Party]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    talk = Talk(plane, party(), party())
    for flow in talk.pair.flow:
        plane.close(flow)
    eventually(lambda: len(os.listdir("/proc/self/fd")) == before + 2)
    again = Talk(plane, talk.a, talk.b)
    again.speak()
    assert sorted(again.pair.flow) == sorted(talk.pair.flow)


def test_a_twin_shares_its_address_with_its_socket_only(party: Callable[..., Party]) -> None:
    peer = party()
    sock = open_udp(TransportAddress("127.0.0.1", 0))
    local = TransportAddress(*sock.getsockname())
    with sock, open_connected_twin(sock, local, peer.address) as twin:
        peer.send(b"to the twin", local)
        party().send(b"to the socket", local)
        twin.setblocking(True)
        sock.setblocking(True)
        assert twin.recv(100) == b"to the twin"
        assert sock.recv(100) == b"to the socket"
        with pytest.raises(OSError, match="in use"):
            open_udp(local, reuse_address=True)
        assert twin.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 0
