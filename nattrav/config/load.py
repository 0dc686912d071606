"""From documents to one checked Configuration: every error at once, each with key, value, reason and remedy.

Order: defaults < files (each over the one before) < environment (`NATTRAV_RELAY__PORTS`) < flags.
"""

from __future__ import annotations

import copy
import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from nattrav.config.checks import cross_checks
from nattrav.config.environment import from_environment
from nattrav.config.problems import Problem
from nattrav.config.schema import Configuration
from nattrav.config.write import SECRETS

Table = dict[str, Any]


class ConfigurationError(Exception):
    """The configuration cannot be used; `problems` is never empty."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = list(problems)


@dataclass(frozen=True)
class Document:
    """One TOML text and where it came from."""

    source: str
    text: str


@dataclass(frozen=True)
class Loaded:
    """The checked configuration and the merged tables it was made from (JSON-able, for child processes)."""

    configuration: Configuration
    tables: Table


def load(
    documents: Sequence[Document] = (), environment: Mapping[str, str] | None = None, flags: Table | None = None
) -> Loaded:
    """Merge, check, and give the configuration. Raises ConfigurationError with everything that is wrong."""
    tables: Table = {}
    problems: list[Problem] = []
    origins: list[tuple[str, Table]] = []
    for document in documents:
        try:
            parsed = tomllib.loads(document.text)
        except tomllib.TOMLDecodeError as error:
            problems.append(
                Problem(document.source, "", str(error), "correct the TOML syntax at that place", document.source)
            )
            continue
        origins.append((document.source, parsed))
        tables = overlay(tables, parsed)
    from_outside, slips = from_environment(environment or {})
    problems += slips
    for source, layer in (("environment", from_outside), ("flags", flags or {})):
        if layer:
            origins.append((source, layer))
            tables = overlay(tables, layer)
    if problems:
        raise ConfigurationError(problems)
    return Loaded(validate(tables, origins), tables)


def validate(tables: Table, origins: Sequence[tuple[str, Table]] = ()) -> Configuration:
    """Check merged tables; `origins` say which source a key came from."""
    try:
        configuration = Configuration.model_validate(tables)
    except ValidationError as error:
        wrong = error.errors()
        further = _contradictions_beside(tables, wrong)
        raise ConfigurationError([*(_problem(detail, origins) for detail in wrong), *further]) from None
    problems = list(cross_checks(configuration))
    if problems:
        raise ConfigurationError(problems)
    return configuration


def _contradictions_beside(tables: Table, wrong: Sequence[ErrorDetails]) -> list[Problem]:
    """Find contradictions between the keys that are good by themselves, so that they need no second attempt.

    Not where an entry of a list is wrong: a list without it would contradict others that the whole does not.
    """
    good = copy.deepcopy(tables)
    for detail in wrong:
        if any(isinstance(step, int) for step in detail["loc"]):
            return []
        _leave_out(good, [str(step) for step in detail["loc"]])
    try:
        return list(cross_checks(Configuration.model_validate(good)))
    except ValidationError:
        return []


def _leave_out(tables: Any, path: Sequence[str]) -> None:
    for step in path[:-1]:
        if not isinstance(tables, dict) or step not in tables:
            return
        tables = tables[step]
    if path and isinstance(tables, dict):
        tables.pop(path[-1], None)


def overlay(below: Table, above: Table) -> Table:
    """Lay one tree of tables over another: tables merge key by key, everything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = overlay(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _problem(detail: ErrorDetails, origins: Sequence[tuple[str, Table]]) -> Problem:
    key = _path(detail)
    reason, remedy = _explain(detail)
    given = "***" if detail["loc"] and detail["loc"][-1] in SECRETS else detail["input"]
    value = "" if detail["type"] == "missing" or isinstance(given, dict | BaseModel) else _shown(given)
    return Problem(key or "(file)", value, reason, remedy, _origin(detail["loc"], origins))


def _path(detail: ErrorDetails) -> str:
    return ".".join(
        str(step) for step in detail["loc"] if not str(step).startswith(("function-", "tagged-", "list[", "[key]"))
    )


def _explain(detail: ErrorDetails) -> tuple[str, str]:
    """Split what is wrong from what to do about it."""
    kind, message = detail["type"], detail["msg"]
    if kind == "extra_forbidden":
        known = sorted(_keys_beside(detail["loc"]))
        key = str(detail["loc"][-1])
        elsewhere = [f"[{name}]" for name in Configuration.model_fields if key in _keys_beside((name, key))]
        if len(detail["loc"]) == 1 and elsewhere:
            return "stands outside of every table", f"write it below {' or '.join(elsewhere)}"
        near = difflib.get_close_matches(key, known, n=1)
        wanted = f"did you mean {near[0]}?" if near else f"remove it; known here: {', '.join(known)}"
        return "there is no such key", wanted
    if kind == "missing":
        return "is required and missing", "add it"
    if kind in ("value_error", "assertion_error"):
        reason, separator, remedy = message.removeprefix("Value error, ").partition(": ")
        if separator:
            return reason, remedy
        return ("is not usable", reason) if reason.split()[0] in _IMPERATIVES else (reason, "correct it")
    if kind == "literal_error":
        return "is none of the choices", f"choose {detail['ctx']['expected']}"
    if kind == "string_pattern_mismatch":
        pattern = detail["ctx"]["pattern"]
        return "has other characters than it may have", _PATTERNS.get(pattern, f"write what matches {pattern}")
    if kind == "list_type" and isinstance(detail["input"], dict):
        return "is a list of tables", f"write its name in double brackets: [[{_path(detail)}]]"
    if kind in ("dict_type", "model_type") and isinstance(detail["input"], list):
        return "is one table", f"write its name in single brackets: [{_path(detail)}]"
    if kind in _TYPES:
        return _TYPES[kind]
    limits = detail.get("ctx", {})
    for bound, (reason, remedy) in _BOUNDS.items():
        if bound in limits:
            return reason, f"{remedy} {limits[bound]}"
    return "is not usable", message[:1].lower() + message[1:]


_IMPERATIVES = frozenset({"add", "choose", "correct", "give", "keep", "name", "set", "use", "write"})
_TYPES = {
    "string_type": ("is no text", 'write it in quotes: "..."'),
    "list_type": ("is no list", "write it in brackets: [...]"),
    "dict_type": ("is no table", "write { key = value }"),
    "model_type": ("is no table", "write its name in brackets on a line of its own, and its keys below"),
    "bool_parsing": ("is neither true nor false", "write true or false"),
    "bool_type": ("is neither true nor false", "write true or false"),
    "int_type": ("is no whole number", "write one, without quotes"),
    "int_parsing": ("is no whole number", "write one, without quotes"),
    "int_from_float": ("is no whole number", "leave the fraction out"),
    "float_type": ("is no number", "write one, without quotes"),
    "float_parsing": ("is no number", "write one, without quotes"),
    "too_short": ("is empty", "name at least one"),
    "string_too_short": ("is empty", "write something"),
}
_BOUNDS = {
    "ge": ("is too small", "write at least"),
    "gt": ("is too small", "write more than"),
    "le": ("is too large", "write at most"),
    "lt": ("is too large", "write less than"),
    "max_length": ("is too long", "write at most this many characters:"),
}
_PATTERNS = {
    r"^[A-Za-z0-9_.-]+$": "use letters, digits, _ . and - only",
    r"^[0-9a-f]{32}$": "write 32 hexadecimal digits, letters in lower case",
    r"^[0-9a-f]{64}$": "write 64 hexadecimal digits, letters in lower case",
}


def _keys_beside(path: tuple[int | str, ...]) -> Iterator[str]:
    model: Any = Configuration
    for step in path[:-1]:
        if isinstance(step, int):
            continue
        model = _inner_model(model, step)
        if model is None:
            return
    yield from model.model_fields


def _inner_model(model: type[BaseModel], step: str) -> type[BaseModel] | None:
    field = model.model_fields.get(step)
    if field is None:
        return None
    candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
    for candidate in candidates:
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _shown(value: Any) -> str:
    text = f'"{value}"' if isinstance(value, str) else "true" if value is True else "false" if value is False else None
    text = repr(value) if text is None else text
    return text if len(text) <= 60 else text[:57] + "..."


def _origin(path: tuple[int | str, ...], origins: Sequence[tuple[str, Table]]) -> str:
    for source, tables in reversed(origins):
        if _holds(tables, path):
            return source
    return origins[-1][0] if origins else "defaults"


def _holds(inner: Any, path: tuple[int | str, ...]) -> bool:
    for step in path:
        try:
            inner = inner[step]
        except (KeyError, IndexError, TypeError):
            return False
    return True
