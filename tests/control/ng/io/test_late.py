"""Bursts over a Unix socket, whose queue holds some ten datagrams: nothing is lost, and nobody waits for another."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import trio

from nattrav.control.ng.io import late
from nattrav.control.ng.io.late import LateReplies
from nattrav.control.ng.io.unix import auto_path
from nattrav.net.rounds import Rounds
from nattrav.proxy.io.relays import RelayAddress, Relays
from tests.control.ng.io.test_ng_io import relay
from tests.sdp.samples import PHONE, sdp

CALLS = 300


class Peer:
    """Takes `room` replies, then no more until somebody reads them."""

    def __init__(self, room: int = 2) -> None:
        self.room = room
        self.taken: list[bytes] = []

    def take(self, reply: bytes, peer: str | bytes) -> bool:
        if peer == "stuck" and self.room == 0:
            return False
        if peer == "stuck":
            self.room -= 1
        self.taken.append(reply)
        return True


@pytest.fixture
def peer() -> Peer:
    return Peer()


class TestReplies:
    async def test_keep_their_order_while_the_queue_is_full(self, peer: Peer, autojump_clock: object) -> None:
        replies = LateReplies(peer.take)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(replies.run)
            for number in range(6):
                assert replies.send(b"%d" % number, "stuck")
            await trio.sleep(0.1)
            assert peer.taken == [b"0", b"1"]
            peer.room = 3
            await trio.sleep(0.1)
            peer.room = 9
            assert replies.send(b"6", "stuck")
            await trio.sleep(0.1)
            assert peer.taken == [b"%d" % number for number in range(7)]
            assert len(replies) == 0
            nursery.cancel_scope.cancel()

    async def test_for_others_do_not_wait(self, peer: Peer, autojump_clock: object) -> None:
        peer.room = 0
        replies = LateReplies(peer.take)
        replies.send(b"late", "stuck")
        replies.send(b"now", "other")
        assert peer.taken == [b"now"]

    async def test_are_bounded_for_one_peer_and_for_all(self, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(late, "PEER_LIMIT", 3)
        monkeypatch.setattr(late, "LIMIT", 5)
        replies = LateReplies(lambda reply, peer: False)
        assert [replies.send(b"x", "a") for _ in range(4)] == [True, True, True, False]
        assert [replies.send(b"x", "b") for _ in range(3)] == [True, True, False]
        assert not replies.send(b"x", "c")

    async def test_for_a_peer_that_takes_nothing_are_forgotten(self, peer: Peer, autojump_clock: object) -> None:
        peer.room = 0
        replies = LateReplies(peer.take)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(replies.run)
            replies.send(b"x", "stuck")
            await trio.sleep(late.PATIENCE + 1)
            assert len(replies) == 0
            nursery.cancel_scope.cancel()


async def test_a_burst_of_the_proxy_is_answered_without_asking_twice(tmp_path: Path) -> None:
    answers: dict[int, object] = {}
    complete = trio.Event()

    def answered(number: int, reply: object) -> None:
        answers[number] = reply
        if len(answers) == CALLS:
            complete.set()

    rounds = Rounds()
    async with relay(tmp_path, "unix:auto") as _, trio.open_nursery() as nursery:
        relays = Relays(
            [RelayAddress("r", 1, path=str(auto_path(tmp_path)))],
            answered,
            lambda name, up: None,
            rounds=rounds,
            cookie_prefix="p",
            first_retry=60.0,
        )
        await nursery.start(relays.run)
        nursery.start_soon(rounds.run)
        for number in range(CALLS):
            relays.ask(number, "offer", {"sdp": sdp(*PHONE), "call-id": f"c{number}", "from-tag": "a"}, f"c{number}")
        with trio.fail_after(30):
            await complete.wait()
        assert relays.lost == relays.waiting == 0
        nursery.cancel_scope.cancel()


async def test_a_client_that_does_not_read_keeps_no_other_waiting(tmp_path: Path) -> None:
    async with relay(tmp_path, "unix:auto"):
        path = str(auto_path(tmp_path))
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as deaf,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as other,
        ):
            for one in (deaf, other):
                one.bind("")
            for number in range(60):
                while True:
                    try:
                        deaf.sendto(b"%d d7:command4:pinge" % number, path)
                        break
                    except BlockingIOError:
                        await trio.sleep(0.001)
            await trio.sleep(0.01)
            other.sendto(b"o d7:command4:pinge", path)
            with trio.fail_after(10):
                await trio.lowlevel.wait_readable(other)
            assert other.recv(100) == b"o d6:result4:ponge"
            # Now it reads: everything it asked comes, in order.
            found = []
            with trio.fail_after(10):
                while len(found) < 60:
                    await trio.lowlevel.wait_readable(deaf)
                    found.append(deaf.recv(100).partition(b" ")[0])
            assert found == [b"%d" % number for number in range(60)]
