"""The values of From, To, Contact, Route, Record-Route, Path: name-addr or addr-spec (RFC 3261 §20.10)."""

from __future__ import annotations

import re
from functools import lru_cache

from nattrav.sip.errors import MalformedMessage
from nattrav.sip.grammar import QUOTED, parse_params, unquote
from nattrav.sip.uri import SipUri

# Display names without quotes are tokens in the grammar. Phones also send unquoted UTF-8 and punctuation there;
# what would change the reading of the list (quotes, brackets, separators) is refused.
_NAME_ADDR = re.compile(
    rf"[ \t]*(?P<display>{QUOTED}|[^\"<>,;:@\\\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*"
    r"<(?P<uri>[A-Za-z][A-Za-z0-9+.\-]*:[^<>\s\"]+)>[ \t]*(?P<params>;.*)?",
    re.DOTALL,
)
_ADDR_SPEC = re.compile(r"[ \t]*(?P<uri>[A-Za-z][A-Za-z0-9+.\-]*:[^<>\s\",;?]+)[ \t]*(?P<params>;.*)?", re.DOTALL)


class NameAddr:
    """Display name, URI and header field parameters. Immutable; `str()` gives the text it was parsed from."""

    __slots__ = ("display", "params", "tag", "text", "uri")

    display: str
    """As written, quotes included; see `display_name`."""
    uri: str
    """As written; `sip_uri` parses it."""
    params: dict[str, str | None]
    """Lower-case names, None for flags, quotes kept."""
    text: str
    tag: str | None
    """The tag parameter; an empty one counts as absent."""

    @staticmethod
    def parse(text: str) -> NameAddr:
        """Read one value. Raises MalformedMessage."""
        return _parse_cached(text) if len(text) <= 512 else _parse(text)

    @property
    def sip_uri(self) -> SipUri:
        """The URI parsed. Raises UnsupportedScheme for other schemes and MalformedMessage for a broken SIP URI."""
        return SipUri.parse(self.uri)

    @property
    def display_name(self) -> str:
        """The display name without quotes, decoded as UTF-8, for people."""
        return unquote(self.display).encode("latin-1").decode("utf-8", "replace")

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"NameAddr({self.text!r})"


def _parse(text: str) -> NameAddr:
    value = NameAddr()
    value.text = text
    value.display = ""
    if "<" in text:
        match = _NAME_ADDR.fullmatch(text)
        if match is not None:
            value.display, value.uri, params = match.groups()
    else:
        match = _ADDR_SPEC.fullmatch(text)
        if match is not None:
            value.uri, params = match.groups()
    if match is None:
        raise MalformedMessage(f"{text[:80]!r} is neither a name-addr nor an addr-spec")
    value.params = {} if params is None else parse_params(params)
    value.tag = value.params.get("tag") or None
    return value


_parse_cached = lru_cache(maxsize=8192)(_parse)
