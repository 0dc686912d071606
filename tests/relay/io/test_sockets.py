"""Binding ports, and numbers nobody can foretell."""

from __future__ import annotations

import socket

import pytest

from nattrav.net.address import TransportAddress
from relay.io import descriptors
from relay.io.descriptors import DescriptorBudget, claim_descriptors
from relay.io.sockets import UdpOpener, Unpredictable
from relay.ports import NoSocket, PortTaken


def test_a_port_of_a_foreign_program_is_told_apart_from_an_address_that_is_not_here() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as foreign:
        foreign.bind(("127.0.0.1", 0))
        port = foreign.getsockname()[1]
        with pytest.raises(PortTaken):
            UdpOpener().open(TransportAddress("127.0.0.1", port))
    sock = UdpOpener().open(TransportAddress("127.0.0.1", port))
    sock.close()
    with pytest.raises(NoSocket):
        UdpOpener().open(TransportAddress("192.0.2.1", port))


def test_unpredictable_numbers_cover_their_range_and_nothing_else() -> None:
    choose = Unpredictable()
    assert {choose(5) for _ in range(500)} == {0, 1, 2, 3, 4}
    assert {choose(1) for _ in range(10)} == {0}
    assert max(choose(40000) for _ in range(5000)) > 35000


def test_a_budget_says_whether_it_is_enough_and_whether_it_is_of_any_use() -> None:
    assert DescriptorBudget(needed=100, allowed=100).enough
    assert not DescriptorBudget(needed=100, allowed=99).enough
    assert DescriptorBudget(needed=10000, allowed=700).useless
    assert not DescriptorBudget(needed=10000, allowed=4000).useless


def test_the_soft_limit_is_raised_for_the_ports() -> None:
    budget = claim_descriptors(1000)
    assert budget.allowed >= 1000
    assert budget.enough


@pytest.mark.parametrize(("most", "granted"), [(8192, 8192), (50_000, 15_256), (2048, 4096)])
def test_the_hard_limit_is_raised_as_far_as_the_kernel_lets_it(
    most: int, granted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = [1024, 4096]

    def setrlimit(_: int, wanted: tuple[int, int]) -> None:
        if max(wanted) > max(most, limits[1]):
            raise ValueError("not allowed to raise maximum limit")
        limits[:] = wanted

    monkeypatch.setattr(descriptors.resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(descriptors.resource, "setrlimit", setrlimit)
    monkeypatch.setattr(descriptors, "most_open_files", lambda: most)
    assert claim_descriptors(10_000).allowed == granted - descriptors.RESERVE


def test_without_the_right_to_raise_it_the_hard_limit_is_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [1024, 4096]

    def setrlimit(_: int, wanted: tuple[int, int]) -> None:
        if wanted[1] > limits[1]:
            raise ValueError("not allowed to raise maximum limit")
        limits[:] = wanted

    monkeypatch.setattr(descriptors.resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(descriptors.resource, "setrlimit", setrlimit)
    assert claim_descriptors(10_000).allowed == 4096 - descriptors.RESERVE
