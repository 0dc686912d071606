"""`python -m nattrav.daemon ROLE`: a service as child of the supervisor; orders come on standard input."""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import trio

from nattrav.config.load import validate
from nattrav.daemon.handover import Inherited, keep_with, leave_to
from nattrav.daemon.runtime import Listening, StartRefused
from nattrav.daemon.service import Place, die_with_parent, load_serve, make_runtime, raise_open_files, run_role


def main() -> int:
    """Run the service the orders name. Exit code 1 when it cannot start."""
    # Ctrl-C goes to the whole process group; the supervisor alone decides what ends when.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    orders = json.loads(sys.stdin.buffer.read())
    die_with_parent(orders["parent"])
    raise_open_files()
    report = os.fdopen(orders["report"], "w")

    def answer(text: dict[str, Any]) -> None:
        with report:
            json.dump(text, report)

    def on_ready(listeners: list[Listening]) -> None:
        answer({"ready": [asdict(one) for one in listeners]})

    try:
        configuration = validate(orders["tables"])
        place = Place(Path(orders["runtime_directory"]), Path(orders["state_directory"]))
        runtime = make_runtime(orders["role"], configuration, place)
        runtime.inherited = Inherited(orders["sockets"])
        heir = socket.socket(fileno=orders["heir"])
        runtime.leave, runtime.keep = leave_to(heir), keep_with(heir)
        module = orders["module"]
        serve = importlib.import_module(module).serve if module else load_serve(orders["role"])
        trio.run(partial(run_role, serve, configuration, runtime, on_ready=on_ready, end_on=(signal.SIGTERM,)))
    except StartRefused as refused:
        answer({"refused": str(refused)})
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
