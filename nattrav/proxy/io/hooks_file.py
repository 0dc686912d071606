"""Loads the operator's hooks and limits the time they may take."""

from __future__ import annotations

import importlib.util
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

SECONDS = 0.05
"""Processor time one call of a hook may take."""


class HooksUnusable(Exception):
    """The file cannot be read or executed; the message says why."""


def load(path: Path) -> dict[str, Callable[[Any], Any]]:
    """Execute the file and give its functions by name."""
    try:
        spec = importlib.util.spec_from_file_location("nattrav_hooks", path)
        if spec is None or spec.loader is None:
            raise HooksUnusable(f"{path} is no Python file")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except HooksUnusable:
        raise
    except Exception as error:
        raise HooksUnusable(f"{path}: {type(error).__name__}: {error}") from error
    return {name: value for name, value in vars(module).items() if callable(value)}


class ProcessorTime:
    """A budget of processor time, enforced by the kernel's virtual timer. Works in the main thread only."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        signal.signal(signal.SIGVTALRM, _too_long)

    def run(self, function: Callable[[Any], Any], argument: Any) -> Any:
        """Call the function; TimeoutError when it uses up its budget."""
        signal.setitimer(signal.ITIMER_VIRTUAL, self._seconds)
        try:
            return function(argument)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _too_long(number: int, frame: FrameType | None) -> None:
    raise TimeoutError
