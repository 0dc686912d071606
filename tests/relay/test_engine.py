"""Offer, answer and delete of plain calls, and what the data plane is told."""

from __future__ import annotations

import pytest

from nattrav.net.address import TransportAddress
from relay.effects import CloseReason, SessionClosed
from relay.plane import Content
from relay.session import CallKey, Direction, Learning, PartyMedia, Refusal, SideOptions
from tests.relay.calls import ALICE, BOB, CAROL, Call, audio, image, opener_of, plane_of
from tests.relay.planes import engine


def test_offer_opens_even_odd_pairs_for_both_sides() -> None:
    relay = engine()
    (placed,) = Call(relay).offer()
    assert placed.rtp is not None
    assert placed.rtcp is not None
    assert placed.rtp.port % 2 == 0
    assert placed.rtcp == TransportAddress("203.0.113.5", placed.rtp.port + 1)
    assert len(opener_of(relay).bound) == 4


def test_nothing_is_learned_from_the_offerer_before_the_answer_but_early_media_reaches_him() -> None:
    relay = engine()
    call = Call(relay)
    (placed,) = call.offer()
    plane = plane_of(relay)
    towards_bob = plane.at(placed.rtp)
    assert towards_bob.public
    assert towards_bob.advertised is None
    assert towards_bob.egress is not None
    from_alice = plane.settings[towards_bob.egress]
    assert not from_alice.public
    assert from_alice.advertised == ALICE
    assert from_alice.egress is None


def test_answer_connects_both_ways() -> None:
    relay = engine()
    call = Call(relay)
    (to_bob,) = call.offer()
    (to_alice,) = call.answer()
    plane = plane_of(relay)
    assert to_bob.rtp is not None
    assert to_alice.rtp is not None
    assert to_bob.rtcp is not None
    assert to_alice.rtcp is not None
    from_alice, from_bob = plane.at(to_alice.rtp), plane.at(to_bob.rtp)
    assert from_alice.egress == plane.flow(to_bob.rtp)
    assert from_bob.egress == plane.flow(to_alice.rtp)
    assert from_alice.egress_rtcp == plane.flow(to_bob.rtcp)
    assert (from_alice.advertised, from_bob.advertised) == (ALICE, BOB)
    assert from_alice.public
    assert from_bob.public
    rtcp = plane.at(to_alice.rtcp)
    assert rtcp.content is Content.RTCP
    assert rtcp.advertised == TransportAddress(ALICE.host, ALICE.port + 1)
    assert rtcp.egress is None
    assert rtcp.egress_rtcp == plane.flow(to_bob.rtcp)


def test_heuristic_learning_and_strict_source_are_the_default() -> None:
    relay = engine()
    to_bob, to_alice = Call(relay).up()
    for placed in (to_bob, to_alice):
        settings = plane_of(relay).at(placed.rtp)
        assert settings.learning is Learning.HEURISTIC
        assert settings.strict
        assert not settings.handover


def test_media_handover_switches_strict_off_for_that_side_only() -> None:
    relay = engine()
    call = Call(relay)
    (to_bob,) = call.offer(options=SideOptions(media_handover=True, learning=Learning.DELAYED))
    (to_alice,) = call.answer()
    plane = plane_of(relay)
    assert plane.at(to_alice.rtp).handover
    assert not plane.at(to_alice.rtp).strict
    assert plane.at(to_alice.rtp).learning is Learning.DELAYED
    assert plane.at(to_bob.rtp).strict


def test_the_same_offer_again_returns_the_same_ports() -> None:
    relay = engine()
    call = Call(relay)
    assert call.offer() == call.offer()
    assert call.answer() == call.answer()
    assert len(opener_of(relay).bound) == 4


def test_reoffer_from_either_side_keeps_ports_and_opens_a_learning_window() -> None:
    relay = engine()
    call = Call(relay)
    to_bob, to_alice = call.up()
    plane = plane_of(relay)
    plane.relearned.clear()
    (again,) = call.offer(audio(BOB), from_tag="b", to_tag="a", now=5.0)
    assert again == to_alice
    (back,) = relay.answer(CallKey("call-1", "b", "a"), [audio(ALICE)], SideOptions(), 6.0)
    assert back == to_bob
    assert set(plane.relearned) == set(plane.settings)


