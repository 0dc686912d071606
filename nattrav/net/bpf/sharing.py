"""What services of one host share of the kernel's XDP: each gives the others its descriptors, for the asking.

An attachment lives as long as somebody holds a descriptor of it, so it outlives whoever made it while another service
uses it, and is gone with the last one, however that ends. Nothing is left behind in a file system.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nattrav.net.bpf.found import Found

SUFFIX = ".xdp"
_LOCK = "xdp.lock"
_PATIENCE = 2.0
_MANY = 128
_CREDENTIALS = struct.Struct("=3i")


@dataclass(frozen=True)
class Company:
    """Who else may run programs on our interfaces, and what a process before this one left.

    `directory` is where services find each other (None: nobody else is there), `role` our name in it. `keep` takes
    descriptors that shall outlive this process however it ends, for the next one of this service to find in
    `inherited`.
    """

    role: str = ""
    directory: Path | None = None
    inherited: tuple[int, ...] = ()
    keep: Callable[[Sequence[int]], None] | None = None

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only one who attaches meanwhile."""
        if self.directory is None:
            yield
            return
        handle = os.open(self.directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def others(self) -> list[Found]:
        """What each of the other services has now."""
        if self.directory is None:
            return []
        paths = sorted(path for path in self.directory.glob(f"*{SUFFIX}") if path.stem != self.role)
        return [Found.among(_ask(path)) for path in paths]

    def share(self, descriptors: Sequence[int]) -> Sharer | None:
        """Give these to whoever asks, until closed."""
        if self.directory is None:
            return None
        return Sharer(self.directory / f"{self.role}{SUFFIX}", descriptors)


class Sharer:
    """Gives descriptors to processes of the same user that connect to a path."""

    def __init__(self, path: Path, descriptors: Sequence[int]) -> None:
        self._path = path
        self._descriptors = list(descriptors)
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.bind(str(path))
        path.chmod(0o600)
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve, name="xdp-share", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            with peer, contextlib.suppress(OSError):
                credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
                if _CREDENTIALS.unpack(credentials)[1] in (0, os.geteuid()):
                    socket.send_fds(peer, [b"x"], self._descriptors)

    def close(self) -> None:
        """Give nothing more."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        self._path.unlink(missing_ok=True)


def _ask(path: Path) -> list[int]:
    """Take what a service shares; nothing when it is not there any more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.settimeout(_PATIENCE)
        try:
            sock.connect(str(path))
            _, descriptors, _, _ = socket.recv_fds(sock, 1, _MANY, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            return []
    return list(descriptors)
