"""`nattrav registrations watch` against a running registrar."""

from __future__ import annotations

import contextlib
import json
from functools import partial
from pathlib import Path

import pytest
import trio

from nattrav.cli.app import run
from nattrav.control.socket.io.client import Client, ask
from nattrav.control.socket.messages import VerbError
from tests.proxy.playbook import request
from tests.proxy.test_proxy_daemon import Party, Running, running


async def register(proxy: Running, phone: Party, user: str, cseq: int, expires: int = 60) -> None:
    text = request(
        "REGISTER",
        f"sip:{proxy.sip}",
        to=f"<sip:{user}@{proxy.sip}>",
        branch=f"z9hG4bK{user}{cseq}",
        cseq=cseq,
        headers=f"Expires: {expires}\r\n",
    )
    await phone.send(proxy.sip, text)
    assert (await phone.receive()).status == 200


async def test_what_happens_to_the_wanted_bindings_is_told_as_it_happens(tmp_path: Path) -> None:
    async with running(tmp_path) as proxy:
        phone = await Party().bind()
        async with (
            Client.open(tmp_path / "proxy.sock") as client,
            contextlib.aclosing(client.stream("registrations.watch", {"search": "alice"})) as events,
        ):
            told: list[tuple[str, str]] = []

            async def act() -> None:
                await trio.sleep(0.1)
                await register(proxy, phone, "bob", 1)
                await register(proxy, phone, "alice", 2)
                await register(proxy, phone, "alice", 3)
                await proxy.ask("registrations.remove", aor="alice")

            with trio.fail_after(10):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(act)
                    async for event in events:
                        told.append((event["event"], event["source"]))
                        assert event["aor"].startswith("alice@")
                        if len(told) == 3:
                            break
            assert told == [(event, str(phone.address)) for event in ("added", "refreshed", "removed")]


async def test_the_command_prints_clean_lines_of_80_columns_and_json_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(tmp_path) as proxy:
        phone = await Party().bind()

        async def command(*words: str) -> None:
            words = ("registrations", "watch", *words, "--for", "0.6", "--runtime-dir", str(tmp_path))
            assert await trio.to_thread.run_sync(partial(run, words)) == 0

        for number, form in enumerate(((), ("-o", "jsonl"))):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(command, *form)
                await trio.sleep(0.2)
                await register(proxy, phone, "a" * 80, number + 1)
        told = [line for line in capsys.readouterr().out.splitlines() if "a" * 20 in line]
        table, data = told
        assert " added " in table
        assert len(table) == 80
        assert json.loads(data)["event"] == "refreshed"


async def test_a_search_that_is_no_text_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path):
        with pytest.raises(VerbError, match="search is no text"):
            await ask(tmp_path / "proxy.sock", "registrations.watch", {"search": 1})
