"""Sockets are file descriptors: how many ports the process may really open."""

from __future__ import annotations

import contextlib
import resource
from dataclasses import dataclass
from pathlib import Path

RESERVE = 256
"""Descriptors for everything but media ports."""

USEFUL_SHARE = 0.25
"""With fewer descriptors than this share of the ports a relay would promise what it cannot keep."""


@dataclass(frozen=True, slots=True)
class DescriptorBudget:
    """`needed` for every port at once, `allowed` for ports after raising the limit as far as possible."""

    needed: int
    allowed: int

    @property
    def enough(self) -> bool:
        """Every port can be open at the same time."""
        return self.allowed >= self.needed

    @property
    def spare(self) -> int:
        """How many are left when every port is open."""
        return max(0, self.allowed - self.needed)

    @property
    def useless(self) -> bool:
        """So few that starting would only hide the mistake."""
        return self.allowed < self.needed * USEFUL_SHARE


def most_open_files() -> int:
    """The most open files that the kernel lets any process have; 0 when it does not say."""
    try:
        return int(Path("/proc/sys/fs/nr_open").read_text())
    except (OSError, ValueError):
        return 0


def claim_descriptors(ports: int) -> DescriptorBudget:
    """Raise the soft limit, and as root the hard one, to hold `ports` sockets and half as many twins of them."""
    wanted = ports + ports // 2 + RESERVE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        # All that is wanted, or at least as much as any process may have.
        for more in (wanted, most_open_files()):
            if more <= hard:
                continue
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (more, more))
                hard = more
                break
    if soft < wanted and soft != resource.RLIM_INFINITY:
        target = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(target, soft), hard))
    granted = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    allowed = 2 * ports if granted == resource.RLIM_INFINITY else max(0, granted - RESERVE)
    return DescriptorBudget(ports, allowed)
