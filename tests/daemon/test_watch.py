from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nattrav.daemon.child import Orders
from nattrav.daemon.part import Part
from nattrav.daemon.runtime import Runtime
from nattrav.daemon.systemd import Notifier
from nattrav.daemon.watch import SILENT_LIMIT, Watch


class Process:
    """Stands where a child would and notes the signals it gets."""

    def __init__(self) -> None:
        self.signals: list[int] = []

    def send_signal(self, number: int) -> None:
        self.signals.append(number)


class Services:
    """A relay and a proxy that answer as a test wants."""

    def __init__(self) -> None:
        self.parts = {role: Part(Orders(role, {}, "", ""), up=True) for role in ("relay", "proxy")}
        self.processes = {role: Process() for role in self.parts}
        for role, part in self.parts.items():
            part.child = self.processes[role]  # type: ignore[assignment]
        self.runtime = Runtime("supervisor", Path(), Path())
        self.deaf: set[str] = set()
        self.answers: dict[str, Any] = {}

    def not_ready(self) -> list[str]:
        return []

    async def gather(
        self, verb: str, args: dict[str, Any] | None = None, *, roles: Sequence[str] | None = None
    ) -> dict[str, Any]:
        asked = [role for role in (self.parts if roles is None else roles) if role not in self.deaf]
        return {role: "pong" if verb == "ping" else self.answers.get(role) for role in asked}


async def test_a_service_that_hangs_is_killed_and_only_that_one() -> None:
    services = Services()
    watch = Watch(services, Notifier())
    services.deaf = {"relay"}
    for _ in range(SILENT_LIMIT - 1):
        await watch._look()
    assert services.processes["relay"].signals == []
    await watch._look()
    assert services.processes["relay"].signals == [signal.SIGKILL]
    assert services.processes["proxy"].signals == []


async def test_an_answer_in_between_forgives_silence_and_what_is_down_is_not_silent() -> None:
    services = Services()
    watch = Watch(services, Notifier())
    for turn in range(3 * SILENT_LIMIT):
        services.deaf = set() if turn % SILENT_LIMIT == 0 else {"relay"}
        await watch._look()
    services.parts["relay"].up = False
    services.deaf = {"relay"}
    for _ in range(2 * SILENT_LIMIT):
        await watch._look()
    assert services.processes["relay"].signals == []


async def test_refusals_are_those_of_the_last_look() -> None:
    services = Services()
    watch = Watch(services, Notifier())
    services.answers = {"relay": "the relay is full"}
    await watch._look()
    assert watch.refusals == ["the relay is full"]
    services.deaf = {"relay"}
    await watch._look()
    assert watch.refusals == []
