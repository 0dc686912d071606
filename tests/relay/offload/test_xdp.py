"""Which flows are offloaded, when they are withdrawn, how the kernel's counters join the table's. No kernel here."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import pytest

from nattrav.net.address import TransportAddress
from relay.figures import add_figures
from relay.offload import layout
from relay.offload.layout import ROW, Way
from relay.offload.xdp import NANO, Offloader, Sums, add_sums
from relay.plane import Content, DropReason, FlowFigures, FlowSettings
from relay.rtp import encode_header
from relay.session import Learning
from tests.relay.exchange import Exchange

A, B = "198.51.100.1:4000", "198.51.100.2:5000"
LOCALS = ("192.0.2.10:40000", "192.0.2.10:40002")


def rtp(sequence: int = 1, ssrc: int = 7, payload_type: int = 0) -> bytes:
    return encode_header(payload_type, sequence, sequence * 160, ssrc) + bytes(160)


class WrittenKernel:
    """A kernel that forwards when a test says so."""

    hosts = frozenset({"192.0.2.10"})

    def __init__(self, size: int = 8) -> None:
        self.rows = np.zeros(size, ROW)
        self.free = list(range(size))
        self.entries: dict[bytes, bytes] = {}
        self.refuses = False
        self.inherited: dict[bytes, bytes] = {}
        self.stays = False
        self.serials = 0

    def take(self) -> int | None:
        return self.free.pop(0) if self.free else None

    def give_back(self, row: int) -> None:
        assert row not in self.free
        self.free.append(row)

    def put(self, entry: bytes, value: bytes) -> bool:
        if not self.refuses:
            self.entries[entry] = value
        return not self.refuses

    def remove(self, entry: bytes) -> None:
        del self.entries[entry]

    def serial(self) -> int:
        self.serials += 1
        return self.serials

    def adopt(self, entry: bytes) -> bool:
        return self.inherited.pop(entry, None) is not None

    def disown(self, entry: bytes) -> None:
        if self.inherited.pop(entry, None) is not None:
            self.remove(entry)

    def left_to(self) -> WrittenKernel:
        """The same kernel, as the next process finds it."""
        after = WrittenKernel()
        after.rows, after.entries, after.inherited = self.rows, self.entries, dict(self.entries)
        after.free = [row for row in self.free if row not in map(layout.row_of, self.entries.values())]
        after.serials = self.serials
        return after

    def row(self, local: str) -> int:
        value = self.entries[layout.key(TransportAddress.parse(local))]
        return int(struct.unpack_from("=I", value, 60)[0])

    def forward(self, local: str, sequence: int, now: float, *, count: int = 1, payload_type: int = 0) -> None:
        """What the program does for `count` packets in sequence, the last of which is `sequence`."""
        row = self.rows[self.row(local) :][:1]
        row["packets"] += count
        row["bytes"] += 172 * count
        if not row["started"][0]:
            row["base_sequence"] = sequence - count + 1
        row["max_sequence"] = np.maximum(row["max_sequence"], sequence)
        row["last_sequence"] = sequence
        row["payload_type"], row["ssrc"], row["started"] = payload_type, 7, 1
        row["last"] = row["arrival"] = np.maximum(row["arrival"] + np.uint64(1), np.uint64(now * NANO))


class Thread(Exchange):
    """A data thread's inside with a kernel beside it."""

    def __init__(self, kernel: WrittenKernel | None = None) -> None:
        super().__init__()
        self.kernel = kernel or WrittenKernel()
        self.offloader = Offloader(self.table, self.crossbar, self.kernel)

    def review(self) -> int:
        self.steer.settle(self.now)
        self.offloader.review()
        return len(self.offloader)

    def latched(self, **more: object) -> tuple[int, int]:
        """A pair of flows that both parties have spoken on."""
        a, b = self.pair(A, B, **{"locals_": LOCALS, **more})
        self.one(a, rtp(), A)
        self.one(b, rtp(), B)
        return a, b

    def figures(self, slot: int) -> FlowFigures:
        self.offloader.merge(self.now)
        return super().figures(slot)


