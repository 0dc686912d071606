"""The bundle is stopped and started again under fifty calls; every one of them goes on, both ways."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import trio

from nattrav.net.address import TransportAddress
from nattrav.selftest.io.run import Account, Report, selftest
from tests.free_port import free_port

pytestmark = pytest.mark.slow

CALLS = 50
PORTS = "20000-20999"
"""Below the ports that the system gives to anybody: while the relay is away, nobody takes one of its own."""

SECONDS = 16.0
NATTRAV = [sys.executable, "-m", "nattrav.cli"]


class Edge:
    """One installation that can be stopped and started."""

    def __init__(self, place: Path) -> None:
        self.sip = free_port(socket.SOCK_DGRAM)
        self._run = [*NATTRAV, "--runtime-dir", str(place / "run")]
        self._file = place / "nattrav.toml"
        self._log = place / "log"
        self._file.write_text(
            f'[node]\nservices = ["relay", "proxy"]\n[admin]\nlisten = []\n[control]\nlisten = ["unix:auto"]\n'
            f'[sip]\nlisten = ["udp:127.0.0.1:{self.sip}"]\ndomains = ["test.example"]\n'
            "[sip.limits]\nrequests_per_source = 10000\nburst = 10000\n"
            '[sip.registrar]\nauthentication = "none"\n'
            f'[relay]\ninterfaces = ["default/127.0.0.1"]\nports = "{PORTS}"\n'
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*self._run, "run", "--config", str(self._file)], stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while subprocess.run([*self._run, "status", "--check"], capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.1)

    def said(self) -> list[str]:
        """What the bundle logged about trouble and about sessions."""
        lines = self._log.read_text().splitlines()
        return [line for line in lines if '"warning"' in line or '"error"' in line or "sessions restored" in line]

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            assert self._process.wait(10) == 0
            self._process = None


@pytest.fixture
def edge(tmp_path: Path) -> Edge:
    return Edge(tmp_path)


async def test_no_call_is_lost_when_the_bundle_is_restarted(edge: Edge) -> None:
    reports: list[Report] = []

    async def one(number: int) -> None:
        accounts = [Account(f"{name}{number}", None) for name in ("caller", "callee")]
        address = TransportAddress("127.0.0.1", edge.sip)
        reports.append(await selftest(address, "test.example", *accounts, seconds=SECONDS, tell=lambda step: None))

    await trio.to_thread.run_sync(edge.start)
    with contextlib.ExitStack() as stack:
        stack.callback(edge.stop)
        async with trio.open_nursery() as nursery:
            for number in range(CALLS):
                nursery.start_soon(partial(one, number))
                await trio.sleep(0.02)
            await trio.sleep(5)
            await trio.to_thread.run_sync(edge.stop)
            await trio.to_thread.run_sync(edge.start)
    failed = [f"{step.name} ({step.detail})" for report in reports for step in report.steps if not step.ok]
    assert len(reports) == CALLS
    assert not failed, "\n".join([*failed, *edge.said()])
