"""Which flows' packets leave as frames, and until when; the kernel is played."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nattrav.net.address import TransportAddress
from nattrav.net.next_hops import Hop, News
from nattrav.net.options import Socket
from relay.io import framing
from relay.io.framing import Framing
from relay.steer import Lengths, Rows
from relay.tally import RIPE_EVERY
from tests.relay.exchange import Exchange, rtp

A, B = "198.51.100.1:4000", "198.51.100.2:5000"
FILE = 900
HOP = Hop(3, "192.0.2.254", b"\2\0\0\0\0\1", b"\2\0\0\0\0\2", 1500, 64)


class Kernel:
    """Next hops and packet sockets as a test wants them."""

    def __init__(self) -> None:
        self.hop: Hop | None = HOP
        self.asked: list[tuple[TransportAddress, TransportAddress, int]] = []
        self.told = News()
        self.misfits: list[tuple[Rows, Lengths]] = []
        self.opened: list[Socket] = []
        self.files: list[int] = []
        self.per_interface = 1
        self.closed = False

    def find(self, source: TransportAddress, target: TransportAddress, tos: int, interface: int = 0) -> Hop | None:
        self.asked.append((source, target, tos))
        return self.hop

    def news(self) -> News:
        told, self.told = self.told, News()
        return told

    def close(self) -> None:
        self.closed = True

    def open_senders(self, interface: int) -> list[Socket]:
        opened = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(self.per_interface)]
        self.opened += opened
        return opened

    def attach_sender(self, sock: Socket) -> int:
        self.files.append(FILE + len(self.files))
        return self.files[-1]

    def detach_sender(self, file: int) -> None:
        self.files.remove(file)


class Office:
    """Pairs of parties, and the framing of their flows."""

    def __init__(self) -> None:
        self.it = Exchange()
        self.kernel = Kernel()
        self.plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sockets = dict.fromkeys(range(64), self.plain)
        backend = cast(Any, self.kernel)
        self.framing = Framing(
            backend, self.it.crossbar, self.it.steer.tally, sockets, self.kernel, self.kernel.open_senders
        )

    def close(self) -> None:
        self.framing.close()
        self.plain.close()

    def pair(self, number: int = 0, **more: Any) -> tuple[int, int]:
        first, second = f"198.51.100.1:{4000 + number}", f"198.51.100.2:{5000 + number}"
        locals_ = f"192.0.2.10:{40000 + 4 * number}", f"192.0.2.10:{40002 + 4 * number}"
        a, b = self.it.pair(first, second, locals_=locals_, **more)
        self.speak((a, first), (b, second))
        return a, b

    def speak(self, *parties: tuple[int, str]) -> None:
        """Let parties send as much as makes their flows ripe, and look."""
        for sequence in range(RIPE_EVERY):
            for slot, source in parties:
                self.it.one(slot, rtp(sequence), source)
        self.look()

    def look(self, later: float = 1.0) -> None:
        self.it.now += later
        self.it.steer.settle(self.it.now)
        while self.framing.due(self.it.now):
            self.framing.tend(self.it.now)

    def file(self, slot: int) -> int:
        """What packets that came to a flow leave by."""
        return int(self.it.table.routes[2 * slot]["fd"])


@pytest.fixture
def office() -> Iterator[Office]:
    made = Office()
    yield made
    made.close()


def test_settled_flows_leave_as_frames(office: Office) -> None:
    a, b = office.pair(tos=0xB8)
    assert len(office.framing) == 2
    assert (office.file(a), office.file(b)) == (FILE, FILE)
    assert [(str(target), tos) for _, target, tos in office.kernel.asked] == [(B, 0xB8), (A, 0xB8)]
    assert office.it.table.framed == {2 * a, 2 * a + 1, 2 * b, 2 * b + 1}


def test_without_a_next_hop_a_flow_stays_with_its_socket_and_its_party_is_not_asked_for_at_once(office: Office) -> None:
    office.kernel.hop = None
    a, _ = office.pair()
    assert (len(office.framing), office.file(a)) == (0, 1)
    office.kernel.hop = HOP
    asked = len(office.kernel.asked)
    office.speak((a, A))
    assert len(office.kernel.asked) == asked
    office.it.now += framing.REFUSED_FOR
    office.speak((a, A))
    assert len(office.framing) == 1


def test_a_next_hop_that_moved_is_looked_up_anew_and_one_that_is_gone_ends_frames(office: Office) -> None:
    a, _ = office.pair()
    office.kernel.hop = replace(HOP, destination=b"\2\0\0\0\0\3")
    office.kernel.told.neighbours[3, "192.0.2.254"] = b"\2\0\0\0\0\3"
    office.look()
    assert b"\2\0\0\0\0\3" in office.it.table.headers[2 * a].tobytes()
    office.kernel.hop = None
    office.kernel.told.neighbours[3, "192.0.2.254"] = b""
    office.look()
    assert (len(office.framing), office.file(a)) == (0, 1)
    assert not office.it.table.framed


def test_news_of_others_cost_no_question(office: Office) -> None:
    office.pair()
    asked = len(office.kernel.asked)
    office.kernel.told.neighbours.update({(3, "192.0.2.77"): b"", (3, "192.0.2.254"): HOP.destination})
    office.kernel.told.interfaces.add(9)
    office.look()
    assert len(office.kernel.asked) == asked


def test_when_routes_change_all_is_looked_up_anew_but_not_all_the_time(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(framing, "RENEW_EVERY", 1e9)
    for number in range(12):
        office.pair(number)
    for _ in range(2):
        asked = len(office.kernel.asked)
        office.kernel.told.everything = True
        office.look(framing.SWEEP_EVERY)
        assert len(office.kernel.asked) == asked + 24
    asked = len(office.kernel.asked)
    office.kernel.told.everything = True
    office.look(framing.SWEEP_EVERY / 2)
    assert len(office.kernel.asked) == asked
    office.look(framing.SWEEP_EVERY / 2)
    assert len(office.kernel.asked) == asked + 24


def test_every_next_hop_has_one_flow_at_a_time_back_on_its_socket(office: Office) -> None:
    pairs = [office.pair(number) for number in range(3)]
    office.look(framing.RENEW_EVERY + 1)
    assert len(office.framing) == 5
    office.look()
    assert len(office.framing) == 5
    office.look(framing.RENEW_EVERY + 1)
    assert len(office.framing) == 4
    office.speak(
        *((slot, party.format(5000 + n)) for n, (_, slot) in enumerate(pairs) for party in ["198.51.100.2:{}"])
    )
    assert len(office.framing) >= 4


def test_a_send_that_fails_ends_frames_for_good_unless_the_link_was_down(office: Office) -> None:
    a, b = office.pair()
    office.framing.fail(b, errno.ENETDOWN)
    assert office.file(a) == 1
    office.speak((b, B))
    assert office.file(a) == FILE
    office.framing.fail(b, errno.EINVAL)
    office.speak((b, B))
    assert office.file(a) == 1
    office.framing.fail(b, errno.EINVAL)


def test_a_party_that_moved_is_no_longer_sent_frames(office: Office) -> None:
    a, b = office.pair()
    moved = "198.51.100.77:5000"
    office.it.change(b, relearn=True, advertised=TransportAddress.parse(moved))
    assert office.it.one(b, rtp(), moved) is not None
    assert office.file(a) == 1
    office.look()
    assert len(office.framing) == 1
    office.speak((b, moved))
    assert str(office.kernel.asked[-1][1]) == moved
    assert office.file(a) == FILE


def test_another_tos_needs_another_header(office: Office) -> None:
    a, b = office.pair()
    office.framing.renew_tos(b)
    assert office.file(a) == FILE
    office.it.change(b, tos=0x68)
    office.framing.renew_tos(b)
    assert office.file(a) == 1
    office.speak((b, B))
    assert office.kernel.asked[-1][2] == 0x68


def test_senders_of_an_interface_that_is_gone_are_closed(office: Office) -> None:
    office.pair()
    office.kernel.told.interfaces.add(3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("relay.io.framing.socket", SimpleNamespace(if_indextoname=gone))
        office.look()
    assert len(office.framing) == 0
    assert office.kernel.files == []
    assert office.kernel.opened[0].fileno() == -1


def gone(index: int) -> str:
    raise OSError(errno.ENXIO, "no such interface")


def test_more_interfaces_than_there_is_room_for_send_by_sockets(office: Office) -> None:
    office.kernel.per_interface = framing.SENDERS
    office.pair()
    office.kernel.hop = replace(HOP, interface=4)
    a, _ = office.pair(1)
    assert len(office.framing) == 2
    assert office.file(a) == a + 1
    assert all(sock.fileno() == -1 for sock in office.kernel.opened[framing.SENDERS :])


def test_closing_closes_everything(office: Office) -> None:
    office.pair()
    office.framing.close()
    assert office.kernel.closed
    assert all(sock.fileno() == -1 for sock in office.kernel.opened)
