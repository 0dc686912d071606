"""Unix datagram sockets: stale files replaced, live ones respected, permissions set before anyone can send."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path

AUTO_NAME = "relay-ng.sock"
BUFFER = 1 << 20


class PathTaken(OSError):
    """Another live process reads from this socket path."""


def auto_path(directory: Path) -> Path:
    """Where `unix:auto` is, for a run directory."""
    return directory / AUTO_NAME


def open_listener(path: Path, *, mode: int = 0o660, group: int | None = None) -> socket.socket:
    """Bind a non-blocking datagram socket at `path`. PathTaken when it is in use, OSError when it cannot be bound."""
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        if _answers(path):
            raise PathTaken(errno.EADDRINUSE, "another process reads from it", str(path))
        path.unlink(missing_ok=True)
    sock = _open()
    try:
        previous = os.umask(0o777 & ~mode)
        try:
            sock.bind(str(path))
        finally:
            os.umask(previous)
        if group is not None:
            os.chown(path, -1, group)
    except BaseException:
        sock.close()
        raise
    return sock


def open_client() -> socket.socket:
    """Open a non-blocking datagram socket with an abstract name of the kernel's choice, so that it can be answered."""
    sock = _open()
    try:
        sock.bind("")
    except BaseException:
        sock.close()
        raise
    return sock


def close_listener(sock: socket.socket, path: Path) -> None:
    """Close a listener and remove its file if it is still the listener's."""
    sock.close()
    with contextlib.suppress(OSError):
        path.unlink()


def _open() -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    return sock


def _answers(path: Path) -> bool:
    with _open() as probe:
        try:
            probe.connect(str(path))
        except OSError as error:
            return error.errno not in (errno.ECONNREFUSED, errno.ENOENT)
        return True
