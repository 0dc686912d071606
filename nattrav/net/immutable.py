"""Immutable values that are made thousands of times a second."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def immutable(cls: type[T]) -> type[T]:
    """Make a class a slotted dataclass that compares and hashes by its fields and that nobody may change.

    The type checker alone guards the last: `frozen=True` would guard it at run time as well and make such an object
    three times as costly to create (3.1 µs against 1.0 µs with 25 fields).
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)
