"""`nattrav flows`: every way to a peer that the proxy holds, what hangs on it, and letting go of one."""

from __future__ import annotations

from typing import Any

from nattrav.control.socket.messages import VerbError
from nattrav.net.clock import monotonic
from nattrav.proxy.core import Proxy
from nattrav.proxy.effects import Close, Effect
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
        "flow": flow_name(flow),
        "transport": flow.transport,
        "peer": str(flow.remote),
        "local": str(flow.local),
        "state": "stateless" if not flow.reliable else "open" if connected else "gone",
        "kept_alive": None if seen is None else round(monotonic() - seen, 1),
        "registrations": aors,
        "calls": calls,
    }


def flow_name(flow: Flow) -> str:
    """Name a flow as an operator can type it: `udp:203.0.113.7:5060`, a connection with its number behind #."""
    return f"{flow.transport}:{flow.remote}" + (f"#{flow.serial}" if flow.serial else "")


def forget_flows(core: Proxy, name: str, *, dry_run: bool) -> tuple[dict[str, Any], list[Effect]]:
    """Let go of a flow: its registrations go, a connection is closed. VerbError when there is none of that name.

    Calls on it stay: a phone that comes back over another flow is found by its next request.
    """
    bindings = [one for one in core.rooms.location if flow_name(one.flow) == name]
    found = {one.flow for one in bindings} | {one for one in core.parts.connections.values() if flow_name(one) == name}
    if not found:
        raise VerbError("not_found", f"no flow {name} with a registration or a connection: see 'nattrav flows list'")
    told = {"flow": name, "registrations": [one.aor for one in bindings], "closed": sum(f.reliable for f in found)}
    if dry_run:
        return told, []
    core.registrar.drop(bindings, "removed")
    return told, [*core.take_effects(), *(Close(flow) for flow in found if flow.reliable)]
