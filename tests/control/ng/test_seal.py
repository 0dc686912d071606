from __future__ import annotations

import pytest

from nattrav.control.ng.seal import TOLERANCE, Way, is_sealed, seal, unseal

KEY = b"0123456789abcdef"
SEALED = seal(KEY, Way.REQUEST, b"c d7:command4:pinge", 1000.0)


def test_what_is_sealed_opens_with_the_same_key() -> None:
    assert is_sealed(SEALED)
    assert unseal(KEY, Way.REQUEST, SEALED, 1001.0) == b"c d7:command4:pinge"


@pytest.mark.parametrize(
    ("datagram", "way", "key", "wall"),
    [
        (SEALED, Way.REPLY, KEY, 1000.0),
        (SEALED, Way.REQUEST, KEY + b"x", 1000.0),
        (SEALED + b"x", Way.REQUEST, KEY, 1000.0),
        (SEALED.replace(b"1000", b"1001"), Way.REQUEST, KEY, 1000.0),
        (SEALED, Way.REQUEST, KEY, 1000.0 + TOLERANCE + 1),
        (SEALED, Way.REQUEST, KEY, 1000.0 - TOLERANCE - 1),
        (b"ng1 ", Way.REQUEST, KEY, 1000.0),
        (b"ng1 x y z", Way.REQUEST, KEY, 1000.0),
        (b"ng1 99999999999999999 y z", Way.REQUEST, KEY, 1000.0),
        (b"c d7:command4:pinge", Way.REQUEST, KEY, 1000.0),
        (b"", Way.REQUEST, KEY, 1000.0),
    ],
)
def test_everything_else_stays_closed(datagram: bytes, way: Way, key: bytes, wall: float) -> None:
    assert unseal(key, way, datagram, wall) is None
