"""The service manager's protocol (sd_notify): readiness, status text, watchdog."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Mapping

import trio


class Notifier:
    """Tells the service manager how we fare; silent when there is none."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        own = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog = int(environ.get("WATCHDOG_USEC", "0")) / 1e6 if own else 0.0
        """Seconds within which the manager wants to hear from us; 0 without a watchdog."""

    def tell(self, **state: str) -> bool:
        """Send states such as READY="1"; False when there is no manager or it does not listen."""
        if not self._address:
            return False
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        text = "\n".join(f"{name}={value}" for name, value in state.items())
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(text.encode(), address)
            return True
        return False

    async def keep(self, status: Callable[[], str]) -> None:
        """Pet the watchdog and keep the status text current, until cancelled: as long as the caller's loop turns."""
        interval = self.watchdog / 3 if self.watchdog else 10.0
        while self._address:
            if self.watchdog:
                self.tell(WATCHDOG="1", STATUS=status())
            else:
                self.tell(STATUS=status())
            await trio.sleep(interval)
