"""SIP and SIPS URIs (RFC 3261 §19.1) and tel URIs (RFC 3966), kept as written and compared as the RFC says."""

from __future__ import annotations

import re
from functools import lru_cache

from nattrav.net.address import canonical, is_literal
from nattrav.sip.errors import MalformedMessage, UnsupportedScheme
from nattrav.sip.grammar import HOST, as_utf8

_SIP = re.compile(
    rf"(?P<scheme>[sS][iI][pP][sS]?):"
    rf'(?:(?P<user>[^@:\s<>"]+)(?::(?P<password>[^@:\s<>"]*))?@)?'
    rf"(?P<host>{HOST})(?::(?P<port>[0-9]{{1,5}}))?"
    rf'(?P<params>(?:;[^;?@\s<>"]+)*)(?:\?(?P<headers>[^@\s<>"]+))?'
)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*(?=:)")
_TEL = re.compile(r"[tT][eE][lL]:(?P<number>\+?[0-9A-Fa-f*#().\-]+)(?P<params>(?:;[^;?@\s<>\"]+)*)")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNESCAPED = re.compile(r"[A-Za-z0-9\-_.!~*'()&=+$,;?/:]")

# RFC 3261 §19.1.4: of these a URI that has one never equals a URI that lacks it.
_DECISIVE = ("user", "ttl", "method", "maddr", "transport")

DEFAULT_PORTS = {"udp": 5060, "tcp": 5060, "sctp": 5060, "tls": 5061, "ws": 80, "wss": 443}


