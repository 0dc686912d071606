"""A role that opens one socket, answers on its control socket and counts."""

from __future__ import annotations

from typing import Any

import trio

from nattrav.config.schema import Configuration
from nattrav.daemon.runtime import Listening, Runtime


async def serve(config: Configuration, *, runtime: Runtime, task_status: trio.TaskStatus[list[Listening]]) -> None:
    async def block(args: dict[str, Any]) -> Any:
        import time

        time.sleep(args["seconds"])  # noqa: ASYNC251

    sock = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
    await sock.bind(("127.0.0.1", 0))
    runtime.samples.inc("nattrav_stun_response_bytes_total", by=100)
    (runtime.state_directory / runtime.role).write_text(config.node.name)
    async with trio.open_nursery() as nursery:
        await nursery.start(runtime.serve_control, {"block": block})
        host, port = sock.getsockname()
        task_status.started([runtime.listening("echo", "udp", f"{host}:{port}", "192.168.1.5")])
        await trio.sleep_forever()
