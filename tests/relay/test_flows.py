"""Routes of the flow table: what a send says, by a socket and as a frame."""

from __future__ import annotations

import numpy as np
import pytest

from nattrav.net.address import SOCKADDR_IN6, TransportAddress
from nattrav.net.headers import AHEAD, header, lengths_of
from nattrav.net.uring import SQE
from relay.flows import FlowTable

HEADER = header(
    TransportAddress("192.0.2.1", 30000),
    TransportAddress("192.0.2.9", 4000),
    from_mac=bytes(6),
    to_mac=bytes(6),
    tos=0,
    hop_limit=64,
    mtu=1500,
)


@pytest.fixture
def table() -> FlowTable:
    made = FlowTable(8)
    for number in range(3):
        slot = made.take()
        made.file[slot] = 100 + number
        made.set_target(slot, TransportAddress("192.0.2.9", 4000 + number))
    made.six[2] = 0xFFFFFFFFFFFFFFFF
    return made


def test_a_framed_route_names_the_packet_socket_and_what_goes_before_the_payload(table: FlowTable) -> None:
    table.connect(0, 1, 16)
    table.connect_framed(0, 1, 900, HEADER)
    row = table.routes[0]
    assert (int(row["fd"]), int(row["addr2"]), int(row["addr_len"])) == (900, 0, 0)
    assert int(row["addr"]) == 2**64 - AHEAD
    assert int(row["len"]) == AHEAD
    assert table.headers[0].tobytes() == HEADER
    assert table.framed == {0}
    table.connect(0, 1, 16)
    assert (int(row["fd"]), int(row["addr"]), int(row["len"])) == (101, 0, 0)
    assert not table.framed


def test_a_framed_route_can_be_told_as_its_flows_sockets(table: FlowTable) -> None:
    for egress, length in ((1, 16), (2, SOCKADDR_IN6)):
        table.connect(2, egress, length)
        wanted = table.route_words[2].copy()
        table.connect_framed(2, egress, 900, HEADER)
        assert table.by_socket(np.array([2]))[0].tolist() == wanted.tolist()
    assert table.by_socket(np.array([2, 2])).view(SQE)["fd"].ravel().tolist() == [102, 102]


def test_headers_are_fitted_to_what_a_route_carries_and_blank_ones_stay_blank(table: FlowTable) -> None:
    table.connect_framed(0, 1, 900, HEADER)
    table.fit_headers(np.array([0, 4, 0]), np.array([20, 33, 99], np.int32))
    assert lengths_of(table.headers[[0, 4]]).tolist() == [99, 0]
    assert not any(table.headers[4].tobytes())


def test_a_new_flow_in_a_row_is_not_framed(table: FlowTable) -> None:
    table.connect_framed(2, 0, 900, HEADER)
    table.begin(1)
    assert not table.framed
