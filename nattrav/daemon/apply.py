"""Taking a new configuration over in a service that runs: prepare everything that can fail, then change it at once.

The verb `config.apply` gets `{"tables": …, "dry_run": bool}` and answers `{"left": [keys]}`: keys that otherwise count
at once, but in this case only after a restart. It refuses, with nothing changed, when the new values cannot be used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nattrav.config.diff import followable
from nattrav.config.load import validate
from nattrav.config.schema import Configuration
from nattrav.control.socket.messages import Handler, VerbError
from nattrav.daemon.runtime import Runtime, StartRefused


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is ready to be taken over. `carry_out` cannot fail; `left` are keys that need a restart all the same."""

    carry_out: Callable[[], None]
    left: tuple[str, ...] = ()
    discard: Callable[[], None] = lambda: None
    """Lets go of what was prepared and is not wanted after all."""


Prepare = Callable[[Configuration], Prepared]
"""Reads and builds all that the new configuration asks for; StartRefused when it cannot be had."""


def apply_verb(runtime: Runtime, configuration: Configuration, prepare: Prepare) -> Handler:
    """Make the handler of `config.apply` for a service that was started with `configuration`."""
    running = configuration

    async def apply(args: dict[str, Any]) -> dict[str, Any]:
        nonlocal running
        wanted = followable(running, validate(args["tables"]))
        try:
            prepared = prepare(wanted)
        except StartRefused as refused:
            raise VerbError("refused", str(refused)) from None
        if args.get("dry_run"):
            prepared.discard()
        else:
            prepared.carry_out()
            runtime.take_log(wanted.log)
            running = followable(running, wanted, prepared.left)
        return {"left": list(prepared.left)}

    return apply
