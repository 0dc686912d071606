"""Digest authentication as a server does it (RFC 3261 §22, RFC 7616, RFC 8760), with nonces nobody has to store."""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from nattrav.sip.errors import MalformedMessage
from nattrav.sip.grammar import QUOTED, TOKEN, as_utf8, quote, unquote

_PARAM = re.compile(rf"[ \t]*({TOKEN})[ \t]*=[ \t]*({QUOTED}|[^\s,\"]+)[ \t]*(?:,|$)", re.DOTALL)
# What nearly every phone sends: no backslashes, no white space but behind commas.
_PLAIN = r'([A-Za-z0-9_-]+)=(?:"([^"\\]*)"|([^\s,"]+))'
_PLAIN_PARAM = re.compile(_PLAIN)
_PLAIN_PARAMS = re.compile(rf"{_PLAIN}(?:, ?{_PLAIN})*")
_NC = re.compile(r"[0-9A-Fa-f]{8}")


class Algorithm(enum.StrEnum):
    """Hash algorithms by their names in header fields."""

    MD5 = "MD5"
    SHA_256 = "SHA-256"
    SHA_512_256 = "SHA-512-256"


_HASHES: dict[Algorithm, Callable[[bytes], str]] = {
    # The protocol fixes MD5 for old phones; nothing else depends on it.
    Algorithm.MD5: lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest(),
    Algorithm.SHA_256: lambda data: hashlib.sha256(data).hexdigest(),
    Algorithm.SHA_512_256: lambda data: hashlib.new("sha512_256", data).hexdigest(),
}


def _hash(algorithm: Algorithm, text: str) -> str:
    return _HASHES[algorithm](text.encode("latin-1"))


def ha1(algorithm: Algorithm, username: str, realm: str, password: str) -> str:
    """Hash user, realm and password: what may be stored in the password's place. Text is encoded as UTF-8."""
    return _HASHES[algorithm](f"{username}:{realm}:{password}".encode())


@dataclass(frozen=True, slots=True)
class Credentials:
    """An Authorization or Proxy-Authorization value. Text is latin-1 as in messages; `nc` is None without qop."""

    username: str
    realm: str
    nonce: str
    uri: str
    response: str
    algorithm: Algorithm
    qop: str | None
    nc: int | None
    cnonce: str
    opaque: str

    @classmethod
    def parse(cls, value: str) -> Credentials | None:
        """Read a value; None for a scheme or algorithm we do not know (RFC 3261 §22.1). Raises MalformedMessage."""
        scheme, _, rest = value.partition(" ")
        if scheme.lower() != "digest":
            return None
        params = _parse_params(rest)
        try:
            algorithm = Algorithm(params.get("algorithm", "MD5").upper())
        except ValueError:
            return None
        qop = params.get("qop")
        nc_text = params.get("nc", "")
        if qop is not None and (_NC.fullmatch(nc_text) is None or "cnonce" not in params):
            raise MalformedMessage("digest credentials with qop lack nc or cnonce")
        try:
            return cls(
                username=params["username"],
                realm=params["realm"],
                nonce=params["nonce"],
                uri=params["uri"],
                response=params["response"].lower(),
                algorithm=algorithm,
                qop=None if qop is None else qop.lower(),
                nc=None if qop is None else int(nc_text, 16),
                cnonce=params.get("cnonce", ""),
                opaque=params.get("opaque", ""),
            )
        except KeyError as missing:
            raise MalformedMessage(f"digest credentials lack {missing.args[0]}") from None

    @property
    def name(self) -> str:
        """The user's name as accounts are kept by, read as UTF-8 (RFC 8760 §2.6)."""
        return as_utf8(self.username)

    def match(self, secret: str, method: str, body: bytes = b"") -> bool:
        """Tell whether the response was made with this secret, the `ha1` of `algorithm`."""
        return hmac.compare_digest(self.expected(secret, method, body).encode(), self.response.encode("latin-1"))

    def expected(self, secret: str, method: str, body: bytes = b"") -> str:
        """The response that credentials made with this secret carry (RFC 7616 §3.4.1)."""
        algorithm = self.algorithm
        a2 = f"{method}:{self.uri}"
        if self.qop == "auth-int":
            a2 += ":" + _HASHES[algorithm](body)
        if self.qop is None:
            return _hash(algorithm, f"{secret}:{self.nonce}:{_hash(algorithm, a2)}")
        return _hash(algorithm, f"{secret}:{self.nonce}:{self.nc:08x}:{self.cnonce}:{self.qop}:{_hash(algorithm, a2)}")


