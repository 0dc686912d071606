"""The relay beside its peers: CPU per packet, loss, added delay, memory, set-up; same traffic, alternating, one core.

`python -m bench relay [--quick]`. Needs root (network namespaces), cc, and for the comparison Debian's rtpengine.
Raw frames come from `generator.c`; the yardstick in C is `epoll_relay.c`; `relay_rig.py` starts everything.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable

from bench.relay_rig import (
    CONTROL,
    RELAY_IP,
    Caller,
    Relay,
    Row,
    bare_c,
    build,
    direct,
    legs_possible,
    measure,
    network,
    ours,
    parties,
    rtpengine,
)
from nattrav.net.bpf.libbpf import refusal
from nattrav.net.bpf.programs import statistics as program_statistics

Start = Callable[[int], Relay]
REFERENCE = "rtpengine"
SET_UP_PORTS = (30000, 33999)
SET_UP_WARM = 2500
"""Sessions before those that are weighed: they take nine of ten pairs of `SET_UP_PORTS` at least once."""
FRAMES = "nattrav io_uring, whole frames"
XDP = "nattrav XDP: process + BPF program"
"""Its CPU time is the process's and, by the kernel's statistics of BPF programs, its program's."""


def contenders() -> dict[str, Start]:
    """Relays by name: how to start each with a number of sessions."""
    found: dict[str, Start] = {
        "nattrav io_uring": lambda sessions: ours("io_uring", sessions),
        FRAMES: lambda sessions: ours("io_uring", sessions, transmit="frame"),
        "nattrav portable": lambda sessions: ours("portable", sessions),
        **({} if refusal() else {XDP: lambda sessions: ours("io_uring", sessions, offload="xdp")}),
        "bare C epoll": bare_c,
    }
    if shutil.which("rtpengine"):
        found[REFERENCE] = rtpengine
    return found


