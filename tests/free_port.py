"""A port that no program has just now, for tests that start one which must be told its port."""

from __future__ import annotations

import socket


def free_port(kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    """Give a port that is free on 127.0.0.1: UDP's unless `kind` says otherwise."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
