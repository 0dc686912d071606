"""As much of a service manager as a bundle can see: a notify socket, and a store of descriptors."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

# Passed descriptors begin at 3, and LISTEN_PID must be that of the program itself.
_EXEC = (
    "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


class ServiceManager:
    """Starts, stops and restarts one unit."""

    def __init__(self, place: Path, command: list[str]) -> None:
        self.place = place
        self._command = command
        self._log = place / "log"
        self._address = str(place / "notify")
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(self._address)
        self.store: list[tuple[str, int]] = []
        self.told: list[str] = []
        self.ready = threading.Event()
        self.emptied = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                text, descriptors, _, _ = socket.recv_fds(self._notify, 4096, 253)
                self._heed(dict(line.split("=", 1) for line in text.decode().splitlines()), descriptors)

    def _heed(self, state: dict[str, str], descriptors: list[int]) -> None:
        self.told += state
        if "FDSTORE" in state:
            self.store += [(state["FDNAME"], descriptor) for descriptor in descriptors]
        elif "FDSTOREREMOVE" in state:
            for entry in [entry for entry in self.store if entry[0] == state["FDNAME"]]:
                self.store.remove(entry)
                os.close(entry[1])
            if not self.store:
                self.emptied.set()
        elif "BARRIER" in state:
            os.close(descriptors[0])
        elif "READY" in state:
            self.ready.set()

    def start(self, activated: list[tuple[str, socket.socket]] | None = None) -> None:
        """Start the unit, with sockets of its own and what is in the store, and wait until it is ready."""
        self.ready.clear()
        self.emptied.clear()
        given = [(name, sock.fileno()) for name, sock in activated or []] + self.store
        environment = os.environ | {
            "NOTIFY_SOCKET": self._address,
            "LISTEN_FDS": str(len(given)),
            "LISTEN_FDNAMES": ":".join(name for name, _ in given),
        }
        places = [os.dup2(descriptor, 200 + at) for at, (_, descriptor) in enumerate(given)]

        def arrange() -> None:
            for at, descriptor in enumerate(places):
                os.dup2(descriptor, 3 + at)

        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _EXEC, *self._command],
                env=environment,
                stdout=log,
                stderr=log,
                close_fds=False,
                preexec_fn=arrange,
            )
        for descriptor in places:
            os.close(descriptor)
        assert self.ready.wait(30), self._log.read_text()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the unit's main process."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill the unit's main process; the store is kept."""
        self.signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def stop(self) -> None:
        """End the unit, as the first half of a restart does: the store is kept."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            assert self._process.wait(10) == 0, self._log.read_text()
            self._process = None

    def close(self) -> None:
        """Stop, and forget everything."""
        self.stop()
        for _, descriptor in self.store:
            os.close(descriptor)
        self.store.clear()
        self._notify.close()
