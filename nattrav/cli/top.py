"""`nattrav top`: calls, ports, rates and quality, live, in 80 columns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from nattrav.cli.connect import call
from nattrav.cli.output import ItemWriter, clean, current, emit
from nattrav.cli.status import duration

WIDTH = 80
Row = Mapping[str, Any]

_SORTS: Mapping[str, Callable[[Row], float]] = {
    "packets": lambda row: -(row.get("packets") or 0),
    "rate": lambda row: -(row.get("rate") or 0),
    "age": lambda row: -(row.get("age") or 0),
    "lost": lambda row: -(row.get("lost") or 0),
    "dropped": lambda row: -(row.get("dropped") or 0),
    "loss": lambda row: -(row.get("loss") or 0),
    "mos": lambda row: row.get("mos") or math.inf,
}
_SAME = {"pps": "rate"}


def top(
    once: Annotated[bool, typer.Option("--once", help="Print one screen and end.")] = False,
    interval: Annotated[float, typer.Option("--interval", "-n", min=0.5, help="Seconds between two screens.")] = 2.0,
    sort: Annotated[
        str, typer.Option("--sort", help="packets, rate (or pps), age, lost, dropped, loss or mos; the worst first")
    ] = "packets",
    limit: Annotated[int, typer.Option("--limit", min=1, help="Sessions shown.")] = 15,
) -> None:
    """Show calls, registrations, ports, traffic and quality as they change; Ctrl-C ends it.

    Examples: nattrav top;  nattrav top --once --sort mos;  nattrav top --json
    """
    sort = _SAME.get(sort, sort)
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

    rates = Rates()
    with Live(console=Console(), auto_refresh=False, screen=True) as live:
        while True:
            data = rates.added(call("supervisor", "overview"), time.monotonic())
            live.update(Text(screen(data, limit, sort)), refresh=True)
            time.sleep(interval)


class Rates:
    """Packets a second of each call, from one reading to the next."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[float, int]] = {}

    def added(self, data: Row, now: float) -> dict[str, Any]:
        """Give a reading whose calls have `rate`; None at the first sight of a call."""
        calls = []
        for one in data["calls"]:
            at, packets = self._before.get(one["call_id"], (now, 0))
            gained = max(0, one["packets"] - packets)
            calls.append({**one, "rate": gained / (now - at) if now > at else None})
        self._before = {one["call_id"]: (now, one["packets"]) for one in calls}
        return {**data, "calls": calls}


def _stream(once: bool, interval: float) -> None:
    if once:
        emit(call("supervisor", "overview"))
        return
    writer = ItemWriter()
    while True:
        writer.write(call("supervisor", "overview"))
        time.sleep(interval)


def screen(data: Row, limit: int, sort: str) -> str:
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
    if not data["calls"]:
        others = f"; {tiles['sessions']:.0f} relay sessions of others: nattrav relay top" if tiles["sessions"] else ""
        return "\n".join(line[:WIDTH] for line in [*lines, "", f"no calls{others}"])
    live = "rate" in data["calls"][0]
    moved = "pkt/s" if live else "packets"
    lines += ["", f"{'from':<14} {'to':<14} {'state':<9} {'time':>7} {moved:>7} {'loss':>5} {'MOS':>4} media"]
    calls: Sequence[Row] = sorted(data["calls"], key=_SORTS[sort])
    for one in calls[:limit]:
        time_up = duration(one["duration"] if one["duration"] is not None else one["age"])
        lines.append(
            f"{_cut(one['from'], 14)} {_cut(one['to'], 14)} {_cut(one['state'], 9)} {time_up:>7} "
            f"{_number(one['rate' if live else 'packets']):>7} {_percent(one.get('loss')):>5} "
            f"{_number(one.get('mos'), 1):>4} {clean(str(one['media']))}"
        )
    if len(calls) > limit:
        lines.append(f"… and {len(calls) - limit} more")
    return "\n".join(line[:WIDTH] for line in lines)


def _cut(text: Any, width: int) -> str:
    shown = clean(str(text or "")).removeprefix("sip:")
    return (shown if len(shown) <= width else shown[: width - 1] + "…").ljust(width)


def _bar(pool: Row, width: int = 12) -> str:
    share = (pool["used"] + pool["quarantined"]) / pool["total"] if pool["total"] else 0.0
    full = min(width, round(share * width))
    return "[" + "#" * full + "-" * (width - full) + "]"


def _number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}" if share < 0.1 else f"{share:.0%}"


def _scaled(value: float | None, unit: str) -> str:
    if value is None:
        return f"- {unit}"
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.1f} {prefix}{unit}"
    return f"{value:.0f} {unit}"
