"""Prints results: tables for people, JSON and CSV for programs; nothing off the wire reaches the terminal unclean.

`-o/--output table|json|jsonl|csv`, `--json`, `--fields a,b`, `-w/--watch SECONDS`, `--runtime-dir DIR`, `--url URL`
and `--token-file FILE` may stand anywhere on the line:
`take` cuts them out before typer sees the rest, so a verb just calls `emit(data, columns)`. A verb must not define
options of these names itself.
"""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

FORMATS = ("table", "json", "jsonl", "csv")
SCHEMA = 1
SHORTEST_WATCH, LONGEST_WATCH = 0.2, 86_400.0
_WITH_VALUE = ("-o", "--output", "--fields", "-w", "--watch", "--runtime-dir", "--url", "--token-file")

Format = Callable[[Any], str]


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
        return stream.isatty() and "NO_COLOR" not in os.environ


@dataclass(frozen=True)
class Column:
    """One column of a table: the key in the data, its heading, how to write a value, right-aligned or not."""

    key: str
    title: str | None = None
    format: Format | None = None
    right: bool = False


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
        return replace(output, fields=tuple(value.split(",")))
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


def clean(text: str) -> str:
    """Replace control and format characters (terminal escapes, C1, bidi overrides) by visible `\\xNN`/`\\uNNNN`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def emit(
    data: Mapping[str, Any] | Iterable[Mapping[str, Any]],
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
    rows: list[Mapping[str, Any]] = [data] if isinstance(data, Mapping) else list(data)
    if out.fields:
        unknown = [field for field in out.fields if rows and field not in rows[0]]
        if unknown:
            raise UsageError(f"--fields {','.join(unknown)}: known are {', '.join(rows[0])}")
        rows = [{field: row.get(field) for field in out.fields} for row in rows]
        columns = out.fields
    if out.format == "json":
        body = {"schema": SCHEMA, **rows[0]} if single else {"schema": SCHEMA, "items": rows}
        stream.write(json.dumps(body, indent=2, default=str) + "\n")
    elif out.format == "jsonl":
        stream.writelines(json.dumps(row, default=str) + "\n" for row in rows)
    else:
        shown = _columns(columns, rows)
        cells = [[_cell(column, row.get(column.key)) for column in shown] for row in rows]
        titles = [column.title or column.key.replace("_", " ") for column in shown]
        if out.format == "csv":
            _write_csv(stream, [column.key for column in shown], [[_plain(r.get(c.key)) for c in shown] for r in rows])
        elif single:
            _write_pairs(stream, titles, cells[0])
        elif not rows:
            print(empty, file=sys.stderr)
        else:
            _write_table(stream, out, shown, titles, cells)


def emit_item(item: Mapping[str, Any], columns: Sequence[Column | str] = (), *, out: Output | None = None) -> None:
    """Print one item of a streaming verb at once: a JSON line, or one line of text."""
    out = out or current()
    stream = out.stream or sys.stdout
    if out.format in ("json", "jsonl"):
        stream.write(json.dumps(dict(item), default=str) + "\n")
    else:
        shown = _columns(columns, [item])
        stream.write("  ".join(_cell(column, item.get(column.key)) for column in shown) + "\n")
    stream.flush()


def _columns(columns: Sequence[Column | str], rows: list[Mapping[str, Any]]) -> list[Column]:
    if not columns:
        columns = list(dict.fromkeys(key for row in rows for key in row))
    return [Column(column) if isinstance(column, str) else column for column in columns]


def _cell(column: Column, value: Any) -> str:
    return clean(column.format(value) if column.format is not None and value is not None else _plain(value))


def _plain(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.3f}".rstrip("0").rstrip(".")
        case str():
            return value
        case Mapping():
            return ", ".join(f"{key}={_plain(inner)}" for key, inner in value.items())
        case list() | tuple():
            return ", ".join(_plain(inner) for inner in value)
        case _:
            return str(value)


def _write_csv(stream: TextIO, titles: list[str], rows: list[list[str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(titles)
    # A spreadsheet runs a cell that begins like a formula; callers choose their own names.
    writer.writerows([[f"'{clean(c)}" if c[:1] in ("=", "+", "@") else clean(c) for c in row] for row in rows])
    stream.write(text.getvalue())


def _write_pairs(stream: TextIO, titles: list[str], cells: list[str]) -> None:
    width = max((len(title) for title in titles), default=0)
    stream.writelines(f"{title:<{width}}  {cell}".rstrip() + "\n" for title, cell in zip(titles, cells, strict=True))


def _write_table(stream: TextIO, out: Output, columns: list[Column], titles: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(title), *(len(row[at]) for row in rows)) for at, title in enumerate(titles)]
    right = [column.right or _numeric(row[at] for row in rows) for at, column in enumerate(columns)]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(cells, widths, right, strict=True)
        ]
        return "  ".join(padded).rstrip()

    heading = line(titles)
    stream.write((f"\x1b[1m{heading}\x1b[0m" if out.colours else heading) + "\n")
    stream.writelines(line(row) + "\n" for row in rows)


def _numeric(cells: Iterable[str]) -> bool:
    filled = [cell for cell in cells if cell]
    return bool(filled) and all(cell.replace(".", "", 1).replace("-", "", 1).isdigit() for cell in filled)
