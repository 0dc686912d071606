"""The bundle as a whole: what all services say of themselves, and the sum of what they count."""

from __future__ import annotations

import platform
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nattrav import __version__
from nattrav.control.socket.io.client import Client, Unreachable
from nattrav.control.socket.messages import VerbError
from nattrav.metrics.presence import make_present
from nattrav.metrics.samples import Samples
from nattrav.net import clock

ASK_WITHIN = 5.0

if TYPE_CHECKING:
    from nattrav.daemon.supervisor import Supervisor


class Overview:
    """Gathers status and samples of one supervisor's services."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def not_ready(self) -> list[str]:
        """Why new calls should go elsewhere; empty when all is well."""
        return self._supervisor.not_ready()

    async def gather(
        self, verb: str, args: dict[str, Any] | None = None, *, roles: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Ask services (default all) one verb; those that do not answer in time are left out."""
        return await self._supervisor.gather(verb, args, roles=roles)

    async def ask(self, role: str, verb: str, args: dict[str, Any]) -> Any:
        """Ask a service, or the supervisor, one verb. VerbError when it refuses or does not answer."""
        answers = await self._supervisor.ask_each(verb, args, roles=[role], limit=ASK_WITHIN)
        if role not in answers:
            raise VerbError("busy", f"the {role} does not answer")
        if isinstance(answers[role], VerbError):
            raise answers[role]
        return answers[role]

    async def stream(self, role: str, verb: str, args: dict[str, Any]) -> AsyncGenerator[Any, None]:
        """Follow a streaming verb of a service. VerbError when it refuses or goes away."""
        try:
            async with (
                Client.open(self._supervisor.runtime.directory / f"{role}.sock") as client,
                aclosing(client.stream(verb, args)) as items,
            ):
                async for item in items:
                    yield item
        except Unreachable as error:
            raise VerbError("busy", f"the {role} does not answer: {error}") from None

    async def samples(self) -> Samples:
        """Sum the samples of all services and the supervisor's own."""
        supervisor = self._supervisor
        merged = Samples()
        merged.merge(supervisor.runtime.samples.export())
        answers = await supervisor.gather("metrics")
        for role in supervisor.parts:
            merged.set("nattrav_worker_up", float(role in answers), role, "process")
        for export in answers.values():
            merged.merge(export)
        make_present(merged, answers, [one.name for one in supervisor.loaded.configuration.upstream])
        merged.set("nattrav_draining", float(supervisor.drain.active))
        merged.set("nattrav_ready", float(not self.not_ready()))
        datapath = "xdp" if merged.value("nattrav_relay_datapath_available", "xdp") > 0 else "userspace"
        merged.set("nattrav_build_info", 1, __version__, platform.python_version(), datapath, supervisor.node)
        return merged

    async def status(self) -> dict[str, Any]:
        """State of all services, each with what it says of itself."""
        supervisor = self._supervisor
        answers = await supervisor.gather("status")
        services = []
        for role, part in supervisor.parts.items():
            known = answers.get(role, {})
            services.append(
                {
                    **known,
                    "role": role,
                    "up": role in answers and part.up,
                    "ready": bool(known.get("ready")) and part.up,
                    "pid": part.child.pid if part.child is not None else None,
                    "restarts": part.restarts,
                }
            )
        return {
            "version": __version__,
            "node": supervisor.node,
            "ready": not self.not_ready(),
            "not_ready": self.not_ready(),
            "draining": supervisor.drain.active,
            "waiting_for_restart": supervisor.waiting_for_restart,
            "started_at": supervisor.runtime.started_at,
            "uptime": clock.wall() - supervisor.runtime.started_at,
            "listening": [asdict(one) for one in supervisor.listeners()],
            "services": services,
        }
