"""Discovery against NATs in RFC 4787's terms: the right pair, the right name, and no guess."""

from __future__ import annotations

import itertools
import random

import pytest

from nattrav.net.address import TransportAddress
from stun.discovery import ADVICE, Dependence, Discovery, Label, label_of, needs_relay, tries
from stun.responder import Policy, Responder
from stun.transaction import Outcome, Verdict
from tests.stun.nat_model import Nat, discover

SERVER = TransportAddress("198.51.100.1", 3478)
D = Dependence


@pytest.mark.parametrize("mapping", D)
@pytest.mark.parametrize("filtering", D)
def test_every_pair_of_mapping_and_filtering_is_found(mapping: D, filtering: D, server: Responder) -> None:
    _, found = discover(Nat(mapping, filtering), server, SERVER)
    assert (found.mapping, found.filtering) == (mapping, filtering)
    assert found.nat is True
    assert found.undetermined == ()
    assert found.needs_relay == (mapping is not D.INDEPENDENT)
    assert found.advice == ADVICE[found.label]


@pytest.mark.parametrize(
    ("mapping", "filtering", "label"),
    [
        (None, D.INDEPENDENT, Label.OPEN),
        (None, D.ADDRESS, Label.SYMMETRIC_FIREWALL),
        (None, D.ADDRESS_AND_PORT, Label.SYMMETRIC_FIREWALL),
        (D.INDEPENDENT, D.INDEPENDENT, Label.FULL_CONE),
        (D.INDEPENDENT, D.ADDRESS, Label.RESTRICTED_CONE),
        (D.INDEPENDENT, D.ADDRESS_AND_PORT, Label.PORT_RESTRICTED_CONE),
        (D.ADDRESS, D.INDEPENDENT, Label.SYMMETRIC),
        (D.ADDRESS_AND_PORT, D.ADDRESS_AND_PORT, Label.SYMMETRIC),
    ],
)
def test_the_classic_name_stands_beside_the_pair(
    mapping: D | None, filtering: D, label: Label, server: Responder
) -> None:
    _, found = discover(Nat(mapping, filtering), server, SERVER)
    assert found.label is label
    assert found.nat is (mapping is not None)


def test_with_one_address_nothing_is_guessed(lonely: Responder) -> None:
    _, found = discover(Nat(D.ADDRESS, D.ADDRESS), lonely, SERVER)
    assert (found.mapping, found.filtering, found.label, found.needs_relay) == (None, None, Label.UNKNOWN, None)
    assert found.mapped is not None
    assert all("no OTHER-ADDRESS" in reason for reason in found.undetermined)
    assert len(found.undetermined) == 2


def test_without_nat_one_address_is_enough_for_the_mapping(lonely: Responder) -> None:
    _, found = discover(Nat(None, D.INDEPENDENT), lonely, SERVER)
    assert (found.nat, found.mapping, found.label) == (False, D.INDEPENDENT, Label.UNKNOWN)


def test_a_silent_server_leaves_everything_open(server: Responder) -> None:
    run, found = discover(Nat(D.INDEPENDENT, None), server, SERVER)
    assert (found.udp, found.label, found.needs_relay) == (False, Label.UNKNOWN, None)
    assert list(run.outcomes) == ["M1"]


@pytest.mark.parametrize("lost", ["M2", "M3", "M4"])
def test_silence_is_not_called_filtering_while_another_address_is_silent_too(lost: str, server: Responder) -> None:
    _, found = discover(Nat(D.INDEPENDENT, D.ADDRESS_AND_PORT, loses=frozenset({lost})), server, SERVER)
    assert found.filtering is None
    assert any("silence may be loss" in reason for reason in found.undetermined)


@pytest.mark.parametrize("lost", ["M2", "M3"])
def test_a_lost_mapping_test_is_inconclusive(lost: str, server: Responder) -> None:
    _, found = discover(Nat(D.ADDRESS_AND_PORT, D.ADDRESS_AND_PORT, loses=frozenset({lost})), server, SERVER)
    assert found.mapping is None
    assert any(reason.startswith("mapping:") for reason in found.undetermined)


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Outcome(Verdict.REFUSED, error=420, reason="Unknown Attribute"), "refuses with 420"),
        (Outcome(Verdict.WRONG_SOURCE, source=SERVER), "ignores CHANGE-REQUEST"),
    ],
)
def test_a_server_that_cannot_is_not_taken_for_a_filter(outcome: Outcome, words: str, server: Responder) -> None:
    run, _ = discover(Nat(D.INDEPENDENT, D.ADDRESS), server, SERVER)
    run.outcomes["F2"] = outcome
    found = run.findings()
    assert found.filtering is None
    assert any(words in reason for reason in found.undetermined)


