"""The STUN message (RFC 8489 §5, §14; RFC 3489 §11): header and attributes, bytes to values and back.

Type = method and class interleaved: class bit 1 is bit 8 (0x0100), class bit 0 is bit 4 (0x0010).
A message without the magic cookie is classic: its transaction id has 16 bytes instead of 12.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from stun.attributes import MAGIC_COOKIE, MalformedMessage

HEADER = 20
BINDING = 0x001
SHARED_SECRET = 0x002
_LENGTH_MAX = 0xFFFC


class MessageClass(enum.IntEnum):
    """Request, indication, success response or error response (§5)."""

    REQUEST = 0
    INDICATION = 1
    SUCCESS = 2
    ERROR = 3


class Attribute(NamedTuple):
    """One attribute as received; `offset` is where its type stands in the message."""

    type: int
    value: bytes
    offset: int


@dataclass(frozen=True, slots=True)
class Message:
    """A decoded message. `raw` are the bytes it came from, which integrity checks need."""

    method: int
    message_class: MessageClass
    transaction_id: bytes
    attributes: tuple[Attribute, ...] = ()
    raw: bytes = field(default=b"", repr=False, compare=False)

    @property
    def classic(self) -> bool:
        """True for RFC 3489, which knows no magic cookie."""
        return len(self.transaction_id) == 16

    def first(self, attribute: int) -> bytes | None:
        """Value of the first attribute of this type; later ones are ignored (§14)."""
        for entry in self.attributes:
            if entry.type == attribute:
                return entry.value
        return None

    def find(self, attribute: int) -> Attribute | None:
        """The first attribute of this type with its place."""
        for entry in self.attributes:
            if entry.type == attribute:
                return entry
        return None


def message_type(method: int, message_class: MessageClass) -> int:
    """Interleave method and class (§5, figure 3)."""
    return (
        method & 0x000F
        | (method & 0x0070) << 1
        | (method & 0x0F80) << 2
        | (message_class & 1) << 4
        | (message_class & 2) << 7
    )


def split_type(word: int) -> tuple[int, MessageClass]:
    """Take method and class apart again."""
    method = word & 0x000F | (word & 0x00E0) >> 1 | (word & 0x3E00) >> 2
    return method, MessageClass((word >> 7 & 2) | (word >> 4 & 1))


def decode(data: bytes) -> Message:
    """Read one whole message, modern or classic.

    Raises MalformedMessage; its `stun` is False when the bytes do not begin as STUN (fewer than 20, or the two
    most significant bits set).
    """
    if len(data) < HEADER:
        raise MalformedMessage("fewer than 20 bytes", stun=False)
    word, length = struct.unpack_from("!HH", data)
    if word & 0xC000:
        raise MalformedMessage("the first two bits are not zero", stun=False)
    if length % 4:
        raise MalformedMessage("length is no multiple of 4")
    if HEADER + length != len(data):
        raise MalformedMessage("length differs from the size of the datagram")
    method, message_class = split_type(word)
    transaction_id = data[8:20] if data[4:8] == MAGIC_COOKIE else data[4:20]
    return Message(method, message_class, transaction_id, _attributes(data), data)


def _attributes(data: bytes) -> tuple[Attribute, ...]:
    found = []
    position, end = HEADER, len(data)
    while position < end:
        kind, size = struct.unpack_from("!HH", data, position)
        start = position + 4
        if start + size > end:
            raise MalformedMessage("an attribute runs past the end")
        found.append(Attribute(kind, data[start : start + size], position))
        position = start + size + -size % 4
    return tuple(found)


def header(method: int, message_class: MessageClass, length: int, transaction_id: bytes) -> bytes:
    """Build the 20 bytes of a header; a transaction id of 16 bytes makes it classic."""
    cookie = MAGIC_COOKIE if len(transaction_id) == 12 else b""
    return struct.pack("!HH", message_type(method, message_class), length) + cookie + transaction_id


def encode(
    method: int,
    message_class: MessageClass,
    transaction_id: bytes,
    attributes: Iterable[tuple[int, bytes]] = (),
    *,
    pad: bytes = b"\0",
) -> bytes:
    """Build a message. ValueError when it grows beyond what its length field can say.

    `pad` exists for test vectors, some of which pad with spaces; what we send is padded with zeros (§14).
    """
    parts = []
    length = 0
    for kind, value in attributes:
        padding = -len(value) % 4
        length += 4 + len(value) + padding
        if len(value) > 0xFFFF or length > _LENGTH_MAX:
            raise ValueError("a STUN message holds at most 65532 bytes of attributes")
        parts.append(struct.pack("!HH", kind, len(value)) + value + pad * padding)
    return header(method, message_class, length, transaction_id) + b"".join(parts)


def append(message: bytes, attribute: int, value: bytes) -> bytes:
    """Add one attribute at the end and correct the header's length."""
    padding = -len(value) % 4
    length = len(message) - HEADER + 4 + len(value) + padding
    if length > _LENGTH_MAX:
        raise ValueError("a STUN message holds at most 65532 bytes of attributes")
    grown = message[:2] + struct.pack("!H", length) + message[4:]
    return grown + struct.pack("!HH", attribute, len(value)) + value + b"\0" * padding