def run(quick: bool) -> list[Row]:
    """Measure everything; rows for the report."""
    missing = [name for name in ("ip", "taskset", "cc") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        print(f"relay: left out, needs root and {', '.join(missing) or 'network namespaces'}", file=sys.stderr)
        return []
    build()
    rows: list[Row] = []
    with network(), contextlib.nullcontext() if refusal() else program_statistics():
        seconds, rounds = (1.5, 1) if quick else (2.5, 3)
        rows += side_by_side(2000, (10_000, 50_000, 0), seconds, rounds)
        rows += side_by_side(legs_possible(1), (50_000, 0), seconds, 1 if quick else 2)
        rows += by_legs(seconds, rounds)
        rows += by_threads(seconds, rounds)
        rows += at_rest()
        rows += set_up(200 if quick else 1000)
    return rows


def side_by_side(legs: int, rates: tuple[int, ...], seconds: float, rounds: int) -> list[Row]:
    """Every relay at every rate, in turns."""
    samples: dict[tuple[str, int], list[Row]] = {}
    memory: dict[str, float] = {}
    for _ in range(rounds):
        for name, begin in contenders().items():
            relay = begin(legs // 2)
            try:
                memory[name] = (relay.full_memory - relay.idle_memory) / len(relay.ports) / 1024
                settle(relay)
                for rate in rates:
                    samples.setdefault((name, rate), []).append(measure(relay, rate, seconds))
            finally:
                relay.stop()
            progress(f"{legs} legs, {name}: {samples[name, rates[-1]][-1]}")
    rows = []
    for rate in rates:
        reference = middle(samples.get((REFERENCE, rate), []), "us_per_packet")
        for name in contenders():
            taken = samples[name, rate]
            cost = middle(taken, "us_per_packet")
            rows.append(
                {
                    "table": f"{legs} legs, one core",
                    "relay": name,
                    "offered packets/s": "all it can" if rate == 0 else rate,
                    "forwarded packets/s": round(middle(taken, "rate")),
                    "loss %": round(100 * middle(taken, "loss"), 2) if rate else None,
                    "CPU µs/packet": round(cost, 2),
                    "packets per CPU s": round(1e6 / cost) if cost else None,
                    "CPU against rtpengine": round(cost / reference, 2) if reference else None,
                    "delay µs median": round(middle(taken, "p50_us")) if rate else None,
                    "delay µs p99": round(middle(taken, "p99_us")) if rate else None,
                    "KiB per session": round(memory[name], 1),
                }
            )
    return rows


def by_legs(seconds: float, rounds: int) -> list[Row]:
    """Cost of a packet as the number of legs grows, at one rate."""
    rate = 50_000
    costs: dict[int, list[float]] = {}
    for _ in range(rounds):
        for legs in (200, 2000, legs_possible(1)):
            relay = direct("io_uring", legs // 2)
            try:
                settle(relay)
                costs.setdefault(legs, []).append(measure(relay, rate, seconds)["us_per_packet"])
            finally:
                relay.stop()
            progress(f"{legs} legs: {costs[legs]}")
    least = statistics.median(costs[200])
    return [
        {
            "table": f"data plane io_uring, {rate} packets/s over more and more legs",
            "legs": legs,
            "CPU µs/packet": round(statistics.median(taken), 2),
            "against 200 legs": round(statistics.median(taken) / least, 2),
        }
        for legs, taken in costs.items()
    ]


def by_threads(seconds: float, rounds: int) -> list[Row]:
    """One data thread against two, at one rate. Two share their processors with the generator."""
    rate = 100_000
    samples: dict[int, list[Row]] = {}
    for _ in range(rounds):
        for threads in (1, 2):
            relay = ours("io_uring", 1000, threads=threads)
            try:
                settle(relay)
                samples.setdefault(threads, []).append(measure(relay, rate, seconds))
            finally:
                relay.stop()
            progress(f"{threads} threads: {samples[threads][-1]}")
    one = middle(samples[1], "packets_per_cpu_second")
    return [
        {
            "table": f"nattrav io_uring, data threads, {rate} packets/s",
            "threads": threads,
            "forwarded packets/s": round(middle(taken, "rate")),
            "packets per CPU s": round(middle(taken, "packets_per_cpu_second")),
            "against one": round(middle(taken, "packets_per_cpu_second") / one, 2),
        }
        for threads, taken in samples.items()
    ]


def at_rest() -> list[Row]:
    """What 1000 legs cost while nobody speaks."""
    rows = []
    for name, begin in contenders().items():
        relay = begin(500)
        try:
            time.sleep(1.0)
            before = relay.cpu()
            time.sleep(3.0)
            rows.append(
                {
                    "table": "1000 silent legs",
                    "relay": name,
                    "CPU % of a core": round((relay.cpu() - before) / 3.0 * 100, 2),
                    "resident MiB": round(relay.memory() / 1048576, 1),
                }
            )
        finally:
            relay.stop()
    return rows


def set_up(calls: int) -> list[Row]:
    """Offer, answer and delete, one after the other, once the relay has used most ports of its range before."""
    rows = []
    starts: dict[str, Start] = {
        "nattrav io_uring": lambda sessions: ours("io_uring", sessions, ports=SET_UP_PORTS),
        "nattrav portable": lambda sessions: ours("portable", sessions, ports=SET_UP_PORTS),
    }
    if shutil.which("rtpengine"):
        # It holds the ports of deleted calls for 30 s, so it needs its whole range.
        starts[REFERENCE] = rtpengine
    for name, begin in starts.items():
        relay = begin(1)
        caller = Caller(RELAY_IP, CONTROL)
        try:
            come_and_go(caller, "w", SET_UP_WARM)
            before, start = relay.cpu(), time.monotonic()
            come_and_go(caller, "s", calls)
            took, spent = time.monotonic() - start, relay.cpu() - before
            rows.append(
                {
                    "table": "offer, answer, delete",
                    "relay": name,
                    "CPU µs per session": round(spent / calls * 1e6),
                    "sessions per CPU s": round(calls / spent),
                    "one asker, sessions/s": round(calls / took),
                }
            )
        finally:
            caller.close()
            relay.stop()
    return rows


def come_and_go(caller: Caller, prefix: str, calls: int) -> None:
    """Set up and delete calls, one after the other."""
    for number, (a, b) in enumerate(parties(calls)):
        name = f"{prefix}{number}"
        caller.call(name, a, b)
        caller.ask(command="delete", **{"call-id": name, "from-tag": f"a{name}"})


def settle(relay: Relay) -> None:
    """Let every flow learn its source and come to its steady state before anything is weighed."""
    measure(relay, 10_000, 0.2, warm=max(1.0, 2 * len(relay.ports) / 9_000))
    if relay.steady_after:
        measure(relay, 80_000, 0.2, warm=2 * len(relay.ports) * relay.steady_after / 80_000)


def middle(rows: list[Row], key: str) -> float:
    """Median of a figure over rounds; 0 without any."""
    values = [row[key] for row in rows if row[key] is not None]
    return statistics.median(values) if values else 0.0


def progress(text: str) -> None:
    """Tell a waiting person how far it is."""
    print(f"relay: {text}", file=sys.stderr, flush=True)
