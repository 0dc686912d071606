"""Sessions survive a restart: ports, learned addresses, counters, and what was agreed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from nattrav.net.address import TransportAddress
from relay.engine import Engine
from relay.plane import DropReason, FlowFigures, FlowSettings, KernelMark, Learned, Rank, RtpFigures
from relay.selection import Selection
from relay.session import CallKey, Learning, Refusal, RtcpMux, SideOptions
from relay.snapshot import UnreadableRecord, latest, thaw
from tests.relay.calls import ALICE, BOB, CAROL, Call, audio, image, opener_of, plane_of
from tests.relay.planes import engine

BEHIND_NAT = TransportAddress("198.51.100.200", 54321)


def by_port(relay: Engine) -> dict[TransportAddress, FlowSettings]:
    """Settings by local address, with flow numbers turned into the addresses they stand for."""
    plane = plane_of(relay)
    names = {flow: index for index, (flow, _) in enumerate(sorted(plane.locals.items(), key=lambda item: item[1]))}
    return {
        local: replace(
            settings,
            egress=None if settings.egress is None else names[settings.egress],
            egress_rtcp=None if settings.egress_rtcp is None else names[settings.egress_rtcp],
            companion=None if settings.companion is None else names[settings.companion],
        )
        for flow, local in plane.locals.items()
        for settings in (plane.settings[flow],)
    }


def restarted(relay: Engine, now: float = 100.0) -> Engine:
    relay.changed.update(relay.sessions)
    records = relay.take_changes().records
    fresh = engine()
    restored, lost = fresh.restore(json.loads(json.dumps(records)), now)
    assert lost == []
    assert restored == len(relay.sessions)
    return fresh


def test_a_restarted_relay_has_the_same_ports_with_the_same_rules() -> None:
    relay = engine()
    call = Call(relay)
    options = SideOptions(
        learning=Learning.DELAYED,
        strict_source=True,
        signalling_source="198.51.100.10",
        rtcp_mux=frozenset({RtcpMux.OFFER, RtcpMux.ACCEPT}),
        tos=184,
        label="caller",
    )
    call.offer(audio(ALICE, mux=True), image(CAROL), options=options, branch="z1")
    call.answer(audio(BOB), image(CAROL), branch="z1")
    call.offer(audio(ALICE, mux=True), image(CAROL), branch="z2")
    call.offer(audio(TransportAddress("198.51.100.99", 7000)), to_tag="b", now=5.0)
    relay.block(Selection("call-1", label="caller"))
    Call(relay, "call-2").offer(replace(audio(ALICE), port_count=3))
    fresh = restarted(relay)
    assert by_port(fresh) == by_port(relay)
    assert opener_of(fresh).bound == opener_of(relay).bound


def test_learned_addresses_and_counters_come_back() -> None:
    relay = engine()
    to_bob, _ = Call(relay).up()
    plane = plane_of(relay)
    assert to_bob.rtp is not None
    flow = plane.flow(to_bob.rtp)
    learned = Learned(BEHIND_NAT, BEHIND_NAT, True, Rank.SAME_HOST, 3.5)
    plane.counted[flow] = FlowFigures(
        packets_in=50,
        bytes_in=8600,
        last_in=4.0,
        last_accepted=4.0,
        drops={DropReason.SOURCE_MISMATCH: 3},
        learned=learned,
        rtp=RtpFigures(ssrc=7, received=50, expected=52, lost=2, jitter=0.004),
    )
    fresh = restarted(relay)
    flow = plane_of(fresh).flow(to_bob.rtp)
    assert plane_of(fresh).figures(flow).learned == learned
    plane_of(fresh).hear(to_bob.rtp, 101.0, packets=5)
    bob = fresh.query("call-1", "b", now=102.0).parties[0]
    figures = bob.legs[0].components[0].figures
    assert figures.packets_in == 55
    assert figures.drops == {DropReason.SOURCE_MISMATCH: 3}
    assert (figures.rtp.lost, figures.rtp.ssrc) == (2, 7)


def test_where_the_kernel_stood_with_a_flow_comes_back_with_its_address() -> None:
    relay = engine()
    to_bob, _ = Call(relay).up()
    assert to_bob.rtp is not None
    mark = KernelMark(0xFFFFFFFF, 40, 6880, 1, 2, 3, 4, 5)
    learned = Learned(BEHIND_NAT, BEHIND_NAT, True, Rank.EXACT, 3.5)
    plane_of(relay).counted[plane_of(relay).flow(to_bob.rtp)] = FlowFigures(packets_in=50, learned=learned, mark=mark)
    fresh = plane_of(restarted(relay))
    assert fresh.figures(fresh.flow(to_bob.rtp)).learned == replace(learned, mark=mark)


def test_signalling_goes_on_where_it_stopped() -> None:
    relay = engine()
    call = Call(relay)
    to_bob, to_alice = call.up()
    fresh = restarted(relay)
    again = Call(fresh)
    assert again.offer(to_tag="b", now=101.0) == [to_bob]
    assert again.answer(now=102.0) == [to_alice]
    fresh.delete(CallKey("call-1"), now=103.0)
    assert fresh.sessions == {}


def test_a_restart_counts_as_a_sign_of_life() -> None:
    relay = engine()
    Call(relay).up()
    fresh = restarted(relay, now=1000.0)
    fresh.handle_timeout(1050.0)
    assert fresh.list() == ["call-1"]
    fresh.handle_timeout(1061.0)
    assert fresh.list() == []


def test_a_session_whose_port_is_taken_is_lost_alone_and_gives_back_the_rest() -> None:
    relay = engine()
    to_bob, _ = Call(relay, "one").up()
    Call(relay, "two").up()
    relay.changed.update(relay.sessions)
    records = relay.take_changes().records
    fresh = engine()
    assert to_bob.rtp is not None
    opener_of(fresh).foreign = {to_bob.rtp.port}
    restored, lost = fresh.restore(records, 10.0)
    assert restored == 1
    assert len(lost) == 1
    assert lost[0].startswith("one:")
    assert len(opener_of(fresh).bound) == 4


def test_changes_are_told_once() -> None:
    relay = engine()
    Call(relay, "one").up()
    Call(relay, "two").offer()
    records, gone, _ = relay.take_changes()
    assert sorted(record["call_id"] for record in records) == ["one", "two"]
    assert gone == []
    relay.delete(CallKey("one"), now=5.0)
    assert relay.take_changes() == ([], ["one"], [])
    assert relay.take_changes() == ([], [], [])


def test_replaying_keeps_the_latest_record_and_forgets_what_is_gone() -> None:
    journal = [
        {"version": 1},
        {"put": {"call_id": "a", "n": 1}},
        {"put": {"call_id": "b", "n": 1}},
        {"put": {"call_id": "a", "n": 2}},
        {"gone": "b"},
    ]
    assert latest(journal) == {"a": {"call_id": "a", "n": 2}}


@pytest.mark.parametrize("record", [{}, {"call_id": "x"}, {"call_id": "x", "parties": 7}])
def test_a_record_that_makes_no_sense_is_refused(record: dict[str, object]) -> None:
    with pytest.raises(UnreadableRecord):
        thaw(record, engine().interfaces, 0, 0.0)


def test_a_record_with_ports_outside_every_pool_is_refused() -> None:
    relay = engine()
    Call(relay).up()
    (record,) = relay.take_changes()[0]
    other = engine(low=50000, high=50999)
    restored, lost = other.restore([record], 1.0)
    assert (restored, len(lost)) == (0, 1)
    with pytest.raises(Refusal):
        other.query("call-1", now=1.0)
