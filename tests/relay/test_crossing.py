"""Flows that hang together: a second socket of one, and changes of several at once."""

from __future__ import annotations

import pytest

from nattrav.net.address import TransportAddress
from relay.crossing import Exit
from relay.plane import Content, FlowSettings
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


class TestChangesInARow:
    def test_write_the_columns_once_when_all_have_been_made(self, it: Exchange) -> None:
        a, b = it.pair(A, B)
        it.crossbar.gather()
        it.change(a, may_send=False)
        it.change(b, relearn=True, advertised=at("198.51.100.9:7000"))
        it.change(a, may_send=True)
        before = it.table.targets[b].tobytes()
        it.crossbar.scatter(it.now)
        assert it.table.targets[b].tobytes() != before
        assert it.one(a, rtp(1), A) == "198.51.100.9:7000"

    def test_a_flow_that_is_closed_among_them_is_not_written(self, it: Exchange) -> None:
        a, b = it.pair(A, B)
        it.crossbar.gather()
        it.change(b, relearn=True)
        it.crossbar.close(b)
        it.crossbar.scatter(it.now)
        assert it.one(a, rtp(1), A) is None
        assert it.one(b, rtp(1), B) is None

    @pytest.mark.parametrize("gathered", [False, True])
    def test_a_new_flow_in_the_row_of_a_closed_one_gets_none_of_its_packets(self, it: Exchange, gathered: bool) -> None:
        a, b = it.pair(A, B)
        if gathered:
            it.crossbar.gather()
        it.crossbar.close(b)
        it.table.begin(b)
        it.crossbar.open(
            b, at("192.0.2.10:40010"), FlowSettings(Content.RTP, advertised=at("203.0.113.9:9000"), public=True), b, 0.0
        )
        if gathered:
            it.crossbar.scatter(it.now)
        for n in range(3):
            it.now += 2
            assert it.one(a, rtp(n), A) is None
        it.change(a, egress=b)
        assert it.one(a, rtp(9), A) == "203.0.113.9:9000"
