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
from nattrav.sip.grammar import QUOTED, TOKEN, quote, unquote

_PARAM = re.compile(rf"[ \t]*({TOKEN})[ \t]*=[ \t]*({QUOTED}|[^\s,\"]+)[ \t]*(?:,|$)", re.DOTALL)
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
    params: dict[str, str] = {}
    position, end = 0, len(text.rstrip(" \t,"))
    while position < end:
        match = _PARAM.match(text, position)
        if match is None:
            raise MalformedMessage(f"{text[position : position + 40]!r} in digest credentials")
        name = match[1].lower()
        if name in params:
            raise MalformedMessage(f"{name} twice in digest credentials")
        params[name] = unquote(match[2])
        position = match.end()
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
    """Nonces that carry their time and are signed, so that any process with the key checks those of any other.

    `lifetime` is in seconds. Replay inside the lifetime is possible for who overhears a request, as with any digest
    without a nonce-count store; `NonceCounts` is that store.
    """

    _TIME, _SALT, _MAC = 5, 4, 12

    def __init__(self, key: bytes, *, lifetime: float = 300.0) -> None:
        self._mac = hmac.new(key, digestmod=hashlib.sha256)
        self.lifetime = lifetime

    def make(self, realm: str, now: float, salt: bytes) -> str:
        """Make a nonce. `now` is wall-clock seconds; `salt` four random octets."""
        head = int(now * 16).to_bytes(self._TIME, "big") + salt[: self._SALT].ljust(self._SALT, b"\0")
        return base64.urlsafe_b64encode(head + self._sign(head, realm)).decode()

    def check(self, nonce: str, realm: str, now: float) -> NonceState:
        """Check a nonce that came back."""
        try:
            raw = base64.b64decode(nonce.encode("latin-1"), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return NonceState.FORGED
        head, mac = raw[: self._TIME + self._SALT], raw[self._TIME + self._SALT :]
        if not hmac.compare_digest(mac, self._sign(head, realm)):
            return NonceState.FORGED
        age = now - int.from_bytes(head[: self._TIME], "big") / 16
        # A little ahead is another node's clock.
        return NonceState.FRESH if -30.0 <= age <= self.lifetime else NonceState.STALE

    def _sign(self, head: bytes, realm: str) -> bytes:
        mac = self._mac.copy()
        mac.update(head + realm.encode("utf-8", "surrogateescape"))
        return mac.digest()[: self._MAC]


class NonceCounts:
    """Refuses a nonce-count that was used already (RFC 7616 §3.4: nc must rise). Bounded: the oldest are forgotten."""

    def __init__(self, size: int = 100_000) -> None:
        self._size = size
        self._highest: dict[str, int] = {}

    def accept(self, nonce: str, nc: int) -> bool:
        """Note a count; False when this one or a higher one was used with the nonce before."""
        highest = self._highest.get(nonce, 0)
        if nc <= highest:
            return False
        self._highest[nonce] = nc
        if len(self._highest) > self._size:
            del self._highest[next(iter(self._highest))]
        return True
