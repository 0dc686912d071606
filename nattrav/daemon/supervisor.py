"""Starts the services, keeps them alive, answers for all of them, and ends them together.

A service that dies is started again after a back-off that doubles up to `BACKOFF_LIMIT` and is forgotten once it has
lived for `SETTLED` seconds. When one service cannot start at first, nothing is left running.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import trio

from nattrav.config.diff import SUPERVISOR, differences
from nattrav.config.load import Loaded
from nattrav.control.socket.io.client import Unreachable, ask
from nattrav.control.socket.messages import VerbError
from nattrav.daemon.admin_http import Door, serve_admin
from nattrav.daemon.child import Child, Orders
from nattrav.daemon.drain import Drain
from nattrav.daemon.handover import close_all, passed
from nattrav.daemon.overview import Overview
from nattrav.daemon.page.feed import Feed
from nattrav.daemon.part import Part
from nattrav.daemon.runtime import Listening, Runtime, StartRefused
from nattrav.daemon.service import Place, ungrouped
from nattrav.daemon.supervisor_verbs import SupervisorVerbs
from nattrav.daemon.systemd import Notifier
from nattrav.daemon.watch import ALL_WELL, Watch

BACKOFF_START = 0.2
BACKOFF_LIMIT = 10.0
SETTLED = 30.0
END_WITHIN = 4.2
"""Seconds a service gets between SIGTERM and SIGKILL; the whole bundle ends within five."""

ASK_WITHIN = 2.0
ORDER = ("relay", "stun", "proxy")
"""The proxy asks the relay, so the relay comes first in every list."""


class Supervisor:
    """The services of one instance. `runtime` is the supervisor's own."""

    def __init__(
        self,
        loaded: Loaded,
        runtime: Runtime,
        place: Place,
        *,
        config: Path | None = None,
        modules: dict[str, str] | None = None,
    ) -> None:
        self.loaded = loaded
        self.running = {SUPERVISOR: loaded.configuration}
        """What each process runs by; a key that needs a restart differs here from `loaded` until then."""
        self.waiting_for_restart: list[str] = []
        self.runtime = runtime
        self.parts: dict[str, Part] = {
            role: Part(
                Orders(
                    role,
                    loaded.tables,
                    str(place.runtime_directory),
                    str(place.state_directory),
                    (modules or {}).get(role),
                )
            )
            for role in ORDER
            if role in loaded.configuration.node.services
        }
        for name, descriptor in passed():
            self._hand_out(name, descriptor)
        self.node = loaded.configuration.node.name or socket.gethostname()
        self._ending = False
        self.overview = Overview(self)
        self.drain = Drain(self.overview, self.roles)
        self.feed = Feed(self.overview, mask=False)
        self.door = Door(self.overview)
        self.notifier = Notifier()
        self.config: Path | None = config
        for role in self.parts:
            runtime.samples.inc("nattrav_worker_restarts_total", role, by=0)
        self.verbs = SupervisorVerbs(self)
        self.watch = Watch(self, self.notifier)

    async def run(self, *, on_ready: Callable[[list[Listening]], None]) -> None:
        """Run until SIGTERM or SIGINT. StartRefused when a service cannot start; then none is left running."""
        async with ungrouped():
            try:
                async with trio.open_nursery() as nursery:
                    await nursery.start(self._heed_signals, nursery.cancel_scope)
                    await nursery.start(self.runtime.serve_control, self.verbs.table())
                    self.runtime.listeners = await nursery.start(self._serve_admin)
                    await self._start_all()
                    self.runtime.ready = True
                    on_ready(self.listeners())
                    self.notifier.tell(READY="1", STATUS=ALL_WELL)
                    for role in self.parts:
                        self.notifier.forget(role[0])
                    nursery.start_soon(self.watch.run)
                    for part in self.parts.values():
                        nursery.start_soon(self._keep, part)
            finally:
                self.notifier.tell(STOPPING="1")
                with trio.CancelScope(shield=True):
                    await self._end_all()

    def listeners(self) -> list[Listening]:
        """All listeners of all services and the supervisor's own."""
        return [one for part in self.parts.values() for one in part.listeners] + self.runtime.listeners

    def roles(self) -> list[str]:
        """Services of this instance."""
        return list(self.parts)

    def accept(self, loaded: Loaded) -> None:
        """Hold a new configuration; services started from now on get it."""
        self.loaded = loaded
        for part in self.parts.values():
            part.orders = replace(part.orders, tables=loaded.tables)

    def note_behind(self) -> None:
        """Look which keys of the accepted configuration wait for a restart."""
        self.waiting_for_restart = [change.key for change in differences(self.running, self.loaded.configuration)]

    async def restart(self, role: str) -> str | None:
        """End a service and wait until it serves again; why it does not, when it cannot (it is tried again)."""
        part = self.parts[role]
        part.wanted, part.started, part.refusal = True, trio.Event(), None
        if part.child is not None:
            await part.child.end(END_WITHIN)
        await part.started.wait()
        return part.refusal

    async def gather(
        self, verb: str, args: dict[str, Any] | None = None, *, roles: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Ask services (default all) one verb; those that do not answer in time are left out."""
        asked = list(self.parts) if roles is None else roles
        answers = await self.ask_each(verb, args or {}, roles=asked, limit=ASK_WITHIN)
        return {role: answer for role, answer in answers.items() if not isinstance(answer, VerbError)}

    async def ask_each(
        self, verb: str, args: dict[str, Any], *, roles: Sequence[str], limit: float
    ) -> dict[str, Any | VerbError]:
        """Ask services, or the supervisor itself, one verb; those that do not answer in time are left out."""
        answers: dict[str, Any | VerbError] = {}

        async def one(role: str) -> None:
            try:
                answers[role] = await ask(self.runtime.directory / f"{role}.sock", verb, args, limit=limit)
            except VerbError as error:
                answers[role] = error
            except (Unreachable, trio.TooSlowError) as error:
                self.runtime.log.debug("a service did not answer", service=role, verb=verb, reason=str(error))

        async with trio.open_nursery() as nursery:
            for role in roles:
                nursery.start_soon(one, role)
        return {role: answers[role] for role in roles if role in answers}

    def not_ready(self) -> list[str]:
        """Why new calls should go elsewhere; empty when all is well."""
        if self._ending:
            return ["ending"]
        if not self.runtime.ready:
            return ["starting"]
        reasons = [f"{role} is down" for role, part in self.parts.items() if not part.up]
        reasons += self.watch.refusals
        return [*reasons, "draining"] if self.drain.active else reasons

    async def _serve_admin(self, *, task_status: trio.TaskStatus[list[Listening]]) -> None:
        await serve_admin(self.loaded.configuration.admin, self.runtime, self.door, task_status=task_status)

    def _hand_out(self, name: str, descriptor: int) -> None:
        """Give a descriptor of the service manager's to the service that stored it, else to all: one will want it."""
        parts = [part for role, part in self.parts.items() if name == role[0]] or list(self.parts.values())
        for part in parts:
            part.sockets.append(os.dup(descriptor))
        os.close(descriptor)

    async def _start_all(self) -> None:
        refusals: list[str] = []

        async def start(part: Part) -> None:
            try:
                await self._start(part)
            except StartRefused as refused:
                refusals.append(str(refused))

        async with trio.open_nursery() as nursery:
            for part in self.parts.values():
                nursery.start_soon(start, part)
        if refusals:
            raise StartRefused("\n".join(refusals))

    async def _start(self, part: Part) -> None:
        sockets, part.sockets = part.sockets, []
        configuration = self.loaded.configuration
        part.child = Child(part.orders, sockets)
        part.listeners = await part.child.started()
        self.running[part.orders.role] = configuration
        if self.waiting_for_restart:
            self.note_behind()
        part.up = True
        part.wanted = False
        if self.drain.active:
            await self.drain.tell(part.orders.role)
        part.started.set()

    async def _keep(self, part: Part) -> None:
        """Wait for a service's end and start it again, for ever."""
        role, backoff = part.orders.role, BACKOFF_START
        while True:
            began = trio.current_time()
            if part.child is not None:
                await part.child.ended()
                part.sockets = part.child.left()
                part.up = False
                if trio.current_time() - began >= SETTLED:
                    backoff = BACKOFF_START
            if part.wanted:
                self.runtime.log.info("a service is restarted", service=role)
            else:
                self.runtime.log.error(
                    "a service ended and is started again",
                    service=role,
                    reason=part.child.outcome() if part.child else "it could not start",
                    after=backoff,
                )
                await trio.sleep(backoff)
                backoff = min(backoff * 2, BACKOFF_LIMIT)
                part.restarts += 1
                self.runtime.samples.inc("nattrav_worker_restarts_total", role)
            try:
                await self._start(part)
            except StartRefused as refused:
                part.wanted, part.refusal = False, str(refused)
                part.started.set()
                self.runtime.log.error("a service cannot start again", service=role, reason=str(refused))
            else:
                self.runtime.log.info("a service runs again", service=role, pid=part.child.pid if part.child else 0)

    async def _end_all(self) -> None:
        self._ending = True
        async with trio.open_nursery() as nursery:
            for part in self.parts.values():
                part.up = False
                if part.child is not None:
                    nursery.start_soon(partial(part.child.end, END_WITHIN))
        for role, part in self.parts.items():
            left = part.sockets if part.child is None else [*part.sockets, *part.child.left()]
            self.notifier.store(role[0], left)
            close_all(left)
        await self.notifier.settled()

    async def _heed_signals(self, scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as received:
            task_status.started()
            async for number in received:
                if number != signal.SIGHUP:
                    self.runtime.log.info("ending", reason=signal.Signals(number).name)
                    scope.cancel()
                elif self.runtime.ready:
                    await self.verbs.reload(self.config)
