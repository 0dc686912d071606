"""What can be asked of a running proxy over its control socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import islice
from typing import Any

from nattrav.control.socket.messages import VerbError, Verbs
from nattrav.daemon.feed import Feed, seconds_of
from nattrav.daemon.proxy_flows import flow_rows, forget_flows
from nattrav.daemon.proxy_lending import Lending
from nattrav.daemon.proxy_metrics import ProxyMetrics
from nattrav.daemon.rows import limit_of, wanted_rows, whole_id
from nattrav.daemon.runtime import Runtime
from nattrav.daemon.trace import Trace
from nattrav.location.bindings import Binding
from nattrav.net.address import canonical
from nattrav.net.clock import monotonic, wall
from nattrav.proxy.call_facts import Party
from nattrav.proxy.calls import Call
from nattrav.proxy.core import Proxy
from nattrav.proxy.explain import explain, matches, quirk_of
from nattrav.proxy.io.shell import Shell
from nattrav.proxy.registrar import behind_nat
from nattrav.sip.transport.flow import Flow

Args = dict[str, Any]

BINDING_FIELDS = (
    "aor", "contact", "transport", "source", "expires", "kept_alive", "nat", "tests", "quirk", "alg_score",
    "alg_signs", "user_agent", "q", "instance", "reg_id", "registered", "serial",
)  # fmt: skip
CALL_FIELDS = (
    "call_id", "from", "to", "state", "age", "duration", "relayed", "upstream", "caller", "callee",
)  # fmt: skip
"""What conditions may name: the keys of the rows."""


class ProxyVerbs:
    """Handlers of the proxy's verbs; each reads or changes the core between two batches."""

    def __init__(self, core: Proxy, shell: Shell, runtime: Runtime) -> None:
        self._core = core
        self._shell = shell
        self._metrics = ProxyMetrics(core, shell, runtime)
        self._lending = Lending(core)

    def table(self) -> Verbs:
        """Give the verbs by name."""
        return {
            "status": self._status,
            "refusal": self._refusal,
            "metrics": self._metrics.verb,
            "registrations.list": self._registrations,
            "registrations.show": self._registration,
            "registrations.remove": self._remove_registration,
            "registrations.watch": self._watch_registrations,
            "flows.list": self._flows,
            "flows.forget": self._forget_flows,
            "transactions.list": self._transactions,
            "calls.list": self._calls,
            "calls.show": self._call,
            "calls.missed": self._missed,
            "explain": self._explain,
            "trace": Trace(self._shell).verb,
            "upstreams.list": self._upstreams,
            "upstreams.enable": self._enable_upstream,
            "upstreams.disable": self._disable_upstream,
            "bans.list": self._bans,
            "bans.add": self._ban,
            "bans.remove": self._unban,
            "calls.kill": self._kill,
            "selftest.begin": self._lending.begin,
            "selftest.end": self._lending.end,
            "proxy.drain": self._drain,
            "proxy.undrain": self._undrain,
        }

    async def _status(self, args: Args) -> dict[str, Any]:
        core = self._core
        relays = self._shell.relays
        return {
            "mode": core.parts.sip.mode,
            "draining": core.requests.draining,
            "calls": len(core.rooms.calls),
            "confirmed_calls": core.rooms.calls.confirmed,
            "registrations": len(core.rooms.location),
            "transactions": len(core.parts.transactions),
            "connections": self._shell.transports.connections,
            "relays": relays.pool.states() if relays is not None else {},
        }

    async def _refusal(self, args: Args) -> str | None:
        sip, relays = self._core.parts.sip, self._shell.relays
        if relays is None or sip.relay == "never" or not sip.relay_required or any(relays.pool.states().values()):
            return None
        return "the proxy hears of no relay"

    def _binding(self, binding: Binding) -> dict[str, Any]:
        now = monotonic()
        wall = self._core.parts.wall(now)
        seen = self._core.keepalive.seen(binding.flow)
        alg = self._core.parts.alg.suspicion(binding.flow.remote.host, now)
        return {
            "aor": binding.aor,
            "contact": binding.uri,
            "transport": binding.flow.transport,
            "source": str(binding.flow.remote),
            "expires": binding.remaining(wall),
            "kept_alive": None if seen is None else round(now - seen, 1),
            "nat": behind_nat(binding),
            "tests": list(binding.tests),
            "quirk": quirk_of(self._core.parts, binding.user_agent, binding.flow, binding.aor),
            "alg_score": alg.score,
            "alg_signs": list(alg.signs),
            "user_agent": binding.user_agent,
            "q": binding.q,
            "instance": binding.instance,
            "reg_id": binding.reg_id,
            "registered": round(wall - binding.registered_at, 1),
            "serial": binding.serial,
        }

    async def _registrations(self, args: Args) -> list[dict[str, Any]]:
        wanted = str(args.get("search", ""))
        limit = limit_of(args, 1000)
        meets = wanted_rows(args, BINDING_FIELDS)
        found: list[dict[str, Any]] = []
        for binding in self._core.rooms.location:
            if (wanted in binding.aor or wanted in str(binding.flow.remote)) and meets(row := self._binding(binding)):
                found.append(row)
                if len(found) >= limit:
                    break
        return sorted(found, key=lambda one: str(one["aor"]))

    def _find(self, aor: str) -> list[Binding]:
        found = [one for one in self._core.rooms.location if one.aor == aor or one.aor.partition("@")[0] == aor]
        if not found:
            raise VerbError(
                "not_found", f"no registration of {aor}: 'nattrav registrations list' shows those there are"
            )
        return found

    async def _registration(self, args: Args) -> list[dict[str, Any]]:
        return [self._binding(one) for one in self._find(str(args.get("aor", "")))]

    async def _remove_registration(self, args: Args) -> dict[str, Any]:
        found = self._find(str(args.get("aor", "")))
        if args.get("dry_run") is not True:
            self._core.registrar.drop(found, "removed")
            self._shell.perform(self._core.take_effects())
        return {"removed": len(found)}

    async def _watch_registrations(self, args: Args) -> AsyncIterator[Args]:
        search = args.get("search", "")
        if not isinstance(search, str):
            raise VerbError("invalid", "search is no text")
        return self._registration_events(search, Feed(seconds_of(args)))

    async def _registration_events(self, search: str, feed: Feed) -> AsyncIterator[Args]:
        def note(event: str, aor: str, flow: Flow, user_agent: str) -> None:
            if search in aor or search in str(flow.remote):
                row = {"aor": aor, "transport": flow.transport, "source": str(flow.remote), "user_agent": user_agent}
                feed.put({"at": wall(), "event": event, **row})

        registrar = self._core.registrar
        registrar.add_watcher(note)
        try:
            while (item := await feed.next()) is not None:
                yield item
        finally:
            registrar.remove_watcher(note)

    async def _flows(self, args: Args) -> list[dict[str, Any]]:
        return flow_rows(self._core, str(args.get("search", "")), limit_of(args, 1000))

    async def _forget_flows(self, args: Args) -> dict[str, Any]:
        told, effects = forget_flows(self._core, str(args.get("flow", "")), dry_run=args.get("dry_run") is True)
        self._shell.perform(effects)
        return told

    async def _transactions(self, args: Args) -> list[dict[str, Any]]:
        limit = limit_of(args, 1000)
        tables = self._core.parts.transactions
        rows: list[dict[str, Any]] = []
        for key, server in tables.servers.items():
            state = server.state.value
            rows.append(
                {"side": "server", "method": server.method, "state": state, "peer": str(server.flow), "key": key}
            )
        for key, client in tables.clients.items():
            state = "" if client.state is None else client.state.value
            rows.append({"side": "client", "method": key[1], "state": state, "peer": str(client.hop), "key": key})
        return rows[:limit]

    async def _calls(self, args: Args) -> list[dict[str, Any]]:
        limit = limit_of(args, 1000)
        now = monotonic()
        meets = wanted_rows(args, CALL_FIELDS)
        rows = (self._summary(call, now) for call in self._core.rooms.calls)
        return list(islice((row for row in rows if meets(row)), limit))

    def _summary(self, call: Call, now: float) -> dict[str, Any]:
        return {
            "call_id": call.call_id,
            "from": call.caller,
            "to": call.callee,
            "state": call.state.value,
            "age": round(now - call.created, 1),
            "duration": None if call.answered is None else round(now - call.answered, 1),
            "relayed": call.media.session,
            "upstream": call.upstream,
            "caller": str(call.flows[Party.CALLER] or ""),
            "callee": str(call.flows[Party.CALLEE] or ""),
        }

    async def _call(self, args: Args) -> dict[str, Any]:
        calls = self._core.rooms.calls
        typed = str(args.get("call_id", ""))
        wanted = whole_id(typed, {call.call_id for call in (*calls, *calls.history.values())}) if typed else typed
        for call in (*calls, *calls.history.values()):
            if call.call_id == wanted:
                return calls.record(call)
        raise VerbError("not_found", f"no call {wanted}, neither now nor lately: 'nattrav calls list'")

    async def _missed(self, args: Args) -> list[dict[str, Any]]:
        missed = list(self._core.rooms.calls.missed)
        return missed[max(0, len(missed) - limit_of(args, 100)) :]

    async def _explain(self, args: Args) -> dict[str, Any]:
        wanted = str(args.get("what", "")).removeprefix("sip:")
        core = self._core
        found = core.rooms.calls.search(lambda call: matches(call, wanted))
        bindings = [
            self._binding(one)
            for one in core.rooms.location
            if one.aor == wanted or one.aor.partition("@")[0] == wanted or one.flow.remote.host == wanted
        ]
        bans = [ban for ban in await self._bans({}) if ban["source"] == wanted]
        refusals = core.requests.refusals.find(wanted)
        if not found and not bindings and not bans and not refusals:
            raise VerbError("not_found", f"neither a call nor a registration nor an address: {wanted}")
        return {
            "calls": [explain(call, core.parts, monotonic()) for call in found[: limit_of(args, 1)]],
            "more_calls": max(0, len(found) - limit_of(args, 1)),
            "registrations": bindings,
            "bans": bans,
            "refusals": [
                {
                    "at": core.parts.wall(one.at),
                    "call_id": one.call_id,
                    "from": one.from_,
                    "to": one.to,
                    "flow": f"{one.flow.transport}:{one.flow.remote}",
                    "status": one.status,
                    "rule": one.rule,
                    "sentence": one.sentence,
                }
                for one in refusals[: limit_of(args, 1)]
            ],
        }

    async def _upstreams(self, args: Args) -> list[dict[str, Any]]:
        return [
            {
                "name": one.name,
                "target": one.settings.target,
                "up": one.up,
                "usable": one.usable(monotonic()) and not one.disabled,
                "disabled": one.disabled,
                "prefixes": one.settings.prefixes,
                "round_trip": one.round_trip,
            }
            for one in self._core.rooms.upstreams.all
        ]

    async def _enable_upstream(self, args: Args) -> dict[str, Any]:
        return self._set_upstream(args, disabled=False)

    async def _disable_upstream(self, args: Args) -> dict[str, Any]:
        return self._set_upstream(args, disabled=True)

    def _set_upstream(self, args: Args, *, disabled: bool) -> dict[str, Any]:
        name = str(args.get("name", ""))
        for state in self._core.rooms.upstreams.all:
            if state.name == name:
                state.disabled = disabled
                return {"name": name, "disabled": disabled}
        known = ", ".join(state.name for state in self._core.rooms.upstreams.all) or "none is configured"
        raise VerbError("not_found", f"no upstream {name!r}: {known}")

    async def _bans(self, args: Args) -> list[dict[str, Any]]:
        now = monotonic()
        return [
            {"source": ban.host, "reason": ban.reason, "seconds": round(ban.until - now)}
            for ban in self._core.admission.bans(now)
        ]

    def _host(self, args: Args) -> str:
        try:
            return canonical(str(args.get("source", "")))
        except ValueError as error:
            raise VerbError("invalid", str(error)) from None

    async def _ban(self, args: Args) -> dict[str, Any]:
        seconds = args.get("seconds")
        ban = self._core.admission.ban(
            self._host(args), "admin", monotonic(), None if seconds is None else float(seconds)
        )
        return {"source": ban.host, "seconds": round(ban.until - monotonic())}

    async def _unban(self, args: Args) -> dict[str, Any]:
        host = self._host(args)
        if not self._core.admission.unban(host):
            raise VerbError("not_found", f"{host} is not banned")
        return {"source": host}

    async def _kill(self, args: Args) -> dict[str, Any]:
        """End one call, or with `all` every one; with `dry_run` only count them."""
        calls = self._core.rooms.calls
        wanted = str(args.get("call_id", ""))
        every = args.get("all") is True
        found = list(calls) if every else calls.with_call_id(wanted)
        if not found and not every:
            raise VerbError("not_found", f"no call {wanted}: 'nattrav calls list' shows those in progress")
        if args.get("dry_run") is not True:
            self._shell.perform(self._core.kill(found, monotonic()))
        return {"killed": len(found)}

    async def _drain(self, args: Args) -> dict[str, Any]:
        self._core.requests.draining = True
        return {"draining": True, "calls": len(self._core.rooms.calls)}

    async def _undrain(self, args: Args) -> dict[str, Any]:
        self._core.requests.draining = False
        return {"draining": False}
