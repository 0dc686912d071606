"""Batched receive and send on one socket: both implementations, the same tests."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import numpy as np
import pytest

from nattrav.net.address import TransportAddress
from nattrav.net.batch import Batch
from nattrav.net.mmsg import Datagrams, MmsgDatagrams, PortableDatagrams, open_datagrams
from nattrav.net.options import open_udp


@pytest.fixture(params=[False, True], ids=["mmsg", "portable"])
def ours(request: pytest.FixtureRequest) -> Iterator[Datagrams]:
    opened = open_datagrams(open_udp(TransportAddress("127.0.0.1", 0)), portable=request.param)
    yield opened
    opened.sock.close()


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    sock = open_udp(TransportAddress("127.0.0.1", 0))
    yield sock
    sock.close()


def address(sock: socket.socket) -> TransportAddress:
    return TransportAddress(*sock.getsockname()[:2])


def test_both_are_chosen_as_asked(ours: Datagrams) -> None:
    assert isinstance(ours, MmsgDatagrams | PortableDatagrams)


def test_nothing_waiting_gives_nothing(ours: Datagrams) -> None:
    batch = Batch(4)
    batch.count = 3
    assert ours.receive(batch) == 0
    assert batch.count == 0


def test_a_batch_holds_payloads_lengths_and_sources(ours: Datagrams, peer: socket.socket) -> None:
    payloads = [b"a", b"", b"c" * 1000]
    for payload in payloads:
        peer.sendto(payload, address(ours.sock))
    batch = Batch(8)
    assert ours.receive(batch) == 3
    assert [batch.payload(slot) for slot in range(3)] == payloads
    assert {batch.peer_address(slot) for slot in range(3)} == {address(peer)}
    assert not batch.truncated[:3].any()


def test_a_full_batch_leaves_the_rest_for_the_next(ours: Datagrams, peer: socket.socket) -> None:
    for number in range(5):
        peer.sendto(bytes([number]), address(ours.sock))
    batch = Batch(3)
    assert ours.receive(batch) == 3
    assert ours.receive(batch) == 2
    assert batch.payload(0) == b"\x03"


def test_too_long_a_datagram_is_marked(ours: Datagrams, peer: socket.socket) -> None:
    peer.sendto(b"x" * 200, address(ours.sock))
    batch = Batch(2, size=64)
    assert ours.receive(batch) == 1
    assert batch.truncated[0]


def test_an_answer_goes_back_to_each_source(ours: Datagrams) -> None:
    peers = [open_udp(TransportAddress("127.0.0.1", 0)) for _ in range(3)]
    for number, each in enumerate(peers):
        each.sendto(bytes([number]), address(ours.sock))
    batch = Batch(4)
    ours.receive(batch)
    assert ours.send(batch) == 3
    for number, each in enumerate(peers):
        assert each.recv(10) == bytes([number])
        each.close()


def test_chosen_rows_are_sent_and_no_others(ours: Datagrams, peer: socket.socket) -> None:
    batch = Batch(4)
    for slot in range(4):
        batch.put(slot, bytes([slot]), address(peer))
    assert ours.send(batch, np.array([3, 1])) == 2
    assert [peer.recv(10), peer.recv(10)] == [b"\x03", b"\x01"]
    assert ours.send(batch, np.array([], np.intp)) == 0


def test_a_refused_datagram_is_counted_and_the_others_leave(ours: Datagrams, peer: socket.socket) -> None:
    batch = Batch(3)
    batch.put(0, b"first", address(peer))
    batch.put(1, b"refused", TransportAddress("127.255.255.255", 9))
    batch.put(2, b"last", address(peer))
    batch.count = 3
    assert ours.send(batch) == 2
    assert [peer.recv(10), peer.recv(10)] == [b"first", b"last"]
    assert sum(ours.send_errors.values()) == 1
    assert set(ours.send_errors) <= {errno.EACCES, errno.ENETUNREACH, errno.EINVAL}


def test_two_batches_may_take_turns(ours: Datagrams, peer: socket.socket) -> None:
    first, second = Batch(2), Batch(4)
    for batch in (first, second, first):
        peer.sendto(b"again", address(ours.sock))
        assert ours.receive(batch) == 1
        assert batch.payload(0) == b"again"


@pytest.mark.parametrize("portable", [False, True])
def test_ipv6_sources_are_read(portable: bool) -> None:
    try:
        sock, peer = open_udp(TransportAddress("::1", 0)), open_udp(TransportAddress("::1", 0))
    except OSError:
        pytest.skip("needs IPv6 on loopback: sysctl net.ipv6.conf.lo.disable_ipv6=0")
    ours = open_datagrams(sock, portable=portable)
    peer.sendto(b"six", address(sock))
    batch = Batch(2)
    assert ours.receive(batch) == 1
    assert batch.peer_address(0) == address(peer)
    assert ours.send(batch) == 1
    assert peer.recv(10) == b"six"
    sock.close()
    peer.close()


def test_a_closed_socket_is_an_error() -> None:
    ours = open_datagrams(open_udp(TransportAddress("127.0.0.1", 0)))
    ours.sock.close()
    with pytest.raises(OSError, match="recvmmsg"):
        ours.receive(Batch(1))