class SipUri:
    """One `sip:` or `sips:` URI. Immutable; `str()` gives the text it was parsed from.

    `host` is without brackets; `user`, `password` and parameter values keep their escapes.
    Equality is RFC 3261 §19.1.4 (which is not transitive); the hash covers what must agree in any case.
    """

    __slots__ = ("_key", "headers", "host", "params", "password", "port", "scheme", "text", "user")

    scheme: str
    user: str | None
    password: str | None
    host: str
    port: int | None
    params: dict[str, str | None]
    headers: str | None
    text: str

    @staticmethod
    def parse(text: str) -> SipUri:
        """Read a URI. Raises UnsupportedScheme for another scheme, MalformedMessage for what is no URI."""
        return _parse_cached(text) if len(text) <= 256 else _parse(text)

    @classmethod
    def build(
        cls,
        host: str,
        *,
        user: str | None = None,
        port: int | None = None,
        scheme: str = "sip",
        params: dict[str, str | None] | None = None,
        headers: str | None = None,
        password: str | None = None,
    ) -> SipUri:
        """Make a URI from parts that are escaped already; an IPv6 host comes without brackets."""
        uri = cls()
        uri.scheme, uri.user, uri.password, uri.host, uri.port = scheme, user, password, host, port
        uri.params = {} if params is None else params
        uri.headers = headers
        uri._key = None
        secret = "" if password is None else f":{password}"
        userinfo = "" if user is None else f"{user}{secret}@"
        tail = "".join(f";{name}" if value is None else f";{name}={value}" for name, value in uri.params.items())
        query = "" if headers is None else f"?{headers}"
        uri.text = f"{scheme}:{userinfo}{uri.hostport}{tail}{query}"
        return uri

    def replace(
        self,
        *,
        user: str | None = None,
        host: str | None = None,
        port: int | None = None,
        params: dict[str, str | None] | None = None,
    ) -> SipUri:
        """Copy with some parts changed; a part given as None stays. A new host drops the old port."""
        return SipUri.build(
            self.host if host is None else host,
            user=self.user if user is None else user,
            port=port if host is not None or port is not None else self.port,
            scheme=self.scheme,
            params=dict(self.params) if params is None else params,
            headers=self.headers,
            password=self.password,
        )

    def without(self, *names: str) -> SipUri:
        """Copy without these parameters."""
        return self.replace(params={name: value for name, value in self.params.items() if name not in names})

    def with_param(self, name: str, value: str | None = None) -> SipUri:
        """Copy with one parameter set."""
        return self.replace(params={**self.params, name: value})

    @property
    def secure(self) -> bool:
        """True for `sips:`."""
        return len(self.scheme) == 4

    @property
    def transport(self) -> str | None:
        """The transport parameter in lower case, or None."""
        value = self.params.get("transport")
        return value.lower() if value else None

    @property
    def loose(self) -> bool:
        """Has `lr` (RFC 3261 §16.4)."""
        return "lr" in self.params

    @property
    def hostport(self) -> str:
        """Host and, when given, port as written into a URI; IPv6 in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def numeric(self) -> bool:
        """The host is a literal address."""
        return is_literal(self.host)

    @property
    def address_of_record(self) -> str:
        """The canonical key of RFC 3261 §10.3 step 5: no parameters, escapes undone, host in lower case."""
        user = "" if self.user is None else f"{unescape(self.user)}@"
        return f"{self.scheme}:{user}{self.host.lower()}{'' if self.port is None else f':{self.port}'}"

    @property
    def key(self) -> tuple[str, str | None, str | None, str, int | None]:
        """What two equal URIs have in common: scheme, user, password, host, port in comparable form."""
        if self._key is None:
            user = None if self.user is None else unescape(self.user)
            password = None if self.password is None else unescape(self.password)
            host = canonical(self.host) if self.numeric else self.host.lower().rstrip(".")
            self._key = (self.scheme, user, password, host, self.port)
        return self._key

    _key: tuple[str, str | None, str | None, str, int | None] | None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SipUri):
            return NotImplemented
        if self.text == other.text:
            return True
        if self.key != other.key:
            return False
        for name in _DECISIVE:
            if (name in self.params) != (name in other.params):
                return False
        for name, value in self.params.items():
            if name in other.params and _folded(value) != _folded(other.params[name]):
                return False
        return _header_set(self.headers) == _header_set(other.headers)

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"SipUri({self.text!r})"


def _parse(text: str) -> SipUri:
    match = _SIP.fullmatch(text)
    if match is None:
        scheme = _SCHEME.match(text)
        if scheme is not None and scheme.group().lower() not in ("sip", "sips"):
            raise UnsupportedScheme(scheme.group())
        raise MalformedMessage(f"{text[:80]!r} is not a SIP URI")
    uri = SipUri()
    scheme_text, uri.user, uri.password, host, port, params, uri.headers = match.groups()
    uri.scheme = scheme_text.lower()
    if host[0] == "[":
        uri.host = _reference(host[1:-1])
    else:
        uri.host = host
    uri.port = None
    if port is not None:
        uri.port = int(port)
        if uri.port > 65535:
            raise MalformedMessage(f"port {port} in a SIP URI")
    uri.params = {}
    if params:
        for part in params[1:].split(";"):
            name, equals, value = part.partition("=")
            uri.params.setdefault(name.lower(), value if equals else None)
    uri._key = None
    uri.text = text
    return uri


_parse_cached = lru_cache(maxsize=8192)(_parse)


@lru_cache(maxsize=1024)
def _reference(host: str) -> str:
    # RFC 5118 §4.10: implementations of the flawed first grammar write three colons before an embedded IPv4 address.
    for candidate in (host, host.replace(":::", "::")):
        if ":" in candidate and is_literal(candidate):
            return candidate
    raise MalformedMessage(f"{host[:60]!r} is not an IPv6 address")


def ipv6_reference(bracketed: str) -> str:
    """Read `[2001:db8::1]` to the address within. Raises MalformedMessage when it is none."""
    return _reference(bracketed[1:-1])


def unescape(text: str) -> str:
    """Undo escapes of characters that mean the same unescaped; others are written with upper-case digits."""
    if "%" not in text:
        return text
    return _ESCAPE.sub(_plain, text)


def user_name(user: str) -> str:
    """The name that a user part stands for: every escape undone, octets read as UTF-8."""
    return as_utf8(_ESCAPE.sub(lambda match: chr(int(match[1], 16)), user) if "%" in user else user)


def _plain(match: re.Match[str]) -> str:
    character = chr(int(match.group(1), 16))
    return character if _UNESCAPED.fullmatch(character) else match.group().upper()


def _folded(value: str | None) -> str | None:
    return None if value is None else unescape(value).lower()


def _header_set(headers: str | None) -> frozenset[tuple[str, str]]:
    if headers is None:
        return frozenset()
    pairs = (part.partition("=") for part in headers.split("&"))
    return frozenset((name.lower(), unescape(value)) for name, _, value in pairs)


class TelUri:
    """One `tel:` URI (RFC 3966). `number` is without visual separators."""

    __slots__ = ("number", "params", "text")

    def __init__(self, text: str) -> None:
        match = _TEL.fullmatch(text)
        if match is None:
            raise MalformedMessage(f"{text[:80]!r} is not a tel URI")
        self.text = text
        self.number = re.sub(r"[().\-]", "", match["number"])
        parts = (part.partition("=") for part in match["params"].split(";") if part)
        self.params = {name.lower(): value if equals else None for name, equals, value in parts}

    def __str__(self) -> str:
        return self.text


def parse_uri(text: str) -> SipUri | TelUri:
    """Read a Request-URI. Raises UnsupportedScheme for anything but `sip`, `sips` and `tel`."""
    if text[:4].lower() == "tel:":
        return TelUri(text)
    return SipUri.parse(text)
