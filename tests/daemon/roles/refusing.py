"""A role whose port is taken."""

from __future__ import annotations

import trio

from nattrav.config.schema import Configuration
from nattrav.daemon.runtime import Listening, Runtime, StartRefused


async def serve(config: Configuration, *, runtime: Runtime, task_status: trio.TaskStatus[list[Listening]]) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(runtime.serve_control, {})
        raise StartRefused("SIP port 5060/udp on 192.0.2.1 is taken: stop what uses it, or change [sip] listen")
