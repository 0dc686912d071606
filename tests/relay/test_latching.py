"""The decision table of latching, its worked cases, and what signalling does to learned state."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nattrav.net.address import TransportAddress
from relay.latching import TABLE, Arrival, Latch, rank_of, usable
from relay.plane import Content, DropReason, FlowEventKind, FlowSettings, Learned, Rank
from relay.session import Learning

B = TransportAddress("198.51.100.7", 4000)
C = TransportAddress("198.51.100.7", 4444)
D = TransportAddress("203.0.113.9", 4000)
E = TransportAddress("203.0.113.9", 5555)
NAMES = {B: "B", C: "C", D: "D", E: "E"}
LATER = 10.0

HEURISTIC = FlowSettings(Content.RTP, advertised=B, public=True, strict=False)
STRICT = replace(HEURISTIC, strict=True)
DELAYED = replace(HEURISTIC, learning=Learning.DELAYED)
IMMEDIATE = replace(HEURISTIC, learning=Learning.IMMEDIATE)
OFF = replace(HEURISTIC, learning=Learning.OFF)


def play(latch: Latch, sources: str, now: float = 0.1) -> str:
    """Send one packet from each source; tell which passed (upper case) and where ours would go after each."""
    by_name = {name: address for address, name in NAMES.items()}
    told = []
    for name in sources:
        passes = latch.receive(Arrival(by_name[name]), now).passes
        target = NAMES[latch.target] if latch.target else "-"
        told.append((name if passes else name.lower()) + target)
    return " ".join(told)


def test_rows_are_numbered_from_one_to_sixteen() -> None:
    assert [row.number for row in TABLE] == list(range(1, 17))
    assert all(row.condition for row in TABLE)


class TestWorkedCases:
    def test_heuristic_with_the_exact_source_first_passes_all_and_stays_there(self) -> None:
        latch = Latch(HEURISTIC, 0.0)
        assert play(latch, "BCDE") == "BB CB DB EB"
        assert play(latch, "BCDE", LATER) == "BB CB DB EB"

    def test_heuristic_climbs_to_better_sources_and_never_back(self) -> None:
        latch = Latch(HEURISTIC, 0.0)
        assert play(latch, "ECDB") == "EE CC DC BB"
        assert play(latch, "ECDB", LATER) == "EB CB DB BB"

    def test_strict_heuristic_refuses_others_at_once_after_the_exact_one(self) -> None:
        latch = Latch(STRICT, 0.0)
        assert play(latch, "BCDE") == "BB cB dB eB"
        assert play(latch, "BCDE", LATER) == "BB cB dB eB"

    def test_strict_heuristic_refuses_worse_than_the_best_seen(self) -> None:
        latch = Latch(STRICT, 0.0)
        assert play(latch, "ECDB") == "EE CC dC BB"
        assert play(latch, "ECD") == "eB cB dB"

    def test_offer_only_passes_early_media_of_the_callee(self) -> None:
        latch = Latch(replace(STRICT, advertised=None), 0.0)
        assert play(latch, "EC") == "E- C-"
        assert latch.source is None

    def test_offer_only_takes_nothing_on_the_port_not_handed_out(self) -> None:
        latch = Latch(replace(STRICT, public=False), 0.0)
        verdict = latch.receive(Arrival(E), 0.1)
        assert verdict.reason is DropReason.NOT_ANSWERED
        assert latch.source is None
        assert latch.target == B

    def test_asymmetric_delayed_sends_to_the_sdp_address_always(self) -> None:
        latch = Latch(replace(DELAYED, asymmetric=True), 0.0)
        assert play(latch, "ECDB") == "EB CB DB BB"
        assert play(latch, "ECDB", LATER) == "EB CB DB BB"

    def test_asymmetric_delayed_strict_latches_the_first_source_after_the_window(self) -> None:
        latch = Latch(replace(DELAYED, asymmetric=True, strict=True), 0.0)
        assert play(latch, "ECDB") == "EB CB DB BB"
        assert play(latch, "DECB", LATER) == "DB eB cB bB"

    def test_asymmetric_off_passes_all_or_with_strict_only_the_sdp_address(self) -> None:
        assert play(Latch(replace(OFF, asymmetric=True), 0.0), "EBC") == "EB BB CB"
        assert play(Latch(replace(OFF, asymmetric=True, strict=True), 0.0), "EBC") == "eB BB cB"

    @pytest.mark.parametrize("strict", [False, True])
    def test_asymmetric_heuristic_checks_sources_as_heuristic_does(self, strict: bool) -> None:
        plain = Latch(replace(HEURISTIC, strict=strict), 0.0)
        asymmetric = Latch(replace(HEURISTIC, strict=strict, asymmetric=True), 0.0)
        expected = [told[0] for told in play(plain, "ECDBECD").split()]
        told = play(asymmetric, "ECDBECD").split()
        assert [each[0] for each in told] == expected
        assert {each[1] for each in told} == {"B"}


class TestModes:
    def test_immediate_latches_the_first_packet(self) -> None:
        latch = Latch(replace(IMMEDIATE, strict=True), 0.0)
        assert play(latch, "EBC") == "EE bE cE"

    def test_delayed_follows_each_packet_and_latches_the_first_after_the_window(self) -> None:
        latch = Latch(DELAYED, 0.0)
        assert play(latch, "EBD") == "EE BB DD"
        assert not latch.latched
        assert play(latch, "CB", LATER) == "CC BC"
        assert latch.latched

    def test_heuristic_without_a_usable_address_behaves_as_delayed(self) -> None:
        for advertised in (TransportAddress("0.0.0.0", 4000), TransportAddress("198.51.100.7", 0)):
            latch = Latch(replace(STRICT, advertised=advertised), 0.0)
            assert latch.target is None
            assert play(latch, "ED") == "EE DD"

    def test_off_without_a_usable_address_passes_and_learns_nothing(self) -> None:
        latch = Latch(replace(OFF, advertised=TransportAddress("0.0.0.0", 9)), 0.0)
        assert play(latch, "E") == "E-"
        assert latch.source is None

    def test_heuristic_latches_the_best_when_the_window_is_over(self) -> None:
        latch = Latch(HEURISTIC, 0.0)
        assert play(latch, "CE") == "CC EC"
        assert not latch.latched
        verdict = latch.receive(Arrival(E), LATER)
        assert (verdict.row, verdict.event, latch.source) == (13, FlowEventKind.LATCHED, C)

    def test_strict_never_latches_a_worse_one_even_after_the_window(self) -> None:
        latch = Latch(STRICT, 0.0)
        assert play(latch, "C") == "CC"
        assert play(latch, "EC", LATER) == "eC CC"
        assert latch.latched

    def test_newest_source_of_a_rank_wins_in_a_first_window(self) -> None:
        other = TransportAddress("192.0.2.1", 1)
        latch = Latch(STRICT, 0.0)
        latch.receive(Arrival(E), 0.1)
        assert latch.receive(Arrival(other), 0.2).passes
        assert latch.target == other

    def test_a_mode_change_takes_effect_at_once(self) -> None:
        latch = Latch(STRICT, 0.0)
        play(latch, "E")
        latch.set(replace(STRICT, learning=Learning.OFF))
        assert play(latch, "EB") == "eB BB"


class TestRank:
    def test_ranks_fall_with_distance_from_signalling(self) -> None:
        assert [rank_of(source, B) for source in (B, C, D, E)] == [
            Rank.EXACT,
            Rank.SAME_HOST,
            Rank.SAME_PORT,
            Rank.NEITHER,
        ]

    def test_the_host_that_signalled_ranks_between_same_host_and_same_port(self) -> None:
        assert rank_of(E, B, signalling_host=E.host) is Rank.SIGNALLING_HOST
        assert rank_of(D, B, signalling_host=D.host) is Rank.SIGNALLING_HOST
        assert Rank.SAME_HOST < Rank.SIGNALLING_HOST < Rank.SAME_PORT

    def test_a_stranger_cannot_displace_the_host_that_signalled(self) -> None:
        latch = Latch(replace(STRICT, signalling_host="203.0.113.9"), 0.0)
        assert play(latch, "E") == "EE"
        stranger = TransportAddress("192.0.2.66", 4000)
        assert latch.receive(Arrival(stranger), 0.2).reason is DropReason.WORSE_CANDIDATE
        assert latch.target == E

    def test_rtcp_from_the_host_of_latched_rtp_ranks_as_same_host(self) -> None:
        latch = Latch(replace(STRICT, content=Content.RTCP), 0.0)
        latch.companion_host = E.host
        assert latch.rank_of(E) is Rank.SAME_HOST

    def test_null_address_and_port_zero_name_no_place(self) -> None:
        assert usable(B)
        assert not usable(None)
        assert not usable(TransportAddress("::", 4000))
        assert not usable(TransportAddress("192.0.2.1", 0))


class TestWhatTeaches:
    def test_invalid_packets_are_dropped_with_their_reason_before_all_else(self) -> None:
        latch = Latch(replace(STRICT, public=False), 0.0)
        verdict = latch.receive(Arrival(B, fault=DropReason.NOT_RTP), 0.1)
        assert (verdict.row, verdict.reason) == (1, DropReason.NOT_RTP)

    def test_rtcp_on_the_rtp_port_passes_and_teaches_nothing(self) -> None:
        latch = Latch(STRICT, 0.0)
        assert latch.receive(Arrival(B, rtcp_aside=True), 0.1).passes
        assert not latch.latched

    def test_unknown_payload_type_passes_and_teaches_nothing(self) -> None:
        latch = Latch(STRICT, 0.0)
        assert latch.receive(Arrival(E, teaches=False), 0.1).passes
        assert latch.source is None

    def test_after_the_latch_rtcp_is_checked_like_rtp(self) -> None:
        latch = Latch(STRICT, 0.0)
        play(latch, "B")
        assert latch.receive(Arrival(E, rtcp_aside=True), 0.2).reason is DropReason.SOURCE_MISMATCH

    def test_the_wrong_local_address_teaches_nothing(self) -> None:
        latch = Latch(replace(STRICT, selected=False), 0.0)
        assert latch.receive(Arrival(B), 0.1).reason is DropReason.WRONG_LOCAL


class TestSignalling:
    def latched_on(self, source: TransportAddress, settings: FlowSettings = STRICT) -> Latch:
        latch = Latch(settings, 0.0)
        latch.receive(Arrival(source), 0.1)
        latch.receive(Arrival(source), LATER)
        assert latch.latched
        return latch

    def test_renegotiation_keeps_the_target_so_media_does_not_pause(self) -> None:
        latch = self.latched_on(E)
        latch.signal(STRICT, 20.0)
        assert not latch.latched
        assert latch.target == E

    def test_the_same_source_latches_again_with_its_first_packet(self) -> None:
        latch = self.latched_on(E)
        latch.signal(STRICT, 20.0)
        verdict = latch.receive(Arrival(E), 20.01)
        assert verdict.event is FlowEventKind.LATCHED
        assert latch.latched

    def test_a_worse_source_must_wait_out_the_window(self) -> None:
        latch = self.latched_on(C)
        latch.signal(STRICT, 20.0)
        assert latch.receive(Arrival(E), 20.5).reason is DropReason.WORSE_CANDIDATE
        assert latch.target == C
        assert latch.receive(Arrival(E), 23.1).passes
        assert latch.target == E

    def test_an_equal_source_takes_over_after_a_short_silence(self) -> None:
        other = TransportAddress("192.0.2.1", 1)
        latch = self.latched_on(E)
        latch.signal(STRICT, 20.0)
        assert latch.receive(Arrival(other), 20.1).reason is DropReason.WORSE_CANDIDATE
        assert latch.receive(Arrival(other), 20.25).passes
        assert latch.target == other

    def test_a_better_source_takes_over_at_once(self) -> None:
        latch = self.latched_on(E)
        latch.signal(STRICT, 20.0)
        assert latch.receive(Arrival(B), 20.01).event is FlowEventKind.LATCHED
        assert latch.target == B

    def test_a_changed_sdp_address_is_the_new_target(self) -> None:
        latch = self.latched_on(E)
        moved = TransportAddress("198.51.100.99", 6000)
        latch.signal(replace(STRICT, advertised=moved), 20.0)
        assert latch.target == moved
        assert latch.source is None
        assert latch.receive(Arrival(E), 20.1).passes

    def test_hold_with_a_null_address_does_not_overwrite_the_target(self) -> None:
        latch = self.latched_on(E)
        latch.signal(replace(STRICT, advertised=TransportAddress("0.0.0.0", 4000)), 20.0)
        assert latch.target == E
        latch.signal(STRICT, 30.0)
        assert latch.target == E
        assert latch.receive(Arrival(E), 30.1).event is FlowEventKind.LATCHED

    @pytest.mark.parametrize("advertised", [None, TransportAddress("0.0.0.0", 4000)])
    def test_a_stranger_gains_nothing_from_a_hold(self, advertised: TransportAddress | None) -> None:
        latch = self.latched_on(C)
        latch.signal(replace(STRICT, advertised=advertised), 20.0)
        assert not latch.open_to_all
        assert latch.receive(Arrival(E), 20.5).reason is DropReason.WORSE_CANDIDATE
        assert latch.target == C

    def test_packets_never_open_a_window(self) -> None:
        latch = Latch(STRICT, 0.0)
        for step in range(40):
            latch.receive(Arrival(E), step * 0.1)
        assert latch.window_end == STRICT.window
        assert latch.latched

    def test_restored_state_comes_back_latched(self) -> None:
        latch = Latch(STRICT, 100.0, Learned(E, E, True, Rank.NEITHER, 50.0))
        assert play(latch, "EB", 100.1) == "EE bE"


class TestHandover:
    def test_handover_follows_a_new_source_and_counts_it(self) -> None:
        latch = Latch(replace(HEURISTIC, handover=True), 0.0)
        play(latch, "B")
        verdict = latch.receive(Arrival(E), 5.0)
        assert verdict.event is FlowEventKind.RELEARNED
        assert latch.target == E

    def test_handover_is_rate_limited(self) -> None:
        latch = Latch(replace(HEURISTIC, handover=True), 0.0)
        play(latch, "B")
        latch.receive(Arrival(E), 5.0)
        verdict = latch.receive(Arrival(D), 5.5)
        assert verdict.passes
        assert verdict.event is None
        assert latch.target == E

    def test_asymmetric_handover_moves_only_the_source(self) -> None:
        latch = Latch(replace(HEURISTIC, handover=True, asymmetric=True), 0.0)
        play(latch, "B")
        latch.receive(Arrival(E), 5.0)
        assert (latch.source, latch.target) == (E, B)

    def test_continuity_takes_over_only_when_proven(self) -> None:
        latch = Latch(replace(STRICT, continuity=True), 0.0)
        play(latch, "B")
        assert latch.receive(Arrival(E), 5.0).reason is DropReason.SOURCE_MISMATCH
        assert latch.receive(Arrival(E, continues=True), 5.1).event is FlowEventKind.RELEARNED
        assert latch.receive(Arrival(D, continues=True), 6.0).reason is DropReason.SOURCE_MISMATCH
        assert latch.receive(Arrival(D, continues=True), 11.0).passes
