"""What the supervisor answers on its control socket: the bundle's state, reload, drain, restart, log levels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nattrav.config.schema import Configuration
from nattrav.config.write import as_tables
from nattrav.control.socket.messages import VerbError, Verbs
from nattrav.daemon.admin_token import read_token
from nattrav.daemon.apply import Prepared, apply_verb
from nattrav.daemon.reload import Reload
from nattrav.net import clock

if TYPE_CHECKING:
    from nattrav.daemon.supervisor import Supervisor

Args = dict[str, Any]


class SupervisorVerbs:
    """The verbs over one supervisor."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self.note_accepted()

    def table(self) -> Verbs:
        """Every verb by name."""
        drain = self._supervisor.drain
        return {
            "status": self._status,
            "metrics": self._metrics,
            "log.level": self._log_level,
            "config.show": self._config_show,
            "config.reload": self._config_reload,
            "config.apply": apply_verb(self._supervisor.runtime, self._supervisor.loaded.configuration, self._prepare),
            "service.restart": self._service_restart,
            "overview": self._overview,
            "drain": lambda args: drain.set(True),
            "undrain": lambda args: drain.set(False),
            "drain.state": lambda args: drain.state(),
        }

    async def reload(self, path: Path | None, *, dry_run: bool = False, restart: bool = False) -> dict[str, Any]:
        """Take over a changed file; the log and two metrics say how it went."""
        supervisor = self._supervisor
        runtime = supervisor.runtime
        told = await Reload.of(supervisor, path).run(dry_run=dry_run, restart=restart)
        if dry_run:
            return told
        runtime.samples.set("nattrav_config_last_reload_successful", float(told["accepted"]))
        if told["accepted"]:
            supervisor.config = path
            supervisor.note_behind()
            self.note_accepted()
            runtime.log.info(
                "configuration reloaded",
                changed=[one["key"] for one in told["changes"]],
                notes=told["notes"],
            )
        else:
            runtime.log.error("configuration refused, the old one holds", reason=told["problems"])
        return told

    def note_accepted(self) -> None:
        """Tell the metrics that the configuration holds now."""
        samples = self._supervisor.runtime.samples
        samples.set("nattrav_config_last_reload_successful", 1)
        samples.set("nattrav_config_last_reload_success_timestamp_seconds", clock.wall())

    def _prepare(self, new: Configuration) -> Prepared:
        token = read_token(new.admin)

        def carry_out() -> None:
            self._supervisor.door.change(new.admin, token)

        return Prepared(carry_out)

    async def _status(self, args: Args) -> dict[str, Any]:
        return await self._supervisor.overview.status()

    async def _metrics(self, args: Args) -> Any:
        return (await self._supervisor.overview.samples()).export()

    async def _overview(self, args: Args) -> dict[str, Any]:
        return await self._supervisor.feed.latest()

    async def _config_show(self, args: Args) -> dict[str, Any]:
        return as_tables(self._supervisor.loaded.configuration)

    async def _config_reload(self, args: Args) -> dict[str, Any]:
        path = self._supervisor.config if args.get("file") is None else Path(str(args["file"]))
        return await self.reload(path, dry_run=bool(args.get("dry_run")), restart=bool(args.get("restart")))

    async def _service_restart(self, args: Args) -> dict[str, Any]:
        supervisor = self._supervisor
        role = str(args.get("role", ""))
        if role not in supervisor.parts:
            raise VerbError("not_found", f"no service {role!r}: choose one of {', '.join(supervisor.parts)}")
        refusal = await supervisor.restart(role)
        if refusal is not None:
            raise VerbError("refused", f"the {role} does not start and is tried again: {refusal}")
        child = supervisor.parts[role].child
        return {"role": role, "pid": child.pid if child is not None else None}

    async def _log_level(self, args: Args) -> dict[str, Any]:
        supervisor = self._supervisor
        level, only = str(args.get("level", "")), args.get("logger")
        known = ["supervisor", *supervisor.parts]
        if only is not None and only not in known:
            raise VerbError("not_found", f"no service {only!r}: choose one of {', '.join(known)}")
        answers: dict[str, Any] = {}
        if only in (None, "supervisor"):
            try:
                answers["supervisor"] = supervisor.runtime.set_level(level)["level"]
            except ValueError as error:
                raise VerbError("invalid", str(error)) from None
        roles = [role for role in supervisor.parts if only in (None, role)]
        gathered = await supervisor.gather("log.level", {"level": level}, roles=roles)
        return answers | {role: answer["level"] for role, answer in gathered.items()}
