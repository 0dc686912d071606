"""`nattrav top`: calls, ports, rates and quality, live, in 80 columns."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from nattrav.cli.connect import call
from nattrav.cli.output import ItemWriter, clean, current, emit
from nattrav.cli.status import duration

WIDTH = 80
_SORTS = {
    "packets": lambda row: -(row.get("packets") or 0),
    "age": lambda row: -(row.get("age") or 0),
    "lost": lambda row: -(row.get("lost") or 0),
    "dropped": lambda row: -(row.get("dropped") or 0),
}


def top(
    once: Annotated[bool, typer.Option("--once", help="Print one screen and end.")] = False,
    interval: Annotated[float, typer.Option("--interval", "-n", min=0.5, help="Seconds between two screens.")] = 2.0,
    sort: Annotated[str, typer.Option("--sort", help="packets, age, lost or dropped")] = "packets",
    limit: Annotated[int, typer.Option("--limit", min=1, help="Sessions shown.")] = 15,
) -> None:
    """Show calls, registrations, ports, traffic and quality as they change; Ctrl-C ends it.

    Examples: nattrav top;  nattrav top --once --sort lost;  nattrav top --json
    """
    if sort not in _SORTS:
        raise typer.BadParameter(f"choose one of {', '.join(_SORTS)}", param_hint="--sort")
    if not current().human:
        _stream(once, interval)
        return
    if once:
        print(screen(call("supervisor", "overview"), limit, sort))
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(), auto_refresh=False, screen=True) as live:
        while True:
            live.update(Text(screen(call("supervisor", "overview"), limit, sort)), refresh=True)
            time.sleep(interval)


def _stream(once: bool, interval: float) -> None:
    if once:
        emit(call("supervisor", "overview"))
        return
    writer = ItemWriter()
    while True:
        writer.write(call("supervisor", "overview"))
        time.sleep(interval)


def screen(data: Mapping[str, Any], limit: int, sort: str) -> str:
    """Lay one overview out as lines of at most 80 columns."""
    tiles = data["tiles"]
    ready = "ready" if data["ready"] else f"NOT READY: {', '.join(data['not_ready'])}"
    lines = [
        f"nattrav on {data['node']}: {ready}, up {duration(data['uptime'])}",
        f"calls {_number(tiles['calls'])} ({_number(tiles['calls_per_second'], 1)}/s)   "
        f"registrations {_number(tiles['registrations'])}   one-way {_number(tiles['one_way'])}   "
        f"no media {_number(tiles['no_media'])}   MOS p10 {_number(tiles['mos'], 2)}",
        f"media {_scaled(tiles['packets_per_second'], 'pkt/s')}, {_scaled(tiles['bits_per_second'], 'bit/s')}   "
        f"drops {_number(tiles['drops_per_second'], 1)}/s   STUN {_number(tiles['stun_per_second'], 1)}/s",
    ]
    lines += [
        f"ports {pool['interface']} {pool['address']}: {_bar(pool)} "
        f"{pool['used']} used, {pool['quarantined']} resting of {pool['total']}"
        for pool in data["pools"]
    ]
    lines += ["", f"{'from':<18} {'to':<18} {'state':<9} {'time':>7} {'packets':>8} media"]
    calls: Sequence[Mapping[str, Any]] = sorted(data["calls"], key=_SORTS[sort])
    for one in calls[:limit]:
        time_up = duration(one["duration"] if one["duration"] is not None else one["age"])
        lines.append(
            f"{_cut(one['from'], 18)} {_cut(one['to'], 18)} {_cut(one['state'], 9)} {time_up:>7} "
            f"{one['packets']:>8} {clean(str(one['media']))}"
        )
    if len(calls) > limit:
        lines.append(f"… and {len(calls) - limit} more")
    return "\n".join(line[:WIDTH] for line in lines)


def _cut(text: Any, width: int) -> str:
    shown = clean(str(text or "")).removeprefix("sip:")
    return (shown if len(shown) <= width else shown[: width - 1] + "…").ljust(width)


def _bar(pool: Mapping[str, Any], width: int = 12) -> str:
    share = (pool["used"] + pool["quarantined"]) / pool["total"] if pool["total"] else 0.0
    full = min(width, round(share * width))
    return "[" + "#" * full + "-" * (width - full) + "]"


def _number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _scaled(value: float | None, unit: str) -> str:
    if value is None:
        return f"- {unit}"
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.1f} {prefix}{unit}"
    return f"{value:.0f} {unit}"
