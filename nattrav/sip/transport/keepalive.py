"""What the first octets of a datagram on a SIP port say (RFC 5626 §8, RFC 8489 §5)."""

from __future__ import annotations

import enum

MAGIC_COOKIE = b"\x21\x12\xa4\x42"
_FILLING = b"\r\n\0"


class Kind(enum.Enum):
    """Kinds of datagrams on a SIP port."""

    SIP = "sip"
    STUN = "stun"
    KEEPALIVE = "keepalive"


def kind_of(datagram: bytes) -> Kind:
    """Tell SIP, STUN (first octet 0x00-0x03 and the magic cookie) and filling (nothing but CR, LF, NUL) apart."""
    if not datagram:
        return Kind.KEEPALIVE
    first = datagram[0]
    if first >= 0x20:
        return Kind.SIP
    if first < 4 and len(datagram) >= 20 and datagram[4:8] == MAGIC_COOKIE:
        return Kind.STUN
    if not datagram.strip(_FILLING):
        return Kind.KEEPALIVE
    return Kind.SIP


def without_leading_lines(datagram: bytes) -> bytes:
    """Skip the empty lines a sender may put before a start line (RFC 3261 §7.5)."""
    return datagram.lstrip(b"\r\n") if datagram[0] in _FILLING else datagram