def test_delete_without_from_tag_ends_the_call_and_its_ports_rest() -> None:
    relay = engine()
    to_bob, _ = Call(relay).up()
    assert to_bob.rtp is not None
    plane_of(relay).hear(to_bob.rtp, 3.0, packets=7)
    report = relay.delete(CallKey("call-1"), now=4.0)
    assert report.totals(rtcp=False)[0] == 7
    assert opener_of(relay).bound == set()
    assert plane_of(relay).settings == {}
    (pool,) = relay.interfaces.pools
    assert pool.quarantined == 4
    assert relay.take_effects() == [SessionClosed("call-1", ("a", "b"), CloseReason.DELETED, 4.0, None)]


def test_delete_of_an_unknown_call_is_refused_in_ngs_words() -> None:
    with pytest.raises(Refusal, match="Call-ID not found or tags didn't match"):
        engine().delete(CallKey("nobody"), now=0.0)


def test_answer_to_an_unknown_call_is_refused() -> None:
    with pytest.raises(Refusal, match="Unknown call-id"):
        Call(engine()).answer()


def test_answer_by_the_offerer_himself_is_refused() -> None:
    relay = engine()
    call = Call(relay)
    call.offer()
    with pytest.raises(Refusal, match="Invalid dialogue association"):
        call.answer(to_tag="a")


def test_exhausted_pool_refuses_a_new_call_and_gives_everything_back() -> None:
    relay = engine(low=30000, high=30005)
    Call(relay, "one").offer()
    with pytest.raises(Refusal, match="Ran out of ports"):
        Call(relay, "two").offer()
    assert list(relay.sessions) == ["one"]
    assert len(opener_of(relay).bound) == 4


def test_a_failed_reoffer_leaves_the_call_as_it_was() -> None:
    relay = engine(low=30000, high=30005)
    call = Call(relay)
    call.up()
    before = dict(plane_of(relay).settings)
    with pytest.raises(Refusal, match="Ran out of ports"):
        call.offer(audio(ALICE), audio(CAROL, media="video"), to_tag="b", now=5.0)
    assert plane_of(relay).settings == before
    assert len(opener_of(relay).bound) == 4
    assert len(relay.sessions["call-1"].parties[0].legs) == 1


def test_a_full_data_plane_refuses_cleanly_and_leaves_running_calls_alone() -> None:
    relay = engine()
    call = Call(relay, "one")
    call.up()
    plane_of(relay).rows = 6
    with pytest.raises(Refusal, match="Ran out of ports"):
        Call(relay, "two").offer()
    assert relay.list() == ["one"]
    assert len(opener_of(relay).bound) == 4
    with pytest.raises(Refusal, match="Ran out of ports"):
        call.offer(audio(ALICE), audio(CAROL, media="video"), to_tag="b", now=5.0)
    assert len(opener_of(relay).bound) == 4
    call.offer(to_tag="b", now=6.0)


def test_a_restored_session_that_finds_no_room_is_lost_alone() -> None:
    relay = engine()
    for name in ("one", "two"):
        Call(relay, name).up()
    records = relay.take_changes().records
    fresh = engine()
    plane_of(fresh).rows = 5
    restored, lost = fresh.restore(records, 10.0)
    assert (restored, len(lost)) == (1, 1)
    assert len(opener_of(fresh).bound) == 4


def test_descriptor_limit_refuses_cleanly() -> None:
    relay = engine()
    opener_of(relay).limit = 3
    with pytest.raises(Refusal, match="Ran out of ports"):
        Call(relay).offer()
    assert opener_of(relay).bound == set()


def test_advertised_address_is_shown_and_the_local_one_bound() -> None:
    relay = engine("public/203.0.113.5!198.51.100.99")
    (placed,) = Call(relay).offer()
    assert placed.rtp is not None
    assert placed.rtp.host == "198.51.100.99"
    assert {local.host for local in opener_of(relay).bound} == {"203.0.113.5"}


def test_named_interfaces_are_chosen_on_the_first_offer_and_remembered() -> None:
    relay = engine("public/203.0.113.5", "private/10.0.0.1")
    call = Call(relay)
    (to_bob,) = call.offer(options=SideOptions(from_interface="public", to_interface="private"))
    (to_alice,) = call.answer(audio(TransportAddress("10.0.0.9", 5000)))
    assert to_bob.rtp is not None
    assert to_alice.rtp is not None
    assert (to_bob.rtp.host, to_alice.rtp.host) == ("10.0.0.1", "203.0.113.5")
    (again,) = call.offer(audio(TransportAddress("10.0.0.9", 5000)), from_tag="b", to_tag="a", now=3.0)
    assert again == to_alice


