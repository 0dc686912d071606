"""What the kernel is told: whoever was answered plainly, for a while; never more than a bounded part of a flood."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from nattrav.net.address import TransportAddress
from nattrav.net.batch import Batch
from stun.admission import Admission, Limits
from stun.attributes import AttributeType
from stun.behavior import ServerAddress, lay_out
from stun.fastpath import FastPath
from stun.message import BINDING, MessageClass, encode
from stun.offload import layout
from stun.offload.teaching import KNOWN_FOR, Teacher
from stun.responder import Responder

T = AttributeType
SERVER = Responder(
    lay_out([ServerAddress("198.51.100.1", alternate="198.51.100.2"), ServerAddress("2001:db8::1")], 3478, 3479)
)


class Kernel:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.clients: dict[bytes, tuple[int, int]] = {}
        self.shapes: list[tuple[int, int]] = []

    def answer(self, keys: layout.Keys, values: NDArray[np.void]) -> None:
        assert (keys.dtype, values.dtype) == (layout.KEY, layout.CLIENT)
        for key, value in zip(keys, values, strict=True):
            self.clients[key.tobytes()] = (int(value["until"]), int(value["exempt"]))

    def know(self, slot: int, shape: bytes) -> None:
        row = np.frombuffer(shape, layout.SHAPE)[0]
        self.shapes.append((slot, int(row["length"])))


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def teacher(kernel: Kernel) -> Teacher:
    return Teacher(kernel, Admission(Limits(exempt=("192.0.2.0/24",)), (11, 13)))


def batch(*sent: tuple[str, tuple[tuple[int, bytes], ...]]) -> Batch:
    made = Batch(max(len(sent), 1), 1728)
    for slot, (source, attributes) in enumerate(sent):
        data = encode(BINDING, MessageClass.REQUEST, slot.to_bytes(12, "big"), attributes)
        made.put(slot, data, TransportAddress.parse(source))
    made.count = len(sent)
    return made


def teach(teacher: Teacher, made: Batch, at: int = 0, now: float = 100.0, ipv6: bool = False) -> None:
    outcome = FastPath(SERVER, 320).answer(at, made, Batch(made.slots, 320))
    teacher.take(at, made, outcome, ipv6, now)


def key(source: str, place: int = 0) -> bytes:
    raw = bytearray(layout.endpoint(TransportAddress.parse(source)))
    raw[18:20] = place.to_bytes(2, "little")
    return bytes(raw)


def test_who_was_answered_is_known_for_a_while_at_the_endpoint_asked(teacher: Teacher, kernel: Kernel) -> None:
    teach(teacher, batch(("203.0.113.7:5000", ()), ("192.0.2.9:6000", ())), at=2)
    until = int((100.0 + KNOWN_FOR) * 1e9)
    assert kernel.clients == {key("203.0.113.7:5000", 2): (until, 0), key("192.0.2.9:6000", 2): (until, 1)}


def test_ipv6_clients_are_known_too(teacher: Teacher, kernel: Kernel) -> None:
    teach(teacher, batch(("[2001:db8::7]:5000", ())), at=4, ipv6=True)
    assert list(kernel.clients) == [key("[2001:db8::7]:5000", 4)]


def test_change_requests_and_what_is_left_to_the_responder_teach_nothing(teacher: Teacher, kernel: Kernel) -> None:
    teach(
        teacher,
        batch(
            ("203.0.113.1:5000", ((T.CHANGE_REQUEST, b"\0\0\0\6"),)),
            ("203.0.113.2:5000", ((0x7FFF, b""),)),
            ("203.0.113.3:53", ()),
            ("203.0.113.4:5000", ((T.SOFTWARE, b"agent"),)),
        ),
    )
    assert list(kernel.clients) == [key("203.0.113.4:5000")]


def test_shapes_are_shown_once_each_and_not_faster_than_they_are_worth(teacher: Teacher, kernel: Kernel) -> None:
    for number in range(50):
        teach(teacher, batch(("203.0.113.1:5000", ((T.SOFTWARE, b"agent 0"),))), now=100.0 + number)
    assert kernel.shapes == [(0, 32)]
    for number in range(50):
        teach(teacher, batch(("203.0.113.1:5000", ((T.SOFTWARE, b"%04d" % number),))), now=150.0 + number / 100)
    assert len(kernel.shapes) <= 1 + layout.SHAPES
    assert {slot for slot, _ in kernel.shapes} <= set(range(layout.SHAPES))


def test_long_requests_have_no_shape_for_the_kernel(teacher: Teacher, kernel: Kernel) -> None:
    teach(teacher, batch(("203.0.113.1:5000", ((T.SOFTWARE, bytes(80)),))))
    assert kernel.shapes == []


def test_a_flood_of_new_clients_is_taught_in_a_bounded_part(teacher: Teacher, kernel: Kernel) -> None:
    made = batch(*((f"10.{n >> 8}.{n & 255}.1:5000", ()) for n in range(500)))
    for number in range(100):
        # Two hundred thousand new clients a second.
        made.peer[: made.count, 7] = number
        teach(teacher, made, now=100.0 + number * 500 / 200_000)
    assert 2000 <= len(kernel.clients) <= 2000 + 20_000 * 0.25 + 500
