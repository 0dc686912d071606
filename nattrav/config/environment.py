"""Keys from the environment: `NATTRAV_RELAY__PORTS=30000-30999` is `[relay] ports`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

from nattrav.config.problems import Problem
from nattrav.config.schema import Configuration
from nattrav.config.write import SECRETS, inner_model

PREFIX = "NATTRAV_"
SOURCE = "environment"
_NOT_KEYS = frozenset({"NATTRAV_RUNTIME_DIR", "NATTRAV_STATE_DIR", "NATTRAV_CONFIG"})


def from_environment(environment: Mapping[str, str]) -> tuple[dict[str, Any], list[Problem]]:
    """Read the variables; a value is TOML where it can be, else text. Gives the tables and what is wrong by its name.

    Variables that look like no key are somebody else's.
    """
    tables: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, text in sorted(environment.items()):
        if not name.startswith(PREFIX) or name in _NOT_KEYS:
            continue
        rest = name.removeprefix(PREFIX).lower()
        if "__" not in rest:
            problems += _one_underscore(name, rest)
            continue
        *above, key = rest.split("__")
        table = tables
        for step in above:
            inner = table.setdefault(step, {})
            if not isinstance(inner, dict):
                shown = PREFIX + "__".join(above).upper()
                problems.append(Problem(name, "", f"is a key below {shown}, which has a value", "unset one", SOURCE))
                break
            table = inner
        else:
            table[key] = _value(text)
    return tables, problems


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _one_underscore(name: str, rest: str) -> list[Problem]:
    """A variable that is a table and one of its keys, but for the second underscore."""
    for table, field in Configuration.model_fields.items():
        key, model = rest.removeprefix(f"{table}_"), inner_model(field)
        if key != rest and model is not None and key in model.model_fields and key not in SECRETS:
            wanted = f"{PREFIX}{table.upper()}__{key.upper()}"
            return [Problem(name, "", "has one underscore between table and key", f"write {wanted}", SOURCE)]
    return []