def test_ipv6_is_bridged_to_ipv4_when_the_driver_asks() -> None:
    relay = engine("public/203.0.113.5", "public/2001:db8::5")
    call = Call(relay)
    (to_bob,) = call.offer(options=SideOptions(address_family=6))
    assert to_bob.rtp is not None
    assert to_bob.family == 6
    assert to_bob.rtp.host == "2001:db8::5"
    (to_alice,) = call.answer(audio(TransportAddress("2001:db8::77", 5000)))
    assert to_alice.rtp is not None
    assert to_alice.rtp.host == "203.0.113.5"
    (resumed,) = call.offer(audio(TransportAddress("2001:db8::77", 5000)), from_tag="b", to_tag="a", now=2.0)
    assert resumed.family == 4


def test_a_family_that_the_interface_lacks_is_an_error() -> None:
    with pytest.raises(Refusal):
        Call(engine()).offer(options=SideOptions(address_family=6))


def test_rejected_stream_has_no_ports_and_may_come_back() -> None:
    relay = engine()
    call = Call(relay)
    first, second = call.offer(audio(ALICE), audio(None, rejected=True, media="video"))
    assert not first.rejected
    assert second.rejected
    assert len(opener_of(relay).bound) == 4
    call.answer(audio(BOB), audio(None, rejected=True, media="video"))
    revived = call.offer(audio(ALICE), audio(CAROL, media="video"), to_tag="b", now=9.0)
    assert not revived[1].rejected
    assert len(opener_of(relay).bound) == 8


def test_port_zero_in_an_answer_closes_both_legs() -> None:
    relay = engine()
    call = Call(relay)
    call.offer(audio(ALICE), audio(CAROL, media="video"))
    placed = call.answer(audio(BOB), audio(None, rejected=True, media="video"))
    assert [p.rejected for p in placed] == [False, True]
    assert len(opener_of(relay).bound) == 4


def test_a_shorter_answer_rejects_the_rest_and_a_longer_one_is_refused() -> None:
    relay = engine()
    call = Call(relay)
    call.offer(audio(ALICE), audio(CAROL, media="video"))
    assert len(call.answer(audio(BOB))) == 1
    assert len(opener_of(relay).bound) == 4
    with pytest.raises(Refusal, match="Incomplete SDP specification"):
        call.answer(audio(BOB), audio(BOB), audio(BOB))


def test_hold_with_sendonly_stops_only_the_held_side() -> None:
    relay = engine()
    call = Call(relay)
    to_bob, to_alice = call.up()
    call.offer(audio(ALICE, direction=Direction.SENDONLY), to_tag="b", now=5.0)
    call.answer(audio(BOB, direction=Direction.RECVONLY), now=6.0)
    plane = plane_of(relay)
    assert plane.at(to_alice.rtp).may_send
    assert not plane.at(to_bob.rtp).may_send
    call.offer(audio(ALICE), to_tag="b", now=7.0)
    assert plane.at(to_bob.rtp).may_send


def test_hold_with_a_null_address_keeps_the_target_and_sends_nothing_to_it() -> None:
    relay = engine()
    call = Call(relay)
    to_bob, to_alice = call.up()
    (held,) = call.offer(audio(TransportAddress("0.0.0.0", 4000), null=True), to_tag="b", now=5.0)
    assert held == to_bob
    plane = plane_of(relay)
    assert plane.at(to_alice.rtp).advertised == ALICE
    assert not plane.at(to_bob.rtp).may_send
    assert plane.at(to_bob.rtcp).egress_rtcp is None


def test_sip_source_address_replaces_the_host_of_the_sdp() -> None:
    relay = engine()
    call = Call(relay)
    call.offer(
        audio(TransportAddress("192.168.1.7", 4000)),
        options=SideOptions(sip_source_address=True, signalling_source="198.51.100.77"),
    )
    (to_alice,) = call.answer()
    settings = plane_of(relay).at(to_alice.rtp)
    assert settings.advertised == TransportAddress("198.51.100.77", 4000)
    assert settings.signalling_host == "198.51.100.77"