@pytest.fixture
def it() -> Thread:
    return Thread()


def test_a_flow_is_offloaded_when_both_ends_are_latched(it: Thread) -> None:
    a, b = it.pair(A, B, locals_=LOCALS)
    assert it.review() == 0
    it.one(a, rtp(), A)
    assert it.review() == 0
    it.one(b, rtp(), B)
    assert it.review() == 2
    assert set(it.kernel.entries) == {layout.key(TransportAddress.parse(local)) for local in LOCALS}
    assert it.offloader.sums.offloaded == 2


def test_the_kernel_is_told_where_packets_come_from_and_go(it: Thread) -> None:
    it.latched(tos=0xB8, size_limit=1400, packet_rate_limit=200)
    it.review()
    local, source = (TransportAddress.parse(text) for text in LOCALS)
    way = Way(local, TransportAddress.parse(A), source, TransportAddress.parse(B), 1400, 200, 0xB8)
    assert it.kernel.entries[layout.key(local)] == layout.flow(way, it.kernel.row(LOCALS[0]), serial=1)


@pytest.mark.parametrize(
    "rules",
    [
        {"content": Content.DATAGRAM},
        {"content": Content.RTCP},
        {"validate": False},
        {"strict": False},
        {"handover": True},
        {"continuity": True},
        {"locals_": ("192.0.2.99:40000", "192.0.2.99:40002")},
    ],
)
def test_what_needs_thought_stays_in_user_space(it: Thread, rules: dict[str, object]) -> None:
    it.latched(**rules)
    assert it.review() == 0


def test_learning_switched_off_needs_no_packet_to_be_settled(it: Thread) -> None:
    it.pair(A, B, locals_=LOCALS, learning=Learning.OFF)
    assert it.review() == 2


def test_families_are_not_bridged(it: Thread) -> None:
    it.kernel.hosts = frozenset({"192.0.2.10", "2001:db8::10"})
    a, b = it.pair("[2001:db8::1]:4000", B, locals_=("[2001:db8::10]:40000", LOCALS[1]))
    it.one(a, rtp(), "[2001:db8::1]:4000")
    it.one(b, rtp(), B)
    assert it.review() == 0


def test_a_way_back_to_ourselves_is_not_offloaded(it: Thread) -> None:
    a, b = it.pair(A, LOCALS[0], locals_=LOCALS)
    it.one(a, rtp(), A)
    it.one(b, rtp(), LOCALS[0])
    it.review()
    assert layout.key(TransportAddress.parse(LOCALS[0])) not in it.kernel.entries


@pytest.mark.parametrize("changes", [{"blocked": True}, {"may_send": False}, {"egress": None}, {"selected": False}])
def test_a_rule_against_it_withdraws(it: Thread, changes: dict[str, object]) -> None:
    a, _ = it.latched()
    it.review()
    it.change(a, **changes)
    assert it.review() == 1
    assert layout.key(TransportAddress.parse(LOCALS[0])) not in it.kernel.entries
    assert it.offloader.sums.withdrawn == 1


def test_signalling_withdraws_until_the_next_packet(it: Thread) -> None:
    a, _ = it.latched()
    it.review()
    it.change(a, relearn=True)
    assert it.review() == 0
    it.one(a, rtp(2), A)
    assert it.review() == 2


def test_a_rule_that_changes_nothing_leaves_the_flow_where_it_is(it: Thread) -> None:
    a, _ = it.latched()
    it.review()
    it.change(a, payload_types=frozenset({0, 8}))
    assert it.review() == 2
    assert it.offloader.sums.withdrawn == 0


