"""`nattrav completion values KIND`: names that exist now, for shells; fast, silent, and harmless to paste.

What callers chose (Call-IDs, users) is offered only where no character of it means anything to a shell.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from nattrav.cli.connect import NoAnswer, ask

WITHIN = 0.2
MOST = 200
_HARMLESS = re.compile(r"[A-Za-z0-9+][A-Za-z0-9@._:+#%=\[\]-]*")

Rows = list[dict[str, Any]]
_Kind = tuple[str, str, dict[str, Any], Callable[[Any], list[Any]]]

KINDS: Mapping[str, _Kind] = {
    "sessions": ("relay", "sessions.list", {"limit": MOST}, lambda rows: [row["call_id"] for row in rows]),
    "calls": ("proxy", "calls.list", {"limit": MOST}, lambda rows: [row["call_id"] for row in rows]),
    "users": ("proxy", "registrations.list", {"limit": MOST}, lambda rows: [row["aor"] for row in rows]),
    "flows": ("proxy", "flows.list", {"limit": MOST}, lambda rows: [row["flow"] for row in rows]),
    "upstreams": ("proxy", "upstreams.list", {}, lambda rows: [row["name"] for row in rows]),
    "bans": ("proxy", "bans.list", {}, lambda rows: [row["source"] for row in rows]),
    "pools": ("relay", "ports.pools", {}, lambda rows: [row[key] for row in rows for key in ("interface", "address")]),
    "ports": ("relay", "ports.list", {"limit": MOST, "state": "used"}, lambda rows: [row["port"] for row in rows]),
    "nats": ("stun", "nat.list", {"limit": MOST}, lambda rows: [row["address"] for row in rows]),
    "services": ("supervisor", "status", {}, lambda state: [row["role"] for row in state["services"]]),
}


def values(kind: str) -> list[str]:
    """Give the names of one kind, sorted; none when nobody answers in time."""
    if kind not in KINDS:
        return []
    role, verb, args, names = KINDS[kind]
    try:
        found = names(ask(role, verb, args, WITHIN))
    except (NoAnswer, KeyError, TypeError):
        return []
    return sorted({text for text in map(str, found) if _HARMLESS.fullmatch(text)})[:MOST]


def main(words: list[str]) -> None:
    """Print the names of `words[0]`, one a line."""
    sys.stdout.write("".join(f"{name}\n" for name in values(words[0] if words else "")))
