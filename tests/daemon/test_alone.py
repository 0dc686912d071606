"""One service alone: it tells the service manager, follows its file on SIGHUP, and keeps its sockets over a restart."""

from __future__ import annotations

import signal
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from nattrav.control.socket.io.client import ask
from tests.daemon.service_manager import ServiceManager

BINDING = bytes.fromhex("000100002112a442") + b"alone-server"


class Server:
    """A STUN server of its own under a service manager."""

    def __init__(self, place: Path) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            self.port: int = sock.getsockname()[1]
        self.file = place / "stun.toml"
        self.place = place
        self.write("")
        words = ["-m", "nattrav.cli", "--runtime-dir", str(place / "run"), "stun", "serve", "--config", str(self.file)]
        self.manager = ServiceManager(place, words)

    def write(self, more: str) -> None:
        self.file.write_text(
            f'[node]\nservices = ["stun"]\n[stun]\nlisten = ["127.0.0.1"]\nport = {self.port}\ntcp = false\n{more}'
        )

    def hang_up(self) -> None:
        self.manager.signal(signal.SIGHUP)

    def log(self) -> str:
        return (self.place / "log").read_text()

    def until_told(self, words: str) -> None:
        deadline = time.monotonic() + 30
        while words not in self.log():
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.manager.start()
    yield server
    server.manager.close()


def answer(phone: socket.socket, server: Server) -> bytes:
    phone.settimeout(30)
    phone.sendto(BINDING, ("127.0.0.1", server.port))
    return phone.recv(2048)


def test_a_service_alone_follows_its_file_and_refuses_a_wrong_one(server: Server) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
        assert b"alone and well" not in answer(phone, server)
        server.write('software = "alone and well"\nthreads = 2\n')
        server.hang_up()
        server.until_told("configuration reloaded")
        assert b"alone and well" in answer(phone, server)
        assert "stun.threads: after a restart of the service" in server.log()
        server.write("software = 7\n")
        server.hang_up()
        server.until_told("configuration refused, the old one holds")
        assert b"alone and well" in answer(phone, server)
    status: Any = trio.run(ask, server.place / "run" / "stun.sock", "status")
    assert status["ready"]


def test_its_socket_waits_in_the_store_while_it_is_restarted(server: Server) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
        server.manager.stop()
        assert [name for name, _ in server.manager.store] == ["s"]
        phone.settimeout(30)
        phone.sendto(BINDING, ("127.0.0.1", server.port))
        server.manager.start()
        assert struct.unpack_from("!H", phone.recv(2048))[0] == 0x0101
