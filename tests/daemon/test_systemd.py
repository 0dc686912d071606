from __future__ import annotations

import os
import socket
from pathlib import Path

import trio
import trio.testing

from nattrav.daemon.systemd import Notifier


def manager(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(str(path))
    sock.settimeout(2)
    return sock


def test_readiness_is_told_in_one_datagram(tmp_path: Path) -> None:
    with manager(tmp_path / "notify") as sock:
        assert Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}).tell(READY="1", STATUS="3 calls")
        assert sock.recv(1000) == b"READY=1\nSTATUS=3 calls"


def test_abstract_addresses_are_understood() -> None:
    name = f"nattrav-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name)
        sock.settimeout(2)
        assert Notifier({"NOTIFY_SOCKET": "@" + name}).tell(STOPPING="1")
        assert sock.recv(100) == b"STOPPING=1"


def test_without_a_manager_nothing_happens(tmp_path: Path) -> None:
    assert not Notifier({}).tell(READY="1")
    assert not Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).tell(READY="1")
    assert Notifier({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"}).watchdog == 0


async def test_the_watchdog_is_petted_three_times_an_interval(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    with manager(tmp_path / "notify") as sock:
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "3000000"})
        assert notifier.watchdog == 3.0
        with trio.move_on_after(2.5):
            await notifier.keep(lambda: "fine")
        assert [sock.recv(100) for _ in range(3)] == [b"WATCHDOG=1\nSTATUS=fine"] * 3
