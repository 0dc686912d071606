"""A session description as lines (RFC 8866): what each line says, with every octet kept.

Text is the body's octets as latin-1, so nothing is lost. Lines may end in CRLF or LF, even mixed.
"""

from __future__ import annotations

from nattrav.net.address import canonical

SIZE_LIMIT = 65535
LINE_LIMIT = 2000
SECTION_LIMIT = 64

REGENERATED = frozenset(
    {
        "candidate",
        "crypto",
        "end-of-candidates",
        "extmap",
        "extmap-allow-mixed",
        "fingerprint",
        "fmtp",
        "group",
        "inactive",
        "label",
        "maxptime",
        "mid",
        "ptime",
        "recvonly",
        "remote-candidates",
        "rtcp",
        "rtcp-fb",
        "rtcp-mux",
        "rtpengine",
        "rtpmap",
        "sendonly",
        "sendrecv",
        "setup",
        "tls-id",
    }
)
"""Attributes whose meaning a relay must know; `ice-*` and `T38*` belong to them too."""

_REGENERATED_PREFIXES = ("ice-", "T38")
_SESSION_ONLY = frozenset("osuept")
_IGNORED = frozenset("krz")


class MalformedMessage(ValueError):
    """The text is not a session description. `reason` says where it stops being one."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Connection:
    """A `c=` line's address. `host` is canonical when `literal`, else a domain name; multicast suffixes are cut off."""

    __slots__ = ("family", "host", "literal", "null")

    def __init__(self, family: int, host: str, literal: bool) -> None:
        self.family = family
        self.host = host
        self.literal = literal
        self.null = host in ("0.0.0.0", "::")


class Part:
    """Lines that the session part and the media sections have in common.

    `attributes` has the values of the `REGENERATED` attributes by name, `others` every other attribute as a line;
    `first` and `end` index the part's lines.
    """

    __slots__ = ("attributes", "bandwidth", "connection", "end", "first", "information", "others")

    def __init__(self, first: int) -> None:
        self.first = first
        self.end = first
        self.information: str | None = None
        self.connection: Connection | None = None
        self.bandwidth: list[str] = []
        self.attributes: dict[str, list[str]] = {}
        self.others: list[str] = []

    def attribute(self, name: str) -> str | None:
        """Give the first value of a regenerated attribute; "" for one without value, None when absent."""
        values = self.attributes.get(name)
        return values[0] if values else None


class Section(Part):
    """One media description: the fields of its `m=` line and its lines."""

    __slots__ = ("formats", "media", "port", "port_count", "protocol")

    def __init__(self, first: int, line: str) -> None:
        super().__init__(first)
        fields = line[2:].split()
        if len(fields) < 3:
            raise MalformedMessage(f"media line without port or protocol: {line[:80]!r}")
        port, slash, count = fields[1].partition("/")
        if not _is_number(port) or (slash and not _is_number(count)):
            raise MalformedMessage(f"media port is not a number: {line[:80]!r}")
        self.media = fields[0]
        self.port = int(port)
        self.port_count = int(count) if slash else 1
        self.protocol = fields[2]
        self.formats = list(dict.fromkeys(fields[3:]))
        if self.port > 65535 or not 0 < self.port_count <= 65535:
            raise MalformedMessage(f"media port is out of range: {line[:80]!r}")


class Description:
    """A parsed session description. `raw` joined with LF is the input; `lines` are the same without CR."""

    __slots__ = ("lines", "name", "origin", "raw", "sections", "session", "timing", "trailer")

    def __init__(self, raw: list[str], lines: list[str]) -> None:
        self.raw = raw
        self.lines = lines
        self.origin: str | None = None
        self.name: str | None = None
        self.timing: list[str] = []
        self.trailer: dict[str, list[str]] = {}
        self.session = Part(0)
        self.sections: list[Section] = []

    def connection(self, section: Section) -> Connection | None:
        """Give the address that serves a section: its own `c=`, else the session's (RFC 8866 §5.7)."""
        return section.connection or self.session.connection

    def render(self) -> bytes:
        """Give the input back, octet for octet."""
        return "\n".join(self.raw).encode("latin-1")


