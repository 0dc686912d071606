"""How many lines of one event are written a minute, so that an attack fills no disk; the rest are counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

MINUTE = 60.0
SOURCES = 10
"""Sources of one event that may each write their full share; then all of them together have had enough."""

EVENTS = 1024
"""Events told apart; events are words of ours, so there are far fewer."""


class LeftOut(NamedTuple):
    """Lines of one event that were not written during a minute."""

    event: str
    level: str
    lines: int


@dataclass
class _Minute:
    began: float
    level: str
    written: int = 0
    left_out: int = 0
    by_source: dict[str, int] = field(default_factory=dict)
    """Only sources of written lines, hence bounded."""


class Limit:
    """Lets `share` lines a minute of each event and source through, and ten times as many of an event altogether."""

    def __init__(self) -> None:
        self._minutes: dict[str, _Minute] = {}
        self._next_end = 0.0

    def admit(self, event: str, source: str, level: str, share: int, now: float) -> bool:
        """Tell whether to write the line; ask `ended` first, so that no minute is older than that."""
        if event not in self._minutes and len(self._minutes) >= EVENTS:
            event = ""
        minute = self._minutes.get(event)
        if minute is None:
            minute = self._minutes[event] = _Minute(now, level)
            self._next_end = min(self._next_end, now + MINUTE) if len(self._minutes) > 1 else now + MINUTE
        if minute.written >= share * SOURCES or minute.by_source.get(source, 0) >= share:
            minute.left_out += 1
            return False
        minute.written += 1
        minute.by_source[source] = minute.by_source.get(source, 0) + 1
        return True

    def ended(self, now: float) -> Iterator[LeftOut]:
        """Forget minutes that are over; give those in which lines were left out."""
        if not self._minutes or now < self._next_end:
            return
        for event, minute in list(self._minutes.items()):
            if now - minute.began >= MINUTE:
                del self._minutes[event]
                if minute.left_out:
                    yield LeftOut(event, minute.level, minute.left_out)
        self._next_end = min((minute.began + MINUTE for minute in self._minutes.values()), default=0.0)
