"""Rows of `nattrav flows`: every way to a peer that the proxy holds, and what hangs on it."""

from __future__ import annotations

from typing import Any

from nattrav.net.clock import monotonic
from nattrav.proxy.core import Proxy
from nattrav.sip.transport.flow import Flow


def flow_rows(core: Proxy, search: str, limit: int) -> list[dict[str, Any]]:
    """Flows of connections, registrations and calls whose peer's address contains `search`, in order of peers."""
    aors: dict[Flow, list[str]] = {}
    calls: dict[Flow, list[str]] = {}
    for binding in core.rooms.location:
        if search in str(binding.flow.remote):
            aors.setdefault(binding.flow, []).append(binding.aor)
    for call in core.rooms.calls:
        for flow in set(call.flows.values()):
            if isinstance(flow, Flow) and search in str(flow.remote):
                calls.setdefault(flow, []).append(call.call_id)
    open_ones = {flow for flow in core.parts.connections.values() if search in str(flow.remote)}
    found = sorted({*aors, *calls, *open_ones}, key=lambda flow: (flow.remote.host, flow.remote.port, flow.serial))
    return [_row(core, flow, aors.get(flow, []), calls.get(flow, []), flow in open_ones) for flow in found[:limit]]


def _row(core: Proxy, flow: Flow, aors: list[str], calls: list[str], connected: bool) -> dict[str, Any]:
    seen = core.keepalive.seen(flow)
    return {
        "transport": flow.transport,
        "peer": str(flow.remote),
        "local": str(flow.local),
        "state": "stateless" if not flow.reliable else "open" if connected else "gone",
        "kept_alive": None if seen is None else round(monotonic() - seen, 1),
        "registrations": aors,
        "calls": calls,
    }
