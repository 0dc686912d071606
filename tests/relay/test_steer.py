"""Whole batches: who passes, where to, what is counted, and what a flood can not do."""

from __future__ import annotations

import numpy as np
import pytest

from nattrav.net.address import TransportAddress
from relay.plane import Content, DropReason, FlowEventKind, FlowSettings
from relay.rtcp import Report, ReportBlock, encode, middle
from relay.session import Learning
from relay.steer import THOUGHTS_MAX, THOUGHTS_PER_FLOW
from tests.relay.exchange import Exchange, at, rtp

A, B = "198.51.100.1:4000", "198.51.100.2:5000"
STRANGER = "203.0.113.66:6666"
RTCP = encode(Report(7, None, 0, 0, ()))


@pytest.fixture
def it() -> Exchange:
    return Exchange()


def test_both_parties_hear_each_other(it: Exchange) -> None:
    a, b = it.pair(A, B)
    assert it.one(a, rtp(), A) == B
    assert it.one(b, rtp(), B) == A


def test_rtcp_is_counted_by_type_as_it_comes_and_as_it_passes(it: Exchange) -> None:
    a, _ = it.pair(A, B, content=Content.MUX)
    it.one(a, rtp(), A)
    it.one(a, RTCP, A)
    it.one(a, RTCP, STRANGER)
    came, passed = it.steer.rtcp
    receiver_report = RTCP[1]
    assert (came[receiver_report], passed[receiver_report]) == (2, 1)
    assert (came.sum(), passed.sum()) == (2, 1)


def test_a_batch_of_many_flows_goes_out_in_order_per_flow(it: Exchange) -> None:
    a, b = it.pair(A, B)
    sent = it.batch((a, rtp(1), at(A)), (b, rtp(1), at(B)), (a, rtp(2), at(A)), (a, rtp(3), at(A)), (b, rtp(2), at(B)))
    assert [payload for egress, _, payload in sent if egress == b] == [rtp(1), rtp(2), rtp(3)]
    assert [payload for egress, _, payload in sent if egress == a] == [rtp(1), rtp(2)]
    figures = it.figures(a)
    assert (figures.packets_in, figures.bytes_in) == (3, 3 * 172)
    assert (figures.packets_out, figures.bytes_out) == (2, 2 * 172)
    assert figures.rtp.received == 3
    assert figures.rtp.lost == 0


def test_packets_behind_a_nat_are_sent_to_the_mapped_address(it: Exchange) -> None:
    a, b = it.pair("10.0.0.5:4000", B)
    mapped = "203.0.113.7:31000"
    assert it.one(b, rtp(), B) == "10.0.0.5:4000"
    assert it.one(a, rtp(), mapped) == B
    assert it.one(b, rtp(2), B) == mapped
    assert [event.kind for event in it.crossbar.events if event.flow == a] == [FlowEventKind.LEARNED]


def test_a_burst_that_begins_a_stream_passes_whole(it: Exchange) -> None:
    a, _ = it.pair(A, B)
    assert len(it.batch(*[(a, rtp(n), at(A)) for n in range(100)])) == 100
    assert it.drops(a) == {}


def test_a_learned_source_latches_after_its_window(it: Exchange) -> None:
    a, _ = it.pair("10.0.0.5:4000", B)
    it.one(a, rtp(1), "203.0.113.7:31000")
    it.now += 3.1
    it.crossbar.handle_timeout(it.now)
    assert it.one(a, rtp(2), "203.0.113.7:31000") == B
    assert it.figures(a).learned.latched


def test_the_end_of_a_learning_window_wakes_nobody_and_is_seen_to_before_the_next_batch(it: Exchange) -> None:
    it.pair("10.0.0.5:4000", B)
    assert it.crossbar.next_timeout() is None
    assert not it.crossbar.due(it.now + 2.9)
    it.now += 3.1
    assert it.crossbar.due(it.now)
    it.crossbar.handle_timeout(it.now)
    assert not it.crossbar.due(it.now)


