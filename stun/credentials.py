"""Short-term and long-term credentials on the server (RFC 8489 §9), and RFC 3489's use of MESSAGE-INTEGRITY.

Stateless: a nonce carries its time and a MAC over time and source, so nothing is stored per client.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from nattrav.net.address import TransportAddress
from stun.attributes import AttributeType, MalformedMessage, decode_algorithms, encode_algorithms
from stun.integrity import (
    PasswordAlgorithm,
    classic_integrity_holds,
    integrity_holds,
    integrity_sha256_holds,
    long_term_key,
    short_term_key,
    userhash,
)
from stun.message import Message

T = AttributeType
NONCE_COOKIE = b"obMatJos2"
PASSWORD_ALGORITHMS_BIT = 0x000001
USER_ANONYMITY_BIT = 0x000002
_STALE_AFTER = 600.0
_ROTATED_AFTER = 3600
_OFFERED = (PasswordAlgorithm.SHA256, PasswordAlgorithm.MD5)


@dataclass(frozen=True, slots=True)
class Unprotected:
    """Nothing was proven, and the reply proves nothing."""


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The request proved that its sender knows `key`; the reply proves the same, the same way."""

    username: str
    key: bytes
    sha256: bool


Proof = Unprotected | Authenticated


@dataclass(frozen=True, slots=True)
class Rejected:
    """The error response that says what is missing or wrong; it carries no integrity."""

    code: int
    attributes: tuple[tuple[int, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class ClassicKey:
    """What a classic reply is protected with; None when the request brought nothing to check."""

    key: bytes | None


class Authenticator(Protocol):
    """One credential mechanism."""

    def check(self, message: Message, source: TransportAddress, wall: float) -> Authenticated | Rejected:
        """Judge a modern request; `wall` is seconds since the epoch."""

    def check_classic(self, message: Message) -> ClassicKey | Rejected:
        """Judge a classic request (RFC 3489 §8.1)."""


class ShortTerm:
    """RFC 8489 §9.1.3; usernames and passwords come prepared."""

    def __init__(self, passwords: Mapping[str, str]) -> None:
        self._keys = {name.encode(): short_term_key(password) for name, password in passwords.items()}

    def check(self, message: Message, source: TransportAddress, wall: float) -> Authenticated | Rejected:
        """400 when something is missing, 401 when the user is unknown or the HMAC wrong."""
        username = message.first(T.USERNAME)
        sha256 = message.find(T.MESSAGE_INTEGRITY_SHA256) is not None
        if username is None or not (sha256 or message.find(T.MESSAGE_INTEGRITY)):
            return Rejected(400)
        key = self._keys.get(username)
        holds = integrity_sha256_holds if sha256 else integrity_holds
        # An unknown user costs one HMAC like a known one, so that time tells nothing.
        if not holds(message, key if key is not None else b"nobody") or key is None:
            return Rejected(401)
        return Authenticated(username.decode("utf-8", "replace"), key, sha256)

    def check_classic(self, message: Message) -> ClassicKey | Rejected:
        """401 without integrity, 432 without user, 430 for an unknown user, 431 for a wrong HMAC."""
        return _check_classic(message, {name.rstrip(b" \0"): key for name, key in self._keys.items()})


class LongTerm:
    """RFC 8489 §9.2.4, with password algorithms and user anonymity."""

    def __init__(
        self, realm: str, passwords: Mapping[str, str], secrets: tuple[bytes, ...], *, anonymity: bool = True
    ) -> None:
        """`secrets` make nonces: the first signs, all are accepted, so that one can be rotated out.

        What signs a nonce is derived from a secret and the hour, so it changes by itself.
        """
        self.realm = realm
        self._secrets = secrets
        self._keys = {
            name.encode(): {a: long_term_key(name, realm, password, a) for a in PasswordAlgorithm}
            for name, password in passwords.items()
        }
        self._by_hash = {userhash(name, realm): name.encode() for name in passwords}
        self._classic_keys = {name.encode(): short_term_key(password) for name, password in passwords.items()}
        bits = PASSWORD_ALGORITHMS_BIT | (USER_ANONYMITY_BIT if anonymity else 0)
        # Feature bits are least significant first (erratum 6290): bit 0 is the lowest of the 24.
        self._prefix = NONCE_COOKIE + base64.b64encode(bits.to_bytes(3, "big"))
        self._algorithms = encode_algorithms(_OFFERED)

    def nonce(self, source: TransportAddress, wall: float) -> bytes:
        """Make a nonce for this source and time."""
        stamp = b"%08x" % (int(wall) & 0xFFFFFFFF)
        return self._prefix + stamp + self._mac(self._secrets[0], stamp, source)

    def _mac(self, secret: bytes, stamp: bytes, source: TransportAddress) -> bytes:
        hour = int(stamp, 16) // _ROTATED_AFTER
        digest = hmac.digest(
            hmac.digest(secret, b"nonce %d" % hour, "sha256"), self._prefix + stamp + str(source).encode(), "sha256"
        )
        return base64.urlsafe_b64encode(digest[:12])

    def _fresh(self, nonce: bytes, source: TransportAddress, wall: float) -> bool:
        body = nonce[len(self._prefix) :]
        stamp, mac = body[:8], body[8:]
        if not nonce.startswith(self._prefix):
            return False
        try:
            made = int(stamp, 16)
        except ValueError:
            return False
        if not any(hmac.compare_digest(self._mac(secret, stamp, source), mac) for secret in self._secrets):
            return False
        return 0 <= wall - made <= _STALE_AFTER

    def check(self, message: Message, source: TransportAddress, wall: float) -> Authenticated | Rejected:
        """Check in the order of §9.2.4: what is missing, the algorithms, the user, the HMAC, the nonce's age."""
        sha256 = message.find(T.MESSAGE_INTEGRITY_SHA256) is not None
        if not sha256 and message.find(T.MESSAGE_INTEGRITY) is None:
            return self._challenge(401, source, wall)
        named, hashed = message.first(T.USERNAME), message.first(T.USERHASH)
        realm, nonce = message.first(T.REALM), message.first(T.NONCE)
        if (named is None and hashed is None) or realm is None or nonce is None:
            return Rejected(400)
        algorithm = self._algorithm(message, nonce)
        if algorithm is None:
            return Rejected(400)
        username = named if named is not None else self._by_hash.get(hashed or b"")
        keys = self._keys.get(username) if username is not None and realm == self.realm.encode() else None
        key = keys[algorithm] if keys else hashlib.sha256(b"nobody").digest()
        holds = integrity_sha256_holds if sha256 else integrity_holds
        if not holds(message, key) or keys is None or username is None:
            return self._challenge(401, source, wall)
        if not self._fresh(nonce, source, wall):
            return self._challenge(438, source, wall)
        return Authenticated(username.decode("utf-8", "replace"), key, sha256)

    def _algorithm(self, message: Message, nonce: bytes) -> PasswordAlgorithm | None:
        """The algorithm the client chose; None when its choice does not fit what the nonce offered (a bid-down)."""
        if not nonce.startswith(NONCE_COOKIE):
            return PasswordAlgorithm.MD5
        chosen, offered = message.first(T.PASSWORD_ALGORITHM), message.first(T.PASSWORD_ALGORITHMS)
        if chosen is None and offered is None:
            return PasswordAlgorithm.MD5
        if chosen is None or offered is None or offered != self._algorithms:
            return None
        try:
            picked = decode_algorithms(chosen)
        except MalformedMessage:
            return None
        if len(picked) != 1 or picked[0] not in tuple(_OFFERED):
            return None
        return PasswordAlgorithm(picked[0])

    def _challenge(self, code: int, source: TransportAddress, wall: float) -> Rejected:
        return Rejected(
            code,
            (
                (T.REALM, self.realm.encode()),
                (T.NONCE, self.nonce(source, wall)),
                (T.PASSWORD_ALGORITHMS, self._algorithms),
            ),
        )

    def check_classic(self, message: Message) -> ClassicKey | Rejected:
        """As short-term: RFC 3489 knows no realm, its key is the password (TR-111 relies on that)."""
        return _check_classic(message, self._classic_keys)


def _check_classic(message: Message, keys: Mapping[bytes, bytes]) -> ClassicKey | Rejected:
    if message.find(T.MESSAGE_INTEGRITY) is None:
        return Rejected(401)
    username = message.first(T.USERNAME)
    if username is None:
        return Rejected(432)
    key = keys.get(username.rstrip(b" \0"))
    if key is None:
        return Rejected(430)
    return ClassicKey(key) if classic_integrity_holds(message, key) else Rejected(431)
