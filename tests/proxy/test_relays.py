"""Questions to a relay over a Unix socket: ends of calls wait for each other, and nothing overtakes them."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from nattrav.control.ng.codec_bencode import decode
from nattrav.net.clock import monotonic
from nattrav.net.rounds import Rounds
from nattrav.proxy.io.relays import HELD_MOST, HOLD, RelayAddress, Relays


@asynccontextmanager
async def asking(directory: Path) -> AsyncIterator[tuple[Relays, socket.socket]]:
    path = str(directory / "ng.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as relay:
        relay.bind(path)
        relays = Relays(
            [RelayAddress("r", 1, path=path)],
            lambda number, reply: None,
            lambda name, up: None,
            rounds=Rounds(),
            cookie_prefix="p",
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(relays.run)
            yield relays, relay
            nursery.cancel_scope.cancel()


def asked(relay: socket.socket) -> list[tuple[str, str]]:
    found = []
    while True:
        try:
            _, _, body = relay.recv(65536).partition(b" ")
        except BlockingIOError:
            return found
        question = decode(body)
        assert isinstance(question, dict)
        found.append((str(question[b"command"], "ascii"), str(question[b"call-id"], "ascii")))  # type: ignore[arg-type]


async def test_an_end_waits_for_others_but_not_long(tmp_path: Path) -> None:
    async with asking(tmp_path) as (relays, relay):
        before = monotonic()
        relays.ask(1, "delete", {"from-tag": "a"}, "c1")
        assert asked(relay) == []
        assert relays.next_timeout() <= monotonic() + HOLD
        relays.ask(2, "delete", {"from-tag": "a"}, "c2")
        relays.pool.handle_timeout(before)
        relays.handle_timeout(monotonic() + HOLD)
        assert asked(relay) == [("delete", "c1"), ("delete", "c2")]


async def test_many_ends_go_at_once(tmp_path: Path) -> None:
    async with asking(tmp_path) as (relays, relay):
        for number in range(HELD_MOST):
            relays.ask(number, "delete", {"from-tag": "a"}, f"c{number}")
        assert len(asked(relay)) == HELD_MOST


async def test_an_offer_of_the_same_call_goes_after_its_end(tmp_path: Path) -> None:
    async with asking(tmp_path) as (relays, relay):
        relays.ask(1, "delete", {"from-tag": "a"}, "c1")
        relays.ask(2, "offer", {"from-tag": "b", "sdp": b""}, "c2")
        assert asked(relay) == [("offer", "c2")]
        relays.ask(3, "offer", {"from-tag": "a", "sdp": b""}, "c1")
        assert asked(relay) == [("delete", "c1"), ("offer", "c1")]


async def test_ends_that_still_wait_are_told_when_the_proxy_stops(tmp_path: Path) -> None:
    async with asking(tmp_path) as (relays, relay):
        relays.ask(1, "delete", {"from-tag": "a"}, "c1")
        hold = socket.socket(fileno=relay.detach())
    with hold:
        assert asked(hold) == [("delete", "c1")]
