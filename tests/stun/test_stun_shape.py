"""Shapes: what fits one, and which fingerprints are right, as the codec says."""

from __future__ import annotations

import numpy as np
import pytest

from nattrav.net.address import TransportAddress
from nattrav.net.batch import Batch
from stun.attributes import AttributeType
from stun.integrity import add_fingerprint
from stun.message import BINDING, MessageClass, encode
from stun.shape import WITH_FINGERPRINT, Shape

ALL = slice(0, 9)


def request(number: int, software: bytes = b"any 1.0") -> bytes:
    tid = number.to_bytes(12, "big")
    return add_fingerprint(encode(BINDING, MessageClass.REQUEST, tid, [(AttributeType.SOFTWARE, software)]))


@pytest.fixture
def batch() -> Batch:
    filled = Batch(9, 128)
    for slot in range(9):
        filled.put(slot, request(slot * 7919), TransportAddress("192.0.2.1", 1000 + slot))
    return filled


def test_requests_of_one_client_program_have_one_shape(batch: Batch) -> None:
    shape = Shape.of(batch.payload(4), WITH_FINGERPRINT)
    assert shape.fits_all(batch, ALL)
    assert shape.fits(batch, np.arange(9)).all()


def test_another_attribute_value_length_or_method_is_another_shape(batch: Batch) -> None:
    shape = Shape.of(batch.payload(0), WITH_FINGERPRINT)
    for slot, other in enumerate((request(1, b"any 1.1"), request(1, b"another"), request(1) + bytes(4))):
        batch.put(slot, other, TransportAddress("192.0.2.1", 1000))
    batch.data[3, 1] = 2
    assert shape.fits(batch, np.arange(9)).tolist() == [False] * 4 + [True] * 5
    assert not shape.fits_all(batch, ALL)


def test_a_fingerprint_is_right_when_the_codec_says_so(batch: Batch) -> None:
    shape = Shape.of(batch.payload(0), WITH_FINGERPRINT)
    right = shape.right(batch, ALL)
    assert right is not None
    assert right.all()
    batch.data[2, 15] ^= 1
    batch.data[5, int(batch.length[5]) - 1] ^= 0x80
    right = shape.right(batch, ALL)
    assert right is not None
    assert np.flatnonzero(~right).tolist() == [2, 5]


def test_without_fingerprint_there_is_nothing_to_be_right(batch: Batch) -> None:
    assert Shape.of(encode(BINDING, MessageClass.REQUEST, bytes(12)), 0).right(batch, ALL) is None
