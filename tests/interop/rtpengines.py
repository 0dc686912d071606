"""Debian's rtpengine on loopback, in user space, for tests that compare or connect to it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nattrav.control.ng.client import plain
from nattrav.control.ng.codec_bencode import Encodable, decode, encode

ADVERTISED = "203.0.113.5"
ADVERTISED_SIX = "2001:db8::5"


class Peer:
    """A relay asked over UDP, one request at a time."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.settimeout(3)
        self._sock.connect(("127.0.0.1", port))
        self._cookie = 0

    def ask(self, command: str, arguments: dict[str, Encodable]) -> dict[str, object]:
        """Send a request, give its reply."""
        self._cookie += 1
        cookie = b"%d_%d" % (self._sock.getsockname()[1], self._cookie)
        self._sock.send(cookie + b" " + encode({**arguments, "command": command}))
        got, _, body = self._sock.recv(65536).partition(b" ")
        assert got == cookie
        reply = plain(decode(body))
        assert isinstance(reply, dict)
        return reply

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


@contextmanager
def rtpengine(directory: Path, *, low: int = 16300, high: int = 16899) -> Iterator[Peer]:
    """Run rtpengine until the end; skips the test where it is not installed."""
    if shutil.which("rtpengine") is None:
        pytest.skip("needs rtpengine: apt install rtpengine-daemon")
    port = _free_port()
    log = directory / "rtpengine.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                "rtpengine",
                "--config-file=none",
                "--foreground",
                "--log-stderr",
                "--log-level=5",
                "--table=-1",
                f"--interface=pub/127.0.0.1!{ADVERTISED}",
                f"--interface=pub/::1!{ADVERTISED_SIX}",
                f"--listen-ng=127.0.0.1:{port}",
                f"--port-min={low}",
                f"--port-max={high}",
                "--num-threads=1",
            ],
            stdout=out,
            stderr=out,
        )
    peer = Peer(port)
    try:
        for _ in range(100):
            try:
                if peer.ask("ping", {}) == {"result": "pong"}:
                    break
            except ConnectionRefusedError:
                time.sleep(0.05)
        else:
            pytest.fail(f"rtpengine did not start: {log.read_text()[-2000:]}")
        yield peer
    finally:
        peer.close()
        process.terminate()
        process.wait(10)


def _free_port() -> int:
    for port in range(16900, 16999):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    pytest.fail("no free port for rtpengine's ng socket")