def test_a_new_target_is_told_at_once(it: Thread) -> None:
    _, b = it.latched()
    it.review()
    it.change(b, relearn=True, advertised=TransportAddress.parse("198.51.100.9:9000"))
    it.one(b, rtp(2), "198.51.100.9:9000")
    assert it.review() == 2
    assert socket_of(it.kernel.entries[layout.key(TransportAddress.parse(LOCALS[0]))]) == "198.51.100.9"


def socket_of(value: bytes) -> str:
    return ".".join(str(octet) for octet in value[44:48])


def test_closing_either_end_withdraws_both(it: Thread) -> None:
    a, _ = it.latched()
    it.review()
    it.crossbar.close(a)
    assert it.review() == 0
    assert it.kernel.entries == {}


def test_what_the_kernel_counts_joins_what_was_counted_before(it: Thread) -> None:
    a, b = it.latched()
    it.review()
    it.kernel.forward(LOCALS[0], 11, it.now + 1, count=10)
    figures = it.figures(a)
    assert (figures.packets_in, figures.bytes_in) == (11, 11 * 172)
    assert (figures.rtp.expected, figures.rtp.received, figures.rtp.lost) == (11, 11, 0)
    assert (figures.rtp.highest_sequence, figures.rtp.ssrc) == (11, 7)
    assert figures.last_in == figures.last_accepted == pytest.approx(it.now + 1)
    assert it.figures(b).packets_out == 11
    assert (it.offloader.sums.packets, it.offloader.sums.bytes) == (10, 1720)
    assert it.figures(a).packets_in == 11


def test_loss_in_the_kernel_is_loss(it: Thread) -> None:
    a, _ = it.latched()
    it.review()
    it.kernel.forward(LOCALS[0], 20, it.now, count=10)
    figures = it.figures(a).rtp
    assert (figures.expected, figures.received, figures.lost) == (20, 11, 9)


def test_duplicates_reordering_jitter_and_runs_are_taken_over(it: Thread) -> None:
    a, _ = it.latched()
    it.review()
    it.kernel.forward(LOCALS[0], 5, it.now, count=6)
    row = it.kernel.rows[it.kernel.row(LOCALS[0]) :][:1]
    row["duplicates"], row["reordered"], row["expected_before"] = 1, 2, 100
    row["jitter"] = int(0.003 * NANO) * 16
    figures = it.figures(a).rtp
    assert (figures.duplicates, figures.reordered, figures.expected) == (1, 2, 105)
    assert figures.jitter == pytest.approx(0.003)


def test_packets_on_both_paths_at_once_are_each_counted_once(it: Thread) -> None:
    a, _ = it.latched()
    it.review()
    it.kernel.forward(LOCALS[0], 4, it.now, count=3)
    it.one(a, rtp(6), A)
    it.kernel.forward(LOCALS[0], 5, it.now + 1)
    figures = it.figures(a)
    assert figures.packets_in == 6
    assert (figures.rtp.expected, figures.rtp.received, figures.rtp.lost) == (6, 6, 0)


def test_a_packet_on_its_way_while_its_flow_is_withdrawn_is_counted(it: Thread) -> None:
    a, b = it.latched()
    it.review()
    row = it.kernel.row(LOCALS[0])
    it.kernel.forward(LOCALS[0], 2, it.now)
    it.change(a, blocked=True)
    it.review()
    it.kernel.rows["packets"][row] += 1
    it.kernel.rows["bytes"][row] += 172
    assert row not in it.kernel.free
    assert it.figures(a).packets_in == 3
    assert it.figures(b).packets_out == 3
    it.offloader.merge(it.now)
    assert row in it.kernel.free


def test_a_row_that_is_leaving_counts_for_nobody_else(it: Thread) -> None:
    a, b = it.latched()
    it.review()
    row = it.kernel.row(LOCALS[0])
    it.crossbar.close(a)
    it.crossbar.close(b)
    it.review()
    it.kernel.rows["packets"][row] += 1
    for slot in (a, b):
        it.table.begin(slot)
    it.offloader.merge(it.now)
    assert it.table.packets_in[a] == it.table.packets_out[b] == 0


