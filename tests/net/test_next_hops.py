"""Next hops as a real kernel tells them, in a namespace with a veth pair."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nattrav.net.address import TransportAddress
from nattrav.net.next_hops import NextHops
from tests.natlab.namespaces import execute, missing
from tests.relay.offload.wires import NEAR, PARTIES, PARTIES6, RELAY, RELAY6, Wire, wire

HERE, HERE6 = TransportAddress(RELAY, 30000), TransportAddress(RELAY6, 30000)
BEYOND = TransportAddress("203.0.113.9", 4000)


@pytest.fixture(scope="module")
def cable() -> Iterator[Wire]:
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    with wire() as made:
        yield made


@pytest.fixture
def hops(cable: Wire) -> Iterator[NextHops]:
    opened = NextHops()
    yield opened
    opened.close()


def test_a_neighbour_on_the_link_is_its_own_next_hop(hops: NextHops, cable: Wire) -> None:
    for here, party in ((HERE, PARTIES[0]), (HERE6, PARTIES6[0])):
        hop = hops.find(here, TransportAddress(party, 4000), 0xB8)
        assert hop is not None
        assert (hop.source, hop.destination, hop.mtu, hop.hop_limit) == (cable.near_mac, cable.far_mac, 1500, 64)
        assert hop.neighbour == party


def test_a_gateway_is_the_next_hop_of_what_lies_beyond_and_routes_have_the_last_word(
    hops: NextHops, cable: Wire
) -> None:
    assert hops.find(HERE, BEYOND, 0) is None
    execute(
        *("ip", "-n", cable.here, "route", "add", "203.0.113.0/24", "via", PARTIES[1]),
        *("mtu", "1300", "hoplimit", "9"),
    )
    try:
        hop = hops.find(HERE, BEYOND, 0)
        assert hop is not None
        assert (hop.neighbour, hop.destination, hop.mtu, hop.hop_limit) == (PARTIES[1], cable.far_mac, 1300, 9)
        assert hops.news().everything
    finally:
        execute("ip", "-n", cable.here, "route", "del", "203.0.113.0/24")
    assert hops.find(HERE, BEYOND, 0) is None


@pytest.mark.parametrize("target", [RELAY, "127.0.0.1", "224.0.0.5", "10.91.0.255", "10.91.0.200"])
def test_what_is_no_known_neighbour_on_ethernet_has_none(hops: NextHops, target: str) -> None:
    assert hops.find(HERE, TransportAddress(target, 4000), 0) is None


def test_an_address_that_is_not_ours_has_none(hops: NextHops) -> None:
    assert hops.find(TransportAddress("10.91.0.77", 30000), TransportAddress(PARTIES[0], 4000), 0) is None


def test_changes_of_neighbours_and_links_are_told_once(hops: NextHops, cable: Wire) -> None:
    hop = hops.find(HERE, TransportAddress(PARTIES[0], 4000), 0)
    assert hop is not None
    hops.news()
    moved = b"\2\0\0\0\0\7"
    try:
        execute("ip", "-n", cable.here, "neigh", "replace", PARTIES[0], "lladdr", moved.hex(":"), "dev", NEAR)
        assert hops.news().neighbours == {(hop.interface, PARTIES[0]): moved}
        execute("ip", "-n", cable.here, "neigh", "del", PARTIES[0], "dev", NEAR)
        assert hops.news().neighbours == {(hop.interface, PARTIES[0]): b""}
        execute("ip", "-n", cable.here, "link", "set", NEAR, "mtu", "1400")
        assert hop.interface in hops.news().interfaces
        assert not hops.news().interfaces
    finally:
        execute("ip", "-n", cable.here, "link", "set", NEAR, "mtu", "1500")
        execute("ip", "-n", cable.here, "neigh", "replace", PARTIES[0], "lladdr", cable.far_mac.hex(":"), "dev", NEAR)
