"""What `nattrav stun probe` shows: a picture of client, NAT and server, a list of findings, and the advice."""

from __future__ import annotations

from typing import Any

from stun.discovery import Dependence, Label
from stun.io.probe import Report


def as_data(report: Report) -> dict[str, Any]:
    """Give the whole report for programs."""
    f = report.findings
    lifetime = report.lifetime
    return {
        "server": str(f.server),
        "other_address": _text(f.other),
        "server_software": f.software or None,
        "round_trip_seconds": None if f.round_trip is None else round(f.round_trip, 6),
        "local_address": _text(f.local),
        "mapped_address": _text(f.mapped),
        "nat": f.nat,
        "mapping": _value(f.mapping),
        "filtering": _value(f.filtering),
        "classic_name": report.label.value,
        "udp": f.udp,
        "port_preserved": f.port_preserved,
        "port_step": f.port_step,
        "pooling_paired": f.pooling_paired,
        "hairpin": report.hairpin,
        "hairpin_external_source": report.hairpin_external,
        "fragments": f.fragments,
        "alg": f.alg,
        "tcp_mapped_address": None if report.tcp is None else _text(report.tcp.mapped),
        "tcp_mapping": None if report.tcp is None else _value(report.tcp.mapping),
        "tls_mapped_address": None if report.tls is None else _text(report.tls.mapped),
        "tls_failure": None if report.tls is None else report.tls.failure or None,
        "ipv6_mapped_address": _text(report.ipv6_mapped),
        "gateway": _gateway(report),
        "binding_lifetime_seconds": None if lifetime is None else [lifetime.lower, lifetime.upper],
        "keepalive_seconds": None if lifetime is None else lifetime.keepalive,
        "undetermined": [*f.undetermined, *([report.lifetime_refused] if report.lifetime_refused else [])],
        "needs_relay": f.needs_relay,
        "advice": report.advice,
        "steps": [
            {
                "test": name,
                "to": str(question.to),
                "expected_from": str(question.expect_from),
                "result": outcome.verdict.value,
                "from": _text(outcome.source),
                "mapped_address": _text(outcome.mapped),
                "sends": outcome.sends,
                "seconds": round(outcome.seconds, 6),
            }
            for name, question, outcome in report.steps
        ],
    }


def as_text(report: Report) -> str:
    """Give the report for people."""
    lines = [*picture(report), "", *(f"{title:<16}{text}" for title, text in _facts(report))]
    lines += [f"{'undetermined':<16}{reason}" for reason in as_data(report)["undetermined"]]
    return "\n".join([*lines, "", report.advice])


def picture(report: Report) -> list[str]:
    """Draw what happened: three boxes, the addresses, and whether anything passes."""
    f = report.findings
    middle_title = {None: "?", False: "no NAT"}.get(f.nat, "NAT")
    if report.label is Label.SYMMETRIC_FIREWALL:
        middle_title = "firewall"
    if report.label is Label.UDP_BLOCKED:
        middle_title = "UDP blocked"
    middle = [middle_title, report.label.value if f.nat else "", _text(f.mapped) or "" if f.nat is not False else ""]
    boxes = [
        _box(["client", _text(f.local) or "?"]),
        _box([text for text in middle if text]),
        _box(["server", str(f.server), *([str(f.other)] if f.other else [])]),
    ]
    height = max(len(box) for box in boxes)
    centred = [[" " * len(box[0])] * ((height - len(box)) // 2) + box for box in boxes]
    padded = [box + [" " * len(box[0])] * (height - len(box)) for box in centred]
    row = (height - 1) // 2
    left = " ───── " if f.nat is not None or report.over_stream else " ──?── "
    right = " ◄───► " if f.udp else " ──╳   "
    lines = []
    for number, parts in enumerate(zip(*padded, strict=True)):
        joints = (left, right) if number == row else (" " * len(left), " " * len(right))
        lines.append((parts[0] + joints[0] + parts[1] + joints[1] + parts[2]).rstrip())
    return lines


def _box(texts: list[str]) -> list[str]:
    width = max(len(text) for text in texts)
    return [f"┌{'─' * (width + 2)}┐", *(f"│ {text:^{width}} │" for text in texts), f"└{'─' * (width + 2)}┘"]


def _facts(report: Report) -> list[tuple[str, str]]:
    f = report.findings
    facts = [
        ("classic name", report.label.value),
        ("mapping", _behaviour(f.mapping)),
        ("filtering", _behaviour(f.filtering)),
    ]
    if f.port_preserved is not None:
        step = f", next binding {f.port_step:+d}" if f.port_step else ""
        facts.append(("ports", "preserved" if f.port_preserved else f"not preserved{step}"))
    if f.pooling_paired is False:
        facts.append(("addresses", "change with the destination (arbitrary pooling)"))
    if report.hairpin is not None:
        how = "" if report.hairpin_external is not False else ", with the inside address as source"
        facts.append(("hairpinning", f"yes{how}" if report.hairpin else "no"))
    if f.fragments is not None:
        facts.append(("fragments", "pass" if f.fragments else "are lost on the way"))
    if f.alg:
        facts.append(("ALG", "rewrites addresses in payloads: switch it off"))
    if report.tcp is not None:
        facts.append(("over TCP", _text(report.tcp.mapped) or report.tcp.failure))
        if report.tcp.mapping is not None:
            facts.append(("TCP mapping", _behaviour(report.tcp.mapping)))
    if report.tls is not None:
        facts.append(("over TLS", _text(report.tls.mapped) or report.tls.failure))
    if report.ipv6_mapped is not None:
        facts.append(("over IPv6", str(report.ipv6_mapped)))
    if f.round_trip is not None:
        facts.append(("round trip", f"{1000 * f.round_trip:.1f} ms"))
    facts += _router(report)
    facts += _lifetime(report)
    return facts


def _router(report: Report) -> list[tuple[str, str]]:
    found, cascade = report.gateway, report.cascade
    if found is None or cascade is None:
        return []
    answers = [
        ("UPnP", found.upnp or found.upnp_failure),
        ("NAT-PMP", found.nat_pmp or found.nat_pmp_failure),
        ("PCP", found.pcp or found.pcp_failure),
    ]
    said = ", ".join(f"{name}: {answer}" for name, answer in answers)
    return [("router", f"{found.gateway or 'none'} ({said})"), ("NATs in a row", cascade.value)]


def _gateway(report: Report) -> dict[str, Any] | None:
    found, cascade = report.gateway, report.cascade
    if found is None or cascade is None:
        return None
    return {
        "address": found.gateway,
        "external_address": found.external,
        "upnp": found.upnp or found.upnp_failure,
        "nat_pmp": found.nat_pmp or found.nat_pmp_failure,
        "pcp": found.pcp or found.pcp_failure,
        "cascade": cascade.name.lower(),
    }


def _lifetime(report: Report) -> list[tuple[str, str]]:
    search = report.lifetime
    if search is None or (search.lower is None and search.upper is None):
        return []
    low = "0" if search.lower is None else f"{search.lower:g}"
    if search.upper is None:
        text = f"at least {low} s"
    else:
        text = f"between {low} and {search.upper:g} s"
    keepalive = search.keepalive
    return [("binding lives", text + (f"; send a keepalive every {keepalive:g} s" if keepalive else ""))]


def _behaviour(value: Dependence | None) -> str:
    return "could not be determined" if value is None else value.value


def _value(value: Dependence | None) -> str | None:
    return None if value is None else value.value


def _text(address: object) -> str | None:
    return None if address is None else str(address)