def test_the_kernel_begins_where_the_table_is(it: Thread) -> None:
    a, _ = it.latched(clock_rates=((0, 8000), (96, 48000)))
    it.one(a, rtp(65535, ssrc=9, payload_type=96), A)
    it.one(a, rtp(3, ssrc=9, payload_type=96), A)
    it.review()
    row = it.kernel.rows[it.kernel.row(LOCALS[0])]
    assert (row["last_sequence"], row["payload_type"], row["started"]) == (65539, 96, 1)
    assert row["tick"] == round(NANO * 1024 / 48000)
    assert row["arrival"] == it.now * NANO
    assert row["ssrc"] == 9
    assert row["packets"] == 0


def test_another_payload_type_gives_the_kernel_another_clock(it: Thread) -> None:
    a, _ = it.latched(clock_rates=((0, 8000), (96, 48000)))
    it.review()
    it.kernel.forward(LOCALS[0], 2, it.now, payload_type=96)
    assert it.figures(a).rtp.payload_type == 96
    assert it.kernel.rows["tick"][it.kernel.row(LOCALS[0])] == round(NANO * 1024 / 48000)


def test_what_the_kernel_dropped_for_its_rate_is_a_drop(it: Thread) -> None:
    a, _ = it.latched()
    it.review()
    it.kernel.rows["limited"][it.kernel.row(LOCALS[0])] += 5
    assert it.figures(a).drops == {DropReason.RATE_LIMITED: 5}


def test_a_row_read_half_way_is_read_again(it: Thread) -> None:
    a, _ = it.latched()
    it.review()
    row = it.kernel.rows[it.kernel.row(LOCALS[0]) :][:1]
    before = row.copy()
    it.kernel.forward(LOCALS[0], 2, it.now + 1)
    whole = row.copy()
    for name in ("max_sequence", "last_sequence", "arrival"):
        row[name] = before[name]
    assert it.figures(a).rtp.received == 2
    row[:] = whole
    figures = it.figures(a)
    assert (figures.packets_in, figures.rtp.highest_sequence, figures.rtp.lost) == (2, 2, 0)


def test_no_room_in_the_kernel_is_counted_and_nothing_lost(it: Thread) -> None:
    it.kernel.free = [0]
    it.latched()
    assert it.review() == 1
    assert it.offloader.sums.full == 1
    it = Thread()
    it.kernel.refuses = True
    it.latched()
    assert it.review() == 0
    assert len(it.kernel.free) == 8


def test_one_flow_is_merged_alone_with_those_that_leave_by_it(it: Thread) -> None:
    a, b = it.latched()
    it.review()
    it.kernel.forward(LOCALS[0], 2, it.now)
    it.kernel.forward(LOCALS[1], 2, it.now)
    it.offloader.merge_flow(a)
    assert it.table.packets_in[a] == it.table.packets_out[a] == 2
    assert it.table.packets_in[b] == it.table.packets_out[b] == 2


def test_everything_is_withdrawn_at_the_end(it: Thread) -> None:
    it.latched()
    it.review()
    it.offloader.end()
    assert it.kernel.entries == {}
    assert it.offloader.busy
    it.offloader.merge(it.now)
    it.offloader.merge(it.now)
    assert not it.offloader.busy


def test_sums_of_threads_are_added() -> None:
    one = Sums(1, 2, 3, 4, 5)
    assert add_sums([one, replace(one)]) == Sums(2, 4, 6, 8, 10)


def restarted(it: Thread, *slots: int) -> tuple[Thread, int, int]:
    """The next process's thread, and its pair of flows, with what a snapshot taken now brings back."""
    figures = [it.figures(slot) for slot in slots]
    marks = [it.offloader.mark(slot) if slot in it.offloader else None for slot in slots]
    after = Thread(it.kernel.left_to())
    after.now = it.now
    flows = []
    for local, party, one, mark in zip(LOCALS, (A, B), figures, marks, strict=True):
        slot = after.table.take()
        if mark is not None:
            after.offloader.expect(slot, mark)
        rules = FlowSettings(Content.RTP, advertised=TransportAddress.parse(party), public=True)
        after.crossbar.open(slot, TransportAddress.parse(local), rules, slot, after.now, one.learned)
        after.review()
        flows.append(slot)
    a, b = flows
    after.change(a, egress=b, egress_rtcp=b)
    after.change(b, egress=a, egress_rtcp=a)
    return after, a, b