def _parse_params(text: str) -> dict[str, str]:
    if _PLAIN_PARAMS.fullmatch(text) is not None:
        found = _PLAIN_PARAM.findall(text)
        params = {name.lower(): quoted or bare for name, quoted, bare in found}
        if len(params) == len(found):
            return params
    params = {}
    position = 0
    for match in _PARAM.finditer(text):
        if match.start() != position:
            break
        position = match.end()
        name, value = match.groups()
        name = name.lower()
        if name in params:
            raise MalformedMessage(f"{name} twice in digest credentials")
        params[name] = unquote(value)
    if text[position:].strip(" \t,"):
        raise MalformedMessage(f"{text[position : position + 40]!r} in digest credentials")
    return params


def credentials_for(realm: str, values: Iterable[str]) -> Credentials | None:
    """Find the credentials for a realm among the values of a header field. Raises MalformedMessage."""
    for value in values:
        credentials = Credentials.parse(value)
        if credentials is not None and credentials.realm == realm:
            return credentials
    return None


def challenges(realm: str, nonce: str, algorithms: Sequence[Algorithm], *, stale: bool = False) -> list[str]:
    """Write one challenge per algorithm, in this order: the most preferred first (RFC 8760 §2.3)."""
    tail = ", stale=true" if stale else ""
    return [
        f'Digest realm={quote(realm)}, nonce="{nonce}", algorithm={algorithm.value}, qop="auth"{tail}'
        for algorithm in algorithms
    ]


class NonceState(enum.Enum):
    """What became of a nonce that came back."""

    FRESH = "fresh"
    STALE = "stale"
    FORGED = "forged"


class Nonces:
    """Nonces that carry their time and number and are signed: none has to be stored to be known again.

    `lifetime` is in seconds. What each was used for is kept in `NonceCounts`.
    """

    _TIME, _NUMBER, _MAC = 5, 4, 12
    _LENGTH = (_TIME + _NUMBER + _MAC) * 4 // 3

    def __init__(self, key: bytes, realm: str, *, lifetime: float = 300.0) -> None:
        self._mac = hashlib.blake2s(key=key[:32], digest_size=self._MAC, person=b"nonce")
        self._mac.update(realm.encode("utf-8", "surrogateescape"))
        self.lifetime = lifetime

    def make(self, now: float, number: int) -> str:
        """Make a nonce. `now` is wall-clock seconds; `number` is below 2**32 and given once in a lifetime."""
        head = int(now * 16).to_bytes(self._TIME, "big") + number.to_bytes(self._NUMBER, "big")
        return base64.urlsafe_b64encode(head + self._sign(head)).decode()

    def check(self, nonce: str, now: float) -> tuple[NonceState, int]:
        """Check a nonce that came back, and give its number (0 for a forged one)."""
        try:
            raw = binascii.a2b_base64(nonce.replace("-", "+").replace("_", "/"), strict_mode=True)
        except ValueError:
            return NonceState.FORGED, 0
        head = raw[: self._TIME + self._NUMBER]
        if len(nonce) != self._LENGTH or not hmac.compare_digest(raw[len(head) :], self._sign(head)):
            return NonceState.FORGED, 0
        age = now - int.from_bytes(head[: self._TIME], "big") / 16
        number = int.from_bytes(head[self._TIME :], "big")
        # A little ahead is a clock that was put right.
        return (NonceState.FRESH if -30.0 <= age <= self.lifetime else NonceState.STALE), number

    def _sign(self, head: bytes) -> bytes:
        mac = self._mac.copy()
        mac.update(head)
        return mac.digest()


class NonceCounts:
    """Numbers nonces and refuses a nonce-count that was used already (RFC 7616 §3.4: nc must rise).

    The last `size` nonces have four octets each in a ring; what is older counts as used up.
    """

    def __init__(self, size: int = 1 << 20) -> None:
        self._size = size
        # Pages of zeros cost nothing before they are written.
        self._highest = memoryview(bytearray(4 * size)).cast("I")
        self._last = 0

    def next(self) -> int:
        """Number a new nonce."""
        self._last = (self._last + 1) & 0xFFFFFFFF
        self._highest[self._last % self._size] = 0
        return self._last

    def accept(self, number: int, nc: int) -> bool:
        """Note a count; False when this one or a higher one was used with the nonce before, or it is too old."""
        slot = number % self._size
        if (self._last - number) & 0xFFFFFFFF >= self._size or nc <= self._highest[slot]:
            return False
        self._highest[slot] = nc
        return True