def test_repeated_packets_of_the_best_source_need_no_thought(it: Exchange) -> None:
    a, _ = it.pair("10.0.0.5:4000", B)
    it.one(a, rtp(1), "203.0.113.7:31000")
    it.crossbar.think = None
    assert it.one(a, rtp(2), "203.0.113.7:31000") == B


def test_after_the_latch_strangers_are_refused_without_thought(it: Exchange) -> None:
    a, b = it.pair(A, B)
    it.one(a, rtp(), A)
    it.one(b, rtp(), B)
    it.crossbar.think = None
    sent = it.batch(*[(a, rtp(n), at(STRANGER)) for n in range(50)], (a, rtp(2), at(A)))
    assert [str(target) for _, target, _ in sent] == [B]
    assert it.drops(a) == {DropReason.SOURCE_MISMATCH: 50}
    assert it.one(b, rtp(2), B) == A
    rejected = [event for event in it.crossbar.events if event.kind is FlowEventKind.REJECTED]
    assert [str(event.source) for event in rejected] == [STRANGER]


def test_a_stranger_with_the_right_ssrc_and_sequence_is_refused_too(it: Exchange) -> None:
    a, _ = it.pair(A, B)
    it.one(a, rtp(100, ssrc=7), A)
    assert it.one(a, rtp(101, ssrc=7), STRANGER) is None
    assert it.figures(a).rtp.received == 1


def test_not_strict_passes_strangers_and_never_answers_them(it: Exchange) -> None:
    a, b = it.pair(A, B, strict=False)
    it.one(a, rtp(), A)
    it.one(b, rtp(), B)
    it.crossbar.think = None
    assert it.one(a, rtp(2), STRANGER) == B
    assert it.one(b, rtp(2), B) == A


def test_a_flow_not_handed_out_takes_nothing(it: Exchange) -> None:
    a, _ = it.pair(A, B)
    it.change(a, public=False)
    assert it.one(a, rtp(), A) is None
    assert it.drops(a) == {DropReason.NOT_ANSWERED: 1}
    assert it.figures(a).learned.source is None


def test_early_media_of_the_callee_passes_before_its_answer(it: Exchange) -> None:
    a, b = it.pair(A, B)
    it.change(b, advertised=None)
    fresh = it.open("192.0.2.10:40004", FlowSettings(Content.RTP, public=True, egress=a))
    assert it.one(fresh, rtp(), "203.0.113.80:7000") == A
    assert it.figures(fresh).learned.source is None


def test_without_a_peer_packets_still_teach_and_keep_the_call_alive(it: Exchange) -> None:
    lone = it.open("192.0.2.10:40000", FlowSettings(Content.RTP, advertised=at(A), public=True))
    assert it.one(lone, rtp(1), A) is None
    assert it.one(lone, rtp(2), A) is None
    figures = it.figures(lone)
    assert figures.learned.latched
    assert figures.drops == {DropReason.NO_PEER: 2}
    assert figures.last_accepted == it.now
    assert figures.packets_in == 2


def test_on_hold_media_stops_and_rtcp_goes_on(it: Exchange) -> None:
    a, _ = it.pair(A, B, Content.MUX)
    it.one(a, rtp(), A)
    it.change(a, may_send=False)
    assert it.one(a, rtp(2), A) is None
    assert it.one(a, RTCP, A) == B
    assert it.drops(a) == {DropReason.ON_HOLD: 1}
    assert it.figures(a).packets_in == 3


def test_blocked_media_has_its_own_reason(it: Exchange) -> None:
    a, _ = it.pair(A, B)
    it.one(a, rtp(), A)
    it.change(a, blocked=True, may_send=False)
    assert it.one(a, rtp(2), A) is None
    assert it.drops(a) == {DropReason.BLOCKED: 1}


def test_telephone_events_pass_a_block_and_nothing_else_that_stands_in_the_way(it: Exchange) -> None:
    a, b = it.pair(A, B)
    it.one(a, rtp(), A)
    key = frozenset({101, 127})
    it.change(a, blocked=True, events=key)
    assert it.one(a, rtp(2, payload_type=101), A) == B
    assert it.one(a, rtp(3, payload_type=127), A) == B
    for other in (0, 8, 37, 63, 96, 100, 102):
        assert it.one(a, rtp(4, payload_type=other), A) is None
    assert it.one(a, rtp(5, payload_type=101), "203.0.113.66:6666") is None
    it.change(a, may_send=False)
    assert it.one(a, rtp(6, payload_type=101), A) is None
    it.change(a, may_send=True)
    it.change(b, nat_wait=True, relearn=True, advertised=at("10.1.1.1:7000"))
    assert it.one(a, rtp(7, payload_type=101), A) is None


