"""The [location] table: where bindings are kept."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nattrav.config.types import Section


class LocationSection(Section):
    """The [location] table."""

    backend: Literal["memory", "sqlite"] = "sqlite"
    """memory: lost on restart. sqlite: a file in the state directory, written at most 50 ms after each answer.
    With sqlite, calls that last longer than five seconds outlive a restart as well, in calls.sqlite."""
    file: str | None = Field(default=None, min_length=1)
    """SQLite file; default: bindings.sqlite in the state directory."""
