"""Batches sent through an io_uring arrive as they would otherwise, and what the kernel refuses is counted."""

from __future__ import annotations

import errno
import socket
from collections import Counter
from collections.abc import Iterator

import pytest

from nattrav.net import uring
from nattrav.net.address import TransportAddress
from nattrav.net.batch import Batch
from nattrav.net.options import open_udp
from nattrav.net.ring_sends import RingSends


@pytest.fixture
def batch() -> Batch:
    return Batch(64, 320)


@pytest.fixture
def sends(batch: Batch) -> Iterator[RingSends]:
    reason = uring.availability([uring.OP_SEND])
    if reason is not None:
        pytest.skip(f"io_uring: {reason}")
    made = RingSends(batch)
    yield made
    made.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_slots_leave_in_order_with_their_own_lengths(host: str, batch: Batch, sends: RingSends) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with open_udp(TransportAddress(host, 0)) as sender, socket.socket(family, socket.SOCK_DGRAM) as peer:
        peer.bind((host, 0))
        peer.settimeout(2)
        to = TransportAddress(host, peer.getsockname()[1])
        errors: Counter[int] = Counter()
        for turn in range(5):
            payloads = [bytes([turn, n]) * (n + 1) for n in range(50)]
            for slot, payload in enumerate(payloads):
                batch.put(slot, payload, to)
            assert sends.send(sender, 10, 50, errors) == 40
            assert [peer.recv(400) for _ in range(40)] == payloads[10:]
        assert not errors


def test_what_the_kernel_refuses_is_counted_and_the_rest_leaves(batch: Batch, sends: RingSends) -> None:
    with open_udp(TransportAddress("127.0.0.1", 0)) as sender, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(2)
        to = TransportAddress("127.0.0.1", peer.getsockname()[1])
        for slot in range(6):
            batch.put(slot, bytes([slot]), to)
        batch.put(2, b"x", TransportAddress("255.255.255.255", 9))
        batch.put(4, b"x", TransportAddress("127.0.0.1", 0))
        errors: Counter[int] = Counter()
        assert sends.send(sender, 0, 6, errors) == 4
        assert [peer.recv(400) for _ in range(4)] == [b"\0", b"\1", b"\3", b"\5"]
        assert errors == Counter({errno.EACCES: 1, errno.EINVAL: 1})
