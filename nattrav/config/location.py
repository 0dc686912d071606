"""The [location] table: where bindings are kept."""

from __future__ import annotations

from typing import Literal

from nattrav.config.types import Duration, Section


class LocationSection(Section):
    """The [location] table."""

    backend: Literal["memory", "sqlite", "valkey"] = "sqlite"
    """memory: lost on restart. sqlite: a file in the state directory. valkey: shared by several nodes."""
    file: str | None = None
    """SQLite file; default: bindings.sqlite in the state directory."""
    url: str = "valkey://127.0.0.1:6379/0"
    """Store of several nodes."""
    write_interval: Duration = 1.0
    """Changed bindings are written together this often."""
