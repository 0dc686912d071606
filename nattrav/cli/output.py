"""Prints results: tables for people, JSON and CSV for programs; nothing off the wire reaches the terminal unclean.

`-o/--output table|wide|json|jsonl|csv`, `--json`, `--fields a,b`, `-w/--watch SECONDS`, `--runtime-dir DIR`,
`--url URL` and `--token-file FILE` may stand anywhere on the line: `take` cuts them out before
typer sees the rest, so a verb just calls `emit(data, columns)`. A verb must not define options of these names itself.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from nattrav.cli.rendering import Column, clean, plain, rfc3339, wrapped, write_csv, write_pairs, write_table

__all__ = [
    "Column",
    "ItemWriter",
    "Output",
    "UsageError",
    "clean",
    "current",
    "emit",
    "emit_each",
    "say",
    "take",
    "use",
]

FORMATS = ("table", "wide", "json", "jsonl", "csv")
SCHEMA = 1
TIMES = frozenset({"at", "start", "answer", "end", "created", "started_at", "first_seen", "last_seen"})
"""Keys whose numbers are Unix times; programs get them as RFC 3339."""
EARLIEST = 1e9
"""A smaller number is a duration."""
SHORTEST_WATCH, LONGEST_WATCH = 0.2, 86_400.0
_WITH_VALUE = ("-o", "--output", "--fields", "-w", "--watch", "--runtime-dir", "--url", "--token-file")


@dataclass(frozen=True)
class Output:
    """How to print, and where the daemon's sockets are."""

    format: str = "table"
    fields: tuple[str, ...] = ()
    runtime_directory: Path | None = None
    url: str | None = None
    """Admin listener of another host, asked instead of a daemon on this one."""
    token_file: Path | None = None
    watch: float | None = None
    """Seconds between two runs of a command that only shows; None runs it once."""
    stream: TextIO | None = None

    @property
    def colours(self) -> bool:
        """Colours only on terminals and never with NO_COLOR."""
        stream = self.stream or sys.stdout
        return stream.isatty() and not os.environ.get("NO_COLOR")

    @property
    def human(self) -> bool:
        """The verb's own text for people is wanted: neither data for programs, nor a choice of fields."""
        return self.format in ("table", "wide") and not self.fields

    @property
    def width(self) -> int | None:
        """Columns a table may take; None when it may take as many as it needs."""
        stream = self.stream or sys.stdout
        return shutil.get_terminal_size().columns if self.format == "table" and stream.isatty() else None


class UsageError(Exception):
    """An option is wrong; exit code 2."""


_current = Output()


def current() -> Output:
    """The output options of this run."""
    return _current


def use(output: Output) -> None:
    """Make `output` the options of this run."""
    global _current
    _current = output


def take(arguments: Sequence[str]) -> tuple[list[str], Output]:
    """Cut the output options out of a command line; UsageError when one is wrong."""
    rest: list[str] = []
    output = Output()
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if word == "--":
            rest += [word, *words]
        elif word == "--json":
            output = replace(output, format="json")
        elif name in _WITH_VALUE:
            given = value if equals else next(words, None)
            if given is None:
                raise UsageError(f"{name} needs a value")
            output = _with(output, name, given)
        else:
            rest.append(word)
    return rest, output


def _with(output: Output, name: str, value: str) -> Output:
    if name == "--fields":
        fields = tuple(field.strip() for field in value.split(","))
        if "" in fields:
            raise UsageError(f"{name} {value}: give names of fields, separated by commas")
        return replace(output, fields=fields)
    if name == "--runtime-dir":
        return replace(output, runtime_directory=Path(value))
    if name == "--url":
        return replace(output, url=value)
    if name == "--token-file":
        return replace(output, token_file=Path(value))
    if name in ("-w", "--watch"):
        return replace(output, watch=_seconds(name, value))
    if value not in FORMATS:
        raise UsageError(f"{name} {value}: choose one of {', '.join(FORMATS)}")
    return replace(output, format=value)


