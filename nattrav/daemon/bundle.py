"""`nattrav run`: configuration, directories, supervisor, and the table of what listens where."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import trio

from nattrav.daemon import files
from nattrav.daemon.banner import listening_table
from nattrav.daemon.runtime import Listening
from nattrav.daemon.service import Place, make_runtime, raise_open_files
from nattrav.daemon.supervisor import Supervisor


def run_bundle(config: Path | None, runtime_directory: Path | None, *, modules: dict[str, str] | None = None) -> None:
    """Run until SIGTERM or SIGINT. ConfigurationError or StartRefused when it cannot start."""
    loaded = files.read(config)
    raise_open_files()
    place = Place.choose(loaded.configuration, runtime_directory)
    runtime = make_runtime("supervisor", loaded.configuration, place)
    supervisor = Supervisor(loaded, runtime, place, config=config, modules=modules)

    def on_ready(listeners: list[Listening]) -> None:
        print(listening_table(listeners), file=sys.stderr, flush=True)

    trio.run(partial(supervisor.run, on_ready=on_ready))
