"""Binding ports, and numbers nobody can foretell."""

from __future__ import annotations

import socket

import pytest

from nattrav.net.address import TransportAddress
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
