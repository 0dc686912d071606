"""One service alone in the foreground, without a supervisor: `nattrav stun|relay|proxy serve`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import trio

from nattrav.config.diff import differences
from nattrav.config.load import ConfigurationError, Loaded
from nattrav.config.schema import Configuration
from nattrav.control.socket.io.client import ask
from nattrav.control.socket.messages import VerbError
from nattrav.daemon.banner import listening_table
from nattrav.daemon.handover import Inherited, passed
from nattrav.daemon.runtime import Listening, Runtime, StartRefused
from nattrav.daemon.service import Place, load_serve, make_runtime, raise_open_files, run_role, ungrouped
from nattrav.daemon.systemd import Notifier

ReadAgain = Callable[[], Loaded]
"""Reads the files and options that the service was started with; ConfigurationError when they are wrong now."""


def run_alone(role: str, configuration: Configuration, explicit: Path | None = None, *, read_again: ReadAgain) -> int:
    """Run one service until SIGTERM or SIGINT; prints what listens where. Gives the exit code.

    SIGHUP has it read its configuration again.
    """
    notifier = Notifier()
    kept: list[int] = []

    def on_ready(listeners: list[Listening]) -> None:
        print(listening_table(listeners), file=sys.stderr, flush=True)
        notifier.tell(READY="1", STATUS="serving")
        notifier.forget(role[0])
        notifier.store(role[0], kept)

    async def run(runtime: Runtime) -> None:
        async with ungrouped(), trio.open_nursery() as nursery:
            nursery.start_soon(notifier.keep, lambda: "serving")
            await nursery.start(_heed_hangup, runtime, configuration, read_again)
            await run_role(load_serve(role), configuration, runtime, on_ready=on_ready)
            nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await notifier.settled()

    raise_open_files()
    try:
        place = Place.choose(configuration, explicit)
        runtime = make_runtime(role, configuration, place)
        runtime.inherited = Inherited(descriptor for _, descriptor in passed())
        runtime.keep = kept.extend if notifier.active else None
        runtime.leave = lambda sockets: notifier.store(role[0], [sock.fileno() for sock in sockets])
        trio.run(run, runtime)
    except StartRefused as refused:
        print(f"nattrav {role}: {refused}", file=sys.stderr)
        return 1
    return 0


async def _heed_hangup(
    runtime: Runtime, running: Configuration, read_again: ReadAgain, *, task_status: trio.TaskStatus[None]
) -> None:
    with trio.open_signal_receiver(signal.SIGHUP) as received:
        task_status.started()
        async for _ in received:
            if runtime.ready:
                await _reload(runtime, running, read_again)


async def _reload(runtime: Runtime, running: Configuration, read_again: ReadAgain) -> None:
    """Follow the file as far as it goes without a restart, and tell the rest; on any error nothing changes."""
    told = partial(ask, runtime.control_path, "config.apply")
    try:
        loaded = read_again()
        for dry_run in (True, False):
            await told({"tables": loaded.tables, "dry_run": dry_run})
    except (ConfigurationError, VerbError) as error:
        runtime.log.error("configuration refused, the old one holds", reason=str(error))
        return
    changes = differences({runtime.role: running}, loaded.configuration)
    runtime.log.info("configuration reloaded", changed=[f"{change.key}: {change.effect.value}" for change in changes])