def test_nat_wait_sends_nothing_until_the_party_was_heard(it: Exchange) -> None:
    a, b = it.pair("10.0.0.5:4000", B)
    it.change(a, nat_wait=True)
    assert it.one(b, rtp(1), B) is None
    assert it.drops(b) == {DropReason.NAT_WAIT: 1}
    it.one(a, rtp(1), "203.0.113.7:31000")
    assert it.one(b, rtp(2), B) == "203.0.113.7:31000"


def test_nat_wait_opens_also_when_nothing_is_learned(it: Exchange) -> None:
    a, b = it.pair(A, B, learning=Learning.OFF)
    it.change(a, nat_wait=True)
    assert it.one(b, rtp(1), B) is None
    assert it.one(a, rtp(1), A) == B
    assert it.one(b, rtp(2), B) == A


def test_asymmetric_media_goes_to_the_sdp_address(it: Exchange) -> None:
    a, b = it.pair(A, B, asymmetric=True)
    assert it.one(a, rtp(1), STRANGER) == B
    assert it.one(b, rtp(1), B) == A


def test_handover_follows_the_party(it: Exchange) -> None:
    a, b = it.pair(A, B, handover=True)
    it.one(a, rtp(1), A)
    assert it.one(a, rtp(2), STRANGER) == B
    assert it.one(b, rtp(1), B) == STRANGER
    assert FlowEventKind.RELEARNED in [event.kind for event in it.crossbar.events]


def test_renegotiation_keeps_media_flowing(it: Exchange) -> None:
    a, b = it.pair("10.0.0.5:4000", B)
    mapped = "203.0.113.7:31000"
    it.one(a, rtp(1), mapped)
    it.now += 4
    it.crossbar.handle_timeout(it.now)
    it.one(a, rtp(2), mapped)
    it.set(a, it.crossbar.flows[a].settings, relearn=True)
    assert it.one(b, rtp(1), B) == mapped
    assert it.one(a, rtp(3), STRANGER) is None
    assert it.one(a, rtp(4), mapped) == B
    assert it.figures(a).learned.latched


