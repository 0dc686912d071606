"""Text of tables, pairs and CSV; nothing off the wire passes unclean."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

NARROWEST = 8
"""Columns of text are not cut below this; a table that is wider even so wraps."""


def clean(text: str) -> str:
    """Replace control and format characters (terminal escapes, C1, bidi overrides) by visible `\\xNN`/`\\uNNNN`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def rfc3339(seconds: float) -> str:
    """Write a Unix time in UTC with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Column:
    """One column of a table: the key in the data, its heading, how to write a value, right-aligned or not.

    `wide` columns are left out of plain tables; `-o wide`, CSV and `--fields` have them.
    """

    key: str
    title: str | None = None
    format: Callable[[Any], str] | None = None
    right: bool = False
    wide: bool = False

    @property
    def heading(self) -> str:
        """What stands above it."""
        return self.title or self.key.replace("_", " ")

    def cell(self, value: Any) -> str:
        """Write one value for people."""
        return clean(self.format(value) if self.format is not None and value is not None else plain(value))


def plain(value: Any) -> str:
    """Write a value without knowing what it means."""
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
            return ", ".join(f"{key}={plain(inner)}" for key, inner in value.items())
        case list() | tuple():
            return ", ".join(plain(inner) for inner in value)
        case _:
            return str(value)


def write_csv(
    stream: TextIO, columns: Sequence[Column], rows: Iterable[Mapping[str, Any]], *, heading: bool = True
) -> None:
    """Write rows under a heading of keys."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if heading:
        writer.writerow([column.key for column in columns])
    writer.writerows([_harmless(plain(row.get(column.key))) for column in columns] for row in rows)
    stream.write(text.getvalue())


def _harmless(cell: str) -> str:
    # A spreadsheet runs a cell that begins like a formula; callers choose their own names.
    return f"'{clean(cell)}" if cell[:1] in ("=", "+", "@") else clean(cell)


def write_pairs(stream: TextIO, columns: Sequence[Column], row: Mapping[str, Any], *, width: int | None) -> None:
    """Write one mapping as lines of name and value, long values on several lines below each other."""
    names = max((len(column.heading) for column in columns), default=0)
    for one in columns:
        line = f"{one.heading:<{names}}  {one.cell(row.get(one.key))}".rstrip()
        stream.write(wrapped(line, width, names + 2) + "\n")


def wrapped(line: str, width: int | None, indent: int) -> str:
    """Break a line that is longer than `width` between words, what follows below `indent` spaces."""
    if width is None or len(line) <= width:
        return line
    deep = " " * min(indent, width // 2)
    return textwrap.fill(
        line, width, subsequent_indent=deep, break_on_hyphens=False, drop_whitespace=True, replace_whitespace=False
    )


def write_table(
    stream: TextIO, columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], *, width: int | None, colours: bool
) -> None:
    """Write rows below headings; text columns are cut so that the table fits `width`."""
    cells = [[column.cell(row.get(column.key)) for column in columns] for row in rows]
    right = [column.right or _numeric(row[at] for row in cells) for at, column in enumerate(columns)]
    widths = [max(len(column.heading), *(len(row[at]) for row in cells)) for at, column in enumerate(columns)]
    if width is not None:
        _fit(widths, right, width)

    def line(texts: Sequence[str]) -> str:
        padded = [
            _cut(text, size).rjust(size) if to_right else _cut(text, size).ljust(size)
            for text, size, to_right in zip(texts, widths, right, strict=True)
        ]
        return "  ".join(padded).rstrip()

    heading = line([column.heading for column in columns])
    stream.write((f"\x1b[1m{heading}\x1b[0m" if colours else heading) + "\n")
    stream.writelines(line(row) + "\n" for row in cells)


def _fit(widths: list[int], right: Sequence[bool], width: int) -> None:
    """Take columns of text down, the widest first, until all fit; the first, which names the row, comes last."""
    excess = sum(widths) + 2 * (len(widths) - 1) - width
    while excess > 0:
        texts = [at for at in range(len(widths)) if not right[at] and widths[at] > NARROWEST]
        if not texts:
            return
        texts = texts[1:] if texts[0] == 0 and len(texts) > 1 else texts
        widest = max(texts, key=widths.__getitem__)
        second = max((widths[at] for at in texts if at != widest), default=NARROWEST)
        step = min(excess, max(1, widths[widest] - max(second, NARROWEST)))
        widths[widest] -= step
        excess -= step


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _numeric(cells: Iterable[str]) -> bool:
    filled = [cell for cell in cells if cell]
    return bool(filled) and all(cell.replace(".", "", 1).replace("-", "", 1).isdigit() for cell in filled)
