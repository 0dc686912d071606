"""When no new session is accepted. Running sessions are never refused anything by a limit."""

from __future__ import annotations

from collections.abc import Iterable

from relay.policy import LimitSettings
from relay.ports import PortPool

SESSIONS = "Parallel session limit reached"
LOAD = "Load limit exceeded"
BANDWIDTH = "Bandwidth limit exceeded"


class Limits:
    """Knows the load and says no in ng's words. Clients that cannot read them are all told `SESSIONS`."""

    def __init__(self, settings: LimitSettings) -> None:
        self.settings = settings
        self.draining = False
        self.packet_rate = 0.0
        self.byte_rate = 0.0

    def note_load(self, packet_rate: float, byte_rate: float) -> None:
        """Take the present rates of received packets and bytes per second."""
        self.packet_rate = packet_rate
        self.byte_rate = byte_rate

    def refusal(self, sessions: int, pools: Iterable[PortPool]) -> str | None:
        """Why a new session is refused now, or None."""
        settings = self.settings
        if self.draining or (settings.sessions and sessions >= settings.sessions):
            return SESSIONS
        used = 0
        for pool in pools:
            used += pool.used
            if settings.ports and pool.pressure >= settings.ports:
                return SESSIONS
        if settings.sockets and used >= settings.sockets * (settings.ports or 1.0):
            return SESSIONS
        if settings.packets and self.packet_rate >= settings.packets:
            return LOAD
        if settings.bytes and self.byte_rate >= settings.bytes:
            return BANDWIDTH
        return None