class TestKinds:
    def test_garbage_is_not_rtp_and_teaches_nothing(self, it: Exchange) -> None:
        a, _ = it.pair(A, B)
        for garbage in (b"hello, world, this is not RTP", b"\x00\x01" + bytes(18), b"\x16\xfe\xfd" + bytes(20)):
            assert it.one(a, garbage, A) is None
        assert it.drops(a) == {DropReason.NOT_RTP: 3}
        assert it.figures(a).learned.source is None

    def test_truncated_packets_are_malformed(self, it: Exchange) -> None:
        a, _ = it.pair(A, B)
        it.one(a, rtp()[:11], A)
        it.one(a, RTCP[:7], A)
        it.one(a, b"", A)
        assert it.drops(a) == {DropReason.MALFORMED: 3}

    def test_rtcp_flows_carry_rtcp_only(self, it: Exchange) -> None:
        a, _ = it.pair(A, B, Content.RTCP)
        assert it.one(a, RTCP, A) == B
        assert it.one(a, rtp(), A) is None
        figures = it.figures(a)
        assert figures.rtcp_in == 1
        assert figures.drops == {DropReason.NOT_RTP: 1}

    def test_inconsistent_rtcp_passes_and_teaches_nothing(self, it: Exchange) -> None:
        a, _ = it.pair("10.0.0.5:4001", B, Content.RTCP)
        it.one(a, RTCP + b"\x00\x00", STRANGER)
        assert it.figures(a).learned.source is None

    def test_a_shared_port_is_split_for_a_party_without_mux(self, it: Exchange) -> None:
        mux = it.open("192.0.2.10:40000", FlowSettings(Content.MUX, advertised=at(A), public=True))
        media = it.open("192.0.2.10:40002", FlowSettings(Content.RTP, advertised=at(B), public=True, egress=mux))
        control = it.open(
            "192.0.2.10:40003",
            FlowSettings(Content.RTCP, advertised=at("198.51.100.2:5001"), public=True, egress_rtcp=mux),
        )
        it.change(mux, egress=media, egress_rtcp=control)
        assert it.one(mux, rtp(), A) == B
        assert it.one(mux, RTCP, A) == "198.51.100.2:5001"
        assert it.one(media, rtp(), B) == A
        assert it.one(control, RTCP, "198.51.100.2:5001") == A

    def test_rtcp_on_the_rtp_port_goes_to_the_other_sides_rtcp(self, it: Exchange) -> None:
        a, b = it.pair(A, B)
        control = it.open(
            "192.0.2.10:40003", FlowSettings(Content.RTCP, advertised=at("198.51.100.2:5001"), public=True)
        )
        it.change(a, egress_rtcp=control)
        assert it.one(a, RTCP, A) == "198.51.100.2:5001"
        assert it.figures(a).learned.source is None
        assert b != control

    def test_datagrams_pass_whatever_they_are(self, it: Exchange) -> None:
        a, _ = it.pair(A, B, Content.DATAGRAM)
        for payload in (b"\x00\x00\x01t38", b"\x80\xc8", rtp(), RTCP, b"x"):
            assert it.one(a, payload, A) == B

    def test_without_validation_anything_passes(self, it: Exchange) -> None:
        a, _ = it.pair(A, B, validate=False)
        assert it.one(a, b"anything", A) == B

    def test_dtls_passes_on_secured_streams_and_does_not_teach(self, it: Exchange) -> None:
        a, _ = it.pair(A, B, secured=True)
        hello = b"\x16\xfe\xfd" + bytes(40)
        assert it.one(a, hello, STRANGER) == B
        assert it.figures(a).learned.source is None
        it.one(a, rtp(), A)
        assert it.one(a, hello, A) == B
        assert it.one(a, hello, STRANGER) is None

    def test_unknown_payload_types_pass_and_do_not_teach(self, it: Exchange) -> None:
        a, _ = it.pair(A, B, payload_types=frozenset({0, 101}))
        assert it.one(a, rtp(payload_type=98), A) == B
        assert it.figures(a).learned.source is None
        assert it.one(a, rtp(payload_type=101), A) == B
        assert it.figures(a).learned.latched


class TestLimits:
    def test_oversized_packets_are_dropped(self, it: Exchange) -> None:
        a, _ = it.pair(A, B, size_limit=500)
        assert it.one(a, rtp(size=488), A) == B
        assert it.one(a, rtp(size=489), A) is None
        assert it.drops(a) == {DropReason.TOO_BIG: 1}

    def test_a_flow_over_its_packet_rate_is_cut_for_the_second(self, it: Exchange) -> None:
        a, _ = it.pair(A, B, packet_rate_limit=10)
        it.batch(*[(a, rtp(n), at(A)) for n in range(11)])
        it.steer.settle(it.now)
        assert it.one(a, rtp(12), A) is None
        assert it.drops(a) == {DropReason.RATE_LIMITED: 1}
        it.now += 1
        it.steer.settle(it.now)
        assert it.one(a, rtp(13), A) == B

    def test_a_flood_on_an_unlatched_flow_is_thought_about_only_so_often(self, it: Exchange) -> None:
        a, _ = it.pair(A, B)
        thoughts = []
        think = it.crossbar.think
        it.crossbar.think = lambda *given: thoughts.append(given) or think(*given)
        flood = [(a, rtp(n), TransportAddress("203.0.113.1", 1000 + n)) for n in range(500)]
        it.batch(*flood)
        assert len(thoughts) == THOUGHTS_PER_FLOW
        assert it.drops(a)[DropReason.QUEUE_FULL] == 500 - THOUGHTS_PER_FLOW

    def test_a_flood_on_one_flow_does_not_keep_another_from_learning(self, it: Exchange) -> None:
        a, _ = it.pair(A, B)
        c, _ = it.pair("198.51.100.3:1", "198.51.100.4:1", locals_=("192.0.2.10:41000", "192.0.2.10:41002"))
        flood = [(a, rtp(n), TransportAddress("203.0.113.1", 1000 + n)) for n in range(500)]
        it.batch(*flood, (c, rtp(), at("198.51.100.3:1")))
        assert it.figures(c).learned.latched

    def test_thoughts_of_a_batch_are_bounded(self) -> None:
        it = Exchange(2048)
        flows = [
            it.open(f"192.0.2.10:{20000 + n}", FlowSettings(Content.RTP, advertised=at(A), public=True))
            for n in range(1500)
        ]
        it.batch(*[(flow, rtp(), at(STRANGER)) for flow in flows])
        full = sum(it.drops(flow).get(DropReason.QUEUE_FULL, 0) for flow in flows)
        assert full == 1500 - THOUGHTS_MAX

    def test_packets_for_a_closed_flow_are_late(self, it: Exchange) -> None:
        a, b = it.pair(A, B)
        it.one(a, rtp(), A)
        it.crossbar.close(a)
        assert it.one(a, rtp(), A) is None
        assert it.steer.late == 1
        assert it.one(b, rtp(), B) is None
        assert it.drops(b) == {DropReason.NO_PEER: 1}


