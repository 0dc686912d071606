"""Sockets that outlive a process: what a service leaves bound for its successor, and what the successor finds.

A service that ends sends its sockets to its supervisor, which hands them to the service's next process, or, when it
ends itself, to the service manager's store. So a port is never closed in between, and what arrives meanwhile waits.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from nattrav.net.address import TransportAddress
from nattrav.net.bpf.found import is_bpf

BATCH = 253
"""Descriptors per message: the kernel's limit."""

Leave = Callable[[Iterable[socket.socket]], None]
"""Hands sockets on before the process closes its own copies."""

Keep = Callable[[Sequence[int]], None]
"""Hands descriptors on at once, so that they outlive this process however it ends."""

LISTEN_START = 3
"""First descriptor that a service manager passes."""


def leave_nothing(sockets: Iterable[socket.socket]) -> None:
    """Let sockets go with their process."""


class Inherited:
    """Sockets that were bound before this process began; each is given out once."""

    def __init__(self, descriptors: Iterable[int] = ()) -> None:
        self._waiting: dict[tuple[int, str, int], list[socket.socket]] = {}
        self._bpf: list[int] = []
        for descriptor in descriptors:
            if is_bpf(descriptor):
                os.set_inheritable(descriptor, False)
                self._bpf.append(descriptor)
                continue
            sock = _adopted(descriptor)
            if sock is not None:
                host, port = sock.getsockname()[:2]
                self._waiting.setdefault((sock.type, host, port), []).append(sock)

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def take(self, kind: int, local: TransportAddress) -> socket.socket | None:
        """Give the socket that is bound to `local`."""
        waiting = self._waiting.get((kind, local.host, local.port))
        return waiting.pop(0) if waiting else None

    def take_bpf(self) -> tuple[int, ...]:
        """Give the maps, programs and attachments of the kernel's that came along; they are the caller's to close."""
        found, self._bpf = tuple(self._bpf), []
        return found

    def close(self) -> int:
        """Close those that nobody wanted; how many there were."""
        close_all(self.take_bpf())
        left = [sock for waiting in self._waiting.values() for sock in waiting]
        self._waiting.clear()
        for sock in left:
            sock.close()
        return len(left)


def _adopted(descriptor: int) -> socket.socket | None:
    """Make a socket object of a descriptor; None, and it is closed, when it is no IP socket."""
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError:
        with contextlib.suppress(OSError):
            os.close(descriptor)
        return None
    sock.set_inheritable(False)
    sock.setblocking(False)
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        sock.close()
        return None
    return sock


def leave_to(heir: socket.socket) -> Leave:
    """Make the function that sends sockets to whoever holds the other end of `heir`, a SOCK_SEQPACKET pair."""

    def leave(sockets: Iterable[socket.socket]) -> None:
        descriptors = [sock.fileno() for sock in sockets if sock.fileno() >= 0]
        with contextlib.suppress(OSError):
            for first in range(0, len(descriptors), BATCH):
                socket.send_fds(heir, [b"s"], descriptors[first : first + BATCH])

    return leave


def keep_with(heir: socket.socket) -> Keep:
    """Make the function that gives descriptors to whoever holds the other end of `heir`: in there they wait."""

    def keep(descriptors: Sequence[int]) -> None:
        with contextlib.suppress(OSError):
            socket.send_fds(heir, [b"k"], descriptors)

    return keep


@contextlib.contextmanager
def left_bound(leave: Leave, descriptors: Iterable[int]) -> Iterator[None]:
    """Keep sockets bound while the block lasts, whoever closes them, and then leave them to the next process."""
    copies = [socket.socket(fileno=os.dup(descriptor)) for descriptor in descriptors]
    try:
        yield
    finally:
        leave(copies)
        for copy in copies:
            copy.close()


def collect(heir: socket.socket) -> list[int]:
    """Take what the process at the other end left; it has ended, so nothing more will come."""
    heir.setblocking(False)
    found: list[int] = []
    with contextlib.suppress(OSError):
        while True:
            octets, descriptors, _, _ = socket.recv_fds(heir, 1, BATCH, socket.MSG_CMSG_CLOEXEC)
            found.extend(descriptors)
            if not octets:
                break
    return found


def close_all(descriptors: Sequence[int]) -> None:
    """Close descriptors."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def passed(environ: Mapping[str, str] = os.environ, start: int = LISTEN_START) -> list[tuple[str, int]]:
    """List (name, descriptor) of what the service manager passed to this process (sd_listen_fds)."""
    if environ.get("LISTEN_PID") != str(os.getpid()) or not environ.get("LISTEN_FDS", "").isdigit():
        return []
    count = int(environ["LISTEN_FDS"])
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    names += [""] * (count - len(names))
    descriptors = range(start, start + count)
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.set_inheritable(descriptor, False)
    return list(zip(names, descriptors, strict=False))