def test_port_preservation_and_steps_are_seen(server: Responder) -> None:
    _, stepping = discover(Nat(D.INDEPENDENT, D.INDEPENDENT), server, SERVER)
    assert (stepping.port_preserved, stepping.port_step) == (False, 2)
    _, preserving = discover(Nat(D.INDEPENDENT, D.INDEPENDENT, preserves_ports=True), server, SERVER)
    assert (preserving.port_preserved, preserving.port_step) == (True, None)
    assert preserving.pooling_paired is True


def test_fragments_pass_or_do_not_or_cannot_be_judged(server: Responder, single: object) -> None:
    _, passing = discover(Nat(D.INDEPENDENT, D.INDEPENDENT), server, SERVER)
    assert passing.fragments is True
    _, losing = discover(Nat(D.INDEPENDENT, D.INDEPENDENT, loses=frozenset({"P"})), server, SERVER)
    assert losing.fragments is False
    refusing = Responder(server.endpoints, Policy(minimal=True))
    run, found = discover(Nat(D.INDEPENDENT, D.INDEPENDENT), refusing, SERVER)
    assert found.fragments is None
    assert run.outcomes["P"].error == 420


def test_a_rewriting_alg_is_noticed(server: Responder) -> None:
    run, found = discover(Nat(D.INDEPENDENT, D.INDEPENDENT), server, SERVER)
    assert found.alg is False
    first = run.outcomes["M1"]
    run.outcomes["M1"] = Outcome(
        first.verdict, mapped=first.mapped, plain_mapped=TransportAddress("10.9.9.9", 1), other=first.other
    )
    assert run.findings().alg is True


def test_filter_tests_run_before_mapping_tests_and_from_ports_of_their_own(server: Responder) -> None:
    run = Discovery(SERVER)
    first = run.questions()
    assert [[q.name for q in part] for part in first] == [["M1"]]
    run.tell(first[0][0], Outcome(Verdict.ANSWERED, mapped=SERVER, other=server.endpoints[3].local))
    second = run.questions()
    assert [[q.name for q in part] for part in second] == [
        ["F2-open", "F2"],
        ["F3-open", "F3"],
        ["F4-open", "F4"],
        ["P"],
    ]
    assert len({q.port for part in second for q in part}) == 4
    third = run.questions()
    assert [[(q.name, q.to) for q in part] for part in third] == [
        [("M2", server.endpoints[2].local), ("M3", server.endpoints[3].local), ("M4", server.endpoints[1].local)]
    ]
    assert run.questions() == []


def test_labels_and_the_need_of_a_relay_follow_the_table() -> None:
    assert label_of(None, D.INDEPENDENT, None) is Label.UNKNOWN
    assert label_of(True, None, D.INDEPENDENT) is Label.UNKNOWN
    assert label_of(False, D.INDEPENDENT, None) is Label.UNKNOWN
    assert needs_relay(False, D.INDEPENDENT, D.INDEPENDENT) is False
    assert needs_relay(True, D.ADDRESS, D.INDEPENDENT) is True
    assert needs_relay(True, None, None) is None
    assert set(ADVICE) == set(Label)


@pytest.mark.parametrize("loss", [0.1, 0.2])
@pytest.mark.parametrize("kind", ["open", "full", "restricted", "port restricted", "symmetric", "firewall"])
def test_where_datagrams_get_lost_the_name_is_right_or_none_is_given(kind: str, loss: float, server: Responder) -> None:
    mapping, filtering = {
        "open": (None, D.INDEPENDENT),
        "full": (D.INDEPENDENT, D.INDEPENDENT),
        "restricted": (D.INDEPENDENT, D.ADDRESS),
        "port restricted": (D.INDEPENDENT, D.ADDRESS_AND_PORT),
        "symmetric": (D.ADDRESS_AND_PORT, D.ADDRESS_AND_PORT),
        "firewall": (None, D.ADDRESS_AND_PORT),
    }[kind]
    named = 0
    for seed in range(40):
        nat = Nat(mapping, filtering, loss=loss, chance=random.Random(seed))
        _, found = discover(nat, server, SERVER)
        assert found.mapping in (None, mapping or D.INDEPENDENT), (seed, found)
        assert found.filtering in (None, filtering), (seed, found)
        assert found.fragments in (None, True), (seed, found)
        named += found.label is label_of(mapping is not None, mapping or D.INDEPENDENT, filtering)
    assert named >= 36, "loss makes some runs end without a name, not many"


def test_a_silent_server_is_asked_twice_before_it_counts_as_silent() -> None:
    run = Discovery(SERVER)
    asked = 0
    while rounds := run.questions():
        for question in itertools.chain.from_iterable(rounds):
            asked += 1
            run.tell(question, Outcome(Verdict.SILENT, sends=5))
    assert asked == 2
    assert not run.findings().udp


def test_silence_is_tested_once_where_nothing_gets_lost_and_again_where_something_does() -> None:
    assert tries(0.0) == 1
    assert tries(0.2) == 2
    assert tries(0.4) == 3
    assert tries(0.9) == 4
