"""Blocking media of a call, of one party, of one flow."""

from __future__ import annotations

import pytest

from relay.selection import Selection
from relay.session import Refusal, SideOptions
from tests.relay.calls import BOB, Call, audio, plane_of
from tests.relay.planes import engine


def test_a_block_of_the_call_holds_both_sides_and_survives_a_reoffer() -> None:
    relay = engine()
    call = Call(relay)
    to_bob, to_alice = call.up()
    relay.block(Selection("call-1"))
    plane = plane_of(relay)
    assert plane.at(to_bob.rtp).blocked
    assert plane.at(to_alice.rtp).blocked
    call.offer(to_tag="b", now=5.0)
    call.answer(now=6.0)
    assert plane.at(to_bob.rtp).blocked
    relay.unblock(Selection("call-1"))
    assert not plane.at(to_bob.rtp).blocked


def test_a_from_tag_selects_only_together_with_directional() -> None:
    relay = engine()
    to_bob, to_alice = Call(relay).up()
    plane = plane_of(relay)
    relay.block(Selection("call-1", from_tag="a", directional=True))
    assert plane.at(to_alice.rtp).blocked
    assert not plane.at(to_bob.rtp).blocked
    relay.unblock(Selection("call-1", from_tag="a"))
    assert plane.at(to_alice.rtp).blocked


def test_unblocking_everything_lifts_every_block() -> None:
    relay = engine()
    _, to_alice = Call(relay).up()
    relay.block(Selection("call-1", from_tag="a", directional=True))
    relay.block(Selection("call-1", from_tag="a", directional=True, to_tag="b"))
    relay.block(Selection("call-1"))
    relay.unblock(Selection("call-1"))
    assert plane_of(relay).at(to_alice.rtp).blocked
    relay.unblock(Selection("call-1", every="all"))
    assert not plane_of(relay).at(to_alice.rtp).blocked


def test_one_flow_can_be_blocked_by_itself() -> None:
    relay = engine()
    to_bob, to_alice = Call(relay).up()
    plane = plane_of(relay)
    relay.block(Selection("call-1", address=BOB.host, to_tag="a"))
    assert plane.at(to_bob.rtp).blocked
    assert not plane.at(to_alice.rtp).blocked
    relay.unblock(Selection("call-1", address=BOB.host, to_tag="a"))
    assert not plane.at(to_bob.rtp).blocked


def test_labels_select_and_can_be_set() -> None:
    relay = engine()
    call = Call(relay)
    call.offer(options=SideOptions(label="caller", to_label="callee"))
    (to_alice,) = call.answer(audio(BOB))
    relay.block(Selection("call-1", label="caller", set_label="muted"))
    assert plane_of(relay).at(to_alice.rtp).blocked
    relay.unblock(Selection("call-1", label="muted", to_label="callee"))
    relay.unblock(Selection("call-1", label="muted"))
    assert not plane_of(relay).at(to_alice.rtp).blocked


@pytest.mark.parametrize(
    ("selection", "reason"),
    [
        (Selection("nobody"), "Unknown call-ID"),
        (Selection("call-1", label="x"), "No monologue matching the given label"),
        (Selection("call-1", address="not an address"), "Failed to parse network address"),
        (Selection("call-1", address="203.0.113.99"), "Failed to match address to any tag"),
        (Selection("call-1", from_tag="x", directional=True), "From-tag given, but no such tag exists"),
        (Selection("call-1", address=BOB.host, to_tag="x"), r"Media flow not found \(to-tag not found\)"),
        (Selection("call-1", address=BOB.host, to_label="x"), r"Media flow not found \(to-label not found\)"),
        (Selection("call-1", address=BOB.host, to_tag="b"), r"Media flow not found \(to-tag not subscribed\)"),
        (
            Selection("call-1", address=BOB.host, every="except-offer-answer"),
            "No eligible media subscriptions found",
        ),
    ],
)
def test_a_selection_that_finds_nothing_is_refused_in_ngs_words(selection: Selection, reason: str) -> None:
    relay = engine()
    Call(relay).up()
    with pytest.raises(Refusal, match=reason):
        relay.block(selection)
