"""Port pools: pairs, singles, quarantine, pressure, foreign programs."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.ports import NoSocket, PortPool, PortState, RandomSet
from tests.relay.planes import MemoryOpener


def pool(low: int = 30000, high: int = 30009, **options: float) -> PortPool:
    return PortPool("public", "203.0.113.5", low, high, choose=random.Random(7).randrange, **options)  # type: ignore[arg-type]


def give_back(ports: PortPool, *taken: object, now: float = 0.0) -> None:
    for one in taken:
        number, sock = one  # type: ignore[misc]
        sock.close()
        ports.release(number, now)


def test_a_pair_is_an_even_port_and_the_next_one() -> None:
    both = pool().open_pair(MemoryOpener(), 0.0)
    assert both is not None
    (even, _), (odd, _) = both
    assert even % 2 == 0
    assert odd == even + 1


def test_a_range_that_starts_or_ends_in_half_a_pair_gives_only_whole_pairs() -> None:
    ports = pool(30001, 30004)
    opener = MemoryOpener()
    both = ports.open_pair(opener, 0.0)
    assert both is not None
    assert both[0][0] == 30002
    assert ports.open_pair(opener, 0.0) is None
    assert {ports.open_single(opener, 0.0)[0] for _ in range(2)} == {30001, 30004}  # type: ignore[index]
    assert ports.open_single(opener, 0.0) is None


def test_ports_come_in_an_order_that_cannot_be_guessed() -> None:
    ports, opener = pool(30000, 39999), MemoryOpener()
    first = [ports.open_pair(opener, 0.0)[0][0] for _ in range(20)]  # type: ignore[index]
    assert first != sorted(first)
    assert len(set(first)) == 20


def test_a_released_port_rests_before_it_is_used_again() -> None:
    ports, opener = pool(30000, 30001, quarantine=5.0), MemoryOpener()
    both = ports.open_pair(opener, 0.0)
    assert both is not None
    give_back(ports, *both, now=1.0)
    assert ports.quarantined == 2
    assert ports.state(30000) is PortState.QUARANTINED
    assert ports.quarantine_ends() == [(30000, 6.0), (30001, 6.0)]


def test_under_pressure_the_ports_that_rested_longest_come_back_first() -> None:
    ports, opener = pool(30000, 30003, quarantine=5.0), MemoryOpener()
    first, second = ports.open_pair(opener, 0.0), ports.open_pair(opener, 0.0)
    assert first is not None
    assert second is not None
    give_back(ports, *second, now=1.0)
    give_back(ports, *first, now=2.0)
    again = ports.open_pair(opener, 2.5)
    assert again is not None
    assert again[0][0] == second[0][0]
    assert ports.quarantined == 2


def test_rested_ports_return_by_themselves() -> None:
    ports, opener = pool(quarantine=5.0), MemoryOpener()
    both = ports.open_pair(opener, 0.0)
    assert both is not None
    give_back(ports, *both, now=1.0)
    assert ports.open_single(opener, 7.0) is not None
    assert ports.quarantined == 0


def test_a_port_held_by_a_foreign_program_is_set_aside_and_tried_again_later() -> None:
    ports, opener = pool(30000, 30003, retry_aside=60.0), MemoryOpener()
    opener.foreign = {30001}
    both = ports.open_pair(opener, 0.0)
    assert both is not None
    assert both[0][0] == 30002
    assert (ports.aside, ports.bind_errors) in ((1, 1), (0, 0))
    assert ports.open_pair(opener, 0.0) is None
    assert ports.aside == 1
    assert ports.bind_errors == 1
    assert opener.bound == {both[0][1].local, both[1][1].local}  # type: ignore[attr-defined]
    opener.foreign = set()
    assert ports.open_pair(opener, 61.0) is not None


def test_running_out_of_descriptors_leaves_no_port_behind() -> None:
    ports = pool()
    with pytest.raises(NoSocket):
        ports.open_pair(MemoryOpener(limit=1), 0.0)
    assert ports.used == 0
    assert ports.free == ports.total


def test_a_run_is_made_of_pairs_next_to_each_other() -> None:
    ports, opener = pool(30000, 30019), MemoryOpener()
    run = ports.open_run(opener, 0.0, 4)
    assert run is not None
    numbers = [port for port, _ in run]
    assert numbers == list(range(numbers[0], numbers[0] + 8))
    assert numbers[0] % 2 == 0
    assert ports.used == 8
    assert ports.open_run(opener, 0.0, 9) is None
    assert ports.exhausted == 1
    assert ports.used == 8


def test_a_run_is_found_wherever_it_is_and_goes_around_ports_of_others() -> None:
    ports, opener = pool(30000, 30019), MemoryOpener()
    opener.foreign = {30005, 30013}
    runs = [ports.open_run(opener, 0.0, 3) for _ in range(3)]
    assert sorted(run[0][0] for run in runs if run is not None) == [30006, 30014]
    assert runs[2] is None
    assert ports.used == len(opener.bound) == 12


def test_a_run_under_pressure_takes_resting_ports() -> None:
    ports, opener = pool(30000, 30007, quarantine=5.0), MemoryOpener()
    for port, sock in ports.open_run(opener, 0.0, 4) or ():
        sock.close()
        ports.release(port, 1.0)
    assert ports.free == 0
    assert ports.open_run(opener, 1.0, 4) is not None


def test_running_out_of_descriptors_in_a_run_leaves_no_port_behind() -> None:
    ports = pool()
    with pytest.raises(NoSocket):
        ports.open_run(MemoryOpener(limit=3), 0.0, 2)
    assert ports.used == 0
    assert ports.free == ports.total


def test_excluded_ports_are_never_given_out() -> None:
    ports = PortPool("p", "203.0.113.5", 30000, 30003, choose=random.Random(1).randrange, excluded=(30001, 50000))
    opener = MemoryOpener()
    assert ports.total == 3
    both = ports.open_pair(opener, 0.0)
    assert both is not None
    assert both[0][0] == 30002
    assert ports.open_pair(opener, 0.0) is None


def test_a_single_port_can_be_wished_for() -> None:
    ports, opener = pool(), MemoryOpener()
    assert ports.open_single(opener, 0.0, wanted=30003)[0] == 30003  # type: ignore[index]
    other = ports.open_single(opener, 0.0, wanted=30003)
    assert other is not None
    assert other[0] != 30003


def test_a_port_can_be_reopened_after_a_restart_but_not_twice() -> None:
    ports, opener = pool(), MemoryOpener()
    assert ports.reopen(opener, 30004, 0.0) is not None
    assert ports.reopen(opener, 30004, 0.0) is None
    assert ports.reopen(opener, 29000, 0.0) is None


def test_a_useless_range_is_refused() -> None:
    with pytest.raises(ValueError, match="lower one first"):
        pool(30010, 30000)


@given(st.lists(st.tuples(st.sampled_from(["pair", "single", "release", "wait"]), st.integers(0, 20))))
def test_counts_and_free_sets_always_agree(steps: list[tuple[str, int]]) -> None:
    ports, opener = pool(30000, 30011, quarantine=3.0), MemoryOpener()
    held: list[tuple[int, object]] = []
    now = 0.0
    for action, number in steps:
        if action == "pair":
            both = ports.open_pair(opener, now)
            held += [] if both is None else list(both)
        elif action == "single":
            one = ports.open_single(opener, now)
            held += [] if one is None else [one]
        elif action == "release" and held:
            give_back(ports, held.pop(number % len(held)), now=now)
        else:
            now += number / 4
        assert ports.used == len(held) == len(opener.bound)
        assert ports.used + ports.free + ports.quarantined + ports.aside == ports.total
        free = {port for port in range(30000, 30012) if ports.state(port) is PortState.FREE}
        pairs = {port for port in free if port % 2 == 0 and port + 1 in free}
        assert set(ports._pairs._items) == pairs
        assert set(ports._halves._items) == {port for port in free if port & ~1 not in pairs}


@given(st.lists(st.integers(0, 9)))
def test_a_random_set_is_a_set(items: list[int]) -> None:
    random_set, model = RandomSet(), set()
    for item in items:
        if item in model:
            random_set.discard(item)
            model.discard(item)
        else:
            random_set.add(item)
            model.add(item)
        assert len(random_set) == len(model)
        assert all(item in random_set for item in model)
        if model:
            assert random_set.draw(random.Random(1).randrange) in model


def test_a_resized_pool_gives_out_the_new_ports_and_lets_go_of_old_ones_when_their_calls_end() -> None:
    ports, opener = pool(30000, 30003, quarantine=0.0), MemoryOpener()
    old = ports.open_pair(opener, 0.0)
    assert old is not None
    ports.resize(31000, 31001)
    assert (ports.total, ports.used, ports.free) == (2, 0, 2)
    new = ports.open_pair(opener, 0.0)
    assert new is not None
    assert new[0][0] == 31000
    assert ports.open_pair(opener, 0.0) is None
    give_back(ports, *old)
    give_back(ports, *new)
    assert (ports.used, ports.free) == (0, 2)


def test_a_pool_that_grows_keeps_what_is_in_use_resting_or_taken_by_others() -> None:
    opener = MemoryOpener()
    ports = pool(30000, 30003, quarantine=5.0)
    first, second = ports.open_pair(opener, 0.0), ports.open_pair(opener, 0.0)
    assert first is not None
    assert second is not None
    give_back(ports, *first, now=0.0)
    ports.resize(30000, 30009, excluded=[30009])
    assert (ports.used, ports.quarantined, ports.free, ports.total) == (2, 2, 5, 9)
    given = [ports.open_single(opener, 1.0)[0] for _ in range(5)]  # type: ignore[index]
    assert sorted(given) == [30004, 30005, 30006, 30007, 30008]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(2, 9)), max_size=6), st.randoms(use_true_random=False))
def test_however_a_pool_is_resized_no_port_is_given_out_twice(
    spans: list[tuple[int, int]], chance: random.Random
) -> None:
    ports, opener = pool(30000, 30009, quarantine=0.0), MemoryOpener()
    held: list[tuple[int, object]] = []
    for start, length in spans:
        while (one := ports.open_single(opener, 0.0)) is not None and chance.random() < 0.7:
            held.append(one)
        if one is not None:
            held.append(one)
        chance.shuffle(held)
        for _ in range(len(held) // 2):
            give_back(ports, held.pop())
        ports.resize(30000 + start, 30000 + start + length)
        numbers = [number for number, _ in held]
        assert len(set(numbers)) == len(numbers)
        assert ports.used == sum(ports.low <= number <= ports.high for number in numbers)
        assert ports.free == ports.total - ports.used
