"""Flow tokens: the signed user part of our Record-Route and Path URIs that names the way back (RFC 5626 §5.2).

Layout: octet 0 version (3 bits) kind (2) ipv6 (1) outbound (1) asymmetric (1); octet 1 key number; 2-3 listener;
4-7 binding serial; 8-10 hours since the epoch; then address (4 or 16) and port (2); last 12 octets HMAC-SHA256.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import hmac
import ipaddress
from typing import NamedTuple

from nattrav.net.address import TransportAddress

VERSION = 1
MAC_LENGTH = 12
_HEAD = 11
_LENGTHS = {_HEAD + 4 + 2 + MAC_LENGTH: 4, _HEAD + 16 + 2 + MAC_LENGTH: 16}
_CACHE_LIMIT = 50_000


class ForgedToken(Exception):
    """The text is not a token we signed: wrong length, version, key or signature."""


class TokenKind(enum.IntEnum):
    """What a token stands for."""

    EDGE = 0
    DIALOG = 1
    DRAIN = 2


class FlowToken(NamedTuple):
    """What a token says. `listener` is the 16-bit identifier, not an index; `hours` is its time of issue."""

    kind: TokenKind
    listener: int
    remote: TransportAddress
    serial: int = 0
    hours: int = 0
    outbound: bool = False
    asymmetric: bool = False


class TokenKey:
    """One signing key, its HMAC state built once."""

    def __init__(self, secret: bytes, realm: str) -> None:
        self.number = hashlib.sha256(b"number" + secret).digest()[0]
        self._state = hmac.new(secret, digestmod=hashlib.sha256)
        self._realm = realm.encode()

    def sign(self, content: bytes) -> bytes:
        """Give the truncated HMAC over `content` and the realm."""
        state = self._state.copy()
        state.update(content + self._realm)
        return state.digest()[:MAC_LENGTH]


class TokenSigner:
    """Writes tokens with the newest key and reads those of every live key. Both ways are cached, bounded."""

    def __init__(self, secrets: list[bytes], realm: str) -> None:
        if not secrets or any(len(secret) < 16 for secret in secrets):
            raise ValueError("flow tokens need a key of at least 16 octets")
        self._keys = [TokenKey(secret, realm) for secret in secrets]
        self._written: dict[tuple[FlowToken, bool], str] = {}
        self._read: dict[str, FlowToken] = {}

    def write(self, token: FlowToken, *, base32: bool = False) -> str:
        """Encode and sign; base64url without padding, or lower-case base32 for devices that change letter case."""
        cached = self._written.get((token, base32))
        if cached is not None:
            return cached
        address = ipaddress.ip_address(token.remote.host).packed
        key = self._keys[0]
        flags = VERSION << 5 | token.kind << 3 | (len(address) == 16) << 2 | token.outbound << 1 | int(token.asymmetric)
        content = (
            bytes((flags, key.number))
            + token.listener.to_bytes(2, "big")
            + token.serial.to_bytes(4, "big")
            + token.hours.to_bytes(3, "big")
            + address
            + token.remote.port.to_bytes(2, "big")
        )
        raw = content + key.sign(content)
        text = base64.b32encode(raw).decode().lower() if base32 else base64.urlsafe_b64encode(raw).decode()
        text = text.rstrip("=")
        if len(self._written) >= _CACHE_LIMIT:
            self._written.clear()
        self._written[(token, base32)] = text
        return text

    def read(self, text: str) -> FlowToken:
        """Verify and decode. Raises ForgedToken."""
        cached = self._read.get(text)
        if cached is not None:
            return cached
        raw = _decode(text)
        size = _LENGTHS.get(len(raw))
        if size is None:
            raise ForgedToken("length")
        flags = raw[0]
        if flags >> 5 != VERSION or (size == 16) != bool(flags & 4):
            raise ForgedToken("version")
        content, mac = raw[:-MAC_LENGTH], raw[-MAC_LENGTH:]
        if not any(key.number == raw[1] and hmac.compare_digest(key.sign(content), mac) for key in self._keys):
            raise ForgedToken("signature")
        kind = flags >> 3 & 3
        if kind > TokenKind.DRAIN:
            raise ForgedToken("kind")
        token = FlowToken(
            kind=TokenKind(kind),
            listener=int.from_bytes(raw[2:4], "big"),
            serial=int.from_bytes(raw[4:8], "big"),
            hours=int.from_bytes(raw[8:11], "big"),
            remote=TransportAddress(
                str(ipaddress.ip_address(raw[_HEAD : _HEAD + size])),
                int.from_bytes(raw[_HEAD + size : _HEAD + size + 2], "big"),
            ),
            outbound=bool(flags & 2),
            asymmetric=bool(flags & 1),
        )
        if len(self._read) >= _CACHE_LIMIT:
            self._read.clear()
        self._read[text] = token
        return token


def _decode(text: str) -> bytes:
    # 29 or 41 octets: 39 or 55 characters of base64url, 47 or 66 of base32.
    try:
        if len(text) in (47, 66):
            return base64.b32decode(text.upper() + "=" * (-len(text) % 8))
        if len(text) in (39, 55):
            return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ForgedToken("alphabet") from None
    raise ForgedToken("length")


def looks_like_token(user: str) -> bool:
    """Tell whether a user part has the length of a token; ours are checked, other user parts are names."""
    return len(user) in (39, 47, 55, 66)
