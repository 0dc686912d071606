"""Tags, via-branches, forks, aliases, and what a delete takes away."""

from __future__ import annotations

import pytest

from nattrav.net.address import TransportAddress
from relay.session import CallKey, Refusal, SideOptions
from tests.relay.calls import ALICE, BOB, CAROL, Call, audio, opener_of, plane_of
from tests.relay.planes import engine


def test_each_via_branch_gets_ports_of_its_own() -> None:
    relay = engine()
    call = Call(relay)
    (first,) = call.offer(branch="z1")
    (second,) = call.offer(branch="z2")
    assert first.rtp != second.rtp
    assert call.offer(branch="z1") == [first]
    assert len(opener_of(relay).bound) == 6


def test_an_answer_finds_its_branch_by_via_branch_and_is_then_known_by_tag() -> None:
    relay = engine()
    call = Call(relay)
    call.offer(branch="z1")
    (for_second,) = call.offer(branch="z2")
    call.answer(audio(CAROL), branch="z2", to_tag="c")
    plane = plane_of(relay)
    assert plane.at(for_second.rtp).advertised == CAROL
    call.answer(audio(BOB), to_tag="c")
    assert plane.at(for_second.rtp).advertised == BOB


def test_the_branch_that_answers_last_gets_the_callers_media() -> None:
    relay = engine()
    call = Call(relay)
    (for_bob,) = call.offer(branch="z1")
    (for_carol,) = call.offer(branch="z2")
    (alice_with_bob,) = call.answer(audio(BOB), branch="z1", to_tag="b")
    plane = plane_of(relay)
    assert for_bob.rtp is not None
    assert plane.at(alice_with_bob.rtp).egress == plane.flow(for_bob.rtp)
    (alice_with_carol,) = call.answer(audio(CAROL), branch="z2", to_tag="c")
    assert for_carol.rtp is not None
    assert plane.at(alice_with_carol.rtp).egress == plane.flow(for_carol.rtp)


def test_a_second_tag_before_the_final_response_is_an_alias() -> None:
    relay = engine()
    call = Call(relay)
    call.offer()
    (first,) = call.answer(to_tag="b1")
    assert call.answer(to_tag="b2") == [first]
    session = relay.sessions["call-1"]
    assert len(session.parties) == 2
    assert session.parties[1].aliases == ["b2"]
    assert len(opener_of(relay).bound) == 4


def test_a_further_tag_after_the_final_response_is_another_party() -> None:
    relay = engine()
    call = Call(relay)
    call.offer()
    call.answer(to_tag="b1", options=SideOptions(final_response=True))
    call.answer(audio(CAROL), to_tag="b2", options=SideOptions(final_response=True))
    assert [party.tag for party in relay.sessions["call-1"].parties] == ["a", "b1", "b2"]
    call.answer(audio(CAROL), to_tag="b3", options=SideOptions(provisional=True))
    assert relay.sessions["call-1"].by_tag["b3"].aliases == ["b3"]


def test_new_branch_makes_another_party_at_once() -> None:
    relay = engine()
    call = Call(relay)
    call.offer()
    call.answer(to_tag="b1")
    call.answer(audio(CAROL), to_tag="b2", options=SideOptions(new_branch=True))
    assert len(relay.sessions["call-1"].parties) == 3


def test_a_late_offer_in_a_reply_and_its_answer_connect_the_same_two_parties() -> None:
    relay = engine()
    call = Call(relay)
    (for_alice,) = call.offer(audio(BOB), from_tag="b", to_tag="a")
    (for_bob,) = relay.answer(CallKey("call-1", "b", "a"), [audio(ALICE)], SideOptions(), 1.0)
    plane = plane_of(relay)
    assert plane.at(for_alice.rtp).advertised == ALICE
    assert plane.at(for_bob.rtp).advertised == BOB


def test_an_offer_to_an_unknown_tag_starts_another_party() -> None:
    relay = engine()
    call = Call(relay)
    call.up()
    call.offer(to_tag="x", now=2.0)
    assert [party.tag for party in relay.sessions["call-1"].parties] == ["a", "b", "x"]


def test_an_answer_whose_offerer_is_unknown_is_refused() -> None:
    relay = engine()
    Call(relay).offer()
    with pytest.raises(Refusal, match="Invalid dialogue association"):
        Call(relay).answer(from_tag="stranger")


def test_deleting_one_branch_leaves_the_others() -> None:
    relay = engine()
    call = Call(relay)
    call.offer(branch="z1")
    call.offer(branch="z2")
    call.answer(audio(BOB), branch="z1", to_tag="b")
    relay.delete(CallKey("call-1", "a", None, "z2"), now=3.0)
    assert [party.tag for party in relay.sessions["call-1"].parties] == ["a", "b"]
    assert len(opener_of(relay).bound) == 4
    relay.delete(CallKey("call-1", "a", None, "z1"), now=4.0)
    assert relay.sessions == {}


