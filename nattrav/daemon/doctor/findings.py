"""What an examination says: name, verdict, what was found, and what to do about it."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Verdict(enum.Enum):
    """How bad it is."""

    OK = "ok"
    UNKNOWN = "unknown"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One examined thing; `remedy` is empty when all is well."""

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


def ok(name: str, found: str) -> Finding:
    """All is well."""
    return Finding(name, Verdict.OK, found)


def unknown(name: str, found: str) -> Finding:
    """Could not be told here."""
    return Finding(name, Verdict.UNKNOWN, found)


def warn(name: str, found: str, remedy: str) -> Finding:
    """Works, but not as well as it could, or not for everybody."""
    return Finding(name, Verdict.WARN, found, remedy)


def fail(name: str, found: str, remedy: str) -> Finding:
    """Will not work."""
    return Finding(name, Verdict.FAIL, found, remedy)
