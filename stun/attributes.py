"""STUN attributes (RFC 8489 §14, RFC 5780 §7, RFC 3489 §11.2): their numbers and the coding of their values."""

from __future__ import annotations

import enum
import ipaddress
import struct
from collections.abc import Sequence
from functools import lru_cache

from nattrav.net.address import TransportAddress, canonical

MAGIC_COOKIE = b"\x21\x12\xa4\x42"
_COOKIE_PORT = 0x2112
_FAMILIES = {1: 4, 2: 16}


class MalformedMessage(ValueError):
    """Bytes from the network that are no STUN message, or a value that breaks its attribute's rule."""

    def __init__(self, reason: str, *, stun: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.stun = stun
        """False when the bytes do not even begin as STUN, so that another protocol may try them."""


class AttributeType(enum.IntEnum):
    """Attribute numbers; below 0x8000 comprehension is required."""

    MAPPED_ADDRESS = 0x0001
    RESPONSE_ADDRESS = 0x0002
    CHANGE_REQUEST = 0x0003
    SOURCE_ADDRESS = 0x0004
    CHANGED_ADDRESS = 0x0005
    USERNAME = 0x0006
    PASSWORD = 0x0007
    MESSAGE_INTEGRITY = 0x0008
    ERROR_CODE = 0x0009
    UNKNOWN_ATTRIBUTES = 0x000A
    REFLECTED_FROM = 0x000B
    REALM = 0x0014
    NONCE = 0x0015
    MESSAGE_INTEGRITY_SHA256 = 0x001C
    PASSWORD_ALGORITHM = 0x001D
    USERHASH = 0x001E
    XOR_MAPPED_ADDRESS = 0x0020
    PRIORITY = 0x0024
    USE_CANDIDATE = 0x0025
    PADDING = 0x0026
    RESPONSE_PORT = 0x0027
    PASSWORD_ALGORITHMS = 0x8002
    ALTERNATE_DOMAIN = 0x8003
    XOR_MAPPED_ADDRESS_DRAFT = 0x8020
    SOFTWARE = 0x8022
    ALTERNATE_SERVER = 0x8023
    FINGERPRINT = 0x8028
    ICE_CONTROLLED = 0x8029
    ICE_CONTROLLING = 0x802A
    RESPONSE_ORIGIN = 0x802B
    OTHER_ADDRESS = 0x802C
    RUN_ID = 0xC0DE
    """This project's probe names its run, so that the server can join the requests of one client (expert range)."""


class ChangeFlags(enum.IntFlag):
    """What CHANGE-REQUEST asks the server to change (RFC 5780 §7.2)."""

    PORT = 0x2
    IP = 0x4


REASONS = {
    300: "Try Alternate",
    400: "Bad Request",
    401: "Unauthenticated",
    420: "Unknown Attribute",
    430: "Stale Credentials",
    431: "Integrity Check Failure",
    432: "Missing Username",
    433: "Use TLS",
    438: "Stale Nonce",
    500: "Server Error",
    600: "Global Failure",
}


def comprehension_required(attribute: int) -> bool:
    """Tell whether an agent that does not know this attribute must refuse the message."""
    return attribute < 0x8000


@lru_cache(maxsize=4096)
def _packed(host: str) -> bytes:
    return ipaddress.ip_address(host).packed


def encode_address(address: TransportAddress) -> bytes:
    """Code MAPPED-ADDRESS and its like (§14.1)."""
    packed = _packed(address.host)
    return struct.pack("!BBH", 0, 1 if len(packed) == 4 else 2, address.port) + packed


def decode_address(value: bytes) -> TransportAddress:
    """Read MAPPED-ADDRESS and its like. Raises MalformedMessage."""
    if len(value) < 4 or _FAMILIES.get(value[1]) != len(value) - 4:
        raise MalformedMessage("address of unknown family or wrong length")
    return TransportAddress(canonical(str(ipaddress.ip_address(value[4:]))), int.from_bytes(value[2:4], "big"))


def encode_xor_address(address: TransportAddress, transaction_id: bytes) -> bytes:
    """Code XOR-MAPPED-ADDRESS (§14.2); `transaction_id` has 12 bytes."""
    packed = _packed(address.host)
    mask = MAGIC_COOKIE + transaction_id
    xored = bytes(a ^ b for a, b in zip(packed, mask, strict=False))
    return struct.pack("!BBH", 0, 1 if len(packed) == 4 else 2, address.port ^ _COOKIE_PORT) + xored


def decode_xor_address(value: bytes, transaction_id: bytes) -> TransportAddress:
    """Read XOR-MAPPED-ADDRESS. Raises MalformedMessage."""
    if len(value) < 4 or _FAMILIES.get(value[1]) != len(value) - 4:
        raise MalformedMessage("address of unknown family or wrong length")
    packed = bytes(a ^ b for a, b in zip(value[4:], MAGIC_COOKIE + transaction_id, strict=False))
    port = int.from_bytes(value[2:4], "big") ^ _COOKIE_PORT
    return TransportAddress(canonical(str(ipaddress.ip_address(packed))), port)


def encode_error(code: int, reason: str | None = None, *, classic: bool = False) -> bytes:
    """Code ERROR-CODE (§14.8); classic reasons are padded with spaces inside the value (RFC 3489 §11.2.9)."""
    text = (REASONS.get(code, "") if reason is None else reason).encode()
    if classic:
        text += b" " * (-len(text) % 4)
    return struct.pack("!HBB", 0, code // 100, code % 100) + text


def decode_error(value: bytes) -> tuple[int, str]:
    """Read ERROR-CODE: the code and its reason. Raises MalformedMessage."""
    if len(value) < 4:
        raise MalformedMessage("ERROR-CODE is too short")
    hundreds, number = value[2] & 0x7, value[3]
    if not 1 <= hundreds <= 6 or number > 99:
        raise MalformedMessage("ERROR-CODE is out of range")
    return hundreds * 100 + number, value[4:].decode("utf-8", "replace").rstrip(" \0")


def encode_types(types: Sequence[int], *, classic: bool = False) -> bytes:
    """Code UNKNOWN-ATTRIBUTES (§14.9); a classic list of odd length repeats its last entry (RFC 3489 §11.2.10)."""
    listed = list(types)
    if classic and len(listed) % 2:
        listed.append(listed[-1])
    return struct.pack(f"!{len(listed)}H", *listed)


def decode_types(value: bytes) -> tuple[int, ...]:
    """Read UNKNOWN-ATTRIBUTES; a trailing odd octet is ignored."""
    count = len(value) // 2
    return struct.unpack(f"!{count}H", value[: count * 2])


def decode_text(value: bytes) -> str:
    """Read SOFTWARE, REALM and other text; what is not UTF-8 is replaced, for these words come from strangers."""
    return value.decode("utf-8", "replace").rstrip("\0")


def encode_algorithms(algorithms: Sequence[int]) -> bytes:
    """Code PASSWORD-ALGORITHMS without parameters (§14.11)."""
    return b"".join(struct.pack("!HH", algorithm, 0) for algorithm in algorithms)


def decode_algorithms(value: bytes) -> tuple[int, ...]:
    """Read PASSWORD-ALGORITHM or PASSWORD-ALGORITHMS; parameters are skipped. Raises MalformedMessage."""
    found, position = [], 0
    while position < len(value):
        if position + 4 > len(value):
            raise MalformedMessage("PASSWORD-ALGORITHMS is cut short")
        algorithm, size = struct.unpack_from("!HH", value, position)
        position += 4 + size + -size % 4
        found.append(algorithm)
    if not found:
        raise MalformedMessage("PASSWORD-ALGORITHMS is empty")
    return tuple(found)
