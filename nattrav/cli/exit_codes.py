"""What the command's exit status says."""

from __future__ import annotations

OK = 0
FAILED = 1
USAGE = 2
UNREACHABLE = 3
NOT_FOUND = 4
REFUSED = 5
TIMEOUT = 6
DEGRADED = 7
INTERRUPTED = 130
