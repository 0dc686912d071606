"""One service as a child process: spawned without fork of our own, watched by its pid descriptor, ended for sure.

The child reads its orders as one JSON object from standard input and answers once on a pipe: `{"ready": [...]}`
or `{"refused": "..."}`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import trio

from nattrav.daemon.handover import close_all, collect
from nattrav.daemon.runtime import Listening, StartRefused

REPORT_LIMIT = 1 << 20


@dataclass(frozen=True)
class Orders:
    """What a child is told. `tables` are the merged configuration tables, checked by the supervisor."""

    role: str
    tables: dict[str, Any]
    runtime_directory: str
    state_directory: str
    module: str | None = None
    """Where to find `serve`, when not in nattrav/daemon/<role>.py."""

    def encode(self, **numbers: int | Sequence[int]) -> bytes:
        """Write the orders for one child, with its parent's id and the descriptors that are passed to it."""
        return json.dumps({**self.__dict__, **numbers}).encode()


class Child:
    """A running service. Spawn it from the main thread: the kernel ties its life to the thread that did."""

    def __init__(self, orders: Orders, sockets: Sequence[int] = ()) -> None:
        """`sockets` are passed to the child, and closed here."""
        self.role = orders.role
        read, write = os.pipe()
        self._heir, heir = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command: Sequence[str] = (sys.executable, "-m", "nattrav.daemon", orders.role)
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=sys.stderr.fileno(),
                pass_fds=(write, heir.fileno(), *sockets),
                close_fds=True,
            )
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
            number = heir.fileno()
            heir.close()
            close_all(sockets)
        self._report = trio.lowlevel.FdStream(read)
        self._pidfd = os.pidfd_open(self._process.pid)
        stdin = self._process.stdin
        assert stdin is not None
        self._orders = trio.lowlevel.FdStream(os.dup(stdin.fileno()))
        stdin.close()
        self._text = orders.encode(parent=os.getpid(), report=write, heir=number, sockets=sockets)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    async def started(self) -> list[Listening]:
        """Wait until the service serves; StartRefused when it cannot, or ended on the way."""
        async with self._orders:
            with contextlib.suppress(trio.BrokenResourceError):
                await self._orders.send_all(self._text)
        text = bytearray()
        async with self._report:
            while len(text) < REPORT_LIMIT and (more := await self._report.receive_some(65_536)):
                text += more
        if not text:
            with trio.move_on_after(1):
                await self.ended()
            raise StartRefused(
                f"the {self.role} ended while it started ({self.outcome()}); its own messages above say why"
            )
        report = json.loads(text)
        if "refused" in report:
            raise StartRefused(report["refused"])
        return [Listening(**one) for one in report["ready"]]

    async def ended(self) -> int:
        """Wait for the process's end and give its exit code (negative: the signal that ended it)."""
        if self._process.returncode is None:
            # A descriptor of one's own, for several tasks may wait.
            waiting = os.dup(self._pidfd)
            try:
                await trio.lowlevel.wait_readable(waiting)
            finally:
                trio.lowlevel.notify_closing(waiting)
                os.close(waiting)
            self._process.wait()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        return self._process.returncode

    def left(self) -> list[int]:
        """Take the sockets that the process left when it ended; whoever takes them closes them."""
        found = collect(self._heir)
        self._heir.close()
        return found

    def outcome(self) -> str:
        """Say in words how the process ended."""
        code = self._process.returncode
        if code is None:
            return "still running"
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the process has ended."""
        if self._process.returncode is None:
            self._process.send_signal(number)

    async def end(self, within: float) -> None:
        """Ask the process to end, and kill it when it has not after `within` seconds."""
        self.send_signal(signal.SIGTERM)
        with trio.move_on_after(within):
            await self.ended()
            return
        self.send_signal(signal.SIGKILL)
        await self.ended()
