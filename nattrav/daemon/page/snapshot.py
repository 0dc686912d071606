"""What the page shows, as one JSON-able value: gathered from the services, rates by comparing two scrapes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from nattrav.metrics.registry import METRICS
from nattrav.metrics.samples import Samples

ROWS = 200
"""Most rows of each table; the page says how many there are in all."""

_DIGITS = re.compile(r"\d{5,}")


class Services(Protocol):
    """What a snapshot needs of the supervisor."""

    async def status(self) -> dict[str, Any]:
        """State of the services."""

    async def samples(self) -> Samples:
        """Sum of all services' samples."""

    async def gather(
        self, verb: str, args: dict[str, Any] | None = None, *, roles: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Ask services one verb."""


@dataclass(frozen=True)
class Scrape:
    """The samples of one moment, in monotonic seconds."""

    at: float
    samples: Samples


async def take(services: Services, before: Scrape | None, now: float, *, mask: bool) -> tuple[dict[str, Any], Scrape]:
    """Gather one snapshot; gives it with the scrape to compare the next one to."""
    status = await services.status()
    scrape = Scrape(now, await services.samples())
    calls = (await services.gather("calls.list", {"limit": ROWS}, roles=["proxy"])).get("proxy") or []
    sessions = (await services.gather("sessions.list", {"limit": ROWS}, roles=["relay"])).get("relay") or []
    bindings = (await services.gather("registrations.list", {"limit": ROWS}, roles=["proxy"])).get("proxy") or []
    pools = (await services.gather("ports.pools", roles=["relay"])).get("relay") or []
    upstreams = (await services.gather("upstreams.list", roles=["proxy"])).get("proxy") or []
    shown = tiles(scrape, before)
    return {
        "node": status["node"],
        "version": status["version"],
        "ready": status["ready"],
        "not_ready": status["not_ready"],
        "uptime": round(status["uptime"]),
        "tiles": shown,
        "totals": {"calls": shown["calls"], "registrations": shown["registrations"]},
        "services": [_pick(one, "role", "up", "ready", "uptime", "restarts") for one in status["services"]],
        "calls": [_call(one, sessions, mask=mask) for one in calls[:ROWS]],
        "registrations": [_binding(one, mask=mask) for one in bindings[:ROWS]],
        "pools": [_pick(one, "interface", "address", "low", "high", "total", "used", "quarantined") for one in pools],
        "upstreams": [_pick(one, "name", "target", "up") for one in upstreams],
    }, scrape


def tiles(scrape: Scrape, before: Scrape | None) -> dict[str, float | None]:
    """Give the figures of the first line; rates and shares are None where they cannot be told yet."""
    samples = scrape.samples
    ports = total(samples, "nattrav_relay_ports")
    busy = total(samples, "nattrav_relay_ports_used") + total(samples, "nattrav_relay_ports_quarantined")
    return {
        "calls": total(samples, "nattrav_sip_calls"),
        "calls_per_second": rate(scrape, before, "nattrav_sip_call_attempts_total"),
        "registrations": total(samples, "nattrav_sip_registrations"),
        "sessions": sum(samples.value("nattrav_relay_sessions", state) for state in ("offered", "answered")),
        "one_way": total(samples, "nattrav_relay_sessions_one_way"),
        "no_media": total(samples, "nattrav_relay_sessions_no_media"),
        "ports_share": busy / ports if ports else None,
        "packets_per_second": rate(scrape, before, "nattrav_relay_packets_total"),
        "bits_per_second": _scaled(rate(scrape, before, "nattrav_relay_bytes_total"), 8),
        "drops_per_second": rate(scrape, before, "nattrav_relay_dropped_packets_total"),
        "stun_per_second": rate(scrape, before, "nattrav_stun_requests_total"),
        "mos": quantile(samples, "nattrav_relay_stream_mos", 0.1),
    }


def total(samples: Samples, name: str) -> float:
    """Sum a metric over all its labels."""
    return float(sum(number for _, number in samples.export().get(name, ())))


def rate(scrape: Scrape, before: Scrape | None, name: str) -> float | None:
    """Give the increase per second since the scrape before; a counter that went back began anew."""
    if before is None or scrape.at <= before.at:
        return None
    increase = total(scrape.samples, name) - total(before.samples, name)
    return max(0.0, increase) / (scrape.at - before.at)


def quantile(samples: Samples, name: str, share: float) -> float | None:
    """Give the upper bound of the bucket that holds a quantile of a histogram; None without values."""
    counts = [0.0] * (len(METRICS[name].buckets) + 1)
    for _, child in samples.export().get(name, ()):
        counts = [mine + other for mine, other in zip(counts, child[:-1], strict=True)]
    wanted, seen = share * sum(counts), 0.0
    for edge, count in zip(METRICS[name].buckets, counts, strict=False):
        seen += count
        if seen and seen >= wanted:
            return edge
    return METRICS[name].buckets[-1] if sum(counts) else None


def mask_digits(text: str) -> str:
    """Hide all but the last two digits of anything that looks like a number."""
    return _DIGITS.sub(lambda found: "•" * (len(found[0]) - 2) + found[0][-2:], text)


def _call(call: Mapping[str, Any], sessions: Sequence[Mapping[str, Any]], *, mask: bool) -> dict[str, Any]:
    session = next((one for one in sessions if one["call_id"] == call["call_id"]), None)
    shown = _pick(call, "call_id", "from", "to", "state", "age", "duration", "upstream", "caller", "callee")
    for key in ("caller", "callee"):
        # A flow is told as `udp:LOCAL<>REMOTE#SERIAL`; here only who it is matters.
        shown[key] = str(shown[key] or "").rpartition("<>")[2].partition("#")[0]
    for key in ("from", "to") if mask else ():
        shown[key] = mask_digits(str(shown[key] or ""))
    if session is not None:
        shown["media"] = str(session.get("condition") or "both ways")
    else:
        # Only the newest sessions were asked for.
        shown["media"] = "not relayed" if len(sessions) < ROWS else "–"
    for key in ("packets", "lost", "dropped"):
        shown[key] = 0 if session is None else session.get(key, 0)
    for key in ("loss", "mos"):
        shown[key] = None if session is None else session.get(key)
    return shown


def _binding(binding: Mapping[str, Any], *, mask: bool) -> dict[str, Any]:
    shown = _pick(binding, "aor", "transport", "source", "nat", "user_agent", "expires", "registered")
    if mask:
        shown["aor"] = mask_digits(str(shown["aor"] or ""))
    return shown


def _pick(row: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: row.get(key) for key in keys}


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
