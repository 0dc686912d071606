"""`-w/--watch SECONDS`: runs a command that only shows again and again."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

from nattrav.cli import exit_codes
from nattrav.cli.output import Output, UsageError

COMMANDS = frozenset(("status", "metrics", "doctor", "explain"))
GROUPS = frozenset(
    (
        "sessions",
        "ports",
        "registrations",
        "calls",
        "flows",
        "transactions",
        "upstreams",
        "bans",
        "users",
        "nat",
        "stun",
    )
)
VERBS = frozenset(("list", "show", "stats", "free", "leaks"))

_CLEAR = "\x1b[H\x1b[2J"


def repeat(
    once: Callable[[], int], words: Sequence[str], out: Output, *, sleep: Callable[[float], None] = time.sleep
) -> int:
    """Run `once` every `out.watch` seconds until Ctrl-C; UsageError for a command that changes something.

    A daemon that is away, as during an upgrade, is asked again; wrong usage ends it.
    """
    if not shows_only(words):
        raise UsageError("--watch repeats commands that only show: status, metrics, doctor, explain, list, show, stats")
    assert out.watch is not None
    while True:
        stream = out.stream or sys.stdout
        if out.format == "table" and stream.isatty():
            stream.write(_CLEAR)
        code = once()
        if code == exit_codes.USAGE or "--help" in words:
            return code
        stream.flush()
        sleep(out.watch)


def shows_only(words: Sequence[str]) -> bool:
    """Tell whether a command line changes nothing and ends by itself."""
    named = [word for word in words if not word.startswith("-")]
    if not named:
        return False
    if named[0] in COMMANDS:
        return True
    # A group without a verb runs its default, which lists.
    return named[0] in GROUPS and (len(named) == 1 or named[1] in VERBS)
