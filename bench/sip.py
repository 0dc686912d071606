"""SIP side by side: the same SIPp load through Kamailio + rtpengine and through nattrav, one core each.

`python -m bench sip`. The program under test has core 0, the load core 1.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from bench import sipp
from bench.sip_keepalive import INTERVAL, keepalives
from bench.sip_rigs import PASSWORD, KamailioRig, NattravRig, Rig, processor_seconds
from tests.natlab import kamailio, namespaces
from tests.natlab.laboratory import BUNDLE, GATEWAY, Laboratory

UNDER_TEST, LOAD = 0, 1
_CALL_SECONDS = 1.0
_LEAD_IN = 2.5
_TIMER_J = 33.0
"""Seconds until the last REGISTER's transaction is forgotten and a binding is all that is left of it."""
Row = dict[str, Any]
MakeRig = Callable[[Laboratory], AbstractContextManager[Rig]]


def missing() -> str | None:
    """Say why this benchmark cannot run here, or None."""
    reason = namespaces.missing() or kamailio.missing()
    if reason is None and shutil.which("sipp") is None:
        reason = "needs sipp: apt install sip-tester"
    return reason


def run(quick: bool) -> list[Row]:
    """Calls at fixed rates, calls up to the first failure, registrations with digest; rows in order of report."""
    reason = missing()
    if reason:
        return [{"table": "SIP", "note": f"left out: {reason}"}]
    rows: list[Row] = []
    rigs: list[MakeRig] = [
        lambda lab: KamailioRig(lab, UNDER_TEST),
        lambda lab: NattravRig(lab, UNDER_TEST),
    ]
    rates = (50, 200) if quick else (50, 100, 200, 400)
    seconds = 6.0 if quick else 15.0
    with Laboratory() as laboratory:
        client = laboratory.host("client", "198.51.100.200").namespace
        callee = sipp.start_callee(laboratory.gateway.namespace, laboratory.directory / "callee", GATEWAY, LOAD)
        rows += calls(laboratory, client, None, (rates[0],), seconds, target=GATEWAY, name="no edge (SIPp to SIPp)")
        for make in rigs:
            with make(laboratory) as rig:
                rows += calls(laboratory, client, rig, rates, seconds)
        ladder = (200, 400, 600) if quick else (200, 300, 400, 500, 600, 800, 1000, 1200, 1500)
        for make in rigs:
            with make(laboratory) as rig:
                rows.append(highest(laboratory, client, rig, ladder, seconds))
        callee.stop()
        rows += registrations(laboratory, client, quick)
        rigs = [
            lambda lab: KamailioRig(lab, UNDER_TEST, ping_interval=INTERVAL),
            lambda lab: NattravRig(lab, UNDER_TEST, keepalive=True),
        ]
        rows += keepalives(laboratory, client, "198.51.100.200", rigs, LOAD, quick)
    return rows + ratios(rows)


def calls(
    laboratory: Laboratory,
    client: namespaces.Namespace,
    rig: Rig | None,
    rates: tuple[int, ...],
    seconds: float,
    *,
    target: str = BUNDLE,
    name: str | None = None,
) -> list[Row]:
    """Fixed rates: processor time per call, set-up time, memory per call that is up."""
    rows = []
    if rig:
        load(laboratory, client, sipp.CALLER, rates[0], 3.0, target=target, rig=rig)
    for rate in rates:
        before = rig.memory() if rig else 0
        result, used, during = load(laboratory, client, sipp.CALLER, rate, seconds, target=target, rig=rig)
        rows.append(
            {
                "table": "Calls (INVITE 100 180 200 ACK BYE 200, SDP rewritten both ways, 1 s each)",
                "program": name or (rig.name if rig else ""),
                "calls/s": rate,
                "failed": result.failed,
                "repeated messages": result.retransmissions,
                "CPU per call, ms": round(used * 1000 / rate, 2),
                "core used, %": round(used * 100),
                "set-up p50, ms": result.percentile(0.5),
                "set-up p99, ms": result.percentile(0.99),
                "memory per call, kB": round((during - before) / 1024 / (rate * _CALL_SECONDS), 1) if rig else None,
            }
        )
    return rows


def highest(
    laboratory: Laboratory, client: namespaces.Namespace, rig: Rig, ladder: tuple[int, ...], seconds: float
) -> Row:
    """The highest rate of the ladder at which nothing failed; the climb ends at the first rate that is not clean."""
    best: tuple[int, sipp.Outcome, float] | None = None
    ended: tuple[int, sipp.Outcome] | None = None
    for rate in ladder:
        result, used, _ = load(laboratory, client, sipp.CALLER, rate, seconds, rig=rig)
        if not result.clean:
            ended = (rate, result)
            break
        best = (rate, result, used)
    return {
        "table": "Calls without a failure, one core",
        "program": rig.name,
        "calls/s": best[0] if best else 0,
        "core used, %": round(best[2] * 100) if best else None,
        "set-up p50, ms": best[1].percentile(0.5) if best else None,
        "set-up p99, ms": best[1].percentile(0.99) if best else None,
        "next rate": f"{ended[0]}: {ended[1].failed} failed, {ended[1].retransmissions} repeated, "
        f"{ended[1].achieved:.0f}/s kept" if ended else "not reached",
    }  # fmt: skip


