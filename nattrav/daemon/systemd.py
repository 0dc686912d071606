"""The service manager's protocol (sd_notify): readiness, status text, watchdog, and the store of descriptors."""

from __future__ import annotations

import array
import contextlib
import os
import socket
from collections.abc import Callable, Mapping, Sequence

import trio

from nattrav.daemon.handover import BATCH

SETTLES_WITHIN = 2.0


class Notifier:
    """Tells the service manager how we fare; silent when there is none."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        own = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog = int(environ.get("WATCHDOG_USEC", "0")) / 1e6 if own else 0.0
        """Seconds within which the manager wants to hear from us; 0 without a watchdog."""

    @property
    def active(self) -> bool:
        """A manager listens."""
        return bool(self._address)

    def tell(self, **state: str) -> bool:
        """Send states such as READY="1"; False when there is no manager or it does not listen."""
        return self._send("\n".join(f"{name}={value}" for name, value in state.items()))

    def store(self, name: str, descriptors: Sequence[int]) -> None:
        """Give descriptors to the manager, which passes them to the next start of this unit, but not after a stop."""
        for first in range(0, len(descriptors), BATCH):
            # Without polling: a socket with a pending error must not be thrown out.
            self._send(f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0", descriptors[first : first + BATCH])

    def forget(self, name: str) -> None:
        """Have the manager close what it stored under a name."""
        self.tell(FDSTOREREMOVE="1", FDNAME=name)

    async def settled(self) -> None:
        """Wait until the manager has read everything that was told, a few seconds at the most."""
        if not self._address:
            return
        read, write = os.pipe()
        try:
            sent = self._send("BARRIER=1", [write])
        finally:
            os.close(write)
        try:
            with trio.move_on_after(SETTLES_WITHIN):
                if sent:
                    await trio.lowlevel.wait_readable(read)
        finally:
            os.close(read)

    def _send(self, text: str, descriptors: Sequence[int] = ()) -> bool:
        if not self._address:
            return False
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendmsg([text.encode()], rights, 0, address)
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
