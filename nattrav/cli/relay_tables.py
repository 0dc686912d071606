"""Text for people about the relay: bars, the live view, one session with every leg."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nattrav.cli.output import clean

Row = Mapping[str, Any]


def bar(row: Row, width: int = 30) -> str:
    """Draw a pool: used, resting, free."""
    total = row["total"] or 1
    used = round(row["used"] / total * width)
    resting = min(width - used, round(row["quarantined"] / total * width))
    if row["used"] and not used:
        used, resting = 1, min(resting, width - 1)
    return f"[{'#' * used}{'~' * resting}{'.' * (width - used - resting)}]"


def duration(seconds: float | None) -> str:
    """Write a span the short way."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"


def rate(value: float) -> str:
    """Write a number per second the short way."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= limit:
            return f"{value / (1000 if unit == 'k' else limit):.1f}{unit}"
    return f"{value:.0f}"


def top_text(item: Row) -> str:
    """The live view, at most 80 columns."""
    lines = [
        f"sessions {item['sessions']}{'  DRAINING' if item['draining'] else ''}   "
        f"in {rate(item['packet_rate_in'])} pkt/s {rate(item['byte_rate_in'] * 8)}bit/s   "
        f"out {rate(item['packet_rate_out'])} pkt/s   dropped {rate(item['drop_rate'])}/s"
    ]
    lines += [
        f"ports {clean(pool['interface']):<10} {bar(pool, 24)} {pool['used']} of {pool['total']} used, "
        f"{pool['quarantined']} resting"
        for pool in item["pools"]
    ]
    lines.append(f"{'call':<34} {'age':>7} {'pkt/s':>7} {'dropped':>8} {'last':>6} {'':<12}")
    for row in item["busiest"]:
        lines.append(
            f"{clean(row['call_id'])[:34]:<34} {duration(row['age']):>7} {row['packet_rate']:>7.0f} "
            f"{row['dropped']:>8} {duration(row['last_packet']):>6} {clean(row['condition'] or '')[:12]}".rstrip()
        )
    return "\n".join(lines) + "\n"


def readable(statistics: Row) -> dict[str, Any]:
    """Counters of a relay with its averages worked out and without what `ports pools` shows."""
    told = {key: value for key, value in statistics.items() if key not in ("pools", "quality", "rtp", "closed")}
    told |= {f"closed: {reason}": count for reason, count in statistics["closed"].items()}
    for name, title, factor in (
        ("mos", "average MOS", 1.0),
        ("loss", "average loss %", 100.0),
        ("jitter", "average jitter ms", 1000.0),
        ("round_trip", "average round trip ms", 1000.0),
    ):
        sums = statistics["quality"][name]
        told[title] = round(factor * sums["total"] / sums["samples"], 3) if sums["samples"] else None
    return told | {f"rtp {key}": statistics["rtp"][key] for key in ("expected", "lost", "reordered", "duplicates")}


def session_text(view: Row) -> str:
    """One session with every leg, for people."""
    lines = [
        f"call       {clean(view['call_id'])}",
        f"state      {view['state']}, {duration(view['age'])} old, last signalling {duration(view['last_signal'])} ago",
        f"thread     {view['thread']}",
    ]
    if view["condition"]:
        lines.append(f"condition  {view['condition']}")
    for one in view["directions"]:
        state = "as agreed, nothing" if not one["expected"] else one["cause"] or "flows"
        lines.append(
            f"stream {one['stream']}   {clean(one['from'] or '?')} -> {clean(one['to'] or '?')}: {state}, "
            f"{one['received']} received, {one['passed']} passed on, last {duration(one['silent'])} ago"
        )
        if one["explanation"]:
            lines.append(f"           {clean(one['explanation'])}")
    for party in view["parties"]:
        names = [clean(tag) for tag in (party["tag"] or "(no tag yet)", *party["aliases"])]
        lines.append("")
        lines.append(
            f"party {', '.join(names)} on {clean(party['interface'] or '-')}, connected to "
            + (", ".join(clean(tag or "(no tag yet)") for tag in party["connected_to"]) or "nobody")
            + (", blocked" if party["blocked"] or view["blocked"] else "")
        )
        for leg in party["legs"]:
            lines += _leg(leg)
    return "\n".join(lines) + "\n"


def _leg(leg: Row) -> Iterable[str]:
    yield (
        f"  stream {leg['stream']} {clean(leg['media'])} {clean(leg['codec'] or '')} {leg['direction']}"
        f"{' rtcp-mux' if leg['rtcp_mux'] else ''}"
    )
    quality = leg["quality"]
    if quality is not None:
        mos = "" if quality["mos"] is None else f"MOS {quality['mos']} (average {quality['mos_average']}), "
        yield f"    {mos}loss {quality['loss']:.2%}, jitter {quality['jitter_ms']} ms in the last interval"
    for one in leg["components"]:
        how = "not heard yet"
        if one["learned"]:
            how = f"{one['learned']} {'latched' if one['latched'] else 'seen'} ({one['rank']})"
        yield (
            f"    {one['component']:<4} {one['local']}"
            + (f" shown as {one['shown']}" if one["shown"] != one["local"] else "")
            + ("" if one["in_use"] else " (retired)")
        )
        yield f"         signalled {one['signalled'] or '-'}, learned {how}, sends to {one['sends_to'] or '-'}"
        yield (
            f"         in {one['packets_in']} packets, out {one['packets_out']}, lost {one['lost']}, "
            f"jitter {one['jitter_ms']} ms, last {duration(one['last_seen'])}"
        )
        if one["dropped"]:
            yield "         dropped " + ", ".join(f"{reason} {count}" for reason, count in one["dropped"].items())
    for event in leg["history"]:
        yield (
            f"    {duration(event['ago'])} ago {event['event']} {event['source']} ({event['rank']})"
            + (f": {event['reason']}" if event["reason"] else "")
        )
