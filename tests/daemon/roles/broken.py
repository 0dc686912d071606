"""A role that breaks while it starts."""

from __future__ import annotations

import trio

from nattrav.config.schema import Configuration
from nattrav.daemon.runtime import Listening, Runtime


async def serve(config: Configuration, *, runtime: Runtime, task_status: trio.TaskStatus[list[Listening]]) -> None:
    raise ZeroDivisionError
