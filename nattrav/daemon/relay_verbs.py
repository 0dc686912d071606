"""What the relay answers on its control socket: sessions, ports, live traffic, drain, events."""

from __future__ import annotations

import heapq
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from typing import Any

import trio

from nattrav.control.socket.messages import VerbError, Verbs
from nattrav.daemon.relay_kernel import KernelPath
from nattrav.daemon.relay_metrics import RelayMetrics
from nattrav.daemon.relay_view import (
    SESSION_FIELDS,
    busy_rows,
    free_rows,
    leak_rows,
    pool_rows,
    port_view,
    session_row,
    session_view,
)
from nattrav.daemon.rows import wanted_rows, whole_id
from nattrav.net import clock
from relay.engine import Engine
from relay.interfaces import LocalAddress
from relay.io.pump import DataPlane
from relay.session import Refusal

EVENTS_WAITING = 1024
"""Events kept for one listener that does not read; further ones are lost to it."""

BREATHE_EVERY = 100
"""Sessions read between two moments for other tasks."""

Args = dict[str, Any]
Counts = dict[str, int]


class RelayVerbs:
    """The verbs over one engine."""

    def __init__(self, engine: Engine, plane: DataPlane, metrics: RelayMetrics, kernel_path: KernelPath) -> None:
        self._engine = engine
        self._plane = plane
        self._metrics = metrics
        self._kernel_path = kernel_path
        self._listeners: dict[trio.MemorySendChannel[Args], frozenset[str]] = {}
        self.events_lost = 0
        self.leave_when_empty = False
        self._leave_at = math.inf

    def table(self) -> Verbs:
        """Every verb by name."""
        return {
            "status": self.status,
            "refusal": self.refusal,
            "metrics": self.metrics,
            "sessions.list": self.sessions_list,
            "sessions.show": self.sessions_show,
            "sessions.kick": self.sessions_kick,
            "sessions.stats": self.sessions_stats,
            "ports.pools": self.ports_pools,
            "ports.list": self.ports_list,
            "ports.show": self.ports_show,
            "ports.free": self.ports_free,
            "ports.leaks": self.ports_leaks,
            "relay.top": self.top,
            "relay.drain": self.drain,
            "relay.undrain": self.undrain,
            "events": self.events,
        }

    def publish(self, event: Args) -> None:
        """Hand an event to everyone who listens and did not leave its reason out."""
        for channel, unwanted in self._listeners.items():
            if event.get("reason") in unwanted:
                continue
            try:
                channel.send_nowait(event)
            except trio.WouldBlock:
                self.events_lost += 1

    async def status(self, args: Args) -> Args:
        """What `nattrav status` shows of the relay."""
        statistics = self._engine.statistics(clock.monotonic())
        return {
            "draining": statistics.draining,
            "sessions": statistics.sessions,
            "backend": self._plane.backend,
            "backend_reason": self._plane.backend_reason,
            "transmit": self._plane.transmit,
            "transmit_reason": self._plane.transmit_reason,
            "framed": self._plane.framed(),
            "offload": self._kernel_path.status(),
            "threads": self._plane.shards,
            "packet_rate": round(statistics.packet_rate, 1),
            "byte_rate": round(statistics.byte_rate, 1),
            "pools": pool_rows(statistics),
        }

    async def refusal(self, args: Args) -> str | None:
        """Why a new session would be refused now, but for a drain, which the supervisor knows of."""
        engine = self._engine
        reason = (
            None if engine.limits.draining else engine.limits.refusal(len(engine.sessions), engine.interfaces.pools)
        )
        return None if reason is None else f"the relay refuses new sessions ({reason})"

    async def metrics(self, args: Args) -> Any:
        """Every metric, brought up to date."""
        self._metrics.collect(clock.monotonic())
        waiting = sum(channel.statistics().current_buffer_used for channel in self._listeners)
        self._metrics.note_events(waiting, self.events_lost)
        return self._metrics.export()

    async def sessions_list(self, args: Args) -> list[Args]:
        """Rows of sessions, newest first. `limit`, `match` (part of the Call-ID), `condition`, `pool`, `filter`."""
        limit = _number(args, "limit", 100)
        match, condition, pool = str(args.get("match") or ""), args.get("condition"), args.get("pool")
        if pool is not None and not any(pool in (one.interface, one.pool.host) for one in self._places()):
            known = ", ".join(sorted({name for one in self._places() for name in (one.interface, one.pool.host)}))
            raise VerbError("not_found", f"no pool {pool!r}: known are {known}")
        wanted = wanted_rows(args, SESSION_FIELDS)
        rows: list[Args] = []
        now = clock.monotonic()
        looked_at = 0
        for call_id in list(reversed(self._engine.sessions)):
            session = self._engine.sessions.get(call_id)
            if len(rows) >= limit:
                break
            if session is None or match not in call_id:
                continue
            self._engine.survey.judge(session, now)
            if condition and (session.condition is None or session.condition.value != condition):
                continue
            row = session_row(session, self._engine, now)
            if (pool is None or pool in row["interfaces"] or pool in row["addresses"]) and wanted(row):
                rows.append(row)
            looked_at += 1
            if looked_at % BREATHE_EVERY == 0:
                # A long list must not keep ng waiting.
                await trio.lowlevel.checkpoint()
        return rows

    def _places(self) -> Sequence[LocalAddress]:
        return self._engine.interfaces.addresses

    async def sessions_show(self, args: Args) -> Args:
        """One session with every leg."""
        call_id = whole_id(_text(args, "call_id"), self._engine.sessions)
        now = clock.monotonic()
        if (session := self._engine.sessions.get(call_id)) is not None:
            self._engine.survey.judge(session, now)
        try:
            report = self._engine.query(call_id, now=now)
        except Refusal:
            raise VerbError("not_found", f"no session {call_id}: see 'nattrav sessions list'") from None
        return session_view(report, self._engine, now)

    async def sessions_kick(self, args: Args) -> Args:
        """End one session, or with `all` every one."""
        now = clock.monotonic()
        if args.get("all") is True:
            call_ids = list(self._engine.sessions)
        else:
            call_ids = [_text(args, "call_id")]
        for call_id in call_ids:
            try:
                self._engine.kick(call_id, now)
            except Refusal:
                raise VerbError("not_found", f"no session {call_id}") from None
        return {"ended": len(call_ids)}

    async def sessions_stats(self, args: Args) -> Args:
        """Counters since the start."""
        statistics = asdict(self._engine.statistics(clock.monotonic()))
        statistics["closed"] = {reason.value: count for reason, count in statistics["closed"].items()}
        return statistics

    async def ports_pools(self, args: Args) -> list[Args]:
        """One row a pool."""
        return pool_rows(self._engine.statistics(clock.monotonic()))

    async def ports_list(self, args: Args) -> list[Args]:
        """Ports that are not free. `state` narrows to used, quarantined or aside; `limit`."""
        state = args.get("state") or ""
        if state not in ("", "used", "quarantined", "aside"):
            raise VerbError("invalid", "state is none of used, quarantined, aside")
        return busy_rows(self._engine, clock.monotonic(), state, _number(args, "limit", 1000))

    async def ports_show(self, args: Args) -> list[Args]:
        """Who holds a port, on each address that has it."""
        port = _number(args, "port", 0)
        rows = port_view(self._engine, port, clock.monotonic())
        if not rows:
            raise VerbError("not_found", f"port {port} is in no pool")
        return rows

    async def ports_free(self, args: Args) -> list[Args]:
        """What each pool can still give out."""
        return free_rows(self._engine)

    async def ports_leaks(self, args: Args) -> list[Args]:
        """Ports that pools and sessions do not agree on."""
        return leak_rows(self._engine)

    async def top(self, args: Args) -> AsyncIterator[Args]:
        """Stream rates and the busiest sessions, one item every `interval` seconds."""
        interval = max(0.2, float(args.get("interval") or 1.0))
        return self._top(interval, _number(args, "limit", 20))

    async def _top(self, interval: float, limit: int) -> AsyncIterator[Args]:
        last, sums, before = clock.monotonic(), self._engine.sums(), self._engine.received()
        while True:
            await trio.sleep(interval)
            now, new, counts = clock.monotonic(), self._engine.sums(), self._engine.received()
            span = now - last
            statistics = self._engine.statistics(now)
            yield {
                "sessions": statistics.sessions,
                "draining": statistics.draining,
                "packet_rate_in": round((new.packets_in - sums.packets_in) / span, 1),
                "packet_rate_out": round((new.packets_out - sums.packets_out) / span, 1),
                "byte_rate_in": round((new.bytes_in - sums.bytes_in) / span, 1),
                "drop_rate": round((sum(new.drops.values()) - sum(sums.drops.values())) / span, 1),
                "pools": pool_rows(statistics),
                "busiest": self._busiest(before, counts, span, now, limit),
            }
            last, sums, before = now, new, counts

    def _busiest(self, before: Counts, counts: Counts, span: float, now: float, limit: int) -> list[Args]:
        gained = {call_id: count - before.get(call_id, 0) for call_id, count in counts.items()}
        rows = []
        for call_id in heapq.nlargest(limit, gained, key=gained.__getitem__):
            row = session_row(self._engine.sessions[call_id], self._engine, now)
            rows.append({**row, "packet_rate": round(gained[call_id] / span, 1)})
        return rows

    async def drain(self, args: Args) -> Args:
        """Take no new sessions. With `exit` end the process after the last one, or after `max` seconds."""
        self._engine.limits.draining = True
        self.leave_when_empty = args.get("exit") is True
        longest = _number(args, "max", 0)
        self._leave_at = clock.monotonic() + longest if longest else math.inf
        return {"draining": True, "sessions": len(self._engine.sessions)}

    def may_leave(self, now: float) -> bool:
        """A drain that was to end the process has come to its end."""
        return not self._engine.sessions or now >= self._leave_at

    async def undrain(self, args: Args) -> Args:
        """Take new sessions again."""
        self._engine.limits.draining = False
        self.leave_when_empty = False
        return {"draining": False, "sessions": len(self._engine.sessions)}

    async def events(self, args: Args) -> AsyncIterator[Args]:
        """Stream what happens to sessions, but for the reasons in the list `without`."""
        without = args.get("without", [])
        if not isinstance(without, list) or not all(isinstance(reason, str) for reason in without):
            raise VerbError("invalid", "without is no list of reasons")
        return self._events(frozenset(without))

    async def _events(self, unwanted: frozenset[str]) -> AsyncIterator[Args]:
        send, receive = trio.open_memory_channel[Args](EVENTS_WAITING)
        self._listeners[send] = unwanted
        try:
            async for event in receive:
                yield event
        finally:
            self._listeners.pop(send, None)


def _text(args: Args, name: str) -> str:
    value = args.get(name)
    if not isinstance(value, str) or not value:
        raise VerbError("invalid", f"{name} is missing")
    return value


def _number(args: Args, name: str, default: int) -> int:
    value = args.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise VerbError("invalid", f"{name} is not a number")
    return int(value)
