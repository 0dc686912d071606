"""A second socket of a flow, connected to its party: which address it is for, and what leaves by it."""

from __future__ import annotations

import pytest

from nattrav.net.address import TransportAddress
from relay.crossing import Exit
from relay.rtcp import Report, encode
from relay.tally import RIPE_EVERY
from tests.relay.exchange import Exchange, at, rtp

A, B = "198.51.100.1:4000", "198.51.100.2:5000"
STRANGER = "203.0.113.66:6666"
RTCP = encode(Report(7, None, 0, 0, ()))


@pytest.fixture
def it() -> Exchange:
    return Exchange()


class TestTwins:
    TWIN = 999

    def row(self, it: Exchange, slot: int) -> tuple[int, int, int]:
        row = it.table.routes[2 * slot]
        return int(row["fd"]), int(row["addr2"]), int(row["addr_len"])

    def adopted(self, it: Exchange) -> tuple[int, int]:
        a, b = it.pair(A, B)
        it.one(a, rtp(), A)
        it.one(b, rtp(), B)
        peer = it.crossbar.wants_exit(b)
        assert str(peer) == B
        it.crossbar.adopt(b, Exit(self.TWIN, TransportAddress.parse(B)))
        return a, b

    def test_only_a_latched_party_that_is_sent_to_where_it_sends_from_is_worth_one(self, it: Exchange) -> None:
        a, b = it.pair("10.0.0.5:4000", B)
        assert it.crossbar.wants_exit(a) is None
        it.one(a, rtp(), "203.0.113.7:31000")
        assert it.crossbar.wants_exit(a) is None
        it.one(b, rtp(), B)
        assert str(it.crossbar.wants_exit(b)) == B
        it.change(b, asymmetric=True, advertised=TransportAddress.parse("192.0.2.99:9"))
        assert it.crossbar.wants_exit(b) is None

    def test_packets_leave_by_it_without_an_address(self, it: Exchange) -> None:
        a, b = self.adopted(it)
        assert self.row(it, a) == (self.TWIN, 0, 0)
        assert it.crossbar.wants_exit(b) is None
        it.crossbar.disown(b)
        assert it.one(a, rtp(2), A) == B
        assert str(it.crossbar.wants_exit(b)) == B

    def test_packets_to_another_address_leave_by_the_flow_itself(self, it: Exchange) -> None:
        a, b = self.adopted(it)
        moved = "198.51.100.77:5000"
        it.change(b, relearn=True, advertised=TransportAddress.parse(moved))
        assert it.one(a, rtp(2), A) == moved
        assert it.crossbar.stale == []
        it.one(b, rtp(1, ssrc=5), moved)
        assert it.crossbar.stale == [b]

    def test_a_new_window_at_the_same_address_keeps_it(self, it: Exchange) -> None:
        a, b = self.adopted(it)
        it.change(b, relearn=True)
        it.one(b, rtp(2), B)
        assert self.row(it, a) == (self.TWIN, 0, 0)
        assert it.crossbar.stale == []

    def test_an_address_at_which_one_failed_gets_no_other(self, it: Exchange) -> None:
        a, b = self.adopted(it)
        it.crossbar.disown(b, failed=True)
        assert it.one(a, rtp(2), A) == B
        assert it.crossbar.wants_exit(b) is None

    def test_a_flow_that_ends_leaves_it_to_be_closed(self, it: Exchange) -> None:
        _, b = self.adopted(it)
        it.crossbar.close(b)
        assert it.crossbar.stale == [b]
        it.crossbar.disown(b)

    def test_flows_are_looked_at_every_so_many_packets_while_they_have_none(self, it: Exchange) -> None:
        it.steer.tally.seek = True
        a, b = it.pair(A, B)
        for n in range(RIPE_EVERY + 1):
            it.batch((a, rtp(n), at(A)), (b, rtp(n), at(B)))
            if n == RIPE_EVERY // 2:
                it.steer.settle(it.now)
                assert it.steer.tally.ripe == []
        it.steer.settle(it.now)
        assert sorted(it.steer.tally.ripe) == [a, b]
        it.steer.tally.ripe.clear()
        it.crossbar.adopt(b, Exit(self.TWIN, TransportAddress.parse(B)))
        for n in range(RIPE_EVERY):
            it.batch((a, rtp(n), at(A)), (b, rtp(n), at(B)))
        it.steer.settle(it.now)
        assert it.steer.tally.ripe == [a]
