"""`nattrav status --nagios`: one line, performance data, and the exit codes of monitoring plugins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nattrav.cli import exit_codes
from nattrav.cli.connect import NoAnswer, ask

OK, WARNING, CRITICAL, UNKNOWN = range(4)
WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
PORTS_WARNING, PORTS_CRITICAL = 0.8, 0.95
"""Shares of the relay's ports."""


def answer() -> tuple[str, int]:
    """Ask the bundle; give the line to print and the exit code. A bundle that is not there is critical."""
    try:
        state = ask("supervisor", "status", {}, 5.0)
        tiles = ask("supervisor", "overview", {}, 5.0)["tiles"]
    except NoAnswer as failure:
        code = CRITICAL if failure.code == exit_codes.UNREACHABLE else UNKNOWN
        return f"NATTRAV {WORDS[code]} - {failure}", code
    return judge(state, tiles)


def judge(state: Mapping[str, Any], tiles: Mapping[str, Any]) -> tuple[str, int]:
    """Weigh what the bundle says: what is down or full is critical, what will be is a warning."""
    share = tiles["ports_share"] or 0.0
    down = [reason for reason in state["not_ready"] if reason != "draining"]
    found = [(CRITICAL, reason) for reason in down]
    if share >= PORTS_CRITICAL:
        found.append((CRITICAL, f"{share:.0%} of the relay's ports are busy"))
    elif share >= PORTS_WARNING:
        found.append((WARNING, f"{share:.0%} of the relay's ports are busy"))
    if state["draining"]:
        found.append((WARNING, "draining"))
    if state["waiting_for_restart"]:
        found.append((WARNING, f"wait for a restart: {', '.join(state['waiting_for_restart'])}"))
    if tiles["one_way"]:
        found.append((WARNING, f"{tiles['one_way']:.0f} calls are one-way"))
    code = max((severity for severity, _ in found), default=OK)
    told = (
        "; ".join(text for _, text in found)
        or f"{tiles['calls']:.0f} calls, {tiles['registrations']:.0f} registrations"
    )
    figures = {
        "calls": f"{tiles['calls']:.0f}",
        "registrations": f"{tiles['registrations']:.0f}",
        "one_way": f"{tiles['one_way']:.0f};1",
        "no_media": f"{tiles['no_media']:.0f}",
        "ports": f"{share:.2%};{100 * PORTS_WARNING:g};{100 * PORTS_CRITICAL:g}",
        "uptime": f"{state['uptime']:.0f}s",
    }
    return f"NATTRAV {WORDS[code]} - {told} | {' '.join(f'{name}={value}' for name, value in figures.items())}", code
