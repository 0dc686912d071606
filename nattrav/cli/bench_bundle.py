"""A bundle of its own for `nattrav bench`: on loopback, without limits, gone at the end."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import trio

from nattrav.cli.connect import fail
from nattrav.control.socket.io.client import Unreachable, ask
from nattrav.control.socket.messages import VerbError
from nattrav.net.address import TransportAddress

START_WITHIN = 20.0
PORTS = 2000
"""Media ports of the relay: enough for the sessions of a measurement, few enough to start at once."""


@dataclass(frozen=True)
class Bench:
    """A bundle that runs. `directory` is its runtime directory, `pids` by service."""

    directory: Path
    pids: dict[str, int]
    sip: TransportAddress
    stun: TransportAddress

    def cpu_seconds(self, *roles: str) -> float:
        """CPU time that services have used so far."""
        return sum(_cpu_seconds(self.pids[role]) for role in roles)


@contextlib.contextmanager
def bundle(services: list[str], gateway: TransportAddress) -> Generator[Bench, None, None]:
    """Start the services, wait until they are ready, and end them; ends the command when they do not start."""
    with tempfile.TemporaryDirectory(prefix="nattrav-bench-") as name:
        place = Path(name)
        stun = free_port()
        (place / "bench.toml").write_text(_configuration(services, gateway, stun))
        command = [sys.executable, "-m", "nattrav.cli", "run", "--config", str(place / "bench.toml")]
        with (place / "log").open("wb") as log:
            process = subprocess.Popen(
                [*command, "--runtime-dir", str(place / "run")], stdout=log, stderr=log, start_new_session=True
            )
        try:
            yield _ready(process, place, TransportAddress("127.0.0.1", stun))
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _configuration(services: list[str], gateway: TransportAddress, stun: int) -> str:
    # Below the ephemeral ports and beside the default range, so that a bundle in service is not disturbed.
    low = random.randrange(20_000, 27_000, 2)
    return f"""\
[node]
services = [{", ".join(f'"{service}"' for service in services)}]
[log]
level = "warning"
[admin]
listen = []
[stun]
listen = ["127.0.0.1"]
port = {stun}
alternate_port = {stun + 1}
tcp = false
[relay]
interfaces = ["bench/127.0.0.1"]
ports = "{low}-{low + PORTS - 1}"
audio_packet_rate = 10000000
[control]
listen = ["unix:auto"]
[sip]
listen = ["udp:127.0.0.1:0"]
[sip.limits]
requests_per_source = 1000000
burst = 1000000
calls_per_user = 1000000
[[upstream]]
name = "bench"
target = "{gateway}"
probe = false
"""


def free_port() -> int:
    """Find a UDP port that is free on loopback together with the next one."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as first:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            with (
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as second,
                contextlib.suppress(OSError, OverflowError),
            ):
                second.bind(("127.0.0.1", port + 1))
                return port


def _ready(process: subprocess.Popen[bytes], place: Path, stun: TransportAddress) -> Bench:
    deadline = time.monotonic() + START_WITHIN
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(Unreachable, VerbError, trio.TooSlowError):
            state = trio.run(ask, place / "run" / "supervisor.sock", "status")
            if state["ready"]:
                udp = [o["address"] for o in state["listening"] if o["role"] == "proxy" and o["transport"] == "udp"]
                sip = TransportAddress.parse(udp[0]) if udp else TransportAddress("127.0.0.1", 0)
                pids = {service["role"]: service["pid"] for service in state["services"]}
                return Bench(place / "run", pids, sip, stun)
        time.sleep(0.05)
    told = (place / "log").read_text(errors="replace").strip().splitlines()
    fail(f"the bundle to measure did not start: {told[-1] if told else 'no word from it'}")


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
