"""Writing single Contact values anew inside header lines that may list several of them."""

from __future__ import annotations

import re
from collections.abc import Callable

from nattrav.sip.errors import MalformedMessage
from nattrav.sip.grammar import split_list
from nattrav.sip.message import line_value
from nattrav.sip.name_addr import NameAddr

_EXPIRES = re.compile(r";[ \t]*expires[ \t]*(?:=[ \t]*[^;,\s]*)?", re.IGNORECASE)


def each_value(line: str, write: Callable[[NameAddr], str]) -> str:
    """Give a Contact line with every value written anew; one that cannot be read stays as it is, whole."""
    values = split_list(line_value(line))
    try:
        written = [write(NameAddr.parse(value)) for value in values]
    except MalformedMessage:
        return line
    return line if written == values else f"{line[: line.index(':') + 1]} {', '.join(written)}"


def with_uri(value: NameAddr, uri: str) -> str:
    """Write a value with another URI; one without angle brackets gets them."""
    if "<" in value.text:
        return value.text.replace(f"<{value.uri}>", f"<{uri}>", 1)
    return value.text.strip().replace(value.uri, f"<{uri}>", 1)


def with_expires(text: str, seconds: int) -> str:
    """Write a value with this `expires` parameter, instead of the one it had, or behind the others."""
    end = text.rfind(">") + 1
    head, params = text[:end], text[end:]
    if _EXPIRES.search(params) is None:
        return f"{text};expires={seconds}"
    return head + _EXPIRES.sub(f";expires={seconds}", params, count=1)
