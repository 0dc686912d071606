"""The [log] table."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from nattrav.config.types import Section

Level = Literal["debug", "info", "warning", "error"]


class LogSection(Section):
    """What is logged, and how it is written."""

    restart: ClassVar = frozenset()

    level: Level = "info"
    """Least severe level that is written."""
    levels: dict[Literal["supervisor", "stun", "relay", "proxy"], Level] = {}
    """Levels of single services, such as `proxy = "debug"`."""
    format: Literal["auto", "human", "json"] = "auto"
    """`human` lines or `json` lines; `auto` is human on a terminal."""
    mask: bool = True
    """Mask the digits of subscribers' numbers and credentials in every line above debug."""
    repeats_per_minute: int = Field(default=10, ge=1)
    """Lines of one event and source written per minute; further ones are counted and reported once."""
