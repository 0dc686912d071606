"""Log lines on standard error: JSON for machines, one readable line for people; levels change at run time."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TextIO

import structlog

from nattrav.config.log import LogSection
from nattrav.daemon.log_limit import Limit
from nattrav.daemon.log_masks import mask
from nattrav.metrics.samples import Samples
from nattrav.net import clock

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}

_AS_THEY_ARE = frozenset({"exception", "level", "role", "call_id"})
"""A call is found again by its Call-ID, which says what its phone chose to say."""

Event = MutableMapping[str, Any]


@dataclass
class Log:
    """One process's log. `set_level` is the verb `log.level`."""

    role: str
    settings: LogSection
    node: str = ""
    samples: Samples | None = None
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    now: Callable[[], float] = clock.monotonic

    def __post_init__(self) -> None:
        self._level = self._configured()
        self._journal = "JOURNAL_STREAM" in os.environ
        self._json = self._wants_json()
        self._limit = Limit()

    def take(self, settings: LogSection) -> None:
        """Follow other settings; a level that was set at run time holds until the configured one changes."""
        before, self.settings = self._configured(), settings
        if self._configured() != before:
            self._level = self._configured()
        self._json = self._wants_json()

    def _configured(self) -> int:
        own = {str(role): level for role, level in self.settings.levels.items()}
        return LEVELS[own.get(self.role, self.settings.level)]

    def _wants_json(self) -> bool:
        wanted = self.settings.format
        return wanted == "json" or (wanted == "auto" and (self._journal or not self.stream.isatty()))

    def logger(self) -> Any:
        """Make the structlog logger of this process."""
        structlog.configure(
            processors=[
                structlog.contextvars.merge_contextvars,
                self._leave_out,
                structlog.processors.format_exc_info,
                self._count,
                self._hide,
                self._render,
            ],
            wrapper_class=structlog.make_filtering_bound_logger(0),
            logger_factory=structlog.PrintLoggerFactory(self.stream),
            cache_logger_on_first_use=False,
        )
        return structlog.get_logger().bind(role=self.role)

    def set_level(self, level: str, logger: str | None = None) -> dict[str, str]:
        """Change the level now; an empty level only asks. ValueError for one that does not exist."""
        if level:
            if level not in LEVELS:
                raise ValueError(f"no level {level!r}: choose one of {', '.join(LEVELS)}")
            self._level = LEVELS[level]
        return {"role": self.role, "level": next(name for name, rank in LEVELS.items() if rank == self._level)}

    def settle(self) -> None:
        """Write how many lines were left out in the minutes that are over; call it now and then."""
        for one in self._limit.ended(self.now()):
            event: Event = {"role": self.role, "event": "repeats left out", "level": one.level}
            event.update(of=one.event, count=one.lines)
            for step in (self._count, self._hide):
                event = step(None, one.level, event)
            print(self._render(None, one.level, event), file=self.stream, flush=True)

    def _leave_out(self, _: Any, method: str, event: Event) -> Event:
        """Drop what is below the level, and repeats of one event beyond the limit."""
        level = "error" if method == "exception" else method
        if LEVELS.get(level, 0) < self._level:
            raise structlog.DropEvent
        event["level"] = level
        if level == "debug":
            return event
        self.settle()
        source = str(event.get("src") or event.get("reason") or "")
        if not self._limit.admit(str(event.get("event")), source, level, self.settings.repeats_per_minute, self.now()):
            raise structlog.DropEvent
        return event

    def _count(self, _: Any, __: str, event: Event) -> Event:
        if self.samples is not None:
            self.samples.inc("nattrav_log_records_total", event["level"])
        return event

    def _hide(self, _: Any, __: str, event: Event) -> Event:
        if self.settings.mask and event["level"] != "debug":
            for key, value in event.items():
                if key in _AS_THEY_ARE:
                    continue
                if isinstance(value, str):
                    event[key] = mask(value, key)
                elif isinstance(value, list | tuple):
                    event[key] = [mask(str(one), key) for one in value]
        return event

    def _render(self, _: Any, __: str, event: Event) -> str:
        level = event.pop("level")
        if not self._json:
            return _human(level, event)
        stamp = _stamp()
        head = {"time": stamp, "level": level} | ({"node": self.node} if self.node else {})
        head |= {key: event.pop(key) for key in ("role", "event") if key in event}
        line = str(structlog.processors.JSONRenderer(ensure_ascii=True, default=str)(None, "", head | dict(event)))
        return f"<{_PRIORITY[level]}>{line}" if self._journal else line


def _stamp() -> str:
    import datetime

    return datetime.datetime.fromtimestamp(clock.wall(), datetime.UTC).isoformat(timespec="milliseconds")


def _human(level: str, event: Mapping[str, Any]) -> str:
    fields = dict(event)
    trace = fields.pop("exception", None)
    text, role = fields.pop("event", ""), fields.pop("role", "")
    rest = " ".join(f"{key}={_quoted(value)}" for key, value in fields.items())
    line = f"{_stamp()[11:23]} {level:<7} {role:<10} {_printable(str(text))}" + (f"  {rest}" if rest else "")
    return line if trace is None else f"{line}\n{trace}"


def _quoted(value: Any) -> str:
    text = _printable(str(value))
    return f'"{text}"' if " " in text or not text else text


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
