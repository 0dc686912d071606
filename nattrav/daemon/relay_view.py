"""Sessions and ports as JSON-able data, for people's eyes and for programs."""

from __future__ import annotations

from typing import Any

from relay.diagnosis import DirectionReport, directions
from relay.engine import Engine
from relay.leaks import leaks
from relay.legs import Port, Session
from relay.plane import FlowEvent, FlowFigures
from relay.ports import PortState
from relay.quality import QualityHistory
from relay.report import ComponentReport, LegReport, SessionReport
from relay.statistics import Statistics

Row = dict[str, Any]


def session_row(session: Session, engine: Engine, now: float) -> Row:
    """One line about a session."""
    figures = [engine.streams.of(port) for leg in session.legs() for ports in leg.sets() for port in ports.ports()]
    tags = [party.tag for party in session.parties]
    packets = sum(one.packets_in for one in figures)
    heard = max((one.last_in for one in figures), default=0.0)
    recent = [leg.quality.last for leg in session.legs() if leg.quality.last is not None]
    rated = [one.mos for one in recent if one.mos is not None]
    places = {ports.local for leg in session.legs() for ports in leg.sets()}
    return {
        "call_id": session.call_id,
        "state": session.state.value,
        "age": round(now - session.created, 1),
        "tags": tags,
        "streams": [session.media(index) for index in range(max((len(p.legs) for p in session.parties), default=0))],
        "ports": len(figures),
        "packets": packets,
        "dropped": sum(sum(one.drops.values()) for one in figures),
        "lost": sum(one.rtp.lost for one in figures),
        "last_packet": round(now - heard, 1) if heard else None,
        "condition": None if session.condition is None else session.condition.value,
        "mos": round(min(rated), 2) if rated else None,
        "loss": round(max(one.loss for one in recent), 4) if recent else None,
        "jitter_ms": round(max(one.jitter for one in recent) * 1000, 2) if recent else None,
        "interfaces": sorted({one.interface for one in places}),
        "addresses": sorted({one.pool.host for one in places}),
        "thread": session.shard,
    }


SESSION_FIELDS = (
    "call_id", "state", "age", "tags", "streams", "ports", "packets", "dropped", "lost", "last_packet", "condition",
    "mos", "loss", "jitter_ms", "interfaces", "addresses", "thread",
)  # fmt: skip
"""What a condition on sessions may name: the keys of `session_row`."""


def session_view(report: SessionReport, engine: Engine, now: float) -> Row:
    """Everything about a session."""
    monotonic = now + engine.epoch
    session = engine.sessions[report.call_id]
    return {
        "call_id": report.call_id,
        "state": report.state,
        "age": round(monotonic - report.created, 1),
        "created": report.created,
        "last_signal": round(monotonic - report.last_signal, 1),
        "thread": session.shard,
        "metadata": report.metadata,
        "blocked": report.blocked,
        "condition": report.condition,
        "directions": [_direction(one) for one in directions(session, engine.streams, now)],
        "parties": [
            {
                "tag": party.tag,
                "via_branch": party.branch,
                "aliases": list(party.aliases),
                "label": party.label,
                "interface": party.interface,
                "connected_to": list(party.partners),
                "blocked": party.blocked,
                "legs": [_leg(leg, now) for leg in party.legs],
            }
            for party in report.parties
        ],
    }


def _leg(leg: LegReport, now: float) -> Row:
    return {
        "stream": leg.index,
        "media": leg.media,
        "protocol": leg.protocol,
        "direction": leg.direction,
        "codec": leg.codec,
        "rtcp_mux": leg.mux,
        "quality": _quality(leg.quality),
        "components": [_component(component, now) for component in leg.components],
        "history": [_event(event, now) for event in leg.history],
    }


def _quality(history: QualityHistory) -> Row | None:
    last = history.last
    if last is None:
        return None
    average = history.average
    return {
        "mos": None if last.mos is None else round(last.mos, 2),
        "mos_average": None if average is None else round(average, 2),
        "mos_lowest": round(history.lowest[0], 2) if history.samples else None,
        "loss": round(last.loss, 4),
        "jitter_ms": round(last.jitter * 1000, 2),
        "samples": history.samples,
    }


def _direction(one: DirectionReport) -> Row:
    return {
        "stream": one.stream,
        "from": one.sender,
        "to": one.receiver,
        "expected": one.expected,
        "received": one.received,
        "passed": one.passed,
        "silent": None if one.silent is None else round(one.silent, 1),
        "source": _text(one.source),
        "latched": one.latched,
        "target": _text(one.target),
        "cause": None if one.cause is None else one.cause.value,
        "explanation": one.explanation,
    }


def _component(component: ComponentReport, now: float) -> Row:
    figures, settings = component.figures, component.settings
    learned = figures.learned
    return {
        "component": "rtcp" if component.rtcp else "rtp",
        "local": str(component.local),
        "shown": str(component.shown),
        "signalled": _text(component.advertised),
        "sends_to": _text(learned.target),
        "learned": _text(learned.source),
        "latched": learned.latched,
        "rank": None if learned.rank is None else learned.rank.name.lower(),
        "learning": None if settings is None else settings.learning.value,
        "strict": None if settings is None else settings.strict,
        "in_use": component.current,
        "path": "xdp" if figures.offloaded else "userspace",
        **_counts(figures, now),
    }


