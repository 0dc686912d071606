"""`nattrav trace` against a running proxy."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from nattrav.cli.app import run
from nattrav.cli.trace import lines
from nattrav.control.socket.io.client import Client, ask
from nattrav.control.socket.messages import VerbError
from nattrav.daemon import feed, trace
from nattrav.daemon.trace import Trace, Wanted, shown_text
from nattrav.net.address import TransportAddress
from nattrav.proxy.io.shell import DropTap, Tap
from nattrav.sip.transport.flow import Target
from tests.proxy.playbook import request
from tests.proxy.test_proxy_daemon import Party, Running, running

INVITE = request("INVITE", "sip:1234@192.0.2.1", headers='Authorization: Digest nonce="n0nce", response="5ecret"\r\n')


@asynccontextmanager
async def traced(proxy: Running, **args: Any) -> AsyncGenerator[list[dict[str, Any]]]:
    """Gather what a trace shows; the trace is listening when the body begins."""
    items: list[dict[str, Any]] = []

    async def gather(client: Client) -> None:
        async with aclosing(client.stream("trace", args)) as stream:
            async for item in stream:
                items.append(item)  # noqa: PERF401

    async with Client.open(proxy.runtime.directory / "proxy.sock") as client, trio.open_nursery() as nursery:
        nursery.start_soon(gather, client)
        await trio.sleep(0.1)
        yield items
        nursery.cancel_scope.cancel()


async def options(proxy: Running, phone: Party, user: str, call_id: str) -> None:
    text = request("OPTIONS", f"sip:{proxy.sip}", to=f"<sip:{user}@{proxy.sip}>", branch=f"z9hG4bK{call_id}")
    lines = [f"Call-ID: {call_id}" if line.lower().startswith("call-id") else line for line in text.split("\r\n")]
    await phone.send(proxy.sip, "\r\n".join(lines))
    assert (await phone.receive()).status == 200


async def until(items: list[dict[str, Any]], number: int) -> None:
    with trio.fail_after(10):
        while len(items) < number:  # noqa: ASYNC110
            await trio.sleep(0.01)


async def test_a_trace_shows_both_ways_of_the_wanted_call_and_nothing_else(tmp_path: Path) -> None:
    async with running(tmp_path) as proxy:
        phone = await Party().bind()
        async with traced(proxy, what="wanted") as items:
            await options(proxy, phone, "bob", "other")
            await options(proxy, phone, "bob", "wanted")
            await until(items, 2)
            assert [(one["direction"], one["call_id"]) for one in items] == [("in", "wanted"), ("out", "wanted")]
            assert items[1]["line"] == "SIP/2.0 200 OK"
            assert items[0]["peer"] == str(phone.address)
        async with traced(proxy, what="carol") as items:
            await options(proxy, phone, "bob", "third")
            await options(proxy, phone, "carol", "fourth")
            await until(items, 2)
            assert {one["call_id"] for one in items} == {"fourth"}


async def test_with_an_address_drops_are_shown_with_their_reason(tmp_path: Path) -> None:
    async with running(tmp_path) as proxy:
        phone = await Party().bind()
        async with traced(proxy, what="127.0.0.1") as items:
            await phone.send(proxy.sip, "SIP/2.0 200 OK\r\n\r\n")
            await until(items, 2)
            assert [one["direction"] for one in items] == ["in", "dropped"]
            assert items[1]["reason"] == "malformed"


async def test_the_command_ends_after_its_count_its_time_or_with_nothing_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(tmp_path) as proxy:
        phone = await Party().bind()

        async def command(*words: str) -> int:
            return await trio.to_thread.run_sync(partial(run, ["trace", *words, "--runtime-dir", str(tmp_path)]))

        codes: list[int] = []

        async def follow() -> None:
            codes.append(await command("erin", "--count", "2", "--for", "10", "-o", "jsonl"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            while not codes:
                await options(proxy, phone, "erin", f"call{trio.current_time()}")
        assert codes == [0]
        shown = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line[:1] == "{"]
        assert len(shown) == 2
        assert await command("nobody", "--for", "0.1") == 4
        assert "no message of nobody within 0.1 s" in capsys.readouterr().err


class Tapped:
    def __init__(self) -> None:
        self.taps: list[Tap] = []

    def add_tap(self, tap: Tap, drops: DropTap | None = None) -> None:
        self.taps.append(tap)

    def remove_tap(self, tap: Tap, drops: DropTap | None = None) -> None:
        self.taps.remove(tap)


async def test_a_reader_that_sleeps_costs_a_bounded_queue_and_is_told_what_it_missed(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(feed, "WAITING", 2)
    shell = Tapped()
    items = await Trace(shell).verb({"seconds": 60})
    seen: list[dict[str, Any]] = []

    async def read() -> None:
        async for item in items:
            seen.append(item)
            await trio.sleep(5)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.sleep(1)
        for _ in range(10):
            shell.taps[0]("rx", Target("udp", TransportAddress("198.51.100.1", 5060)), INVITE.encode())
        await trio.sleep(20)
        shell.taps[0]("rx", Target("udp", TransportAddress("198.51.100.1", 5060)), INVITE.encode())
    assert [one["lost"] for one in seen] == [7, 0, 0, 0]
    assert shell.taps == []


async def test_wrong_arguments_are_refused_and_a_client_that_left_leaves_nothing_behind(tmp_path: Path) -> None:
    async with running(tmp_path) as proxy:
        for args in ({"what": 7}, {"seconds": 0}, {"seconds": True}, {"seconds": "x"}, {"seconds": 1e9}):
            with pytest.raises(VerbError) as refused:
                await ask(proxy.runtime.directory / "proxy.sock", "trace", args)
            assert refused.value.code == "invalid"
        for _ in range(trace.LISTENERS + 2):
            async with traced(proxy):
                pass
        async with traced(proxy) as items:
            phone = await Party().bind()
            await options(proxy, phone, "bob", "last")
            await until(items, 2)


def test_what_is_shown_holds_no_secret_and_no_private_text() -> None:
    text = shown_text(INVITE.encode())
    assert "n0nce" not in text
    assert "5ecret" not in text
    assert "nonce=***" in text
    message = request("MESSAGE", "sip:bob@192.0.2.1", headers="Content-Type: text/plain\r\n", body="see you at six")
    assert "see you" not in shown_text(message.encode().replace(b"application/sdp", b"text/plain"))


@pytest.mark.parametrize(
    ("wanted", "peer", "seen"),
    [
        ("", "198.51.100.1", True),
        ("198.51.100.1", "198.51.100.1", True),
        ("198.51.100.1", "198.51.100.10", False),
        ("2001:DB8:0::1", "2001:db8::1", True),
        ("1234", "198.51.100.1", True),
        ("1234@192.0.2.1", "198.51.100.1", True),
        ("123", "198.51.100.1", False),
        ("192.0.2.1", "198.51.100.1", False),
    ],
)
def test_calls_are_chosen_by_user_or_address_as_a_whole(wanted: str, peer: str, seen: bool) -> None:
    assert Wanted.of(wanted).has(peer, INVITE.encode()) is seen


def test_a_line_has_80_columns_and_no_terminal_escapes() -> None:
    item = {
        "at": 0.0,
        "transport": "udp",
        "peer": "[2001:db8::1]:5060",
        "direction": "in",
        "line": "INVITE sip:\x1b[31m" + "x" * 100 + " SIP/2.0",
        "text": "INVITE\r\nSubject: \x1b]0;own\x07",
        "lost": 3,
    }
    told, first, *rest = lines(item, full=True)
    assert told.startswith("3 messages were lost")
    assert len(first) == 80
    assert all("\x1b" not in line and "\x07" not in line for line in (first, *rest))
