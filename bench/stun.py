"""STUN side by side: this server and coturn, one core each, the same frames, alternating, in one run.

Two namespaces joined by a cable. The generator has one core to itself and the server under test the other. Answers
leave through a bridge without anybody on it, which counts and swallows them, so that the far end's work is not charged
to the server's core; a prober beside the load asks politely over the cable and takes the round trips.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.natlab.namespaces import Namespace, Program, create, link, missing, remove, within

ROOT = Path(__file__).parent.parent
SERVER, SECOND, CLIENT = "198.18.0.1", "198.18.0.2", "198.18.0.9"
PORT = 3478
SATURATION = 600_000
_TICKS = os.sysconf("SC_CLK_TCK")
_PROBE_PORT = 50_000

Row = dict[str, Any]


@dataclass
class Rig:
    """The cable, and what is measured on it."""

    server: Namespace
    client: Namespace
    mac: str
    generator_core: int
    server_cores: list[int]

    def answers(self) -> int:
        """Answers that left for the spoofed clients so far."""
        return int(self.server.execute("cat", "/sys/class/net/swallow/statistics/tx_packets"))


@contextlib.contextmanager
def rig() -> Iterator[Rig]:
    """Build the cable; remove it in the end."""
    reason = missing()
    if reason:
        raise SystemExit(f"bench stun {reason}")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("bench stun needs two cores")
    logs = Path(tempfile.mkdtemp(prefix="st-bench-"))
    names = [f"st-bench{os.getpid()}-{side}" for side in ("server", "client")]
    try:
        server, client = (create(name, logs) for name in names)
        link(server, "s0", client, "c0")
        server.ip(f"address add {SERVER}/24 dev s0", f"address add {SECOND}/24 dev s0")
        client.ip(f"address add {CLIENT}/24 dev c0")
        # The load's clients live in 10.64.0.0/10; what is sent there is counted and swallowed.
        server.ip(
            "link add swallow type bridge",
            "link add port0 type veth peer name port1",
            "link set port0 master swallow",
            "link set port0 type bridge_slave flood off mcast_flood off bcast_flood off",
            "link set port0 up",
            "link set port1 up",
            "link set swallow up",
            "address add 198.18.1.1/24 dev swallow",
            "neigh replace 198.18.1.2 lladdr 02:00:00:00:00:02 dev swallow nud permanent",
            "route add 10.64.0.0/10 via 198.18.1.2 dev swallow",
        )
        yield Rig(server, client, _mac(server, "s0"), cores[0], cores[1:])
    finally:
        remove(names)
        shutil.rmtree(logs, ignore_errors=True)


def _mac(namespace: Namespace, interface: str) -> str:
    found = re.search(r"link/ether (\S+)", namespace.execute("ip", "link", "show", interface))
    assert found
    return found.group(1)


@contextlib.contextmanager
def serving(
    place: Rig, name: str, threads: int = 1, cores: list[int] | None = None, *, limits: bool = False
) -> Iterator[int]:
    """Run a server on its core; gives its process id."""
    pinned = ("taskset", "-c", ",".join(map(str, cores or place.server_cores[:1])))
    if name == "nattrav":
        command: list[str] = [
            *(sys.executable, "-m", "nattrav.cli", "stun", "serve", "--listen", SERVER, "--alternate", SECOND),
            *("--threads", str(threads), "--runtime-dir", tempfile.mkdtemp(prefix="st-bench-")),
            *(() if limits else ("--no-rate-limit",)),
        ]
    else:
        command = [
            *("turnserver", "-n", "-S", "-L", SERVER, "-L", SECOND, "-p", str(PORT), "-m", str(threads)),
            *("--no-tls", "--no-dtls", "--no-cli", "--no-software-attribute"),
            *("--simple-log", "--log-file", "/dev/null", "--no-stdout-log", "--pidfile", "/dev/null"),
        ]
    program = place.server.start(*pinned, *command, name=name)
    try:
        program.wait_listening("udp", PORT, 15)
        time.sleep(0.5)
        yield _leaf(program)
    finally:
        program.stop()


def _leaf(program: Program) -> int:
    """The pid of the program itself: `ip netns exec` and taskset replace themselves by what they run."""
    return program.process.pid


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_kib(pid: int) -> int:
    """Resident memory."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found.group(1)) if found else 0


@dataclass
class Measured:
    """One run of load."""

    sent: int
    answered: int
    seconds: float
    cpu: float
    round_trips: list[float]

    @property
    def per_cpu_second(self) -> float:
        return self.answered / self.cpu if self.cpu else 0.0

    @property
    def microseconds(self) -> float:
        """CPU time per answer."""
        return 1e6 * self.cpu / self.answered if self.answered else 0.0

    @property
    def loss(self) -> float:
        """Share of the requests without an answer."""
        return max(0.0, 1 - self.answered / self.sent) if self.sent else 0.0


