"""Takes a changed configuration over while calls go on: read, check, compare, apply what can be, say the rest.

A service may offer the verb `config.apply` with `{"tables": …, "dry_run": bool}`, answering `{"applied": [keys]}`:
the keys it takes over at once. What no service takes over counts after its restart; `restart` does that, too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nattrav.config.diff import Change, Effect, changes
from nattrav.config.load import ConfigurationError, Loaded
from nattrav.config.write import SECRETS
from nattrav.daemon import files


class Services(Protocol):
    """What a reload needs of the supervisor."""

    loaded: Loaded

    async def gather(
        self, verb: str, args: dict[str, Any] | None = None, *, roles: list[str] | None = None
    ) -> dict[str, Any]:
        """Ask services one verb."""

    def roles(self) -> list[str]:
        """Services of this instance."""

    def accept(self, loaded: Loaded) -> None:
        """Hold a new configuration; services started from now on get it."""

    async def restart(self, role: str) -> None:
        """End a service and wait until it serves again."""


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
        """Do it. On any error in the file nothing changes and `problems` says why."""
        try:
            loaded = files.read(self.path, self.environ)
        except ConfigurationError as error:
            return {"accepted": False, "problems": [str(problem) for problem in error.problems], "changes": []}
        found = changes(self.services.loaded.configuration, loaded.configuration)
        live = await self._apply(loaded, found, dry_run=dry_run)
        told = [_told(change, live) for change in found]
        waiting = [
            role
            for role in self.services.roles()
            if any(role in one["services"] and one["effect"] == Effect.RESTART.value for one in told)
        ]
        if not dry_run:
            self.services.accept(loaded)
            if restart:
                for role in waiting:
                    await self.services.restart(role)
        return {
            "accepted": not dry_run,
            "problems": [],
            "changes": told,
            "restarted": waiting if restart and not dry_run else [],
            "notes": list(_notes(told, waiting, restart=restart, dry_run=dry_run)),
        }

    async def _apply(self, loaded: Loaded, found: list[Change], *, dry_run: bool) -> set[str]:
        """Hand the change to the services; give the keys that count at once."""
        live = {change.key for change in found if change.effect is Effect.LIVE}
        log = loaded.configuration.log
        if live and not dry_run:
            for role in ["supervisor", *self.services.roles()]:
                level = log.levels.get(role, log.level)
                await self.services.gather("log.level", {"level": level}, roles=[role])
        touched = [role for role in self.services.roles() if any(role in change.services for change in found)]
        answers = await self.services.gather(
            "config.apply", {"tables": loaded.tables, "dry_run": dry_run}, roles=touched
        )
        for change in found:
            if change.services and all(
                role not in self.services.roles() or _covers(answers.get(role), change.key) for role in change.services
            ):
                live.add(change.key)
        return live


def _covers(answer: Any, key: str) -> bool:
    applied = answer.get("applied", ()) if isinstance(answer, dict) else ()
    return any(key == one or key.startswith((f"{one}.", f"{one}[")) for one in applied)


def _told(change: Change, live: set[str]) -> dict[str, Any]:
    secret = change.key.rpartition(".")[2] in SECRETS
    effect = Effect.LIVE if change.key in live else change.effect
    return {
        "key": change.key,
        "old": "***" if secret and change.old is not None else change.old,
        "new": "***" if secret and change.new is not None else change.new,
        "effect": effect.value,
        "services": list(change.services),
    }


def _notes(told: list[dict[str, Any]], waiting: list[str], *, restart: bool, dry_run: bool) -> list[str]:
    notes = []
    if waiting and not restart:
        notes.append(f"to make the rest count: nattrav config reload --restart (restarts {', '.join(waiting)})")
    if waiting and restart and dry_run:
        notes.append(f"would restart {', '.join(waiting)}")
    if any(one["effect"] == Effect.SUPERVISOR.value for one in told):
        notes.append("some keys count only after 'nattrav run' itself is started again")
    return notes
