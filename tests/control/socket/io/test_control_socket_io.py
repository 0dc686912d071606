from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from nattrav.control.socket.io.client import Client, Unreachable, ask
from nattrav.control.socket.io.server import CONNECTIONS, SocketTaken, serve_verbs
from nattrav.control.socket.messages import VerbError


async def echo(args: dict[str, Any]) -> Any:
    return args


async def count(args: dict[str, Any]) -> Any:
    async def numbers() -> AsyncIterator[int]:
        for number in range(args["to"]):
            yield number

    return numbers()


async def forever(args: dict[str, Any]) -> Any:
    async def items() -> AsyncIterator[int]:
        while True:
            yield 1
            await trio.sleep(0.01)

    return items()


async def stumble(args: dict[str, Any]) -> Any:
    async def items() -> AsyncIterator[int]:
        yield 1
        raise VerbError("busy", "too slow a reader")

    return items()


async def refuse(args: dict[str, Any]) -> Any:
    raise VerbError("not_found", "no such thing")


async def broken(args: dict[str, Any]) -> Any:
    raise KeyError("oops")


VERBS = {"echo": echo, "count": count, "forever": forever, "stumble": stumble, "refuse": refuse, "broken": broken}


@pytest.fixture
def faults() -> list[tuple[str, Exception]]:
    return []


async def start(nursery: trio.Nursery, path: Path, faults: list[tuple[str, Exception]]) -> None:
    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        await serve_verbs(path, VERBS, on_fault=lambda *fault: faults.append(fault), task_status=task_status)

    await nursery.start(run)


async def test_a_verb_is_asked_and_answered(tmp_path: Path, faults: list[tuple[str, Exception]]) -> None:
    path = tmp_path / "x.sock"
    async with trio.open_nursery() as nursery:
        await start(nursery, path, faults)
        assert await ask(path, "echo", {"ä": [1, None]}) == {"ä": [1, None]}
        assert path.stat().st_mode & 0o777 == 0o660
        nursery.cancel_scope.cancel()
    assert not path.exists()


async def test_a_streaming_verb_gives_its_items_and_the_connection_goes_on(
    tmp_path: Path, faults: list[tuple[str, Exception]]
) -> None:
    path = tmp_path / "x.sock"
    async with trio.open_nursery() as nursery:
        await start(nursery, path, faults)
        async with Client.open(path) as client:
            assert [item async for item in client.stream("count", {"to": 4})] == [0, 1, 2, 3]
            assert await client.ask("echo", {"again": 1}) == {"again": 1}
        nursery.cancel_scope.cancel()


async def test_a_stream_may_end_with_a_refusal(tmp_path: Path, faults: list[tuple[str, Exception]]) -> None:
    path = tmp_path / "x.sock"
    async with trio.open_nursery() as nursery:
        await start(nursery, path, faults)
        async with Client.open(path) as client:
            items = client.stream("stumble")
            assert await anext(items) == 1
            with pytest.raises(VerbError, match="too slow a reader"):
                await anext(items)
            assert await client.ask("echo") == {}
        nursery.cancel_scope.cancel()
    assert faults == []


async def test_refusals_carry_their_code_and_faults_are_told_and_survived(
    tmp_path: Path, faults: list[tuple[str, Exception]]
) -> None:
    path = tmp_path / "x.sock"
    async with trio.open_nursery() as nursery:
        await start(nursery, path, faults)
        async with Client.open(path) as client:
            with pytest.raises(VerbError, match="no such thing") as refused:
                await client.ask("refuse")
            assert refused.value.code == "not_found"
            with pytest.raises(VerbError, match="KeyError") as refused:
                await client.ask("broken")
            assert refused.value.code == "internal"
            assert [verb for verb, _ in faults] == ["broken"]
            with pytest.raises(VerbError, match="known: echo"):
                await client.ask("nothing")
            assert await client.ask("echo") == {}
        nursery.cancel_scope.cancel()


async def test_garbage_is_answered_and_the_service_goes_on(tmp_path: Path, faults: list[tuple[str, Exception]]) -> None:
    path = tmp_path / "x.sock"
    async with trio.open_nursery() as nursery:
        await start(nursery, path, faults)
        async with await trio.open_unix_socket(str(path)) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\n\r\n" + b"\0" * 300_000)
            assert b'"invalid"' in await stream.receive_some(1000)
        assert await ask(path, "echo") == {}
        nursery.cancel_scope.cancel()
    assert faults == []


async def test_a_client_that_hangs_up_ends_its_stream(tmp_path: Path, faults: list[tuple[str, Exception]]) -> None:
    path = tmp_path / "x.sock"
    async with trio.open_nursery() as nursery:
        await start(nursery, path, faults)
        for _ in range(CONNECTIONS + 5):
            async with Client.open(path) as client:
                items = client.stream("forever")
                assert await anext(items) == 1
                await items.aclose()
        assert await ask(path, "echo") == {}
        nursery.cancel_scope.cancel()


async def test_too_many_clients_are_told_busy(tmp_path: Path, faults: list[tuple[str, Exception]]) -> None:
    path = tmp_path / "x.sock"
    async with trio.open_nursery() as nursery:
        await start(nursery, path, faults)
        streams = [await trio.open_unix_socket(str(path)) for _ in range(CONNECTIONS)]
        for stream in streams:
            await stream.send_all(b'{"id":1,"verb":"echo"}\n')
            assert await stream.receive_some(100)
        with pytest.raises(VerbError) as refused:
            await ask(path, "echo")
        assert refused.value.code == "busy"
        for stream in streams:
            await stream.aclose()
        nursery.cancel_scope.cancel()


async def test_a_stale_socket_is_replaced_and_a_live_one_respected(
    tmp_path: Path, faults: list[tuple[str, Exception]]
) -> None:
    path = tmp_path / "x.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    async with trio.open_nursery() as nursery:
        await start(nursery, path, faults)
        assert await ask(path, "echo") == {}
        with pytest.raises(SocketTaken):
            await serve_verbs(path, VERBS, on_fault=lambda *_: None)
        assert await ask(path, "echo") == {}
        nursery.cancel_scope.cancel()


async def test_nobody_there_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="No such file"):
        await ask(tmp_path / "none.sock", "echo")
