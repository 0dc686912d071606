"""A keyed envelope for ng datagrams that cross a network: both sides prove that they know the shared key.

`ng1 SECONDS MAC SP message`, where MAC is 32 hexadecimal digits of HMAC-SHA-256 over direction, seconds and message.
The seconds are wall-clock time and must be near the reader's, and the reply cache outlives them: an old datagram
that is played again is refused, a fresh one gets the stored reply.
"""

from __future__ import annotations

import enum
import hashlib
import hmac

TOLERANCE = 14.0
"""Seconds that the two clocks may be apart; twice this is less than what the reply cache remembers at least."""

_MAGIC = b"ng1"


class Way(enum.Enum):
    """Requests and replies are sealed differently, so that neither can be taken for the other."""

    REQUEST = b"q"
    REPLY = b"r"


def seal(key: bytes, way: Way, message: bytes, wall: float) -> bytes:
    """Put a message into the envelope; `wall` in Unix seconds."""
    seconds = b"%d" % int(wall)
    return b"%b %b %b %b" % (_MAGIC, seconds, _mac(key, way, seconds, message), message)


def is_sealed(datagram: bytes) -> bool:
    """Tell whether a datagram claims to be in the envelope."""
    return datagram.startswith(_MAGIC + b" ")


def unseal(key: bytes, way: Way, datagram: bytes, wall: float) -> bytes | None:
    """Take the message out; None when the envelope is broken, too old or made with another key."""
    fields = datagram.split(b" ", 3)
    if len(fields) != 4 or fields[0] != _MAGIC or not fields[1].isdigit() or len(fields[1]) > 12:
        return None
    _, seconds, mac, message = fields
    if not hmac.compare_digest(mac, _mac(key, way, seconds, message)) or abs(wall - int(seconds)) > TOLERANCE:
        return None
    return message


def _mac(key: bytes, way: Way, seconds: bytes, message: bytes) -> bytes:
    return hmac.new(key, b"%b %b %b" % (way.value, seconds, message), hashlib.sha256).hexdigest()[:32].encode()
