"""Takes a node out of service gently: no new calls, those in progress go on, readiness turns red."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from nattrav.metrics.samples import Samples

VERBS = {"relay": ("relay.drain", "relay.undrain"), "proxy": ("proxy.drain", "proxy.undrain")}


class Services(Protocol):
    """What a drain needs of the supervisor."""

    async def gather(
        self, verb: str, args: dict[str, Any] | None = None, *, roles: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Ask services one verb."""

    async def samples(self) -> Samples:
        """Sum of all services' samples."""


class Drain:
    """Whether this node drains; `active` survives the restart of a service."""

    def __init__(self, services: Services, roles: Callable[[], Sequence[str]]) -> None:
        self._services = services
        self._roles = roles
        self.active = False

    async def set(self, active: bool) -> dict[str, Any]:
        """Begin or end draining; tells what is still in progress and who did not hear."""
        self.active = active
        deaf = [role for role in self._roles() if role in VERBS and not await self.tell(role)]
        return await self.state() | {"not_told": deaf}

    async def tell(self, role: str) -> bool:
        """Tell one service what holds; False when it did not answer."""
        if role not in VERBS:
            return True
        return role in await self._services.gather(VERBS[role][0 if self.active else 1], roles=[role])

    async def state(self) -> dict[str, Any]:
        """Tell whether this node drains, and what is still in progress."""
        samples = await self._services.samples()
        calls = sum(samples.value("nattrav_sip_calls", state) for state in ("early", "confirmed"))
        sessions = sum(samples.value("nattrav_relay_sessions", state) for state in ("offered", "answered"))
        return {"draining": self.active, "calls": int(calls), "sessions": int(sessions)}
