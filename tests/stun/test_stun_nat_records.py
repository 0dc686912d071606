"""Records from what the server sees: right verdicts with their basis, bounded, expiring, unmoved by spoofers."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from nattrav.net.address import TransportAddress
from stun.behavior import Endpoint
from stun.discovery import Dependence
from stun.nat_records import NatRecords, Record, describe, source_of
from stun.observation import Observation
from stun.responder import Responder
from tests.stun.nat_model import Nat, discover

SERVER = TransportAddress("198.51.100.1", 3478)
D = Dependence


def records(endpoints: tuple[Endpoint, ...], capacity: int = 100, retention: float = 3600.0) -> NatRecords:
    return NatRecords(endpoints, capacity=capacity, retention=retention)


def fed(endpoints: tuple[Endpoint, ...], seen: list[Observation]) -> Record:
    kept = records(endpoints)
    for observation in sorted(seen, key=lambda o: o.time):
        kept.receive(observation)
    kept.handle_timeout(max(o.time for o in seen) + 9)
    record = kept.find("192.0.2.1")
    assert record is not None
    return record


def plain(time: float, at: int, port: int, host: str = "192.0.2.1") -> Observation:
    return Observation(time, at, TransportAddress(host, port), 0, port.to_bytes(16, "big"))


def change(time: float, flags: int, port: int, tid: int, classic: bool = False) -> Observation:
    return Observation(time, 0, TransportAddress("192.0.2.1", port), flags, tid.to_bytes(16, "big"), classic)


@pytest.mark.parametrize("mapping", [D.INDEPENDENT, D.ADDRESS, D.ADDRESS_AND_PORT])
@pytest.mark.parametrize("filtering", D)
def test_a_run_of_our_probe_tells_the_server_what_it_told_the_client(
    mapping: D, filtering: D, server: Responder, full_set: tuple[Endpoint, ...]
) -> None:
    nat = Nat(mapping, filtering)
    _, found = discover(nat, server, SERVER)
    record = fed(full_set, nat.seen)
    assert (record.value("mapping"), record.value("filtering")) == (found.mapping, found.filtering)
    shown = describe(record, 1000.0)
    assert shown["classic_name"] == found.label.value
    assert shown["needs_relay"] == found.needs_relay
    assert shown["fields"]["mapping"]["basis"] == "observed"
    assert shown["fields"]["filtering"]["basis"] == "reported"
    assert shown["fields"]["nat"] == shown["fields"]["nat"] | {"value": True, "basis": "reported"}


@pytest.mark.parametrize("loss", [0.1, 0.2])
@pytest.mark.parametrize("filtering", [D.INDEPENDENT, D.ADDRESS, D.ADDRESS_AND_PORT])
def test_where_datagrams_get_lost_filtering_is_right_or_unknown(
    filtering: D, loss: float, server: Responder, full_set: tuple[Endpoint, ...]
) -> None:
    verdicts = []
    for seed in range(40):
        nat = Nat(D.INDEPENDENT, filtering, loss=loss, chance=random.Random(seed))
        discover(nat, server, SERVER)
        verdicts.append(fed(full_set, nat.seen).value("filtering"))
    assert set(verdicts) <= {None, filtering}
    assert verdicts.count(filtering) >= 36


@pytest.mark.parametrize("filtering", D)
def test_without_the_probes_own_word_filtering_is_inferred_from_repetitions(
    filtering: D, server: Responder, full_set: tuple[Endpoint, ...]
) -> None:
    nat = Nat(D.INDEPENDENT, filtering)
    discover(nat, server, SERVER)
    known = fed(full_set, [replace(o, claim=None) for o in nat.seen]).fields["filtering"]
    assert (known.value, known.basis) == (filtering, "inferred")


def test_a_repeated_change_request_means_nothing_where_plain_requests_are_repeated_too(
    full_set: tuple[Endpoint, ...],
) -> None:
    asked = [change(0.0, 6, 5000, 1), change(0.5, 6, 5000, 1), change(1.0, 6, 5000, 1), change(1.5, 2, 5000, 2)]
    clear = [plain(-0.2, 0, 5000), *asked]
    known = [replace(o, run=b"run-0001") for o in clear]
    assert fed(full_set, known).value("filtering") is D.ADDRESS
    repeated = [plain(-0.5, 0, 5000), *known]
    assert fed(full_set, [replace(o, run=b"run-0001") for o in repeated]).value("filtering") is None


@pytest.mark.parametrize("filtering", [D.INDEPENDENT, D.ADDRESS_AND_PORT])
def test_a_probe_without_nat_is_known_to_have_none(
    filtering: D, server: Responder, full_set: tuple[Endpoint, ...]
) -> None:
    nat = Nat(None, filtering)
    _, found = discover(nat, server, SERVER)
    assert describe(fed(full_set, nat.seen), 1000.0)["classic_name"] == found.label.value


def test_ports_are_preserved_or_step_or_jump(server: Responder, full_set: tuple[Endpoint, ...]) -> None:
    preserving = Nat(D.INDEPENDENT, D.INDEPENDENT, preserves_ports=True)
    discover(preserving, server, SERVER)
    assert fed(full_set, preserving.seen).value("ports") == "preserved"
    stepping = [plain(t, 0, 40000 + 2 * t) for t in range(6)]
    assert fed(full_set, stepping).value("ports") == "sequential (+2)"
    jumping = [plain(float(t), 0, port) for t, port in enumerate((40000, 51000, 33000, 60000, 45000))]
    assert fed(full_set, jumping).value("ports") == "random"


def test_one_port_at_both_addresses_proves_independent_mapping_whoever_asks(full_set: tuple[Endpoint, ...]) -> None:
    known = fed(full_set, [plain(0, 0, 5000), plain(0.1, 0, 5000), plain(0.2, 2, 5000)]).fields["mapping"]
    assert (known.value, known.basis, known.confidence) == (D.INDEPENDENT, "observed", 0.95)


def test_a_foreign_client_that_walks_the_addresses_is_judged_with_less_confidence(
    full_set: tuple[Endpoint, ...],
) -> None:
    walk = [plain(0, 0, 5000), plain(0.1, 0, 5000), plain(0.5, 2, 5001), plain(1, 3, 5002)]
    known = fed(full_set, walk).fields["mapping"]
    assert (known.value, known.confidence) == (D.ADDRESS_AND_PORT, 0.6)
    walk[-1] = plain(1, 3, 5001)
    assert fed(full_set, walk).value("mapping") is D.ADDRESS


@pytest.mark.parametrize(
    ("sent", "verdict"),
    [
        ([(6, 1, 1)], D.INDEPENDENT),
        ([(6, 1, 9), (2, 2, 1)], D.ADDRESS),
        ([(6, 1, 9), (2, 2, 9)], D.ADDRESS_AND_PORT),
        ([(4, 1, 1), (2, 2, 1)], D.INDEPENDENT),
        ([(4, 1, 9), (2, 2, 9)], D.ADDRESS_AND_PORT),
        ([(2, 1, 9)], None),
    ],
)
def test_repeated_change_requests_of_classic_clients_were_not_answered(
    sent: list[tuple[int, int, int]], verdict: D | None, full_set: tuple[Endpoint, ...]
) -> None:
    seen = [plain(0, 0, 5000), plain(0.1, 0, 5000)]
    for flags, tid, count in sent:
        seen += [change(1 + tid + 0.2 * n, flags, 5000, tid, classic=True) for n in range(count)]
    assert fed(full_set, seen).value("filtering") is verdict


def test_without_a_report_of_the_client_a_cone_may_be_no_nat_at_all(full_set: tuple[Endpoint, ...]) -> None:
    seen = [plain(0, 0, 5000), plain(0.1, 0, 5000), plain(0.2, 2, 5000), change(1, 6, 5000, 1, classic=True)]
    assert describe(fed(full_set, seen), 20.0)["classic_name"] == "full cone or open"
    seen += [change(1 + 0.2 * n, 6, 5000, 1, classic=True) for n in range(9)] + [change(4, 2, 5000, 2, classic=True)]
    assert describe(fed(full_set, seen), 20.0)["classic_name"] == "restricted cone or symmetric firewall"


def test_impatient_copies_are_not_taken_for_loss(full_set: tuple[Endpoint, ...]) -> None:
    seen = [plain(0, 0, 5000), plain(0.1, 0, 5000)]
    seen += [change(1 + 0.01 * n, 4, 5000, 1, classic=True) for n in range(3)]
    assert fed(full_set, seen).value("filtering") is D.INDEPENDENT


def test_a_client_that_never_repeats_leaves_little_to_infer(full_set: tuple[Endpoint, ...]) -> None:
    first = [plain(0, 0, 5000), plain(0.1, 0, 5000)]
    alone = fed(full_set, [*first, change(1, 6, 5000, 1)]).fields["filtering"]
    assert (alone.value, alone.confidence) == (D.INDEPENDENT, 0.3)
    both = fed(full_set, [*first, change(1, 6, 5000, 1), change(4, 2, 5000, 2)])
    assert both.value("filtering") is None


def test_a_binding_that_comes_back_after_a_silence_lived_at_least_so_long(full_set: tuple[Endpoint, ...]) -> None:
    record = fed(full_set, [plain(t, 0, 5000) for t in (0, 30, 40, 100, 110)])
    assert record.value("lifetime_at_least") == 60
    assert describe(record, 120.0)["keepalive_seconds"] == 25
    assert describe(fed(full_set, [plain(t, 0, 5000) for t in (0, 12, 24)]), 30.0)["keepalive_seconds"] == 6


def test_spoofed_sources_leave_no_record(full_set: tuple[Endpoint, ...]) -> None:
    kept = records(full_set)
    for n in range(5000):
        kept.receive(plain(n / 1000, 0, 5000, f"10.{n >> 8}.{n & 255}.1"))
    assert len(kept) == 0
    kept.receive(plain(6, 0, 5000, "10.0.0.1"))
    assert len(kept) == 1


def test_the_table_is_bounded_and_the_oldest_go_first(full_set: tuple[Endpoint, ...]) -> None:
    kept = records(full_set, capacity=10)
    for n in range(50):
        for time in (n, n + 0.1):
            kept.receive(plain(time, 0, 5000, f"10.0.0.{n}"))
    assert (len(kept), kept.evicted) == (10, 40)
    assert [r.host for r in kept.newest(2)] == ["10.0.0.49", "10.0.0.48"]


def test_a_record_of_one_client_stays_small_whatever_it_does(full_set: tuple[Endpoint, ...]) -> None:
    kept = records(full_set)
    for n in range(3000):
        run = (n % 500).to_bytes(8, "big")
        kept.receive(replace(change(n / 100, 6, 1024 + n, n), run=run))
    record = kept.find("192.0.2.1")
    assert record is not None
    assert len(record.ports) <= 64
    assert len(record.runs) <= 64
    assert len(record.sessions) <= 4
    assert all(len(s.changes) <= 32 for s in record.sessions)


def test_records_expire(full_set: tuple[Endpoint, ...]) -> None:
    kept = records(full_set, retention=100)
    kept.receive(plain(0, 0, 5000))
    kept.receive(plain(1, 0, 5000))
    kept.handle_timeout(100)
    assert len(kept) == 1
    kept.handle_timeout(102)
    assert len(kept) == 0


def test_one_record_can_be_erased(full_set: tuple[Endpoint, ...]) -> None:
    kept = records(full_set)
    kept.receive(plain(0, 0, 5000))
    kept.receive(plain(1, 0, 5000))
    assert kept.forget("192.0.2.1")
    assert not kept.forget("192.0.2.1")
    assert kept.find("192.0.2.1") is None


def test_many_hosts_behind_one_address_look_like_carrier_grade_nat(full_set: tuple[Endpoint, ...]) -> None:
    crowd = [plain(n / 10, 0, 20000 + 7 * n) for n in range(60)]
    known = fed(full_set, crowd).fields["carrier_grade"]
    assert (known.value, known.basis) == (True, "inferred")
    runs = [replace(plain(n, 0, 5000 + n), run=bytes([n] * 8)) for n in range(10)]
    assert fed(full_set, runs).value("carrier_grade") is True
    inside = TransportAddress("100.64.3.2", 5000)
    told = replace(plain(0, 0, 5000), run=b"run-0001", reported=inside)
    assert fed(full_set, [told]).fields["carrier_grade"].basis == "reported"


def test_a_changed_verdict_opens_a_new_epoch(full_set: tuple[Endpoint, ...]) -> None:
    walk = [plain(0, 0, 5000), plain(0.1, 0, 5000), plain(0.5, 2, 5001), plain(1, 3, 5002)]
    later = [replace(plain(7200 + o.time, o.at, 6000), time=7200 + o.time) for o in walk]
    record = fed(full_set, walk + later)
    assert record.value("mapping") is D.INDEPENDENT
    assert record.epochs == 2


def test_confidence_halves_every_day(full_set: tuple[Endpoint, ...]) -> None:
    record = fed(full_set, [plain(0, 0, 5000), plain(0.1, 0, 5000), plain(0.2, 2, 5000)])
    fresh = describe(record, 0.2)["fields"]["mapping"]["confidence"]
    assert describe(record, 86400.2)["fields"]["mapping"]["confidence"] == pytest.approx(fresh / 2, abs=0.01)


def test_shares_count_every_pair(full_set: tuple[Endpoint, ...]) -> None:
    kept = records(full_set)
    for host in ("192.0.2.1", "192.0.2.2"):
        for time, at in ((0, 0), (0.1, 0), (0.2, 2)):
            kept.receive(plain(time, at, 5000, host))
    assert kept.shares() == {("endpoint-independent", "unknown"): 2}


def test_unknown_nats_are_planned_for_with_a_relay(full_set: tuple[Endpoint, ...]) -> None:
    assert describe(fed(full_set, [plain(0, 0, 5000), plain(0.1, 0, 5000)]), 1.0)["needs_relay"] is True


def test_addresses_are_looked_up_with_or_without_a_port() -> None:
    assert source_of("192.0.2.1").host == source_of("192.0.2.1:5000").host == "192.0.2.1"
    assert source_of("[2001:db8::1]:5000").host == "2001:db8::1"
    with pytest.raises(ValueError, match="not an IP address"):
        source_of("example.org")


def test_where_the_kernel_answers_too_a_gap_proves_no_silence(full_set: tuple[Endpoint, ...]) -> None:
    for sees_all in (True, False):
        kept = NatRecords(full_set, capacity=10, retention=3600, sees_all=sees_all)
        for time in (0.0, 30.0):
            kept.receive(plain(time, 0, 5000))
        record = kept.find("192.0.2.1")
        assert record is not None
        assert record.value("lifetime_at_least") == (30.0 if sees_all else None)


def test_of_a_client_that_never_repeats_itself_the_name_says_how_far_it_goes(full_set: tuple[Endpoint, ...]) -> None:
    mapping = [plain(0.0, 0, 5000), plain(0.1, 2, 5000), plain(0.2, 3, 5000)]
    assert describe(fed(full_set, mapping), 20.0)["classic_name"] == "some cone, or no NAT"
    asking = [*mapping, change(1.0, 6, 5001, 1), change(4.0, 2, 5001, 2)]
    shown = describe(fed(full_set, asking), 20.0)
    assert shown["classic_name"] == "restricted cone or port restricted cone, or no NAT"
    assert shown["filtering"] == "unknown"
    assert shown["fields"]["filtered"] == shown["fields"]["filtered"] | {"value": True, "basis": "inferred"}
