"""The manual of the configuration as one page: every key, its default, and when a change of it counts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from nattrav.config.diff import Effect, effect_of
from nattrav.config.schema import Configuration
from nattrav.config.write import inner_model, toml_value

_COUNTS = {Effect.LIVE: "at once", Effect.RESTART: "restart", Effect.SUPERVISOR: "restart of the bundle"}

_HEADING = """\
# Every key of the configuration

Generated from the schema by `make generated`. Durations are written `"250ms"`, `"25s"`, `"2m"`, `"1h30m"`.

*Counts* says when a changed key counts after `nattrav reload` (or SIGHUP, or `systemctl reload nattrav`):

- **at once**: the running service takes it over, and no call is touched. What one call keeps for its life (its ports,
  the rules of its media, its timers) stays with that call; new calls and the next offer of running ones go by the new
  value.
- **restart**: after `nattrav reload --restart`, which restarts only the services concerned: the relay keeps its
  sessions, the proxy its bindings and dialogs.
- **restart of the bundle**: after `nattrav run` (the unit) itself is started again.

Files that keys name (certificates, keys, tokens, passwords, hooks, users) are read again by every reload. When one of
them cannot be used, the reload is refused with the reason and nothing changes. `nattrav reload --dry-run` tells before.
"""


@dataclass(frozen=True)
class Key:
    """One key: its default as TOML ("required" or nothing for None), and when a change counts."""

    name: str
    default: str
    counts: str
    about: str


def page() -> str:
    """Write the page."""
    return _HEADING + "".join(_lines())


def tables() -> Iterator[tuple[str, str, list[Key]]]:
    """Give every table: its title as the file has it, what it is for, its keys."""
    yield from _tables(Configuration, ())


def _lines() -> Iterator[str]:
    for title, about, keys in tables():
        yield f"\n## {title}\n\n{about}\n\n| key | default | counts | |\n|---|---|---|---|\n"
        for key in keys:
            default = f"`{_cell(key.default)}`" if key.default not in ("", "required") else key.default
            yield f"| `{key.name}` | {default} | {key.counts} | {_cell(key.about)} |\n"


def _tables(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[tuple[str, str, list[Key]]]:
    plain = {name: field for name, field in model.model_fields.items() if inner_model(field) is None}
    if path and plain:
        about = " ".join((model.__doc__ or "").split("\n\n")[0].split())
        keys = [
            Key(name, _default(model, name, field), _COUNTS[effect_of((*path, name))], field.description or "")
            for name, field in plain.items()
        ]
        yield _title(path), about, keys
    for name, field in model.model_fields.items():
        inner = inner_model(field)
        if inner is not None:
            yield from _tables(inner, (*path, name))


def _title(path: tuple[str, ...]) -> str:
    name = ".".join(path)
    return f"[[{name}]]" if isinstance(Configuration.model_fields[path[0]].get_default(), list) else f"[{name}]"


def _default(model: type[BaseModel], name: str, field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    made = model.model_construct()
    value = json.loads(made.model_dump_json(include={name}, warnings=False)).get(name)
    return "" if value is None else toml_value(value)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
