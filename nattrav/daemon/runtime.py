"""What a service gets from its process: where to put sockets and files, a log, samples, and its control socket."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import structlog
import trio

from nattrav.config.log import LogSection
from nattrav.control.socket.io.server import SocketTaken, serve_verbs
from nattrav.control.socket.messages import Handler, VerbError, Verbs
from nattrav.daemon.handover import Inherited, Keep, Leave, leave_nothing
from nattrav.metrics.samples import Samples
from nattrav.net import clock
from nattrav.net.bpf.sharing import Company


class StartRefused(Exception):
    """A service cannot start; the message is one clear line that ends with the remedy. Exit code 1."""


@dataclass(frozen=True, slots=True)
class Listening:
    """One listener for the start-up table. `advertised` is what peers are told, where that differs or matters."""

    role: str
    what: str
    transport: str
    address: str
    advertised: str | None = None


class SetLevel(Protocol):
    """Changes a logger's level at run time; ValueError for a level that does not exist."""

    def __call__(self, level: str, logger: str | None = None) -> dict[str, str]: ...


def _level_is_fixed(level: str, logger: str | None = None) -> dict[str, str]:
    raise ValueError(f"this process has no adjustable log (asked for {level})")


def _log_is_fixed(settings: LogSection) -> None:
    """Nothing to change in a process without a log of its own."""


@dataclass
class Runtime:
    """One service's process. `directory` holds its control socket, `state_directory` what survives a restart."""

    role: str
    directory: Path
    state_directory: Path
    samples: Samples = field(default_factory=Samples)
    log: Any = field(default_factory=structlog.get_logger)
    set_level: SetLevel = _level_is_fixed
    take_log: Callable[[LogSection], None] = _log_is_fixed
    settle_log: Callable[[], None] = lambda: None
    """Write how many lines were left out."""
    socket_group: int | None = None
    inherited: Inherited = field(default_factory=Inherited)
    """Sockets that the process before this one, or the service manager, left for it."""
    leave: Leave = leave_nothing
    """Hands sockets on to the next process of this service; call it before they are closed."""
    keep: Keep | None = None
    """Has descriptors outlive this process however it ends; None when nobody would keep them."""
    started_at: float = field(default_factory=clock.wall)
    ready: bool = False
    listeners: list[Listening] = field(default_factory=list)

    def listening(self, what: str, transport: str, address: object, advertised: object = None) -> Listening:
        """Describe one of this service's listeners."""
        return Listening(self.role, what, transport, str(address), None if advertised is None else str(advertised))

    def company(self) -> Company:
        """Say who shares the kernel's XDP with this service, and what its last process left there."""
        return Company(self.role, self.directory, self.inherited.take_bpf(), self.keep)

    @property
    def control_path(self) -> Path:
        """This service's control socket."""
        return self.directory / f"{self.role}.sock"

    async def serve_control(
        self, verbs: Verbs, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Answer `verbs` and the common ones (`ping refusal status metrics log.level`) until cancelled.

        Start it with `await nursery.start(runtime.serve_control, verbs)`. A service's own `status` is added to the
        common one; its own `metrics` replaces it, to copy counters into `samples` before `samples.export()`.
        Raises StartRefused when another process serves this role in the same directory.
        """
        own_status, own_metrics = verbs.get("status"), verbs.get("metrics")

        async def status(args: dict[str, Any]) -> dict[str, Any]:
            common = self.status()
            return common if own_status is None else common | await own_status(args)

        async def metrics(args: dict[str, Any]) -> Any:
            self._sample_process()
            return self.samples.export() if own_metrics is None else await own_metrics(args)

        served: Mapping[str, Handler] = {
            "ping": self._ping,
            "refusal": self._refusal,
            "log.level": self._log_level,
            **verbs,
            "status": status,
            "metrics": metrics,
        }
        try:
            await serve_verbs(
                self.control_path, served, on_fault=self._fault, group=self.socket_group, task_status=task_status
            )
        except SocketTaken as taken:
            raise StartRefused(
                f"{taken}: a nattrav {self.role} is running already; stop it, or give this one its own --runtime-dir"
            ) from None
        except OSError as error:
            raise StartRefused(
                f"cannot open the control socket {self.control_path}: {error.strerror}; choose another --runtime-dir"
            ) from None

    def status(self) -> dict[str, Any]:
        """Give what every service says of itself."""
        return {
            "role": self.role,
            "pid": os.getpid(),
            "ready": self.ready,
            "started_at": self.started_at,
            "uptime": clock.wall() - self.started_at,
            "listening": [asdict(listener) for listener in self.listeners],
        }

    def _fault(self, verb: str, error: Exception) -> None:
        self.log.error("control verb failed", verb=verb, exc_info=error)

    async def _ping(self, args: dict[str, Any]) -> str:
        return "pong"

    async def _refusal(self, args: dict[str, Any]) -> str | None:
        """Why this service would refuse a new call now; None when it would not."""
        return None

    def _sample_process(self) -> None:
        times = os.times()
        self.samples.set("nattrav_worker_cpu_seconds_total", times.user + times.system, self.role, "process")
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.samples.set("nattrav_worker_resident_memory_bytes", pages * os.sysconf("SC_PAGE_SIZE"), self.role)

    async def _log_level(self, args: dict[str, Any]) -> dict[str, str]:
        try:
            return self.set_level(str(args.get("level", "")), args.get("logger"))
        except ValueError as error:
            raise VerbError("invalid", str(error)) from None
