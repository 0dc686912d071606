"""Takes a changed configuration over while calls go on: read, check, compare, ask the services, apply, say the rest.

Every service is asked first whether it can take the new values over; when one cannot, nothing
is changed anywhere. What is marked in the schema as needing a restart counts after the restart of its services, which
`restart` does, too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nattrav.config.diff import Change, Effect, differences, followable
from nattrav.config.load import ConfigurationError, Loaded
from nattrav.config.schema import Configuration
from nattrav.config.write import SECRET_TABLES, SECRETS, masked
from nattrav.control.socket.messages import VerbError
from nattrav.daemon import files

TAKES_AT_MOST = 10.0
"""Seconds a service may take to read files and change its tables."""


class Services(Protocol):
    """What a reload needs of the supervisor."""

    running: dict[str, Configuration]
    """What each process runs by; those that do not run are left out."""

    async def ask_each(
        self, verb: str, args: dict[str, Any], *, roles: Sequence[str], limit: float
    ) -> dict[str, dict[str, Any] | VerbError]:
        """Ask services, and the supervisor itself, one verb; those that do not answer are left out."""

    def roles(self) -> list[str]:
        """Services of this instance."""

    def accept(self, loaded: Loaded) -> None:
        """Hold a new configuration; services started from now on get it."""

    async def restart(self, role: str) -> str | None:
        """End a service and wait until it serves again; why it does not, when it cannot."""


@dataclass
class Reload:
    """One attempt to take a file over."""

    services: Services
    path: Path | None
    environ: Mapping[str, str]

    @classmethod
    def of(cls, services: Services, path: Path | None) -> Reload:
        """Reload the file at `path` with this process's environment."""
        return cls(services, path, os.environ)

    async def run(self, *, dry_run: bool = False, restart: bool = False) -> dict[str, Any]:
        """Do it. On any error in the file, or a service that cannot follow, nothing changes and `problems` says why."""
        try:
            loaded = files.read(self.path, self.environ)
        except ConfigurationError as error:
            return _refused([str(problem) for problem in error.problems])
        found = differences(self.services.running, loaded.configuration)
        # All are asked, for the files that a configuration names may have changed although it did not.
        answers = await self._ask(loaded, dry_run=True)
        problems = [str(answer) for answer in answers.values() if _is_refusal(answer)]
        if problems:
            return _refused(problems)
        if not dry_run:
            self.services.accept(loaded)
            answers = await self._ask(loaded, dry_run=False)
            for role, answer in answers.items():
                if isinstance(answer, dict) and role in self.services.running:
                    before = self.services.running[role]
                    self.services.running[role] = followable(before, loaded.configuration, answer.get("left", ()))
        told = [_told(change, self._effect(change, answers)) for change in found]
        waiting = [
            role
            for role in self.services.roles()
            if any(role in one["services"] and one["effect"] == Effect.RESTART.value for one in told)
        ]
        refusals: list[str] = []
        if restart and not dry_run:
            for role in waiting:
                refusal = await self.services.restart(role)
                if refusal is not None:
                    refusals.append(f"the {role} does not start and is tried again: {refusal}")
        return {
            "accepted": not dry_run,
            "problems": [],
            "changes": told,
            "restarted": waiting if restart and not dry_run else [],
            "notes": [*refusals, *_notes(told, waiting, restart=restart, dry_run=dry_run)],
        }

    async def _ask(self, loaded: Loaded, *, dry_run: bool) -> dict[str, dict[str, Any] | VerbError]:
        args = {"tables": loaded.tables, "dry_run": dry_run}
        roles = ["supervisor", *self.services.roles()]
        return await self.services.ask_each("config.apply", args, roles=roles, limit=TAKES_AT_MOST)

    def _effect(self, change: Change, answers: Mapping[str, dict[str, Any] | VerbError]) -> Effect:
        """Tell when a change counts after what the services answered."""
        if change.effect is not Effect.LIVE:
            return change.effect
        for role in change.services:
            answer = answers.get(role)
            if not isinstance(answer, dict) or _covers(answer.get("left", ()), change.key):
                return Effect.RESTART
        return Effect.LIVE


def _is_refusal(answer: object) -> bool:
    """A service that knows no `config.apply` does not refuse; it only needs a restart."""
    return isinstance(answer, VerbError) and answer.code == "refused"


def _refused(problems: list[str]) -> dict[str, Any]:
    return {"accepted": False, "problems": problems, "changes": []}


def _covers(keys: Sequence[str], key: str) -> bool:
    return any(key == one or key.startswith((f"{one}.", f"{one}[")) for one in keys)


def _told(change: Change, effect: Effect) -> dict[str, Any]:
    *above, name = change.key.split(".")
    if above and above[-1] in SECRET_TABLES:
        name = SECRETS[0]
    return {
        "key": change.key,
        "old": masked(change.old, name),
        "new": masked(change.new, name),
        "effect": effect.value,
        "services": list(change.services),
    }


def _notes(told: list[dict[str, Any]], waiting: list[str], *, restart: bool, dry_run: bool) -> list[str]:
    notes = []
    if waiting and not restart:
        notes.append(
            f"needs restart of {', '.join(waiting)}: nattrav reload --restart "
            f"({'; '.join(RESTART_MEANS[role] for role in waiting)})"
        )
    if waiting and restart and dry_run:
        notes.append(f"would restart {', '.join(waiting)} ({'; '.join(RESTART_MEANS[role] for role in waiting)})")
    if any(one["effect"] == Effect.SUPERVISOR.value for one in told):
        notes.append(
            "some keys count only after 'nattrav run' itself is started again: "
            "calls in progress go on, media waits for about a second"
        )
    return notes


RESTART_MEANS = {
    "relay": "relay: sessions and sockets are kept, media of all calls waits for about a second",
    "stun": "stun: queries of that second are lost, clients repeat them",
    "proxy": "proxy: calls in progress and registrations go on; calls being set up are lost, "
    "phones on TCP, TLS and WebSocket connect again",
}
"""What a restart of each service touches."""
