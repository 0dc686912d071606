"""What it costs to keep the NAT bindings of many phones open: Kamailio's nathelper against ours, one core each."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from bench.sip_rigs import Rig, processor_seconds
from tests.natlab.laboratory import BUNDLE, Laboratory
from tests.natlab.namespaces import LaboratoryFault, Namespace, Program

NETWORK = "198.18.0.0/15"
INTERVAL = 25
_SETTLED = 35.0
"""Seconds after the last REGISTER until its transaction is forgotten (timer J)."""
_ROOT = Path(__file__).parent.parent
Row = dict[str, Any]
MakeRig = Callable[[Laboratory], AbstractContextManager[Rig]]


def keepalives(
    laboratory: Laboratory, client: Namespace, client_address: str, rigs: list[MakeRig], core: int, quick: bool
) -> list[Row]:
    """Registered phones that answer OPTIONS every 25 s: processor time and memory in steady state."""
    count, rate = (10_000, 1000) if quick else (50_000, 1250)
    client.ip(f"route add local {NETWORK} dev lo")
    laboratory.bundle.namespace.ip(f"route add {NETWORK} via {client_address}")
    rows = []
    for make in rigs:
        with make(laboratory) as rig:
            before = rig.memory()
            phones = client.start(
                "taskset", "-c", str(core), sys.executable, "-m", "bench.sip_phones", BUNDLE, str(count), str(rate),
                name="phones", directory=_ROOT,
            )  # fmt: skip
            phones.wait_for(f"registered {count} ", count / rate + 60)
            time.sleep(_SETTLED)
            memory = rig.memory() - before
            begin, used, first = time.monotonic(), processor_seconds(laboratory), _answered(phones)
            time.sleep(INTERVAL)
            seconds = time.monotonic() - begin
            cores = (processor_seconds(laboratory) - used) / seconds
            pings = (_answered(phones) - first) / seconds
            phones.stop()
            phones.log.unlink()
            rows.append(
                {
                    "table": f"Bindings kept alive by OPTIONS every {INTERVAL} s, all answered, one core",
                    "program": rig.name,
                    "bindings": count,
                    "answered OPTIONS/s": round(pings),
                    "core used, %": round(cores * 100, 1),
                    "CPU per OPTIONS and answer, µs": round(cores / pings * 1e6, 1) if pings else None,
                    "memory per binding, kB": round(memory / 1024 / count, 2),
                }
            )
    return rows


def _answered(phones: Program) -> int:
    found = re.findall(r"answered (\d+)", phones.output())
    if not found:
        raise LaboratoryFault(f"the phones say nothing:\n{phones.output()[-2000:]}")
    return int(found[-1])