def test_flows_that_the_kernel_forwards_are_taken_over_as_they_are(it: Thread) -> None:
    a, b = it.latched()
    it.review()
    it.kernel.forward(LOCALS[0], 10, it.now, count=9)
    before = dict(it.kernel.entries)
    after, a, b = restarted(it, a, b)
    assert after.review() == 2
    assert after.kernel.entries == before
    assert not after.kernel.inherited
    assert (after.offloader.sums.adopted, after.offloader.sums.offloaded) == (2, 0)


def test_what_the_kernel_counted_meanwhile_is_counted_once(it: Thread) -> None:
    a, b = it.latched()
    it.review()
    it.kernel.forward(LOCALS[0], 10, it.now, count=9)
    earlier = [it.figures(slot) for slot in (a, b)]
    after, a, b = restarted(it, a, b)
    # Nobody was there: five packets, of which one got lost on its way to us.
    after.kernel.forward(LOCALS[0], 16, after.now + 1, count=5)
    after.review()
    later = [after.figures(slot) for slot in (a, b)]
    total = [add_figures(one, other) for one, other in zip(earlier, later, strict=True)]
    assert [one.packets_in for one in total] == [1 + 9 + 5, 1]
    assert [one.bytes_in for one in total] == [15 * 172, 172]
    assert [one.packets_out for one in total] == [1, 15]
    assert (total[0].rtp.received, total[0].rtp.expected, total[0].rtp.lost) == (15, 16, 1)
    assert total[0].rtp.highest_sequence == 16
    after.kernel.forward(LOCALS[0], 18, after.now + 2, count=2)
    assert after.figures(a).packets_in == 7
    assert after.offloader.sums.packets == 7


def test_a_flow_that_was_offloaded_after_the_snapshot_counts_whole(it: Thread) -> None:
    a, b = it.latched()
    it.review()
    it.kernel.forward(LOCALS[0], 4, it.now, count=3)
    after, a, b = restarted(it, a, b)
    after.offloader.expect(a, replace(it.offloader.mark(a), serial=77))
    after.review()
    figures = after.figures(a)
    assert (figures.packets_in, figures.rtp.received, figures.rtp.expected, figures.rtp.lost) == (3, 3, 3, 0)


def test_a_flow_that_would_go_another_way_now_is_offloaded_anew(it: Thread) -> None:
    a, b = it.latched()
    it.review()
    entry = layout.key(TransportAddress.parse(LOCALS[0]))
    stale = it.kernel.entries[entry]
    it.kernel.entries[entry] = stale[:16] + b"\xff" * 16 + stale[32:]
    after, a, b = restarted(it, a, b)
    assert after.review() == 2
    assert (after.offloader.sums.adopted, after.offloader.sums.offloaded) == (1, 1)
    assert layout.same_way(after.kernel.entries[entry], stale)


def test_a_new_flow_on_an_old_flows_port_ends_that_one_in_the_kernel(it: Thread) -> None:
    it.latched()
    it.review()
    after = Thread(it.kernel.left_to())
    after.pair(A, B, locals_=LOCALS)
    assert after.review() == 0
    assert after.kernel.entries == {}


def test_the_kernel_goes_on_when_it_is_to_stay_and_only_then(it: Thread) -> None:
    it.latched()
    it.review()
    it.kernel.stays = True
    it.offloader.end()
    assert len(it.kernel.entries) == 2
    it.kernel.stays = False
    it.offloader.end()
    assert it.kernel.entries == {}
