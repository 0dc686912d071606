"""Call records: one JSON object a line, appended to a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from nattrav.proxy.core import Proxy
from nattrav.proxy.effects import Record

_as_json = json.JSONEncoder(separators=(",", ":")).encode


class CallRecords:
    """Appends call records to a file, one JSON object a line, written together once a second."""

    def __init__(self, path: Path, complain: Callable[[str], None]) -> None:
        self.path = path
        self._complain = complain
        self._kept: list[dict[str, Any]] = []

    def add(self, fields: dict[str, Any]) -> None:
        """Keep one for the next write."""
        self._kept.append(fields)

    def flush(self) -> None:
        """Write what was kept."""
        if not self._kept:
            return
        kept, self._kept = self._kept, []
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(f"{_as_json(fields)}\n" for fields in kept)
        except OSError as error:
            self._complain(f"{self.path}: {error.strerror}")

    async def run(self, last: Callable[[], None]) -> None:
        """Write once a second until cancelled, then what `last` adds and what is left."""
        try:
            while True:
                await trio.sleep(1.0)
                self.flush()
        finally:
            last()
            self.flush()


def write_last(core: Proxy, records: CallRecords) -> None:
    """Take the records of calls that ended while the relay still had to answer."""
    for effect in core.end():
        if isinstance(effect, Record):
            records.add(effect.fields)