class TestFamilies:
    def test_ipv6_and_ipv4_are_bridged(self, it: Exchange) -> None:
        six = "[2001:db8::1]:4000"
        a, b = it.pair(six, B, locals_=("[2001:db8::ff]:40000", "192.0.2.10:40002"))
        assert it.one(a, rtp(), six) == B
        assert it.one(b, rtp(), B) == six

    def test_ipv6_sources_are_compared_whole(self, it: Exchange) -> None:
        six = "[2001:db8::1]:4000"
        a, _ = it.pair(six, B, locals_=("[2001:db8::ff]:40000", "192.0.2.10:40002"))
        it.one(a, rtp(), six)
        for other in ("[2001:db8::2]:4000", "[2001:db9::1]:4000", "[2001:db8::1]:4001"):
            assert it.one(a, rtp(2), other) is None
        assert it.one(a, rtp(3), six) == B

    def test_a_target_of_the_other_family_is_no_target(self, it: Exchange) -> None:
        a, b = it.pair(A, "[2001:db8::1]:4000")
        assert it.one(a, rtp(), A) is None
        assert it.drops(a) == {DropReason.NO_PEER: 1}
        assert b


class TestTargets:
    @pytest.mark.parametrize(
        "target", ["239.1.1.1:4000", "255.255.255.255:4000", "169.254.7.7:4000", "0.0.0.0:4000", "127.0.0.1:4000"]
    )
    def test_nothing_is_sent_where_no_party_can_be(self, it: Exchange, target: str) -> None:
        a, _ = it.pair(A, target)
        assert it.one(a, rtp(), A) is None
        assert it.drops(a) == {DropReason.NO_PEER: 1}

    def test_loopback_is_fine_on_a_loopback_socket(self, it: Exchange) -> None:
        a, _ = it.pair(A, "127.0.0.1:4000", locals_=("192.0.2.10:40000", "127.0.0.1:40002"))
        assert it.one(a, rtp(), A) == "127.0.0.1:4000"

    def test_another_leg_of_ours_is_a_fine_target(self, it: Exchange) -> None:
        a, _ = it.pair(A, "192.0.2.10:41000")
        c, _ = it.pair("192.0.2.10:40002", B, locals_=("192.0.2.10:41000", "192.0.2.10:41002"))
        assert it.one(a, rtp(), A) == "192.0.2.10:41000"
        assert it.one(c, rtp(), "192.0.2.10:40002") == B

    def test_a_circle_through_our_own_legs_is_broken(self, it: Exchange) -> None:
        a, b = it.pair("192.0.2.10:41002", "192.0.2.10:41000")
        it.pair("192.0.2.10:40002", "192.0.2.10:40000", locals_=("192.0.2.10:41000", "192.0.2.10:41002"))
        for slot in (a, b):
            it.change(slot)
        assert it.one(a, rtp(), "192.0.2.10:41002") is None
        assert DropReason.LOOP in it.drops(a)


