"""FINGERPRINT, MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 and the keys behind them (RFC 8489 §9, §14.5-14.7)."""

from __future__ import annotations

import enum
import hashlib
import hmac
import struct
import zlib

from stun.attributes import AttributeType
from stun.message import HEADER, Message, append

FINGERPRINT_XOR = 0x5354554E
_SHA1 = 20
_SHA256 = 32


class PasswordAlgorithm(enum.IntEnum):
    """How a long-term key is made from user, realm and password (§18.5)."""

    MD5 = 1
    SHA256 = 2


def _as_if_ending_at(message: bytes, end: int) -> bytes:
    """The header's length field counts up to `end`, whatever follows."""
    return message[:2] + struct.pack("!H", end - HEADER) + message[4:]


def fingerprint(message: bytes) -> bytes:
    """Value of FINGERPRINT for a message whose header already counts the attribute's 8 bytes."""
    return struct.pack("!I", zlib.crc32(message) ^ FINGERPRINT_XOR)


def add_fingerprint(message: bytes) -> bytes:
    """Close a message with FINGERPRINT."""
    counted = _as_if_ending_at(message, len(message) + 8)
    return counted + struct.pack("!HH", AttributeType.FINGERPRINT, 4) + fingerprint(counted)


def fingerprint_holds(message: Message) -> bool:
    """True when FINGERPRINT is the last attribute and right; the caller knows that there is one."""
    last = message.attributes[-1]
    if last.type != AttributeType.FINGERPRINT or len(last.value) != 4:
        return False
    return fingerprint(message.raw[: last.offset]) == last.value


def add_integrity(message: bytes, key: bytes) -> bytes:
    """Close a modern message with MESSAGE-INTEGRITY."""
    counted = _as_if_ending_at(message, len(message) + 4 + _SHA1)
    return append(message, AttributeType.MESSAGE_INTEGRITY, hmac.digest(key, counted, "sha1"))


def add_integrity_sha256(message: bytes, key: bytes) -> bytes:
    """Close a modern message with MESSAGE-INTEGRITY-SHA256, untruncated."""
    counted = _as_if_ending_at(message, len(message) + 4 + _SHA256)
    return append(message, AttributeType.MESSAGE_INTEGRITY_SHA256, hmac.digest(key, counted, "sha256"))


def integrity_holds(message: Message, key: bytes) -> bool:
    """Check MESSAGE-INTEGRITY of a modern message; False when it is absent."""
    entry = message.find(AttributeType.MESSAGE_INTEGRITY)
    if entry is None or len(entry.value) != _SHA1:
        return False
    covered = _as_if_ending_at(message.raw, entry.offset + 4 + _SHA1)[: entry.offset]
    return hmac.compare_digest(hmac.digest(key, covered, "sha1"), entry.value)


def integrity_sha256_holds(message: Message, key: bytes) -> bool:
    """Check MESSAGE-INTEGRITY-SHA256; no usage here allows truncation, so a short value fails (§14.6)."""
    entry = message.find(AttributeType.MESSAGE_INTEGRITY_SHA256)
    if entry is None or len(entry.value) != _SHA256:
        return False
    covered = _as_if_ending_at(message.raw, entry.offset + 4 + _SHA256)[: entry.offset]
    return hmac.compare_digest(hmac.digest(key, covered, "sha256"), entry.value)


def add_classic_integrity(message: bytes, key: bytes) -> bytes:
    """Close a classic message with MESSAGE-INTEGRITY over its bytes padded with zeros to 64 (RFC 3489 §11.2.8)."""
    counted = _as_if_ending_at(message, len(message) + 4 + _SHA1)
    padded = counted + b"\0" * (-len(counted) % 64)
    return append(message, AttributeType.MESSAGE_INTEGRITY, hmac.digest(key, padded, "sha1"))


def classic_integrity_holds(message: Message, key: bytes) -> bool:
    """Check MESSAGE-INTEGRITY of a classic message, where it must be the last attribute."""
    last = message.attributes[-1] if message.attributes else None
    if last is None or last.type != AttributeType.MESSAGE_INTEGRITY or len(last.value) != _SHA1:
        return False
    covered = message.raw[: last.offset]
    padded = covered + b"\0" * (-len(covered) % 64)
    return hmac.compare_digest(hmac.digest(key, padded, "sha1"), last.value)


def short_term_key(password: str) -> bytes:
    """Key of the short-term credential mechanism; the password is already prepared (§9.1.1)."""
    return password.encode()


def long_term_key(username: str, realm: str, password: str, algorithm: PasswordAlgorithm) -> bytes:
    """Key of the long-term credential mechanism; user, realm and password are already prepared (§18.5.1)."""
    text = f"{username}:{realm}:{password}".encode()
    if algorithm is PasswordAlgorithm.MD5:
        return hashlib.md5(text, usedforsecurity=False).digest()
    return hashlib.sha256(text).digest()


def userhash(username: str, realm: str) -> bytes:
    """Value of USERHASH (§14.4)."""
    return hashlib.sha256(f"{username}:{realm}".encode()).digest()
