"""Routes, as programs in the kernel may ask for them: as for what this host sends itself."""

from __future__ import annotations

from pathlib import Path

ROUTE_FROM = 1
"""The interface that questions name: loopback, which makes this host no router for anybody else."""


class CannotAskRoutes(Exception):
    """The kernel answers no questions about routes; the text says what to change."""


def allow_questions(six: bool) -> None:
    """Let programs ask for routes from loopback, of IPv6 too if `six`. CannotAskRoutes, with the remedy."""
    for family in ("ipv4", "ipv6") if six else ("ipv4",):
        switch = Path(f"/proc/sys/net/{family}/conf/lo/forwarding")
        try:
            if switch.read_text().strip() == "0":
                switch.write_text("1")
        except OSError:
            raise CannotAskRoutes(
                f"the kernel's routes cannot be asked: sysctl net.{family}.conf.lo.forwarding=1 "
                "(deploy/sysctl.d has it)"
            ) from None


def sysctl_number(name: str, default: int) -> int:
    """Read a number below /proc/sys."""
    try:
        return int(Path("/proc/sys", name).read_text())
    except (OSError, ValueError):
        return default