def test_deleting_the_branch_that_has_the_callers_media_reconnects_him() -> None:
    relay = engine()
    call = Call(relay)
    (for_bob,) = call.offer(branch="z1")
    call.offer(branch="z2")
    (for_alice,) = call.answer(audio(BOB), branch="z1", to_tag="b")
    call.answer(audio(BOB), branch="z2", to_tag="c")
    relay.delete(CallKey("call-1", "a", None, "z2"), now=3.0)
    plane = plane_of(relay)
    assert for_bob.rtp is not None
    assert plane.at(for_alice.rtp).egress == plane.flow(for_bob.rtp)


def test_no_flow_ever_names_a_flow_that_is_closed() -> None:
    relay = engine()
    call = Call(relay)
    call.offer(branch="z1")
    call.offer(branch="z2")
    call.answer(audio(BOB), branch="z1", to_tag="b")
    call.answer(audio(CAROL, mux=False), branch="z2", to_tag="c")
    call.offer(audio(None, rejected=True), from_tag="a", to_tag="b", now=5.0)
    plane = plane_of(relay)
    for settings in plane.settings.values():
        for number in (settings.egress, settings.egress_rtcp, settings.companion):
            assert number is None or number in plane.settings


def test_to_tag_counts_for_a_delete_only_when_it_is_honoured() -> None:
    relay = engine()
    call = Call(relay)
    call.up()
    with pytest.raises(Refusal):
        relay.delete(CallKey("call-1", "stranger", "b"), now=2.0)
    relay.delete(CallKey("call-1", "stranger", "b"), honour_to_tag=True, now=2.0)
    assert relay.sessions == {}


def test_an_unknown_honoured_to_tag_still_deletes_a_branch_that_never_answered() -> None:
    relay = engine()
    Call(relay).offer()
    relay.delete(CallKey("call-1", "a", "never-seen"), honour_to_tag=True, now=2.0)
    assert relay.sessions == {}


def test_bye_from_the_callee_deletes_the_call() -> None:
    relay = engine()
    Call(relay).up()
    relay.delete(CallKey("call-1", "b", "a"), now=2.0)
    assert relay.sessions == {}


def test_a_delayed_delete_can_be_revived_until_it_is_carried_out() -> None:
    relay = engine()
    call = Call(relay)
    call.up()
    relay.delete(CallKey("call-1"), delay=10.0, now=2.0)
    assert relay.list() == ["call-1"]
    call.offer(to_tag="b", now=5.0)
    relay.handle_timeout(13.0)
    assert relay.list() == ["call-1"]
    relay.delete(CallKey("call-1"), delay=10.0, now=20.0)
    relay.handle_timeout(29.0)
    assert relay.list() == ["call-1"]
    relay.handle_timeout(30.0)
    assert relay.list() == []
    with pytest.raises(Refusal, match="Unknown call-id"):
        call.answer(now=31.0)


def test_a_call_cannot_be_forked_without_bound() -> None:
    relay = engine(low=30000, high=39999)
    call = Call(relay)
    for number in range(63):
        call.offer(branch=f"z{number}")
    with pytest.raises(Refusal, match="Ran out of ports"):
        call.offer(branch="one-too-many")
    assert len(relay.sessions["call-1"].parties) == 64


def test_the_port_shown_follows_the_address_of_the_other_party() -> None:
    relay = engine()
    call = Call(relay)
    to_bob, _ = call.up()
    moved = TransportAddress("198.51.100.99", 7000)
    (elsewhere,) = call.offer(audio(moved), to_tag="b", now=5.0)
    assert elsewhere.rtp != to_bob.rtp
    plane = plane_of(relay)
    assert plane.at(to_bob.rtp).selected
    call.answer(now=6.0)
    assert not plane.at(to_bob.rtp).selected
    assert plane.at(elsewhere.rtp).selected
    (back,) = call.offer(audio(ALICE), to_tag="b", now=7.0)
    assert back == to_bob


def test_port_latching_keeps_the_port_shown() -> None:
    relay = engine()
    call = Call(relay)
    to_bob, _ = call.up()
    moved = TransportAddress("198.51.100.99", 7000)
    options = SideOptions(port_latching=True)
    assert call.offer(audio(moved), to_tag="b", options=options, now=5.0) == [to_bob]


def test_a_party_that_moves_again_and_again_does_not_use_up_the_pool() -> None:
    relay = engine()
    call = Call(relay)
    call.up()
    for number in range(50):
        call.offer(audio(TransportAddress("198.51.100.99", 7000 + 2 * number)), to_tag="b", now=5.0 + number)
        call.answer(now=5.5 + number)
    assert len(opener_of(relay).bound) <= 2 + 2 * 8