def test_private_address_shown_to_a_public_interface_is_not_sent_to_until_it_is_proven() -> None:
    relay = engine()
    call = Call(relay)
    call.offer(audio(TransportAddress("192.168.1.7", 4000)))
    (to_alice,) = call.answer()
    assert plane_of(relay).at(to_alice.rtp).nat_wait


@pytest.mark.parametrize("host", ["224.0.0.1", "127.0.0.1", "169.254.1.1", "255.255.255.255"])
def test_media_is_never_sent_to_addresses_that_no_phone_has(host: str) -> None:
    relay = engine()
    call = Call(relay)
    call.offer(audio(TransportAddress(host, 4000)))
    (to_alice,) = call.answer()
    assert plane_of(relay).at(to_alice.rtp).advertised is None


def test_datagram_streams_have_one_port_and_no_rtcp() -> None:
    relay = engine()
    call = Call(relay)
    (to_bob,) = call.offer(image(ALICE))
    assert to_bob.rtcp is None
    call.answer(image(BOB))
    assert len(opener_of(relay).bound) == 2
    assert plane_of(relay).at(to_bob.rtp).content is Content.DATAGRAM


def test_switch_to_t38_validates_nothing_until_the_answer_and_the_old_media_flows() -> None:
    relay = engine()
    call = Call(relay)
    to_bob, to_alice = call.up()
    plane = plane_of(relay)
    (shown,) = call.offer(image(ALICE), to_tag="b", now=5.0)
    assert shown.rtcp is None
    assert shown.rtp == to_bob.rtp
    for placed in (to_bob, to_alice):
        assert plane.at(placed.rtp).content is Content.RTP
        assert not plane.at(placed.rtp).validate
    call.answer(image(BOB), now=6.0)
    assert plane.at(to_bob.rtp).content is Content.DATAGRAM
    assert len(opener_of(relay).bound) == 2
    call.offer(audio(ALICE), to_tag="b", now=7.0)
    (resumed,) = call.answer(audio(BOB), now=8.0)
    assert resumed.rtcp is not None
    assert plane.at(to_bob.rtp).content is Content.RTP


def test_payload_types_of_the_latest_two_descriptions_are_accepted() -> None:
    relay = engine()
    call = Call(relay)
    _, to_alice = call.up()
    call.offer(audio(ALICE, payload_types=(9,)), to_tag="b", now=5.0)
    call.answer(audio(BOB, payload_types=(9,)), now=6.0)
    assert plane_of(relay).at(to_alice.rtp).payload_types == {0, 8, 9}
    call.offer(audio(ALICE, payload_types=(18,)), to_tag="b", now=7.0)
    call.answer(audio(BOB, payload_types=(18,)), now=8.0)
    assert plane_of(relay).at(to_alice.rtp).payload_types == {9, 18}


def test_list_gives_at_most_the_limit_and_refuses_a_negative_one() -> None:
    relay = engine()
    for number in range(5):
        Call(relay, f"call-{number}").offer()
    assert len(relay.list(3)) == 3
    assert relay.list(0) == []
    with pytest.raises(Refusal, match="invalid limit, must be >= 0"):
        relay.list(-1)


def test_query_shows_a_party_and_those_it_is_connected_to() -> None:
    relay = engine()
    Call(relay).up()
    assert [party.tag for party in relay.query("call-1", now=2.0).parties] == ["a", "b"]
    assert [party.tag for party in relay.query("call-1", "b", now=2.0).parties] == ["b", "a"]
    assert relay.query("call-1", "stranger", now=2.0).parties == ()
    with pytest.raises(Refusal, match="Unknown call-id"):
        relay.query("nobody", now=2.0)


def test_sessions_are_spread_over_the_data_threads_and_stay_whole() -> None:
    relay = engine()
    for number in range(4):
        Call(relay, f"call-{number}").offer()
    plane = plane_of(relay)
    for session in relay.sessions.values():
        flows = [port.flow for leg in session.legs() for ports in leg.sets() for port in ports.ports()]
        assert {plane.shard[flow] for flow in flows} == {session.shard}
    assert {session.shard for session in relay.sessions.values()} == {0, 1}


def test_an_unusable_stream_is_passed_by() -> None:
    relay = engine()
    from relay.session import Carriage

    (placed,) = Call(relay).offer(PartyMedia("message", "TCP/MSRP", Carriage.NONE, ALICE))
    assert placed.rejected
    assert opener_of(relay).bound == set()
