"""`nattrav doctor`: examines this host."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nattrav.cli import exit_codes
from nattrav.cli.connect import call_if_running, fail
from nattrav.cli.output import clean, current, emit, say
from nattrav.cli.rendering import wrapped

_MARKS = {"ok": ("OK  ", "32"), "unknown": ("?   ", "36"), "warn": ("WARN", "33"), "fail": ("FAIL", "31")}


def doctor(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="File; default: what the running bundle uses, else as for `nattrav run`."),
    ] = None,
) -> None:
    """Examine this host: addresses, ports, limits, kernel, firewall, clock, names; each finding with its remedy.

    Exit 0 when all is well, 7 when something should be improved, 1 when something will not work.

    Examples: nattrav doctor;  sudo nattrav doctor --json
    """
    from nattrav.config.load import ConfigurationError, validate
    from nattrav.daemon.directories import client_directories
    from nattrav.daemon.doctor.examinations import examine
    from nattrav.daemon.doctor.host import ThisHost
    from nattrav.daemon.files import read

    # Of a bundle that runs, what it runs by is examined, whichever file that came from.
    tables = call_if_running("supervisor", "config.show") if config is None else None
    try:
        configuration = read(config).configuration if tables is None else validate(tables)
    except ConfigurationError as error:
        fail(f"the configuration has {len(error.problems)} errors; 'nattrav check' tells them")
    running = any((place / "supervisor.sock").exists() for place, _ in client_directories(current().runtime_directory))
    findings = [
        {"name": one.name, "verdict": one.verdict.value, "found": one.found, "remedy": one.remedy}
        for one in examine(ThisHost(), configuration, running=running)
    ]
    if current().human:
        for one in findings:
            mark, colour = _MARKS[one["verdict"]]
            told = wrapped(f"{mark} {clean(one['name'])}: {clean(one['found'])}", current().width, 7)
            print(f"\x1b[{colour}m{mark}\x1b[0m{told[len(mark) :]}" if current().colours else told)
            if one["remedy"]:
                say(f"       → {one['remedy']}")
    else:
        emit(findings)
    verdicts = {one["verdict"] for one in findings}
    if "fail" in verdicts:
        raise typer.Exit(exit_codes.FAILED)
    if "warn" in verdicts:
        raise typer.Exit(exit_codes.DEGRADED)
