from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from nattrav.control.socket.io.client import ask
from nattrav.control.socket.messages import VerbError
from nattrav.daemon.runtime import Runtime, StartRefused


async def test_a_service_answers_its_own_and_the_common_verbs(tmp_path: Path) -> None:
    runtime = Runtime("stun", tmp_path, tmp_path)
    runtime.listeners = [runtime.listening("STUN", "udp", "192.0.2.1:3478", "198.51.100.1")]
    runtime.samples.inc("nattrav_worker_restarts_total", "stun")

    async def stats(args: dict[str, Any]) -> Any:
        return {"answered": args["n"]}

    async def status(args: dict[str, Any]) -> Any:
        return {"requests": 7}

    async with trio.open_nursery() as nursery:
        await nursery.start(runtime.serve_control, {"stun.stats": stats, "status": status})
        assert await ask(runtime.control_path, "ping") == "pong"
        assert await ask(runtime.control_path, "stun.stats", {"n": 3}) == {"answered": 3}
        answer = await ask(runtime.control_path, "status")
        assert (answer["role"], answer["ready"], answer["requests"]) == ("stun", False, 7)
        assert answer["listening"][0]["advertised"] == "198.51.100.1"
        metrics = await ask(runtime.control_path, "metrics")
        assert metrics["nattrav_worker_restarts_total"] == [[["stun"], 1]]
        assert metrics["nattrav_worker_resident_memory_bytes"][0][1] > 1_000_000
        with pytest.raises(VerbError, match="no adjustable log"):
            await ask(runtime.control_path, "log.level", {"level": "debug"})
        nursery.cancel_scope.cancel()


async def test_a_second_instance_is_refused_in_one_line(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(Runtime("relay", tmp_path, tmp_path).serve_control, {})
        with pytest.raises(StartRefused, match=r"running already; stop it, or give this one its own --runtime-dir"):
            await Runtime("relay", tmp_path, tmp_path).serve_control({})
        nursery.cancel_scope.cancel()


async def test_a_directory_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match="choose another --runtime-dir"):
        await Runtime("relay", tmp_path / "missing", tmp_path).serve_control({})