def test_piercing_packets_are_asked_for_until_the_party_is_heard(it: Exchange) -> None:
    a, _ = it.pair(A, B)
    it.change(a, pierce=True)
    assert [(each.slot, str(each.target)) for each in it.crossbar.handle_timeout(it.now)] == [(a, A)]
    assert it.crossbar.handle_timeout(it.now + 0.5) == []
    assert len(it.crossbar.handle_timeout(it.now + 1.0)) == 1
    it.one(a, rtp(), A)
    assert it.crossbar.handle_timeout(it.now + 2.5) == []


def test_rtcp_of_a_natted_party_is_ranked_by_its_latched_rtp(it: Exchange) -> None:
    a, _ = it.pair("10.0.0.5:4000", B, learning=Learning.IMMEDIATE)
    control = it.open(
        "192.0.2.10:40001", FlowSettings(Content.RTCP, advertised=at("10.0.0.5:4001"), public=True, companion=a)
    )
    it.one(a, rtp(), "203.0.113.7:31000")
    it.one(control, RTCP, "203.0.113.7:31999")
    assert it.one(control, RTCP, "192.0.2.99:4001") is None
    assert it.drops(control) == {DropReason.NO_PEER: 1, DropReason.WORSE_CANDIDATE: 1}


def test_reports_of_a_party_tell_its_loss_and_its_round_trip(it: Exchange) -> None:
    a, b = it.pair(A, B, Content.MUX)
    it.one(a, rtp(), A)
    it.one(b, rtp(), B)
    ntp = 0x1234_5678_9ABC_DEF0
    assert it.one(a, encode(Report(7, ntp, 50, 8000, ())), A) == B
    it.now += 0.3
    block = ReportBlock(7, 64, 12, 100, 160, middle(ntp), 65536 // 4)
    assert it.one(b, encode(Report(9, None, 0, 0, (block,))), B) == A
    reported = it.figures(b).reported
    assert (reported.fraction_lost, reported.cumulative_lost, reported.jitter) == (0.25, 12, 0.02)
    assert reported.round_trip == pytest.approx(0.05)
    assert it.figures(a).reported.at == 0.0


def test_reports_of_secured_streams_are_not_read(it: Exchange) -> None:
    a, b = it.pair(A, B, Content.MUX, secured=True)
    it.one(b, rtp(), B)
    it.one(b, encode(Report(9, None, 0, 0, (ReportBlock(7, 64, 12, 100, 160, 0, 0),))), B)
    assert it.figures(b).reported.at == 0.0
    assert a != b


def test_continuity_lets_a_rebound_phone_come_back(it: Exchange) -> None:
    a, b = it.pair(A, B, continuity=True)
    it.batch(*[(a, rtp(n, ssrc=9), at(A)) for n in range(10)])
    it.now += 0.5
    assert it.one(a, rtp(11, ssrc=9), STRANGER) is None
    it.now += 0.6
    assert it.one(a, rtp(12, ssrc=8), STRANGER) is None
    assert it.one(a, rtp(12, ssrc=9), STRANGER) == B
    assert it.one(b, rtp(1), B) == STRANGER


def test_numbers_of_a_random_batch_add_up(it: Exchange) -> None:
    a, b = it.pair(A, B)
    random = np.random.default_rng(5)
    total = 0
    for _ in range(20):
        packets = []
        for _ in range(50):
            flow = int(random.choice([a, b]))
            source = random.choice([A, B, STRANGER])
            payload = [rtp(int(random.integers(0, 65536))), RTCP, b"garbage!", b""][int(random.integers(0, 4))]
            packets.append((flow, payload, at(str(source))))
        total += len(packets)
        it.batch(*packets)
    counted = sum(it.figures(flow).packets_in for flow in (a, b))
    alive = {DropReason.NO_PEER, DropReason.ON_HOLD}
    dropped = sum(count for flow in (a, b) for reason, count in it.drops(flow).items() if reason not in alive)
    assert counted + dropped == total
