"""Runs one service in this process: alone (`nattrav stun serve`) or as a child of the supervisor."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import resource
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import trio

from nattrav.config.schema import Configuration
from nattrav.daemon.directories import runtime_directory, state_directory
from nattrav.daemon.logs import Log
from nattrav.daemon.runtime import Listening, Runtime, StartRefused

PR_SET_PDEATHSIG = 1
END_WITHIN = 4
"""Seconds a service may take to end after SIGTERM; then the kernel ends it."""

_LAG_INTERVAL = 0.5


class Serve(Protocol):
    """What every role module offers as `serve`."""

    def __call__(
        self, config: Configuration, *, runtime: Runtime, task_status: trio.TaskStatus[list[Listening]]
    ) -> Awaitable[None]: ...


@dataclass(frozen=True)
class Place:
    """Where a service puts its sockets and files."""

    runtime_directory: Path
    state_directory: Path

    @classmethod
    def choose(cls, configuration: Configuration, explicit: Path | None = None) -> Place:
        """Choose and make both directories; StartRefused when one cannot be used.

        An instance that was told a run directory of its own keeps its state there, too, unless told otherwise.
        """
        beside = None if explicit is None else explicit / "state"
        place = cls(runtime_directory(explicit), state_directory(configuration.node.state_directory, beside=beside))
        for directory, option in (
            (place.runtime_directory, "--runtime-dir"),
            (place.state_directory, "[node] state_directory"),
        ):
            make_directory(directory, option)
        return place


def make_directory(directory: Path, option: str) -> None:
    """Make a directory that only its owner and group enter; StartRefused when it is unusable or another user's."""
    try:
        directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        owner = directory.stat().st_uid
    except OSError as error:
        raise StartRefused(
            f"cannot use directory {directory}: {error.strerror}; choose another with {option}"
        ) from None
    if not os.access(directory, os.W_OK | os.X_OK):
        raise StartRefused(f"cannot write to directory {directory}; choose another with {option}")
    if owner not in (os.geteuid(), 0):
        raise StartRefused(f"directory {directory} belongs to another user; choose another with {option}")


def load_serve(role: str) -> Serve:
    """Import a role's module and give its `serve`."""
    serve: Serve = importlib.import_module(f"nattrav.daemon.{role}").serve
    return serve


async def run_role(
    serve: Serve,
    configuration: Configuration,
    runtime: Runtime,
    *,
    on_ready: Callable[[list[Listening]], None],
    end_on: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGINT),
) -> None:
    """Run one service until one of the signals `end_on`. StartRefused when it cannot start."""
    async with ungrouped(), trio.open_nursery() as nursery:
        await nursery.start(_end_on_signal, end_on, nursery.cancel_scope)
        nursery.start_soon(_watch_lag, runtime)
        runtime.listeners = await nursery.start(partial(serve, configuration, runtime=runtime))
        runtime.inherited.close()
        runtime.ready = True
        on_ready(runtime.listeners)


@contextlib.asynccontextmanager
async def ungrouped() -> AsyncIterator[None]:
    """Raise a lone StartRefused out of the exception groups of the nurseries it passed."""
    try:
        yield
    except BaseExceptionGroup as group:
        refused, others = group.split(StartRefused)
        if refused is None or others is not None:
            raise
        raise _leaf(refused) from None


def _leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _end_on_signal(
    end_on: tuple[signal.Signals, ...], scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]
) -> None:
    with trio.open_signal_receiver(*end_on) as received:
        task_status.started()
        async for _ in received:
            # A service that does not come to its end is ended by the kernel.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(END_WITHIN)
            scope.cancel()


async def _watch_lag(runtime: Runtime) -> None:
    while True:
        due = trio.current_time() + _LAG_INTERVAL
        await trio.sleep_until(due)
        runtime.samples.observe("nattrav_loop_lag_seconds", trio.current_time() - due, runtime.role)
        runtime.settle_log()


def make_runtime(role: str, configuration: Configuration, place: Place) -> Runtime:
    """Give a service's process its log, samples and directories."""
    runtime = Runtime(role, place.runtime_directory, place.state_directory)
    log = Log(role, configuration.log, node=configuration.node.name or socket.gethostname(), samples=runtime.samples)
    runtime.log = log.logger()
    runtime.set_level = log.set_level
    runtime.take_log = log.take
    runtime.settle_log = log.settle
    runtime.socket_group = group_number(configuration.admin.socket_group)
    return runtime


def group_number(name: str) -> int | None:
    """Give the number of the group that may use the control sockets; StartRefused when there is none."""
    if not name:
        return None
    import grp

    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise StartRefused(f"[admin] socket_group {name!r} does not exist; create it or leave the key empty") from None


def raise_open_files() -> None:
    """Take as many descriptors as the hard limit allows; each media port needs one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def die_with_parent(parent: int) -> None:
    """Ask the kernel for SIGTERM when the supervisor ends, however it ends; leave at once if it already has."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(1)
