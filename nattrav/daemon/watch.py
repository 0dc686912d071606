"""Looks at every service now and then: kills one that hangs, hears whether one would refuse a call, tells systemd."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import trio

from nattrav.daemon.part import Part
from nattrav.daemon.runtime import Runtime
from nattrav.daemon.systemd import Notifier

PING_INTERVAL = 2.0
SILENT_LIMIT = 4
"""Unanswered pings in a row after which a service is taken for hung: about 15 seconds."""

COUNT_INTERVAL = 10.0
ALL_WELL = "all services serve"


class Watched(Protocol):
    """What this needs of the supervisor."""

    @property
    def parts(self) -> Mapping[str, Part]:
        """The services by role."""

    @property
    def runtime(self) -> Runtime:
        """The supervisor's own."""

    def not_ready(self) -> list[str]:
        """Why new calls should go elsewhere."""

    async def gather(
        self, verb: str, args: dict[str, Any] | None = None, *, roles: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Ask services one verb; those that do not answer in time are left out."""


class Watch:
    """`refusals` are why services would refuse a new call, as they said last."""

    def __init__(self, services: Watched, notifier: Notifier) -> None:
        self._services = services
        self._notifier = notifier
        self._figures = ALL_WELL
        self.refusals: list[str] = []

    async def run(self) -> None:
        """Look until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._notifier.keep, self._status)
            if self._notifier.active:
                nursery.start_soon(self._count)
            while True:
                await trio.sleep(PING_INTERVAL)
                self._services.runtime.settle_log()
                await self._look()

    async def _look(self) -> None:
        answers = await self._services.gather("ping")
        refusals = await self._services.gather("refusal", roles=list(answers))
        self.refusals = [reason for reason in refusals.values() if reason]
        for role, part in self._services.parts.items():
            part.silent = 0 if role in answers or not part.up else part.silent + 1
            if part.silent >= SILENT_LIMIT and part.child is not None:
                self._services.runtime.log.error("a service does not answer and is killed", service=role)
                part.silent = 0
                part.child.send_signal(signal.SIGKILL)

    async def _count(self) -> None:
        """Keep the figures that `systemctl status` shows current."""
        while True:
            answers = await self._services.gather("status")
            calls, sessions = answers.get("proxy", {}).get("calls"), answers.get("relay", {}).get("sessions")
            registrations = answers.get("proxy", {}).get("registrations")
            figures = {"calls": calls, "registrations": registrations, "media sessions": sessions}
            told = [f"{number} {what}" for what, number in figures.items() if number is not None]
            self._figures = ", ".join(told) or ALL_WELL
            await trio.sleep(COUNT_INTERVAL)

    def _status(self) -> str:
        return ", ".join(self._services.not_ready()) or self._figures
