"""Carries out what the core decides: messages in and out in batches, relay questions, lookups, records, timers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, assert_never

import trio

from nattrav.net.clock import monotonic
from nattrav.proxy.core import Proxy
from nattrav.proxy.effects import AskRelay, Close, Connect, Drop, DropReason, Effect, Log, Lookup, Observe, Record, Send
from nattrav.proxy.io.relays import Relays
from nattrav.proxy.meter import MessageMeter
from nattrav.sip.transport.flow import (
    Flow,
    FlowClosed,
    FlowOpened,
    Incoming,
    Kept,
    Malformed,
    Outgoing,
    PeerProved,
    SendFailed,
    Target,
    Undelivered,
)
from nattrav.sip.transport.io.transports import Transports

SHORTEST, LONGEST = 0.1, 0.25
"""Bounds of the sleep between two looks at the timers, in seconds; SIP's shortest timer is T1, half a second."""

OBSERVATIONS_KEPT = 1000

Resolve = Callable[[str], Awaitable[list[tuple[str, tuple[str, int], str | None]]]]

Tap = Callable[[str, Flow | Target, bytes], None]
"""Sees every message with its direction, rx or tx, and the way it came or goes."""

DropTap = Callable[[Drop], None]


class Shell:
    """One core with its sockets. `observe`, `log`, `record` and taps take what leaves the process another way."""

    def __init__(
        self,
        core: Proxy,
        *,
        resolve: Resolve,
        observe: Callable[..., None],
        log: Callable[[str, str, dict[str, Any]], None],
        record: Callable[[dict[str, Any]], None],
    ) -> None:
        self.core = core
        self.transports: Transports
        self.relays: Relays | None = None
        self.drops: dict[tuple[str, str], int] = {}
        self.received = 0
        self.sent = 0
        self._resolve = resolve
        self._observe = observe
        self._observed: list[Observe] = []
        self.meter = MessageMeter()
        self._log = log
        self._record = record
        self._taps: tuple[Tap, ...] = ()
        self._drop_taps: tuple[DropTap, ...] = ()
        self._nursery: trio.Nursery | None = None
        self._lookups = 0

    def add_tap(self, tap: Tap, drops: DropTap | None = None) -> None:
        """Let `tap` see every message from now on, and `drops` every drop."""
        self._taps += (tap,)
        if drops is not None:
            self._drop_taps += (drops,)

    def remove_tap(self, tap: Tap, drops: DropTap | None = None) -> None:
        """End what `add_tap` began."""
        self._taps = tuple(one for one in self._taps if one != tap)
        self._drop_taps = tuple(one for one in self._drop_taps if one != drops)

    def deliver(self, batch: list[Incoming]) -> None:
        """Take a batch from the transports; what it causes is sent when this returns."""
        now = monotonic()
        core = self.core
        effects: list[Effect] = []
        for flow, item in batch:
            if isinstance(item, bytes):
                if flow is not None:
                    self.received += 1
                    self.meter.message("rx", flow.transport, item)
                    for tap in self._taps:
                        tap("rx", flow, item)
                    effects += self._decide(flow, item, now)
            elif isinstance(item, Kept):
                if flow is not None:
                    core.kept(flow, now)
            elif isinstance(item, FlowOpened):
                if flow is not None:
                    core.flow_opened(flow, accepted=item.accepted)
            elif isinstance(item, PeerProved):
                if flow is not None:
                    core.peer_proved(flow, item.names)
            elif isinstance(item, FlowClosed):
                if flow is not None:
                    effects += core.flow_closed(flow, now)
            elif isinstance(item, SendFailed):
                if item.ticket is not None:
                    effects += core.unreachable(str(item.ticket), now)
            elif isinstance(item, Undelivered):
                effects += core.undelivered(item, now)
            elif isinstance(item, Malformed):
                if flow is not None:
                    effects += core.malformed(flow, item.fault, now)
            else:
                assert_never(item)
        self._carry_out(effects)

    def _decide(self, flow: Flow, data: bytes, now: float) -> list[Effect]:
        """Hand one message to the core. A fault of ours costs this message, not the process and its calls."""
        try:
            return self.core.receive(flow, data, now)
        except Exception as fault:
            effects = self.core.take_effects()
            effects.append(Drop(DropReason.FAULT, flow))
            self._log("error", "fault_on_message", {"exc_info": fault, "source": str(flow.remote)})
            return effects

    def hand_over_observations(self) -> None:
        """Put the observed values into their histograms; together they cost less than one by one."""
        observed, self._observed = self._observed, []
        for name, value, labels in observed:
            self._observe(name, value, *labels)

    def relay_answered(self, number: int, reply: dict[str, Any] | None) -> None:
        """Take a relay's reply."""
        self._carry_out(self.core.relay_reply(number, reply, monotonic()))

    def perform(self, effects: list[Effect]) -> None:
        """Carry out effects that a verb caused."""
        self._carry_out(effects)

    def _carry_out(self, effects: list[Effect]) -> None:
        if not effects:
            return
        outgoing: list[Outgoing] = []
        for effect in effects:
            if isinstance(effect, Send):
                outgoing.append(Outgoing(effect.flow, effect.data))
                self.meter.message("tx", effect.flow.transport, effect.data)
            elif isinstance(effect, AskRelay):
                if self.relays is None:
                    self._carry_out(self.core.relay_reply(effect.request, None, monotonic()))
                else:
                    self.relays.ask(effect.request, effect.command, effect.arguments, effect.call_id)
            elif isinstance(effect, Observe):
                self._observed.append(effect)
            elif isinstance(effect, Connect):
                outgoing.append(Outgoing(effect.target, effect.data, effect.branch or None))
                self.meter.message("tx", effect.target.transport, effect.data)
            elif isinstance(effect, Drop):
                key = (effect.flow.transport, effect.reason.value)
                self.drops[key] = self.drops.get(key, 0) + 1
                for drop_tap in self._drop_taps:
                    drop_tap(effect)
            elif isinstance(effect, Record):
                self._record(effect.fields)
            elif isinstance(effect, Log):
                self._log(effect.level, effect.event, effect.facts)
            elif isinstance(effect, Lookup):
                if self._nursery is not None:
                    self._lookups += 1
                    self._nursery.start_soon(self._look_up, effect.request, effect.uri)
            elif isinstance(effect, Close):
                self.transports.close(effect.flow)
            else:
                assert_never(effect)
        if outgoing:
            for tap in self._taps:
                for one in outgoing:
                    tap("tx", one.to, one.data)
            self.sent += len(outgoing)
            self.transports.send(outgoing)

    def hurried(self) -> bool:
        """Connections and lookups are served by tasks of their own, which somebody waits for."""
        return self._lookups > 0 or self.transports.busy

    async def _look_up(self, request: int, uri: str) -> None:
        try:
            found = await self._resolve(uri)
        finally:
            self._lookups -= 1
        self._carry_out(self.core.next_hops(request, found, monotonic()))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            if self.relays is not None:
                await nursery.start(self.relays.run)
            await nursery.start(self.transports.run)
            nursery.start_soon(self._keep_time)
            task_status.started()

    async def _keep_time(self) -> None:
        while True:
            now = monotonic()
            self._carry_out(self.core.handle_timeout(now))
            if len(self._observed) > OBSERVATIONS_KEPT:
                self.hand_over_observations()
            deadlines = [self.core.next_timeout()]
            if self.relays is not None:
                self.relays.handle_timeout(now)
                deadlines.append(self.relays.next_timeout())
            wait = min((at - now for at in deadlines if at is not None), default=LONGEST)
            await trio.sleep(min(max(wait, SHORTEST), LONGEST))
