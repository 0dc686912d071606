"""What is wrong with a configuration, in the words of the one who must repair it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One error: the key, its value as written, why it cannot be, what to write instead, and where it stands."""

    key: str
    value: str
    reason: str
    remedy: str
    source: str = ""

    def __str__(self) -> str:
        where = f"{self.source}: " if self.source and self.source != self.key else ""
        value = f" = {self.value}" if self.value else ""
        return f"{where}{self.key}{value}: {self.reason}; {self.remedy}"
