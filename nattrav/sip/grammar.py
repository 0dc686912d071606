"""The lexical level of RFC 3261 §25: header field names, tokens, quoted strings, lists and parameters.

All text is a latin-1 view of the octets, so every function here is safe on any input; those that can find a fault
raise MalformedMessage and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from nattrav.sip.errors import MalformedMessage

TOKEN = r"[A-Za-z0-9\-.!%*_+`'~]+"  # noqa: S105
QUOTED = r'"[^"\\]*(?:\\.[^"\\]*)*"'
HOST = r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_](?:[A-Za-z0-9._\-]*)"

KNOWN_METHODS = frozenset(
    {
        "INVITE", "ACK", "BYE", "CANCEL", "REGISTER", "OPTIONS", "PRACK",
        "SUBSCRIBE", "NOTIFY", "PUBLISH", "INFO", "REFER", "MESSAGE", "UPDATE",
    }
)  # fmt: skip

# RFC 3261 §7.3.3 and the registrations since; the value is the full name in lower case.
COMPACT = MappingProxyType(
    {
        "a": "accept-contact",
        "b": "referred-by",
        "c": "content-type",
        "d": "request-disposition",
        "e": "content-encoding",
        "f": "from",
        "i": "call-id",
        "j": "reject-contact",
        "k": "supported",
        "l": "content-length",
        "m": "contact",
        "n": "identity-info",
        "o": "event",
        "r": "refer-to",
        "s": "subject",
        "t": "to",
        "u": "allow-events",
        "v": "via",
        "x": "session-expires",
        "y": "identity",
    }
)

_NAMES = (
    "Via", "From", "To", "Call-ID", "CSeq", "Contact", "Max-Forwards", "Content-Length", "Content-Type", "Route",
    "Record-Route", "Expires", "User-Agent", "Server", "Allow", "Supported", "Require", "Proxy-Require",
    "Authorization", "Proxy-Authorization", "WWW-Authenticate", "Proxy-Authenticate", "Path", "Service-Route",
    "Event", "Subscription-State", "Refer-To", "Referred-By", "Replaces", "Session-Expires", "Min-SE", "Min-Expires",
    "Accept", "Accept-Contact", "Accept-Encoding", "Accept-Language", "Allow-Events", "Content-Disposition",
    "Content-Encoding", "Date", "Subject", "Timestamp", "Unsupported", "Warning", "Retry-After", "Organization",
    "Priority", "RAck", "RSeq", "Reason", "P-Asserted-Identity", "P-Preferred-Identity", "Remote-Party-ID", "Privacy",
    "History-Info", "Diversion", "Max-Breadth", "Flow-Timer", "Identity", "Identity-Info", "Request-Disposition",
    "Reject-Contact", "Join", "In-Reply-To", "MIME-Version", "Alert-Info", "Call-Info", "Error-Info", "Reply-To",
    "SIP-ETag", "SIP-If-Match", "Authentication-Info", "X-Asterisk-HangupCause",
)  # fmt: skip


def _spellings() -> dict[str, str]:
    table = {}
    for name in _NAMES:
        canonical = name.lower()
        for spelling in (name, canonical, name.upper(), canonical.capitalize(), canonical.title()):
            table[spelling] = canonical
            table[spelling + " "] = canonical
    for letter, canonical in COMPACT.items():
        for spelling in (letter, letter.upper(), letter + " ", letter.upper() + " "):
            table[spelling] = canonical
    return table


SPELLINGS: Mapping[str, str] = _spellings()
"""The usual spellings of the usual header field names, to their canonical form."""

COMPACT_OF: Mapping[str, str] = MappingProxyType({name: letter for letter, name in COMPACT.items()})
"""The one-letter names by the canonical ones."""

_DISPLAYED = {name.lower(): name for name in _NAMES}


def canonical_name(name: str) -> str:
    """Give the full name in lower case: `Via`, `v` and `VIA ` are all `via`."""
    known = SPELLINGS.get(name)
    if known is not None:
        return known
    lowered = name.strip(" \t").lower()
    return COMPACT.get(lowered, lowered)


def displayed_name(name: str) -> str:
    """Give the spelling RFCs use for a header field name, for headers we write."""
    return _DISPLAYED.get(name, name)


_FOLD = re.compile(r"\r\n[ \t]+")


def unfold(value: str) -> str:
    """Turn each line fold into one space (RFC 3261 §7.3.1)."""
    return _FOLD.sub(" ", value)


# An opening quote or angle bracket without its partner is passed over here; whoever parses the element finds it.
_LIST_STEPS = re.compile(rf'{QUOTED}|<[^>"]*>|,', re.DOTALL)
_PARAM_STEPS = re.compile(rf"{QUOTED}|;", re.DOTALL)


def split_list(value: str) -> list[str]:
    """Split a comma-separated header field value at the commas outside quoted strings and angle brackets."""
    if "," not in value:
        return [value.strip(" \t")]
    if '"' not in value and "<" not in value:
        return [element.strip(" \t") for element in value.split(",")]
    elements, start = [], 0
    for step in _LIST_STEPS.finditer(value):
        if step.group() == ",":
            elements.append(value[start : step.start()].strip(" \t"))
            start = step.end()
    elements.append(value[start:].strip(" \t"))
    return elements


def split_first(value: str) -> tuple[str, str]:
    """Split a comma-separated value into its first element and what follows the comma (`""` when nothing does)."""
    if "," not in value:
        return value, ""
    for step in _LIST_STEPS.finditer(value):
        if step.group() == ",":
            return value[: step.start()], value[step.end() :]
    return value, ""


_TOKEN_ONLY = re.compile(TOKEN)
_VALUE = re.compile(rf'{QUOTED}|[^\s";,<>]+', re.DOTALL)

# What nearly every phone sends: no white space, no quotes.
_SIMPLE_PARAMS = re.compile(rf'(?:;{TOKEN}(?:=[^\s";,<>]+)?)+')


def is_token(text: str) -> bool:
    """Tell whether the text is an RFC 3261 token."""
    return _TOKEN_ONLY.fullmatch(text) is not None


def parse_params(text: str) -> dict[str, str | None]:
    """Read `;name=value;flag` into a dict with lower-case names; a flag has the value None.

    Values keep their quotes. The first of repeated names wins. Raises MalformedMessage for empty parameters,
    names that are no token, and values that are neither token-like nor a quoted string.
    """
    params: dict[str, str | None] = {}
    if _SIMPLE_PARAMS.fullmatch(text) is not None:
        for part in text[1:].split(";"):
            name, equals, value = part.partition("=")
            params.setdefault(name.lower(), value if equals else None)
        return params
    text = text.strip(" \t")
    if not text:
        return params
    if text[0] != ";":
        raise MalformedMessage(f"{text[:40]!r} where a parameter was expected")
    parts = text[1:].split(";") if '"' not in text else _split_params(text[1:])
    for part in parts:
        name, equals, value = part.partition("=")
        name = name.strip(" \t").lower()
        if _TOKEN_ONLY.fullmatch(name) is None:
            raise MalformedMessage(f"{part[:40]!r} is not a parameter")
        if equals:
            value = value.strip(" \t")
            if _VALUE.fullmatch(value) is None:
                raise MalformedMessage(f"parameter {name[:40]} has the value {value[:40]!r}")
            params.setdefault(name, value)
        else:
            params.setdefault(name, None)
    return params


def _split_params(text: str) -> list[str]:
    parts, start = [], 0
    for step in _PARAM_STEPS.finditer(text):
        if step.group() == ";":
            parts.append(text[start : step.start()])
            start = step.end()
    parts.append(text[start:])
    return parts


_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def unquote(value: str) -> str:
    """Take the quotes and backslashes off a quoted string; other text comes back as it is."""
    if len(value) >= 2 and value[0] == '"' and value[-1] == '"':
        inside = value[1:-1]
        return _ESCAPED.sub(r"\1", inside) if "\\" in inside else inside
    return value


def as_utf8(text: str) -> str:
    """Read the latin-1 view of octets as the UTF-8 that RFC 3261 §25.1 means; what is none stays as it is."""
    if text.isascii():
        return text
    try:
        return text.encode("latin-1").decode()
    except UnicodeError:
        return text


def quote(text: str) -> str:
    """Put text into a quoted string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def header_number(value: str | None, limit: int) -> int | None:
    """Read a number that must lie in 0..limit; None when absent, not a number, or out of range (RFC 3261 §20)."""
    if value is None or len(value) > 20 or not (value.isascii() and value.isdigit()):
        return None
    number = int(value)
    return number if number <= limit else None
