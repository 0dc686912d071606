"""Rows of measurements as Markdown.

A row is a flat dict: `table` names the table it belongs to, the other keys are columns in order of first appearance.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

Row = dict[str, Any]
_TITLES = {"relay": "RTP relay", "stun": "STUN", "sip": "SIP"}
_VERSIONS = (
    ("rtpengine", ("rtpengine", "--version")),
    ("Kamailio", ("kamailio", "-v")),
    ("coturn", ("turnserver", "--version")),
    ("SIPp", ("sipp", "-v")),
    ("nftables", ("nft", "--version")),
)


def tables(rows: list[Row]) -> list[str]:
    """Markdown lines, one table per distinct `table`."""
    lines: list[str] = []
    for title in dict.fromkeys(str(row.get("table", "")) for row in rows):
        mine = [row for row in rows if str(row.get("table", "")) == title]
        columns = list(dict.fromkeys(key for row in mine for key in row if key != "table"))
        numeric = {key for key in columns if all(isinstance(row.get(key), int | float | None) for row in mine)}
        lines += ["", f"### {title}" if title else "", ""]
        lines.append("| " + " | ".join(columns) + " |")
        lines.append("|" + "|".join("---:" if key in numeric else "---" for key in columns) + "|")
        lines += ["| " + " | ".join(_cell(row.get(key)) for key in columns) + " |" for row in mine]
    return lines


def document(results: dict[str, dict[str, Any]]) -> str:
    """The whole of docs/benchmarks.md."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`. Every comparison was measured in one run, on one machine, with the same traffic and",
        "one core for each program under test. Ratios travel between machines, absolute figures do not.",
        "",
        "## Machine",
        "",
        *(f"- {name}: {value}" for name, value in machine()),
    ]
    for room, result in results.items():
        kind = "quick run" if result["quick"] else "full run"
        lines += ["", f"## {_TITLES.get(room, room)}", "", f"{result['when']}, {kind}, {result['seconds']} s."]
        lines += tables(result["rows"])
    return "\n".join(lines) + "\n"


def machine() -> list[tuple[str, str]]:
    """What the figures depend on: processor, kernel, Python, versions of the peers."""
    model = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s+(\d+)", _read("/proc/meminfo"), re.MULTILINE)
    found = [
        ("processor", f"{model.group(1) if model else platform.machine()}, {os.cpu_count()} cores"),
        ("memory", f"{int(memory.group(1)) / 1048576:.1f} GiB" if memory else "unknown"),
        ("kernel", platform.release()),
        ("Python", platform.python_version()),
        ("numpy", importlib.metadata.version("numpy")),
        ("trio", importlib.metadata.version("trio")),
    ]
    for name, command in _VERSIONS:
        version = _version(command)
        if version:
            found.append((name, version))
    return found


def _version(command: tuple[str, ...]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\d+\.\d+(?:\.\d+)*", done.stdout + done.stderr)
    return found.group(0) if found else None


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)
