"""Narrows the rows of a listing by the condition an operator typed."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from nattrav.control.filter import FilterError, Test, parse
from nattrav.control.socket.messages import VerbError

MANY = 4
MOST = 1_000_000
"""Rows given at most, whatever was asked for."""


def limit_of(args: dict[str, Any], default: int) -> int:
    """How many rows are wanted; VerbError when that is no number."""
    limit = args.get("limit", default)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise VerbError("invalid", "limit is not a whole number")
    return min(limit, MOST)


def whole_id(typed: str, known: Iterable[str]) -> str:
    """Give the Call-ID that an operator has typed or begun, as tables cut long ones; what was typed if none is meant.

    VerbError when several begin so.
    """
    found: list[str] = []
    for one in known:
        if one == typed:
            return typed
        if one.startswith(typed) and len(found) < MANY:
            found.append(one)
    if len(found) > 1:
        raise VerbError("invalid", f"{typed} is not one Call-ID: {', '.join(found[:3])}{' …' if found[3:] else ''}")
    return found[0] if found else typed


def wanted_rows(args: dict[str, Any], fields: Collection[str]) -> Test:
    """Make a test of the argument `filter`; VerbError when it cannot be read. Without one, all rows are wanted."""
    text = args.get("filter")
    if text is None:
        return lambda row: True
    if not isinstance(text, str):
        raise VerbError("invalid", "filter is no text")
    try:
        return parse(text, fields)
    except FilterError as error:
        marked = f"{text[: error.at]} <-- HERE {text[error.at :]}".rstrip()
        raise VerbError("invalid", f"filter: {error}: {marked}") from None