def registrations(laboratory: Laboratory, client: namespaces.Namespace, quick: bool) -> list[Row]:
    """REGISTER, 401, REGISTER with digest, 200: up to the first failure, and memory per binding.

    The memory is that of a second wave of users, whose transactions use what those of the first have left behind.
    """
    count = 4000 if quick else 10000
    names = [f"user{number}" for number in range(count)]
    users = user_file(laboratory, "users", names)
    waves = [user_file(laboratory, "first", names[: count // 2]), user_file(laboratory, "second", names[count // 2 :])]
    makers: list[MakeRig] = [
        lambda lab: KamailioRig(lab, UNDER_TEST, authentication=True),
        lambda lab: NattravRig(lab, UNDER_TEST, users=names),
    ]
    ladder = (1500, 3000) if quick else (500, 1000, 1500, 2000, 3000, 4000, 5000, 6000)
    rows: list[Row] = []
    for make in makers:
        with make(laboratory) as rig:
            held = []
            for wave in waves:
                result, used, _ = load(laboratory, client, sipp.REGISTRATION, 300, count / 2 / 300, users=wave, rig=rig)
                time.sleep(_TIMER_J)
                held.append(rig.memory())
            per_binding = (held[1] - held[0]) / (count / 2)
            best, best_used = (300, used) if result.clean else (0, 0.0)
            for rate in ladder if best else ():
                result, used, _ = load(
                    laboratory, client, sipp.REGISTRATION, rate, 5.0 if quick else 10.0, users=users, rig=rig
                )
                if not result.clean:
                    break
                best, best_used = rate, used
            rows.append(
                {
                    "table": "Registrations with digest (REGISTER 401 REGISTER 200), one core",
                    "program": rig.name,
                    "registrations/s without a failure": best,
                    "CPU per registration, ms": round(best_used * 1000 / best, 3) if best else None,
                    "memory per binding, kB": round(per_binding / 1024, 2),
                    "next rate": "not reached"
                    if result.clean
                    else f"{result.offered:g}: {result.failed} failed, "
                    f"{result.retransmissions} repeated, {result.achieved:.0f}/s kept",
                }
            )
    return rows


def user_file(laboratory: Laboratory, name: str, users: list[str]) -> Path:
    """SIPp's list of users with their passwords."""
    path = laboratory.directory / f"{name}.csv"
    lines = [f"{user};[authentication username={user} password={PASSWORD}]" for user in users]
    path.write_text("SEQUENTIAL\n" + "\n".join(lines) + "\n")
    return path


def load(
    laboratory: Laboratory,
    client: namespaces.Namespace,
    scenario: str,
    rate: float,
    seconds: float,
    *,
    target: str = BUNDLE,
    users: Path | None = None,
    rig: Rig | None = None,
) -> tuple[sipp.Outcome, float, int]:
    """Run one load. Returns its outcome, the cores that the program under test used in mid-run, and its memory then."""
    directory = laboratory.directory / "load"
    seconds = max(seconds, _LEAD_IN + 2.0)
    program = sipp.start_load(
        client, directory, scenario, address="198.51.100.200", target=f"{target}:5060", rate=rate,
        total=int(rate * seconds), core=LOAD, users=users,
    )  # fmt: skip
    time.sleep(_LEAD_IN)
    begin, used = time.monotonic(), processor_seconds(laboratory)
    time.sleep(seconds - _LEAD_IN - 0.5)
    cores = (processor_seconds(laboratory) - used) / (time.monotonic() - begin)
    memory = rig.memory() if rig else 0
    program.process.wait(seconds + 60)
    return sipp.outcome(directory, rate), cores, memory


def ratios(rows: list[Row]) -> list[Row]:
    """Ours against theirs wherever both have the same measure at the same load; below 1 means that ours needs less."""
    found: list[Row] = []
    ours = [row for row in rows if row.get("program") == NattravRig.name]
    for row in ours:
        other = next(
            (
                candidate
                for candidate in rows
                if candidate["table"] == row["table"]
                and candidate["program"] == KamailioRig.name
                and ("failed" not in row or candidate.get("calls/s") == row.get("calls/s"))
            ),
            None,
        )
        if other is None:
            continue
        for key, value in row.items():
            theirs = other.get(key)
            if key in ("failed", "repeated messages", "core used, %") or not isinstance(value, int | float):
                continue
            if isinstance(theirs, int | float) and theirs > 0 and not (key == "calls/s" and "failed" in row):
                found.append(
                    {
                        "table": "SIP: nattrav ÷ Kamailio + rtpengine",
                        "measure": key,
                        "at": f"{row['calls/s']} calls/s" if "failed" in row else row["table"],
                        "ratio": round(value / theirs, 2),
                    }
                )
    return found
