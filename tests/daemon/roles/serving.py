"""A role that opens one socket, answers on its control socket and counts."""

from __future__ import annotations

from typing import Any

import trio

from nattrav.config.schema import Configuration
from nattrav.control.socket.messages import Handler
from nattrav.daemon.apply import Prepared, apply_verb
from nattrav.daemon.runtime import Listening, Runtime, StartRefused


async def serve(config: Configuration, *, runtime: Runtime, task_status: trio.TaskStatus[list[Listening]]) -> None:
    async def block(args: dict[str, Any]) -> Any:
        import time

        time.sleep(args["seconds"])  # noqa: ASYNC251

    told: list[str] = []

    def tell(verb: str) -> Handler:
        async def handle(args: dict[str, Any]) -> Any:
            told.append(verb)

        return handle

    def follow(new: Configuration) -> Prepared:
        if new.sip.history == 13:
            raise StartRefused(f"{runtime.role}: not with thirteen; choose another number")
        left = ("relay.ports",) if new.relay.ports == "40000-40003" else ()
        return Prepared(lambda: told.append(f"history {new.sip.history}"), left)

    async def show(args: dict[str, Any]) -> Any:
        return told

    refusing: list[str] = []

    async def refuse(args: dict[str, Any]) -> None:
        refusing[:] = args["reasons"]

    async def refusal(args: dict[str, Any]) -> str | None:
        return refusing[0] if refusing else None

    sock = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
    await sock.bind(("127.0.0.1", 0))
    runtime.samples.inc("nattrav_stun_response_bytes_total", by=100)
    (runtime.state_directory / runtime.role).write_text(config.node.name)
    names = [f"{runtime.role}.drain", f"{runtime.role}.undrain"]
    async with trio.open_nursery() as nursery:
        verbs = {
            "block": block,
            "told": show,
            "refuse": refuse,
            "refusal": refusal,
            **{name: tell(name) for name in names},
        }
        verbs["config.apply"] = apply_verb(runtime, config, follow)
        await nursery.start(runtime.serve_control, verbs)
        host, port = sock.getsockname()
        task_status.started([runtime.listening("echo", "udp", f"{host}:{port}", "192.168.1.5")])
        await trio.sleep_forever()
