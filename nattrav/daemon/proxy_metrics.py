"""What the proxy counts, brought up to date at each scrape."""

from __future__ import annotations

from collections import Counter
from typing import Any

from nattrav.daemon.runtime import Runtime
from nattrav.net.clock import monotonic
from nattrav.proxy.alg import AlgSign
from nattrav.proxy.core import Proxy
from nattrav.proxy.io.shell import Shell
from nattrav.proxy.nat import NatTest
from nattrav.proxy.registrar import behind_nat

_FROM_THE_START = (
    ("nattrav_sip_auth_total", ("ok", "failed", "stale", "unknown_user")),
    ("nattrav_sip_rate_limited_total", ("source", "user")),
    ("nattrav_sip_nat_detections_total", [test.value for test in NatTest]),
    ("nattrav_sip_alg_signs_total", [sign.value for sign in AlgSign]),
    ("nattrav_sip_registration_events_total", ("added", "refreshed", "removed", "expired", "rejected")),
)


class ProxyMetrics:
    """The verb `metrics` of one proxy."""

    def __init__(self, core: Proxy, shell: Shell, runtime: Runtime) -> None:
        self._core = core
        self._shell = shell
        self._runtime = runtime
        # Series that exist from the start make the first increment visible to rate().
        for name, labels in _FROM_THE_START:
            for label in labels:
                runtime.samples.inc(name, label, by=0)

    async def verb(self, args: dict[str, Any]) -> Any:
        """Every metric, brought up to date."""
        core, samples = self._core, self._runtime.samples
        self._shell.meter.hand_over(samples.inc)
        self._shell.hand_over_observations()
        for (name, labels), by in core.parts.take_counts().items():
            samples.inc(name, *labels, by=by)
        calls = core.rooms.calls
        samples.set("nattrav_sip_calls", len(calls) - calls.confirmed, "early")
        samples.set("nattrav_sip_calls", calls.confirmed, "confirmed")
        samples.clear("nattrav_sip_registrations")
        by_kind: dict[tuple[str, str], int] = {}
        for binding in core.rooms.location:
            key = (binding.flow.transport, "yes" if behind_nat(binding) else "no")
            by_kind[key] = by_kind.get(key, 0) + 1
        for (transport, nat), number in by_kind.items():
            samples.set("nattrav_sip_registrations", number, transport, nat)
        servers, clients = core.parts.transactions.servers, core.parts.transactions.clients
        for kind, table in (("server", servers), ("client", clients)):
            invites = sum(1 for one in table.values() if one.invite)
            samples.set("nattrav_sip_transactions", invites, kind, "invite")
            samples.set("nattrav_sip_transactions", len(table) - invites, kind, "non_invite")
        for (transport, reason), number in self._shell.drops.items():
            name = "nattrav_sip_malformed_total" if reason == "malformed" else "nattrav_sip_dropped_total"
            samples.set(name, number, transport, reason)
        moved = core.parts.transactions.retransmissions
        samples.set("nattrav_sip_retransmissions_total", moved["request_rx"], "rx", "request")
        samples.set("nattrav_sip_retransmissions_total", moved["request_tx"], "tx", "request")
        samples.set("nattrav_sip_retransmissions_total", moved["response_tx"], "tx", "response")
        flows = Counter(flow.transport for flow in {binding.flow for binding in core.rooms.location})
        connections = Counter(flow.transport for flow in core.parts.connections.values())
        for transport in {one.transport for one in core.parts.listeners.by_id.values()}:
            samples.set("nattrav_sip_flows", flows[transport], transport)
            samples.set("nattrav_sip_connections", connections[transport], transport)
        if self._shell.relays is not None:
            samples.set("nattrav_queue_depth", self._shell.relays.waiting, "ng_requests")
            samples.set("nattrav_queue_dropped_total", self._shell.relays.lost, "ng_requests")
        samples.set("nattrav_sip_banned_sources", len(core.admission.bans(monotonic())))
        samples.clear("nattrav_sip_upstream_up")
        samples.clear("nattrav_sip_upstream_rtt_seconds")
        for state in core.rooms.upstreams.all:
            samples.set("nattrav_sip_upstream_up", int(state.up), state.name)
            if state.round_trip is not None:
                samples.set("nattrav_sip_upstream_rtt_seconds", state.round_trip, state.name)
        return samples.export()
