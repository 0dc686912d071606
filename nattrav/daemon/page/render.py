"""Writes the page: complete without a script, everything from the wire escaped; style and script are part of it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib import resources
from typing import Any

TILES = {
    "calls": "calls now",
    "calls_per_second": "call attempts per second",
    "registrations": "registrations",
    "one_way": "calls heard one way only",
    "no_media": "calls without media",
    "mos": "MOS, worst tenth",
    "ports_share": "relay ports busy",
    "packets_per_second": "media packets per second",
    "bits_per_second": "media traffic",
    "drops_per_second": "media drops per second",
    "stun_per_second": "STUN requests per second",
}
TABLES: dict[str, tuple[str, dict[str, str]]] = {
    "calls": (
        "Calls",
        {
            "from": "from",
            "to": "to",
            "state": "state",
            "duration": "duration",
            "media": "media",
            "packets": "packets",
            "caller": "caller's address",
            "callee": "callee's address",
            "call_id": "Call-ID",
        },
    ),
    "registrations": (
        "Registrations",
        {
            "aor": "address of record",
            "nat": "behind a NAT",
            "source": "source",
            "transport": "transport",
            "user_agent": "device",
            "expires": "expires in",
            "registered": "registered for",
        },
    ),
    "pools": (
        "Relay ports",
        {
            "interface": "interface",
            "address": "address",
            "total": "ports",
            "used": "used",
            "quarantined": "resting",
            "share": "busy",
        },
    ),
    "upstreams": ("Upstreams", {"name": "name", "target": "target", "up": "state"}),
    "services": (
        "Services",
        {"role": "service", "up": "answers", "ready": "ready", "uptime": "up for", "restarts": "restarts"},
    ),
}
_NUMBERS = frozenset(
    {"duration", "packets", "expires", "registered", "total", "used", "quarantined", "uptime", "restarts"}
)


@cache
def style() -> str:
    """The page's style sheet."""
    return resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")


@cache
def script() -> str:
    """The page's script."""
    return resources.files(__package__).joinpath("page.js").read_text(encoding="utf-8")


@cache
def policy() -> str:
    """The Content-Security-Policy that allows this style and this script and nothing else."""
    return (
        f"default-src 'none'; style-src '{_hash(style())}'; script-src '{_hash(script())}'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def page(data: Mapping[str, Any]) -> str:
    """Write the whole page for one snapshot."""
    ready = "ready" if data["ready"] else f"not ready: {', '.join(data['not_ready'])}"
    node = escape(str(data["node"]))
    tiles = "".join(
        f'<div><dt>{title}</dt><dd data-tile="{key}">{_text(data["tiles"].get(key))}</dd></div>'
        for key, title in TILES.items()
    )
    totals = data["totals"]
    tables = "".join(
        _table(name, title, columns, data[name], int(totals.get(name, 0))) for name, (title, columns) in TABLES.items()
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>nattrav on {node}</title>
<link rel="icon" href="data:,">
<noscript><meta http-equiv="refresh" content="5"></noscript>
<style>{style()}</style>
</head>
<body>
<a class="skip" href="#calls">Skip to calls</a>
<header>
<h1>nattrav on {node}</h1>
<span role="status" id="ready" class="{"good" if data["ready"] else "bad"}">{escape(ready)}</span>
<span class="dim">version {escape(str(data["version"]))}, up for <span id="uptime">{data["uptime"]} s</span></span>
<span class="dim">updates: <span id="live" role="status">with each load</span></span>
</header>
<main>
<dl class="tiles">{tiles}</dl>
<p><label>Search calls and registrations <input id="search" type="search" autocomplete="off"></label></p>
{tables}
</main>
<script>{script()}</script>
</body>
</html>
"""


def _table(name: str, title: str, columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]], total: int) -> str:
    head = "".join(f'<th scope="col"{_kind(key)}>{heading}</th>' for key, heading in columns.items())
    body = "".join(
        "<tr>" + "".join(f"<td{_kind(key)}>{_text(row.get(key))}</td>" for key in columns) + "</tr>" for row in rows
    )
    count = f"{len(rows)} of {total}" if total > len(rows) else str(len(rows))
    return (
        f'<section id="{name}" aria-labelledby="{name}-title">'
        f'<h2 id="{name}-title">{title} (<span class="count">{count}</span>)</h2>'
        f'<div class="scroll" tabindex="0" role="region" aria-labelledby="{name}-title">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></section>"
    )


def _kind(key: str) -> str:
    return ' class="n"' if key in _NUMBERS else ""


def _text(value: Any) -> str:
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:,.2f}".rstrip("0").rstrip(".")
        case list():
            return escape(", ".join(str(one) for one in value))
        case _:
            return escape(str(value))