def _seconds(name: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not SHORTEST_WATCH <= seconds <= LONGEST_WATCH:
        raise UsageError(f"{name} {value}: give seconds, {SHORTEST_WATCH:g} to {LONGEST_WATCH:g}")
    return seconds


Row = Mapping[str, Any]


def emit(
    data: Row | Iterable[Row],
    columns: Sequence[Column | str] = (),
    *,
    out: Output | None = None,
    empty: str = "nothing to show",
) -> None:
    """Print one mapping or a list of them. `columns` choose and order what a table shows (default: all keys).

    JSON and JSON lines always carry all keys; `--fields` narrows any format.
    """
    out = out or current()
    stream = out.stream or sys.stdout
    single = isinstance(data, Mapping)
    rows: list[Row] = [data] if isinstance(data, Mapping) else list(data)
    if out.fields:
        rows, columns = _narrow(rows, columns, out.fields)
    if out.format == "json":
        told = [_told(row) for row in rows]
        body = {"schema": SCHEMA, **told[0]} if single else {"schema": SCHEMA, "items": told}
        stream.write(json.dumps(body, indent=2, default=str) + "\n")
    elif out.format == "jsonl":
        stream.writelines(json.dumps(_told(row), default=str) + "\n" for row in rows)
    elif out.format == "csv":
        write_csv(stream, _columns(columns, rows), [_told(row) for row in rows])
    else:
        shown = [one for one in _columns(columns, rows) if out.fields or out.format == "wide" or not one.wide]
        if single:
            write_pairs(stream, shown, rows[0], width=out.width)
        elif rows:
            write_table(stream, shown, rows, width=out.width, colours=out.colours)
        else:
            print(clean(empty), file=sys.stderr)


def emit_each(rows: Sequence[Row], *, out: Output | None = None) -> None:
    """Print each of some mappings in full: for people one below the other, for programs as a list."""
    out = out or current()
    if not out.human:
        emit(rows, out=out)
        return
    for place, row in enumerate(rows):
        if place:
            (out.stream or sys.stdout).write("\n")
        emit(row, out=out)


def say(text: str = "") -> None:
    """Print lines for people: clean, and on a terminal broken between words where they are too long for it."""
    out = current()
    for line in text.splitlines() or [""]:
        indent = len(line) - len(line.lstrip()) + 4
        (out.stream or sys.stdout).write(wrapped(clean(line), out.width, indent) + "\n")


class ItemWriter:
    """Prints the items of a streaming verb as they come: JSON lines, CSV with one heading, or lines of text."""

    def __init__(self, columns: Sequence[Column | str] = (), *, out: Output | None = None) -> None:
        self._given = columns
        self._out = out or current()
        self._headed = False

    def write(self, item: Row) -> None:
        """Print one item at once."""
        out, columns = self._out, self._given
        stream = out.stream or sys.stdout
        rows: list[Row] = [item]
        if out.fields:
            rows, columns = _narrow(rows, columns, out.fields)
        if out.format in ("json", "jsonl"):
            stream.write(json.dumps(_told(rows[0]), default=str) + "\n")
        elif out.format == "csv":
            write_csv(stream, _columns(columns, rows), [_told(rows[0])], heading=not self._headed)
            self._headed = True
        else:
            stream.write("  ".join(column.cell(item.get(column.key)) for column in _columns(columns, rows)) + "\n")
        stream.flush()


def _told(value: Any, key: str = "") -> Any:
    """Give data as programs get it: Unix times of any depth become RFC 3339."""
    if isinstance(value, Mapping):
        return {name: _told(inner, name) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_told(inner, key) for inner in value]
    return rfc3339(value) if key in TIMES and isinstance(value, float) and value > EARLIEST else value


def _narrow(
    rows: list[Row], columns: Sequence[Column | str], fields: tuple[str, ...]
) -> tuple[list[Row], list[Column | str]]:
    """Cut rows and columns down to some fields; UsageError with the known ones for a field that no row has."""
    known = list(dict.fromkeys(key for row in rows for key in row))
    unknown = [field for field in fields if rows and field not in known]
    if unknown:
        raise UsageError(f"--fields {','.join(unknown)}: known are {', '.join(known)}")
    written = {column.key: column for column in columns if isinstance(column, Column)}
    return [{field: row.get(field) for field in fields} for row in rows], [written.get(f, f) for f in fields]


def _columns(columns: Sequence[Column | str], rows: Sequence[Row]) -> list[Column]:
    if not columns:
        columns = list(dict.fromkeys(key for row in rows for key in row))
    return [_column(column) if isinstance(column, str) else column for column in columns]


def _column(key: str) -> Column:
    return Column(key, format=_time) if key in TIMES else Column(key)


def _time(value: Any) -> str:
    return rfc3339(value) if isinstance(value, float) and value > EARLIEST else plain(value)
