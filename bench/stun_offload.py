"""STUN answered by XDP: the same load and cable, but answers go back the way the requests came.

That is how the program sends them, so here the far end has a program too: it counts and drops what is for the load's
clients. CPU is the server's process and the program's own run time as the kernel's BPF statistics have it; what the
driver does around the program is charged to nobody, as with requests on their way to a socket.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.stun import (
    CLIENT,
    PORT,
    RETURNING,
    SATURATION,
    SECOND,
    SERVER,
    Rig,
    Row,
    cpu_seconds,
    measure,
    quantile,
    rig,
)
from nattrav.net.bpf.libbpf import libbpf, refusal
from nattrav.net.bpf.programs import Attachment, Mode, Program, statistics
from tests.natlab.namespaces import within

# Drops what is for 10.0.0.0/8 and passes the rest: load data and end; end < data + 34: pass; byte 30 is not 10: pass.
_SINK = bytes.fromhex(
    "b700000002000000 6112000000000000 6113040000000000 bf24000000000000 0704000022000000"
    "2d34030000000000 71241e0000000000 550401000a000000 b700000001000000 9500000000000000"
)
_XDP = 6


def run(quick: bool, theirs: dict[tuple[str, str], float]) -> list[Row]:
    """One row for each load and shape; `theirs` has coturn's answers per CPU second of the same run."""
    reason = refusal()
    if reason is not None:
        print(f"STUN by XDP is left out: {reason}", file=sys.stderr)
        return []
    rows: list[Row] = []
    with rig() as place, tempfile.TemporaryDirectory(prefix="st-bench-") as directory, statistics():
        _send_back(place)
        sink = within(place.client.name, _attach_sink)
        try:
            rows += (
                _one(place, Path(directory), shape, rate, 2.0 if quick else 4.0, theirs)
                for shape in ("plain", "fingerprint")
                for rate in (20_000, 50_000, SATURATION)
            )
        finally:
            sink.close()
    return rows


def _send_back(place: Rig) -> None:
    """Route the load's clients to the far end of the cable."""
    mac = re.search(r"link/ether (\S+)", place.client.execute("ip", "link", "show", "c0"))
    assert mac
    place.server.ip(
        f"route replace 10.64.0.0/10 via {CLIENT} dev s0",
        f"neigh replace {CLIENT} lladdr {mac.group(1)} dev s0 nud permanent",
    )


def _attach_sink() -> Attachment:
    descriptor = int(libbpf().bpf_prog_load(_XDP, b"sink", b"Dual MIT/GPL", _SINK, len(_SINK) // 8, None))
    if descriptor < 0:
        raise SystemExit("bench stun: the counting program cannot be loaded")
    return Program("sink", descriptor).attach("c0", Mode.NATIVE)


def _arrived(place: Rig) -> int:
    """Answers that came to the far end so far."""
    return sum(int(n) for n in re.findall(r"_xdp_drops: (\d+)", place.client.execute("ethtool", "-S", "c0")))


def _one(
    place: Rig, directory: Path, shape: str, rate: int, seconds: float, theirs: dict[tuple[str, str], float]
) -> Row:
    configuration = directory / "native.toml"
    configuration.write_text('[stun]\noffload_mode = "native"\n')
    program = place.server.start(
        *("taskset", "-c", str(place.server_cores[0]), sys.executable, "-m", "nattrav.cli", "stun", "serve"),
        *("--listen", SERVER, "--alternate", SECOND, "--runtime-dir", directory, "--no-rate-limit"),
        *("--offload", "xdp", "--config", configuration),
        name="nattrav",
    )
    try:
        program.wait_listening("udp", PORT, 15)
        time.sleep(0.5)
        pid = program.process.pid
        measure(place, pid, 20_000, 1.0, shape)
        arrived, told, process = _arrived(place), _told(directory), cpu_seconds(pid)
        load = measure(place, pid, rate, seconds, shape, RETURNING)
        answered = _arrived(place) - arrived + len(load.round_trips)
        process = cpu_seconds(pid) - process
        after = _told(directory)
    finally:
        program.stop()
    kernel = float(after["cpu_seconds"]) - float(told["cpu_seconds"])
    ours = answered / (process + kernel)
    word = "saturation" if rate == SATURATION else f"{rate}/s"
    other = theirs.get((shape, word))
    return {
        "table": "Binding answered by XDP (`[stun] offload`), clients that come back",
        "requests": "20 bytes" if shape == "plain" else "SOFTWARE and FINGERPRINT",
        "load": word,
        "answers/s": round(answered / seconds),
        "by the kernel %": round(100 * (int(after["answered"]) - int(told["answered"])) / answered, 1),
        "µs CPU per answer": round(1e6 / ours, 2),
        "of it the program": round(1e6 * kernel / answered, 2),
        "loss %": round(100 * max(0.0, 1 - answered / load.sent), 2),
        "p50 ms": quantile(load.round_trips, 0.5),
        "p99 ms": quantile(load.round_trips, 0.99),
        "per CPU second / coturn's": round(ours / other, 1) if other else None,
    }


def _told(directory: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "nattrav.cli", "stun", "stats", "--json", "--runtime-dir", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)["offload"]
    return found
