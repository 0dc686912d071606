"""Narrows the rows of a listing by the condition an operator typed."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from nattrav.control.filter import FilterError, Test, parse
from nattrav.control.socket.messages import VerbError


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
