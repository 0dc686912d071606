"""rtcp-mux on each leg, for every wish of the driver."""

from __future__ import annotations

import pytest

from nattrav.net.address import TransportAddress
from relay.plane import Content
from relay.session import RtcpMux, SideOptions
from tests.relay.calls import ALICE, BOB, Call, audio, opener_of, plane_of
from tests.relay.planes import engine


def wish(*wishes: RtcpMux) -> SideOptions:
    return SideOptions(rtcp_mux=frozenset(wishes))


def test_mux_is_offered_on_with_a_fallback_port_and_the_answer_decides_for_both() -> None:
    relay = engine()
    call = Call(relay)
    (to_bob,) = call.offer(audio(ALICE, mux=True))
    assert to_bob.rtcp_mux
    assert to_bob.rtp is not None
    assert to_bob.rtcp == TransportAddress(to_bob.rtp.host, to_bob.rtp.port + 1)
    assert plane_of(relay).at(to_bob.rtp).content is Content.MUX
    (to_alice,) = call.answer(audio(BOB, mux=True))
    assert to_alice.rtcp_mux
    assert to_alice.rtcp == to_alice.rtp
    assert len(opener_of(relay).bound) == 2


def test_mux_refused_by_the_answerer_is_refused_to_the_offerer() -> None:
    relay = engine()
    call = Call(relay)
    (to_bob,) = call.offer(audio(ALICE, mux=True))
    (to_alice,) = call.answer(audio(BOB))
    assert not to_alice.rtcp_mux
    assert to_alice.rtcp != to_alice.rtp
    assert len(opener_of(relay).bound) == 4
    assert plane_of(relay).at(to_bob.rtp).content is Content.RTP


def test_demux_accepts_mux_from_the_offerer_and_splits_for_the_receiver() -> None:
    relay = engine()
    call = Call(relay)
    (to_bob,) = call.offer(audio(ALICE, mux=True), options=wish(RtcpMux.DEMUX))
    assert not to_bob.rtcp_mux
    (to_alice,) = call.answer(audio(BOB))
    assert to_alice.rtcp_mux
    plane = plane_of(relay)
    assert len(opener_of(relay).bound) == 3
    from_alice = plane.at(to_alice.rtp)
    assert to_bob.rtp is not None
    assert to_bob.rtcp is not None
    assert from_alice.content is Content.MUX
    assert from_alice.egress == plane.flow(to_bob.rtp)
    assert from_alice.egress_rtcp == plane.flow(to_bob.rtcp)
    assert to_alice.rtp is not None
    assert plane.at(to_bob.rtcp).egress_rtcp == plane.flow(to_alice.rtp)


def test_offer_adds_mux_towards_the_receiver_only() -> None:
    relay = engine()
    call = Call(relay)
    (to_bob,) = call.offer(audio(ALICE), options=wish(RtcpMux.OFFER))
    assert to_bob.rtcp_mux
    (to_alice,) = call.answer(audio(BOB, mux=True))
    assert not to_alice.rtcp_mux
    assert len(opener_of(relay).bound) == 3


def test_require_opens_and_shows_no_fallback_port() -> None:
    relay = engine()
    (to_bob,) = Call(relay).offer(audio(ALICE), options=wish(RtcpMux.REQUIRE))
    assert to_bob.rtcp_mux
    assert to_bob.rtcp == to_bob.rtp
    assert len(opener_of(relay).bound) == 3


def test_accept_accepts_mux_whatever_the_receiver_answers() -> None:
    relay = engine()
    call = Call(relay)
    call.offer(audio(ALICE, mux=True), options=wish(RtcpMux.ACCEPT))
    (to_alice,) = call.answer(audio(BOB))
    assert to_alice.rtcp_mux


@pytest.mark.parametrize("answer_mux", [True, False])
def test_reject_with_offer_is_the_reverse_of_demux(answer_mux: bool) -> None:
    relay = engine()
    call = Call(relay)
    (to_bob,) = call.offer(audio(ALICE, mux=True), options=wish(RtcpMux.OFFER, RtcpMux.REJECT))
    assert to_bob.rtcp_mux
    (to_alice,) = call.answer(audio(BOB, mux=answer_mux))
    assert not to_alice.rtcp_mux


def test_a_receiver_that_uses_mux_keeps_it_without_fallback_in_a_reoffer() -> None:
    relay = engine()
    call = Call(relay)
    call.offer(audio(ALICE), options=wish(RtcpMux.OFFER))
    call.answer(audio(BOB, mux=True))
    (again,) = call.offer(audio(ALICE), to_tag="b", now=5.0)
    assert again.rtcp_mux
    assert again.rtcp == again.rtp


def test_an_offerer_that_drops_mux_gets_an_rtcp_port_again() -> None:
    relay = engine()
    call = Call(relay)
    call.offer(audio(ALICE, mux=True))
    call.answer(audio(BOB, mux=True))
    call.offer(audio(ALICE), to_tag="b", now=5.0)
    (to_alice,) = call.answer(audio(BOB, mux=True), now=6.0)
    assert not to_alice.rtcp_mux
    assert to_alice.rtcp != to_alice.rtp
    assert plane_of(relay).at(to_alice.rtcp).content is Content.RTCP
