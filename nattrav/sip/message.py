"""SIP messages as received: the lines of the head, their names, and properties that parse on first use.

The head is text decoded as latin-1, a bijection, so joining the lines again gives the received octets. A folded
header field is one line that still contains its CRLF. Nobody changes a message but its server transport
(`Request.stamp`); everything else goes through `Edit`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal, NamedTuple

from nattrav.net.address import TransportAddress
from nattrav.sip.errors import MalformedMessage
from nattrav.sip.grammar import TOKEN, canonical_name, displayed_name, header_number, split_first, split_list, unfold
from nattrav.sip.lazy import lazy
from nattrav.sip.name_addr import NameAddr
from nattrav.sip.uri import SipUri, TelUri, parse_uri
from nattrav.sip.via import Via

MAX_EXPIRES = 2**32 - 1
MAX_CSEQ = 2**31 - 1

_KEEP = re.compile(r";[ \t]*keep(?=[ \t]*(?:;|$))", re.IGNORECASE)
_CSEQ = re.compile(rf"0*([0-9]{{1,10}})[ \t]+({TOKEN})")

# RFC 3261 §7.3.1: these are never joined by commas, their own syntax has some; Date has one too.
_NEVER_JOINED = frozenset(("www-authenticate", "authorization", "proxy-authenticate", "proxy-authorization", "date"))


class CSeq(NamedTuple):
    """Sequence number (below 2**31) and method."""

    number: int
    method: str


def line_value(line: str) -> str:
    """The value of one header line, unfolded, without white space around it."""
    value = line.partition(":")[2].strip(" \t\r\n")
    return unfold(value) if "\n" in value else value


def _read_party(line: str) -> NameAddr:
    parsed = NameAddr.parse(line_value(line))
    if "tag" in parsed.params and not parsed.params["tag"]:
        raise MalformedMessage("From or To has an empty tag")
    return parsed


def _read_cseq(line: str) -> CSeq:
    value = line_value(line)
    match = _CSEQ.fullmatch(value)
    if match is None:
        raise MalformedMessage(f"CSeq is {value[:40]!r}")
    number = int(match[1])
    if number > MAX_CSEQ:
        raise MalformedMessage(f"CSeq number is {number}")
    return CSeq(number, match[2])


def _read_max_forwards(line: str) -> int | None:
    value = line_value(line)
    if not (value.isascii() and value.isdigit()):
        raise MalformedMessage(f"Max-Forwards is {value[:40]!r}")
    return int(value) if len(value) < 3 else header_number(value.lstrip("0") or "0", 255)


# The messages of one call repeat these lines octet by octet.
_read_party_again = lru_cache(maxsize=8192)(_read_party)
_read_cseq_again = lru_cache(maxsize=2048)(_read_cseq)
_read_max_forwards_again = lru_cache(maxsize=256)(_read_max_forwards)
_SHORT = 512
"""Octets of the longest line that is remembered."""


class Message:
    """What requests and responses share.

    start_line  first line, without CRLF
    lines       header fields in order, each `Name: value` as received, without the final CRLF
    names       canonical name of each line
    body        octets after the empty line, cut to Content-Length

    Header properties raise MalformedMessage when the field is broken; those that `check` has seen never do.
    """

    is_request: bool

    def __init__(self, start_line: str, lines: list[str], names: list[str], body: bytes) -> None:
        self.start_line = start_line
        self.lines = lines
        self.names = names
        self.body = body

    def value(self, index: int) -> str:
        """The value of the header line at `index`, unfolded, without white space around it."""
        return line_value(self.lines[index])

    def first(self, name: str) -> str | None:
        """The value of the first header field of that name (commas and all), or None. Any spelling of the name."""
        return self._first(canonical_name(name))

    def _first(self, key: str) -> str | None:
        names = self.names
        return self.value(names.index(key)) if key in names else None

    def has(self, name: str) -> bool:
        """A header field of that name is there."""
        return canonical_name(name) in self.names

    def count(self, name: str) -> int:
        """How many header lines have that name."""
        return self.names.count(canonical_name(name))

    def all(self, name: str) -> list[str]:
        """Every value of that name in order, comma lists taken apart where RFC 3261 §7.3.1 allows lists."""
        key = canonical_name(name)
        times = self.names.count(key)
        if times == 0:
            return []
        if times == 1:
            values = [self.value(self.names.index(key))]
        else:
            values = [self.value(index) for index, there in enumerate(self.names) if there == key]
        if key in _NEVER_JOINED:
            return values
        return [element for value in values for element in split_list(value)]

    def tokens(self, name: str) -> list[str]:
        """The option tags of Require, Supported and their like, without empty elements."""
        return [element for element in self.all(name) if element]

    @lazy
    def via(self) -> Via:
        """The top Via."""
        value = self._first("via")
        if value is None:
            raise MalformedMessage("no Via")
        return Via(split_first(value)[0])

    @lazy
    def vias(self) -> list[Via]:
        """Every Via, top first."""
        return [Via(value) for value in self.all("via")]

    @lazy
    def from_(self) -> NameAddr:
        """The From header field."""
        return self._party("from")

    @lazy
    def to(self) -> NameAddr:
        """The To header field."""
        return self._party("to")

    def _party(self, name: str) -> NameAddr:
        line = self._line(name)
        return _read_party_again(line) if len(line) <= _SHORT else _read_party(line)

    def _line(self, name: str) -> str:
        if name not in self.names:
            raise MalformedMessage(f"no {displayed_name(name)}")
        return self.lines[self.names.index(name)]

    @lazy
    def call_id(self) -> str:
        """The Call-ID, compared octet by octet."""
        value = self._first("call-id")
        if not value:
            raise MalformedMessage("no Call-ID")
        return value

    @lazy
    def cseq(self) -> CSeq:
        """The CSeq; numbers of 2**31 and more are refused (RFC 3261 §8.1.1.5)."""
        line = self._line("cseq")
        return _read_cseq_again(line) if len(line) <= _SHORT else _read_cseq(line)

    @lazy
    def contacts(self) -> list[NameAddr] | Literal["*"]:
        """Every Contact value, or `"*"`."""
        values = self.all("contact")
        if values == ["*"]:
            return "*"
        return [NameAddr.parse(value) for value in values]

    @lazy
    def routes(self) -> list[NameAddr]:
        """The Route set, next hop first."""
        return [NameAddr.parse(value) for value in self.all("route")]

    @lazy
    def record_routes(self) -> list[NameAddr]:
        """The Record-Route values, topmost first."""
        return [NameAddr.parse(value) for value in self.all("record-route")]

    @lazy
    def paths(self) -> list[NameAddr]:
        """The Path vector (RFC 3327), topmost first."""
        return [NameAddr.parse(value) for value in self.all("path")]

    @lazy
    def max_forwards(self) -> int | None:
        """0..255, or None when absent or over-range; anything but digits is refused."""
        if "max-forwards" not in self.names:
            return None
        line = self._line("max-forwards")
        return _read_max_forwards_again(line) if len(line) <= _SHORT else _read_max_forwards(line)

    @lazy
    def max_breadth(self) -> int | None:
        """How many branches may be under way at a time (RFC 5393 §5.1); None when absent or no number."""
        return header_number(self._first("max-breadth"), 2**31 - 1)

    def read_routing_fields(self) -> None:
        """Read what every message is routed and matched by, at once; raises MalformedMessage at the first fault.

        The same as asking for `via`, `from_`, `to`, `call_id`, `cseq` and `max_forwards` in this order, for less.
        """
        names, lines, read = self.names, self.lines, self.__dict__
        try:
            via = lines[names.index("via")]
            from_, to = lines[names.index("from")], lines[names.index("to")]
            call_id, cseq = lines[names.index("call-id")], lines[names.index("cseq")]
        except ValueError:
            for name in ("via", "from", "to", "call-id", "cseq"):
                self._line(name)
            raise
        value = via.partition(":")[2].strip(" \t")
        read["via"] = Via(value) if "," not in value and "\n" not in value else Via(split_first(line_value(via))[0])
        read["from_"] = _read_party_again(from_) if len(from_) <= _SHORT else _read_party(from_)
        read["to"] = _read_party_again(to) if len(to) <= _SHORT else _read_party(to)
        value = line_value(call_id)
        if not value:
            raise MalformedMessage("no Call-ID")
        read["call_id"] = value
        read["cseq"] = _read_cseq_again(cseq) if len(cseq) <= _SHORT else _read_cseq(cseq)
        _ = self.max_forwards

    @lazy
    def expires(self) -> int | None:
        """Seconds, or None when absent, over-range or no number: the default then holds."""
        return header_number(self._first("expires"), MAX_EXPIRES)

    @lazy
    def content_type(self) -> str | None:
        """Type and subtype in lower case, without parameters; None without Content-Type."""
        value = self._first("content-type")
        return None if value is None else value.partition(";")[0].replace(" ", "").lower()

    @lazy
    def user_agent(self) -> str | None:
        """User-Agent, or Server."""
        return self._first("user-agent") or self._first("server")

    def render(self) -> bytes:
        """The octets of the message: those received, but for the stamp on the top Via and cut trailing garbage."""
        return "\r\n".join([self.start_line, *self.lines, "", ""]).encode("latin-1") + self.body


class Request(Message):
    """A request. `request_uri` is the text of the start line; `uri` is it parsed."""

    is_request = True

    def __init__(
        self, method: str, request_uri: str, start_line: str, lines: list[str], names: list[str], body: bytes
    ) -> None:
        super().__init__(start_line, lines, names, body)
        self.method = method
        self.request_uri = request_uri

    @lazy
    def uri(self) -> SipUri | TelUri:
        """The Request-URI parsed. Raises UnsupportedScheme (416) or MalformedMessage."""
        return parse_uri(self.request_uri)

    def stamp(self, source: TransportAddress, *, force_rport: bool = False) -> None:
        """Write `received` and `rport` into the top Via, as the receiving transport must (RFC 3261 §18.2.1)."""
        via = self.via.stamped(source, force_rport=force_rport)
        if via is self.via:
            return
        index = self.names.index("via")
        line = self.lines[index]
        rest = split_first(self.value(index))[1] if "," in line else ""
        self.lines[index] = f"{line[: line.index(':') + 1]} {via.text}{',' if rest else ''}{rest}"
        self.__dict__["via"] = via
        self.__dict__.pop("vias", None)

    def promise_keepalives(self, seconds: int) -> None:
        """Fill the `keep` parameter of the top Via, which the response repeats (RFC 6223 §4.3)."""
        via = self.via
        text = _KEEP.sub(f";keep={seconds}", via.text, count=1)
        if text != via.text:
            index = self.names.index("via")
            self.lines[index] = self.lines[index].replace(via.text, text, 1)
            self.__dict__["via"] = Via(text)
            self.__dict__.pop("vias", None)

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.request_uri}>"


class Response(Message):
    """A response. `status` is 100..699."""

    is_request = False

    def __init__(
        self, status: int, reason: str, start_line: str, lines: list[str], names: list[str], body: bytes
    ) -> None:
        super().__init__(start_line, lines, names, body)
        self.status = status
        self.reason = reason

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.reason}>"