def parse(data: bytes) -> Description:
    """Read a session description. Raises MalformedMessage.

    Refused: a version other than 0, unknown line letters, session lines inside a media section, malformed `m=` and
    `c=`. A malformed attribute is not looked at here.
    """
    if len(data) > SIZE_LIMIT:
        raise MalformedMessage(f"longer than {SIZE_LIMIT} bytes")
    text = data.decode("latin-1")
    if text.count("\r") != text.count("\r\n") + text.endswith("\r") or "\0" in text:
        raise MalformedMessage("a line holds a lone CR or a NUL")
    raw = text.split("\n")
    if len(raw) > LINE_LIMIT:
        raise MalformedMessage(f"more than {LINE_LIMIT} lines")
    lines = [line.removesuffix("\r") for line in raw]
    if lines[0].rstrip() != "v=0":
        raise MalformedMessage(f"does not begin with version 0: {lines[0][:80]!r}")
    description = Description(raw, lines)
    part: Part = description.session
    attributes, others = part.attributes, part.others
    sections = description.sections
    for index, line in enumerate(lines):
        letter = line[:2]
        if letter == "a=":
            name, _, value = line[2:].partition(":")
            if name in REGENERATED or name.startswith(_REGENERATED_PREFIXES):
                if name in attributes:
                    attributes[name].append(value)
                else:
                    attributes[name] = [value]
            else:
                others.append(line)
        elif letter == "m=":
            if len(sections) >= SECTION_LIMIT:
                raise MalformedMessage(f"more than {SECTION_LIMIT} media sections")
            part.end = index
            part = section = Section(index, line)
            sections.append(section)
            attributes, others = part.attributes, part.others
        elif letter == "c=":
            part.connection = parse_connection(line)
        elif letter == "b=":
            part.bandwidth.append(line)
        elif letter == "i=":
            part.information = line
        elif line and index:
            _session_line(description, line, inside=part is not description.session)
    part.end = len(lines)
    return description


def _session_line(description: Description, line: str, *, inside: bool) -> None:
    letter = line[0]
    if line[1:2] != "=":
        raise MalformedMessage(f"not a line of a session description: {line[:80]!r}")
    if letter in _IGNORED:
        return
    if letter not in _SESSION_ONLY:
        raise MalformedMessage(f"unknown line: {line[:80]!r}")
    if inside:
        raise MalformedMessage(f"session line inside a media section: {line[:80]!r}")
    if letter == "o":
        description.origin = line[2:]
    elif letter == "s":
        description.name = line[2:]
    elif letter == "t":
        description.timing.append(line)
    else:
        description.trailer.setdefault(letter, []).append(line)


def parse_connection(line: str) -> Connection:
    """Read a `c=` line (RFC 8866 §5.7). Raises MalformedMessage."""
    fields = line[2:].split()
    if len(fields) != 3 or fields[0] != "IN" or fields[1] not in ("IP4", "IP6"):
        raise MalformedMessage(f"malformed connection line: {line[:80]!r}")
    return parse_address(fields[1], fields[2].partition("/")[0])


def parse_address(kind: str, host: str) -> Connection:
    """Read an address of type `IP4` or `IP6`, literal or a domain name (RFC 8866 §9). Raises MalformedMessage."""
    family = 4 if kind == "IP4" else 6
    try:
        literal = canonical(host)
    except ValueError:
        if not _is_domain_name(host):
            raise MalformedMessage(f"not an address: {host[:80]!r}") from None
        return Connection(family, host, literal=False)
    if family == 4 and ":" in literal:
        raise MalformedMessage(f"IPv6 address called IP4: {host[:80]!r}")
    return Connection(6 if ":" in literal else 4, literal, literal=True)


def _is_domain_name(host: str) -> bool:
    labels = host.removesuffix(".").split(".")
    if len(host) > 253 or ":" in host or labels[-1].isdigit():
        return False
    return all(_is_label(label) for label in labels)


def _is_label(label: str) -> bool:
    return 0 < len(label) <= 63 and label.isascii() and label.replace("-", "").replace("_", "").isalnum()


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 6


def origin_fields(origin: str) -> list[str] | None:
    """Split an `o=` value into username, session id, version, `IN`, address type and address (RFC 8866 §5.2).

    None when it has not six fields.
    """
    fields = origin.split()
    return fields if len(fields) == 6 else None
