"""What changes between two configurations, and what a running bundle takes over without a restart."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import BaseModel

from nattrav.config.schema import Configuration
from nattrav.config.write import as_tables, inner_model

_MISSING = object()

Model = TypeVar("Model", bound=BaseModel)


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
    """List every key whose value differs, in the order of the schema. Entries of lists go by their `name`, if any."""
    return [
        Change(_written(path), before, after, effect_of(path), services_of(path[0]))
        for path, before, after in _walk((), as_tables(old, mask=False), as_tables(new, mask=False))
    ]


def services_of(table: str) -> tuple[str, ...]:
    """Which services read a table."""
    return _SERVICES.get(table, ("proxy",))


def effect_of(path: Sequence[str]) -> Effect:
    """Tell when a changed key counts; `path` is its tables and its name, entries of lists in brackets."""
    model: type[BaseModel] = Configuration
    for step in path:
        if step.startswith("["):
            continue
        inner = inner_model(model.model_fields[step])
        if inner is None:
            restart = getattr(model, "restart", None)
            if restart is not None and step not in restart:
                return Effect.LIVE
            break
        model = inner
    else:
        # A whole entry came or went.
        if getattr(model, "restart", None) == frozenset():
            return Effect.LIVE
    return Effect.SUPERVISOR if path[0] in ("admin", "node") else Effect.RESTART


def followable(running: Model, new: Model, left: Collection[str] = (), path: str = "") -> Model:
    """Give the new configuration as far as a running service follows it: keys that need a restart stay as they are.

    So do those named in `left`, such as `relay.interfaces`.
    """
    restart: frozenset[str] | None = getattr(new, "restart", None)
    kept: dict[str, Any] = {}
    for name in type(new).model_fields:
        before, after = getattr(running, name), getattr(new, name)
        plain = inner_model(type(new).model_fields[name]) is None
        if isinstance(after, BaseModel):
            kept[name] = followable(before, after, left, f"{path}{name}.")
        elif f"{path}{name}" in left or (plain and (restart is None or name in restart)):
            kept[name] = before
    return new.model_copy(update=kept)


SUPERVISOR = "supervisor"


def differences(running: Mapping[str, Configuration], new: Configuration) -> list[Change]:
    """List what differs from what each process of a bundle runs by; `services` are those that are behind."""
    found: dict[str, Change] = {}
    for role, configuration in running.items():
        for change in changes(configuration, new):
            own = change.effect is Effect.SUPERVISOR or not change.services
            if own if role == SUPERVISOR else role in change.services and not own:
                known = found.get(change.key)
                services = () if role == SUPERVISOR else (role,)
                found[change.key] = replace(change, services=(known.services if known else ()) + services)
    tables = list(Configuration.model_fields)
    return sorted(found.values(), key=lambda one: tables.index(one.key.partition(".")[0].partition("[")[0]))


def _walk(path: tuple[str, ...], old: Any, new: Any) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _walk((*path, key), old.get(key, _MISSING), new.get(key, _MISSING))
    elif _tables(old) and _tables(new) and (old or new):
        yield from _walk(path, _by_name(old), _by_name(new))
    elif old != new:
        yield path, None if old is _MISSING else old, None if new is _MISSING else new


def _by_name(entries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    names = [str(entry.get("name", "")) for entry in entries]
    if "" in names or len(set(names)) < len(names):
        names = [str(at) for at in range(len(entries))]
    return {f"[{name}]": entry for name, entry in zip(names, entries, strict=True)}


def _written(path: Sequence[str]) -> str:
    return ".".join(path).replace(".[", "[")


def _tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, dict) for entry in value)