def measure(place: Rig, pid: int, rate: float, seconds: float, shape: str = "plain", sources: int = 4096) -> Measured:
    """Load one server at one rate."""
    counted = place.answers()
    before, begin = cpu_seconds(pid), time.monotonic()
    command = [
        *("ip", "netns", "exec", place.client.name, "taskset", "-c", str(place.generator_core)),
        *(sys.executable, "-m", "bench.stun_load", "c0", place.mac, SERVER, str(PORT)),
        *(str(rate), str(seconds), shape, str(sources)),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as generator:
        trips = within(place.client.name, lambda: _probe(seconds, generator))
        text = generator.communicate()[0]
    result = json.loads(text)
    time.sleep(0.1)
    cpu = cpu_seconds(pid) - before
    elapsed = time.monotonic() - begin
    return Measured(int(result["sent"]), place.answers() - counted + len(trips), elapsed, cpu, trips)


def _probe(seconds: float, generator: subprocess.Popen[bytes]) -> list[float]:
    """Ask politely twenty times a second while the load runs; gives the round trips that came back."""
    trips = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((CLIENT, _PROBE_PORT))
        sock.settimeout(0.25)
        number = 0
        while generator.poll() is None:
            number += 1
            tid = number.to_bytes(12, "big")
            begin = time.perf_counter()
            sock.sendto(b"\0\1\0\0\x21\x12\xa4\x42" + tid, (SERVER, PORT))
            with contextlib.suppress(TimeoutError):
                while sock.recv(2048)[8:20] != tid:
                    pass
                trips.append(time.perf_counter() - begin)
            time.sleep(0.05)
    return trips


def quantile(values: list[float], share: float) -> float | None:
    """Milliseconds; None without values."""
    if not values:
        return None
    return round(1000 * sorted(values)[min(len(values) - 1, int(share * len(values)))], 3)


RETURNING, PASSING = 4096, 1_000_000
"""Clients that come back all the time, and clients that are hardly ever seen twice."""


def run(quick: bool) -> list[Row]:
    """All tables: fixed rates, saturation, two threads, a flood of a million sources, and the kernel's help."""
    rows: list[Row] = []
    seconds, rounds = (2.0, 1) if quick else (4.0, 3)
    with rig() as place:
        for shape in ("plain", "fingerprint"):
            for rate in (20_000, 50_000, SATURATION):
                rows += _compare(place, shape, rate, RETURNING, seconds, rounds)
        rows += _compare(place, "plain", SATURATION, PASSING, seconds, rounds)
        rows += _threads(place, seconds, rounds)
        rows += _flood(place, seconds * 2)
    from bench import stun_offload

    theirs = {
        ("plain" if "20-byte" in row["table"] else "fingerprint", row["load"]): row["answers per CPU second"]
        for row in rows
        if row.get("server") == "coturn" and row["clients"] == RETURNING
    }
    return rows + stun_offload.run(quick, theirs)


def _compare(place: Rig, shape: str, rate: int, sources: int, seconds: float, rounds: int) -> list[Row]:
    found: dict[str, list[Measured]] = {"nattrav": [], "coturn": []}
    for _ in range(rounds):
        for name, runs in found.items():
            with serving(place, name) as pid:
                measure(place, pid, min(rate, 20_000), 0.5, shape)
                runs.append(measure(place, pid, rate, seconds, shape, sources))
    ours, theirs = (statistics.median(m.per_cpu_second for m in found[n]) for n in ("nattrav", "coturn"))
    load = "saturation" if rate == SATURATION else f"{rate}/s"
    title = "20-byte requests" if shape == "plain" else "requests with SOFTWARE and FINGERPRINT"
    return [
        {
            "table": f"Binding, {title}, one core",
            "load": load,
            "clients": sources,
            "server": name,
            "answers/s": round(statistics.median(m.answered / seconds for m in runs)),
            "µs CPU per answer": round(statistics.median(m.microseconds for m in runs), 2),
            "answers per CPU second": round(statistics.median(m.per_cpu_second for m in runs)),
            "loss %": round(100 * statistics.median(m.loss for m in runs), 2),
            "p50 ms": quantile([t for m in runs for t in m.round_trips], 0.5),
            "p99 ms": quantile([t for m in runs for t in m.round_trips], 0.99),
            "per CPU second / coturn's": round(ours / theirs, 2) if name == "nattrav" and theirs else None,
        }
        for name, runs in found.items()
    ]


def _threads(place: Rig, seconds: float, rounds: int) -> list[Row]:
    """One thread against two, both on all cores but the generator's where there are enough."""
    cores = place.server_cores[:2] if len(place.server_cores) > 1 else [*place.server_cores, place.generator_core]
    found: dict[int, list[Measured]] = {1: [], 2: []}
    for _ in range(rounds):
        for threads, runs in found.items():
            with serving(place, "nattrav", threads, cores) as pid:
                runs.append(measure(place, pid, SATURATION, seconds))
    one = statistics.median(m.per_cpu_second for m in found[1])
    return [
        {
            "table": "Threads, 20-byte requests at saturation"
            + ("" if len(place.server_cores) > 1 else " (two cores in all: the generator shares one of them)"),
            "threads": threads,
            "answers/s": round(statistics.median(m.answered / seconds for m in runs)),
            "answers per CPU second": round(statistics.median(m.per_cpu_second for m in runs)),
            "of one thread's": round(statistics.median(m.per_cpu_second for m in runs) / one, 2),
        }
        for threads, runs in found.items()
    ]


def _flood(place: Rig, seconds: float) -> list[Row]:
    """A million spoofed sources with the limits on: memory, amplification, and an honest client's fate."""
    with serving(place, "nattrav", limits=True) as pid:
        measure(place, pid, 20_000, 1.0)
        before = resident_kib(pid)
        flood = measure(place, pid, SATURATION, seconds, sources=1_000_000)
        after = resident_kib(pid)
    return [
        {
            "table": "Spoofed flood of 1 000 000 sources, limits on",
            "requests sent": flood.sent,
            "answered": flood.answered,
            "µs CPU per answer": round(flood.microseconds, 2),
            "memory before KiB": before,
            "memory after KiB": after,
            "bytes out / bytes in": round(flood.answered * 68 / (flood.sent * 20), 2),
            "honest client p50 ms": quantile(flood.round_trips, 0.5),
            "honest client p99 ms": quantile(flood.round_trips, 0.99),
        }
    ]
