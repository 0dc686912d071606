"""What changes between two configurations, and what a running bundle can take over without a restart."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nattrav.config.schema import Configuration
from nattrav.config.write import as_tables

_MISSING = object()


class Effect(enum.Enum):
    """When a changed key counts."""

    LIVE = "at once"
    RESTART = "after a restart of the service"
    SUPERVISOR = "after a restart of the bundle"


@dataclass(frozen=True, slots=True)
class Change:
    """One key that differs; `old` or `new` is None where the key is absent. `services` are touched by it."""

    key: str
    old: Any
    new: Any
    effect: Effect
    services: tuple[str, ...]


_ALL = ("relay", "stun", "proxy")
_SERVICES: dict[str, tuple[str, ...]] = {
    "node": _ALL,
    "admin": (),
    "log": _ALL,
    "stun": ("stun",),
    "relay": ("relay",),
    "control": ("relay", "proxy"),
}
"""Which services read a table; tables not named here belong to the proxy."""


def changes(old: Configuration, new: Configuration) -> list[Change]:
    """List every key whose value differs, in the order of the schema."""
    found = []
    for key, before, after in _walk("", as_tables(old, mask=False), as_tables(new, mask=False)):
        section = key.partition(".")[0].partition("[")[0]
        found.append(Change(key, before, after, effect_of(key), _SERVICES.get(section, ("proxy",))))
    return found


def effect_of(key: str) -> Effect:
    """Tell when a changed key counts."""
    if key == "log.level" or key.startswith("log.levels"):
        return Effect.LIVE
    section = key.partition(".")[0]
    if section in ("admin", "node"):
        return Effect.SUPERVISOR
    return Effect.RESTART


def _walk(path: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _walk(f"{path}.{key}" if path else key, old.get(key, _MISSING), new.get(key, _MISSING))
    elif _tables(old) and _tables(new) and (old or new):
        for at in range(max(len(old), len(new))):
            before = old[at] if at < len(old) else _MISSING
            after = new[at] if at < len(new) else _MISSING
            yield from _walk(f"{path}[{at}]", before, after)
    elif old != new:
        yield path, None if old is _MISSING else old, None if new is _MISSING else new


def _tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, dict) for entry in value)