def _counts(figures: FlowFigures, now: float) -> Row:
    rtp = figures.rtp
    return {
        "packets_in": figures.packets_in,
        "bytes_in": figures.bytes_in,
        "packets_out": figures.packets_out,
        "bytes_out": figures.bytes_out,
        "rtcp_in": figures.rtcp_in,
        "last_seen": round(now - figures.last_in, 1) if figures.last_in else None,
        "dropped": {reason.value: count for reason, count in figures.drops.items()},
        "ssrc": f"{rtp.ssrc:08x}" if rtp.received else None,
        "payload_type": rtp.payload_type if rtp.received else None,
        "expected": rtp.expected,
        "lost": rtp.lost,
        "reordered": rtp.reordered,
        "duplicates": rtp.duplicates,
        "jitter_ms": round(rtp.jitter * 1000, 2),
    }


def _event(event: FlowEvent, now: float) -> Row:
    return {
        "ago": round(now - event.at, 1),
        "event": event.kind.value,
        "source": str(event.source),
        "rank": event.rank.name.lower(),
        "reason": None if event.reason is None else event.reason.value,
    }


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def pool_rows(statistics: Statistics) -> list[Row]:
    """One line a port pool."""
    return [
        {
            "interface": pool.interface,
            "address": pool.address,
            "low": pool.low,
            "high": pool.high,
            "total": pool.total,
            "used": pool.used,
            "quarantined": pool.quarantined,
            "free": pool.free,
            "aside": pool.aside,
            "use": round(pool.used / pool.total, 4) if pool.total else 0.0,
            "allocated": pool.allocated,
            "exhausted": pool.exhausted,
            "bind_errors": pool.bind_errors,
        }
        for pool in statistics.pools
    ]


def free_rows(engine: Engine) -> list[Row]:
    """What each pool can still give out at once."""
    return [
        {"address": pool.host, "free": pool.free, "pairs": pool.free_pairs, "resting": pool.quarantined}
        for pool in engine.interfaces.pools
    ]


def leak_rows(engine: Engine) -> list[Row]:
    """Ports that no call will ever give back, or that cannot be bound."""
    return [
        {"address": one.pool.host, "port": one.number, "leak": one.leak.value, "call_id": one.call_id}
        for one in leaks(engine.interfaces.pools, engine.sessions.values())
    ]


def busy_rows(engine: Engine, now: float, state: str, limit: int) -> list[Row]:
    """Ports that are not free: in use with who holds them, resting with the seconds until they return, set aside."""
    owners = {
        (ports.local.pool, port.number): {
            "call_id": session.call_id,
            "tag": leg.party.tag,
            "stream": leg.index + 1,
            "component": "rtcp" if port.rtcp else "rtp",
        }
        for session in (engine.sessions.values() if state in ("", "used") else ())
        for leg in session.legs()
        for ports in leg.sets()
        for port in ports.ports()
    }
    rows: list[Row] = []
    for pool in engine.interfaces.pools:
        ends = dict(pool.quarantine_ends())
        for wanted in (PortState.USED, PortState.QUARANTINED, PortState.ASIDE):
            if state in ("", wanted.name.lower()):
                rows += [
                    _port_row(pool.host, number, wanted)
                    | owners.get((pool, number), {})
                    | ({"free_in": round(max(0.0, ends[number] - now), 1)} if number in ends else {})
                    for number in pool.numbers(wanted)[: limit - len(rows)]
                ]
    return rows


def _port_row(host: str, number: int, state: PortState) -> Row:
    return {
        "address": host,
        "port": number,
        "state": state.name.lower(),
        "call_id": None,
        "tag": None,
        "stream": None,
        "component": None,
        "free_in": None,
    }


def port_view(engine: Engine, number: int, now: float) -> list[Row]:
    """What a port number is doing on each address that has it."""
    rows: list[Row] = []
    for pool in engine.interfaces.pools:
        if not pool.low <= number <= pool.high:
            continue
        state = pool.state(number)
        row = _port_row(pool.host, number, state)
        if state is PortState.QUARANTINED:
            row["free_in"] = round(next((due - now for port, due in pool.quarantine_ends() if port == number), 0.0), 1)
        elif state is PortState.USED:
            row |= _holder(engine, pool.host, number)
        rows.append(row)
    return rows


def _holder(engine: Engine, host: str, number: int) -> Row:
    for session, leg, port in engine.streams.owners.values():
        if port.number == number and any(
            ports.local.host == host and _has(ports.ports(), port) for ports in leg.sets()
        ):
            return {
                "call_id": session.call_id,
                "tag": leg.party.tag,
                "stream": leg.index + 1,
                "component": "rtcp" if port.rtcp else "rtp",
            }
    return {}


def _has(ports: tuple[Port, ...], port: Port) -> bool:
    return any(one is port for one in ports)
