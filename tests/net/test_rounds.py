"""Rounds over sockets: what comes on any of them is read, and what the readers leave is sent at the end."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial

import pytest
import trio
import trio.lowlevel

from nattrav.net.rounds import Rounds

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    made = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
    yield made
    for one, other in made:
        one.close()
        other.close()


def test_one_round_reads_every_socket_and_then_sends_once(pairs: list[Pair]) -> None:
    rounds = Rounds()
    done: list[object] = []
    for far, near in pairs:
        far.send(b"x")
        rounds.add(near, partial(lambda sock: done.append((sock.recv(9), rounds.reading)), near))
    rounds.at_end(lambda: done.append(rounds.reading))
    assert rounds.look()
    assert done == [(b"x", True), (b"x", True), False]


def test_a_round_without_datagrams_sends_nothing(pairs: list[Pair]) -> None:
    rounds = Rounds()
    rounds.add(pairs[0][1], lambda: pytest.fail("nothing has come"))
    rounds.at_end(lambda: pytest.fail("nothing was read"))
    assert not rounds.look()


def test_what_a_reader_leaves_is_read_in_the_next_round(pairs: list[Pair]) -> None:
    rounds = Rounds()
    (far, near), _ = pairs
    found: list[bytes] = []
    rounds.add(near, lambda: found.append(near.recv(9)))
    far.send(b"1")
    far.send(b"2")
    assert rounds.look()
    assert rounds.look()
    assert not rounds.look()
    assert found == [b"1", b"2"]


def test_what_could_not_be_sent_brings_another_round(pairs: list[Pair]) -> None:
    rounds = Rounds()
    (far, near), _ = pairs
    found: list[bytes] = []
    rounds.add(near, lambda: found.append(near.recv(9)))
    left = [True, True, False]
    rounds.at_end(lambda: left.pop(0))
    far.send(b"x")
    assert [rounds.look() for _ in range(4)] == [True, True, True, False]
    assert found == [b"x"]


def test_a_removed_socket_is_not_read(pairs: list[Pair]) -> None:
    rounds = Rounds()
    (far, near), _ = pairs
    rounds.add(near, lambda: pytest.fail("it was removed"))
    rounds.remove(near)
    far.send(b"x")
    assert not rounds.look()


async def test_all_that_comes_under_load_is_read_and_others_get_their_turn(pairs: list[Pair]) -> None:
    rounds = Rounds()
    (far, near), _ = pairs
    near.setblocking(False)
    found: list[bytes] = []
    rounds.add(near, lambda: found.append(near.recv(9)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rounds.run)
        for number in range(30):
            far.send(b"%d" % number)
            await trio.lowlevel.checkpoint()
        with trio.fail_after(10):
            while len(found) < 30:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert found == [b"%d" % number for number in range(30)]


@pytest.mark.parametrize("awaited", [True, False])
async def test_what_somebody_waits_for_does_not_wait_for_the_next_moment(
    pairs: list[Pair], monkeypatch: pytest.MonkeyPatch, awaited: bool
) -> None:
    monkeypatch.setattr("nattrav.net.rounds.GRID", 60.0)
    monkeypatch.setattr("nattrav.net.rounds.HASTE", 30.0)
    asleep: list[list[bytes]] = []
    monkeypatch.setattr("nattrav.net.rounds.time.sleep", lambda seconds: asleep.append(found.copy()))
    rounds = Rounds()
    open_questions = [awaited]
    rounds.awaited = lambda: open_questions[0]
    (far, near), (relay, ours) = pairs
    found: list[bytes] = []

    def ask() -> None:
        found.append(near.recv(9))
        if found == [b"1", b"2"]:
            relay.send(b"answer")

    def hear() -> None:
        found.append(ours.recv(9))
        open_questions[0] = False

    rounds.add(near, ask)
    rounds.add(ours, hear, urgent=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rounds.run)
        for datagram in (b"1", b"2"):
            far.send(datagram)
            with trio.fail_after(10):
                while datagram not in found:
                    await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert asleep[0] == ([b"1", b"2", b"answer"] if awaited else [b"1", b"2"])


class Passes(trio.abc.Instrument):
    """Counts the passes of the event loop, each of which gives every task that can run its turn."""

    def __init__(self) -> None:
        self.count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


@pytest.mark.parametrize(("hurried", "turns"), [(True, 9), (False, 3)])
async def test_other_tasks_get_fewer_turns_under_load_while_none_is_in_a_hurry(
    pairs: list[Pair], monkeypatch: pytest.MonkeyPatch, hurried: bool, turns: int
) -> None:
    # Load, however slow the machine: no time passes between two rounds.
    monkeypatch.setattr("nattrav.net.rounds.monotonic", lambda: 1.0)
    rounds = Rounds()
    rounds.hurried = lambda: hurried
    (far, near), _ = pairs
    passes, seen, done = Passes(), list[int](), trio.Event()

    def read() -> None:
        near.recv(9)
        seen.append(passes.count)
        if len(seen) < 10:
            far.send(b"x")
        else:
            done.set()

    rounds.add(near, read)
    far.send(b"x")
    trio.lowlevel.add_instrument(passes)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rounds.run)
        with trio.fail_after(10):
            await done.wait()
        nursery.cancel_scope.cancel()
    trio.lowlevel.remove_instrument(passes)
    assert seen[9] - seen[0] == turns
