"""Next hops by RFC 3263, over a zone that is a dictionary."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nattrav.net.address import TransportAddress
from nattrav.sip.parser import parse_datagram_untrusted
from nattrav.sip.resolve import (
    Abilities,
    Answer,
    DeadDestinations,
    DnsCache,
    Hops,
    Naptr,
    Question,
    Questions,
    Record,
    Srv,
    Wanted,
    order_services,
    plan,
    wanted_by_uri,
    wanted_by_via,
)
from nattrav.sip.transport.flow import Target
from nattrav.sip.uri import SipUri

ZONE: dict[tuple[str, str], list[Record]] = {
    ("example.com", "NAPTR"): [
        Naptr(90, 50, "s", "SIP+D2T", "_sip._tcp.example.com"),
        Naptr(100, 50, "s", "SIP+D2U", "_sip._udp.example.com"),
        Naptr(50, 50, "s", "SIPS+D2T", "_sips._tcp.example.com"),
        Naptr(10, 50, "u", "E2U+sip", ""),
    ],
    ("_sip._tcp.example.com", "SRV"): [
        Srv(1, 0, 5070, "one.example.com"),
        Srv(2, 0, 5070, "two.example.com."),
    ],
    ("_sip._udp.example.com", "SRV"): [Srv(1, 0, 5060, "one.example.com")],
    ("_sips._tcp.example.com", "SRV"): [Srv(1, 0, 5061, "one.example.com")],
    ("one.example.com", "A"): ["192.0.2.1"],
    ("one.example.com", "AAAA"): ["2001:db8::1"],
    ("two.example.com", "A"): ["192.0.2.2", "192.0.2.3"],
    ("plain.example.com", "A"): ["192.0.2.9"],
    ("_sip._udp.srvonly.example.com", "SRV"): [Srv(1, 0, 5080, "two.example.com")],
    ("_sip._tcp.srvonly.example.com", "SRV"): [Srv(1, 0, 5081, "192.0.2.77")],
    ("_sip._udp.refuses.example.com", "SRV"): [Srv(0, 0, 0, ".")],
    ("refuses.example.com", "A"): ["192.0.2.10"],
}
ABLE = Abilities(("udp", "tcp", "tls"), (4,))


def hops(wanted: Wanted, abilities: Abilities = ABLE) -> tuple[list[str], int]:
    """The targets as text, and how many rounds of questions it took."""
    cache = DnsCache()
    for rounds in itertools.count():
        found = plan(wanted, abilities, cache, lambda: 0.5, 0.0)
        if isinstance(found, Hops):
            return [f"{target.transport}:{target.remote}" for target in found.targets], rounds
        for question in found.questions:
            records = ZONE.get((question.name, question.type), [])
            cache.put(question, Answer(tuple(records), 60.0), 0.0)
    raise AssertionError


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sip:192.0.2.50", ["udp:192.0.2.50:5060"]),
        ("sips:192.0.2.50", ["tls:192.0.2.50:5061"]),
        ("sip:[2001:db8::5]:5070;transport=tcp", ["tcp:[2001:db8::5]:5070"]),
        ("sips:192.0.2.50;transport=tcp", ["tls:192.0.2.50:5061"]),
        ("sip:ignored.example.com;maddr=192.0.2.51", ["udp:192.0.2.51:5060"]),
        ("sip:192.0.2.50;transport=sctp", []),
    ],
)
def test_a_literal_address_needs_no_dns(uri: str, expected: list[str]) -> None:
    assert hops(wanted_by_uri(SipUri.parse(uri))) == (expected, 0)


def test_an_explicit_port_asks_for_addresses_only() -> None:
    assert hops(Wanted("example.com", 5090, None)) == ([], 1)
    assert hops(Wanted("plain.example.com", 5090, None)) == (["udp:192.0.2.9:5090"], 1)
    assert hops(Wanted("plain.example.com", 5090, "tcp"))[0] == ["tcp:192.0.2.9:5090"]
    assert hops(Wanted("plain.example.com", 5090, None, secure=True))[0] == ["tls:192.0.2.9:5090"]


def test_an_explicit_transport_asks_srv_of_that_transport() -> None:
    expected = ["tcp:192.0.2.1:5070", "tcp:192.0.2.2:5070", "tcp:192.0.2.3:5070"]
    assert hops(Wanted("example.com", None, "tcp")) == (expected, 2)
    assert hops(Wanted("plain.example.com", None, "tcp"))[0] == ["tcp:192.0.2.9:5060"]
    assert hops(Wanted("example.com", None, "tcp", secure=True))[0] == ["tls:192.0.2.1:5061"]


def test_naptr_orders_the_transports_and_srv_the_hosts() -> None:
    assert hops(Wanted("EXAMPLE.com.", None, None))[0] == [
        "tls:192.0.2.1:5061",
        "tcp:192.0.2.1:5070",
        "tcp:192.0.2.2:5070",
        "tcp:192.0.2.3:5070",
        "udp:192.0.2.1:5060",
    ]


def test_naptr_of_transports_we_lack_is_passed_over() -> None:
    assert hops(Wanted("example.com", None, None), Abilities(("udp",), (4,)))[0] == ["udp:192.0.2.1:5060"]


def test_sips_takes_only_secure_services() -> None:
    assert hops(Wanted("example.com", None, None, secure=True))[0] == ["tls:192.0.2.1:5061"]
    assert hops(Wanted("srvonly.example.com", None, None, secure=True))[0] == []


def test_without_naptr_the_srv_records_of_our_transports_are_asked_in_our_order() -> None:
    expected = ["udp:192.0.2.2:5080", "udp:192.0.2.3:5080", "tcp:192.0.2.77:5081"]
    assert hops(Wanted("srvonly.example.com", None, None))[0] == expected


def test_without_srv_the_host_itself_is_asked_on_udp_5060() -> None:
    assert hops(Wanted("plain.example.com", None, None))[0] == ["udp:192.0.2.9:5060"]


def test_an_srv_target_of_a_dot_means_no_such_service() -> None:
    assert hops(Wanted("refuses.example.com", None, "udp"))[0] == ["udp:192.0.2.10:5060"]


def test_families_come_in_the_preferred_order() -> None:
    both = Abilities(("udp",), (6, 4))
    assert hops(Wanted("one.example.com", 5060, None), both)[0] == ["udp:[2001:db8::1]:5060", "udp:192.0.2.1:5060"]


def test_a_name_that_is_not_there_and_a_dns_that_is_not_there_are_told_apart() -> None:
    cache = DnsCache()
    question = Question("gone.example.com", "A")
    wanted = Wanted("gone.example.com", 5060, None)
    assert plan(wanted, ABLE, cache, lambda: 0.0, 0.0) == Questions((question,))
    cache.put(question, Answer((), 60.0), 0.0)
    assert plan(wanted, ABLE, cache, lambda: 0.0, 0.0) == Hops((), "gone.example.com does not exist")
    cache.put(question, Answer((), 10.0, failed=True), 0.0)
    assert plan(wanted, ABLE, cache, lambda: 0.0, 0.0) == Hops((), "no answer from the DNS")


def test_the_name_on_the_certificate_is_that_of_the_domain_asked_for() -> None:
    cache = DnsCache()
    for name, kind in ((n, k) for n, k in ZONE):
        cache.put(Question(name, kind), Answer(tuple(ZONE[(name, kind)]), 60.0), 0.0)
    found = plan(Wanted("example.com", None, "tls", secure=True), ABLE, cache, lambda: 0.0, 0.0)
    assert found == Hops((Target("tls", TransportAddress("192.0.2.1", 5061), "example.com"),))


def test_a_response_whose_source_is_gone_goes_by_its_via() -> None:
    message = parse_datagram_untrusted(
        b"OPTIONS sip:b@h SIP/2.0\r\nVia: SIP/2.0/TLS srvonly.example.com;branch=z9hG4bKa\r\n"
        b"From: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n\r\n"
    )
    assert wanted_by_via(message.via) == Wanted("srvonly.example.com", None, "tls", secure=True)


def test_answers_expire_and_the_cache_is_bounded() -> None:
    cache = DnsCache(size=2, shortest=5.0, longest=100.0)
    questions = [Question(f"{number}.example.com", "A") for number in range(3)]
    for question in questions:
        cache.put(question, Answer(("192.0.2.1",), 1e9), 0.0)
    assert cache.get(questions[0], 1.0) is None
    assert cache.get(questions[1], 99.0) is not None
    assert cache.get(questions[1], 100.0) is None
    cache.put(questions[0], Answer((), 0.0), 0.0)
    assert cache.get(questions[0], 4.9) is not None


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=8), st.randoms())
def test_services_keep_their_number_and_come_by_priority(pairs: list[tuple[int, int]], random: object) -> None:
    services = [Srv(priority, weight, number, "h") for number, (priority, weight) in enumerate(pairs)]
    ordered = order_services(services, random.random)  # type: ignore[attr-defined]
    assert sorted(ordered) == sorted(services)
    assert [srv.priority for srv in ordered] == sorted(srv.priority for srv in services)


def test_weights_share_the_load() -> None:
    services = [Srv(1, 30, 1, "a"), Srv(1, 10, 2, "b"), Srv(1, 0, 3, "c")]
    draws = (step / 400 for step in itertools.cycle(range(400)))
    first = Counter(order_services(services, lambda: next(draws))[0].target for _ in range(4000))
    assert first["a"] / first["b"] == pytest.approx(3.0, rel=0.15)
    assert first["c"] < 50


def test_dead_targets_are_tried_last_until_their_time_is_over() -> None:
    dead = DeadDestinations(period=300.0, size=2)
    one, two, three = (Target("udp", TransportAddress(f"192.0.2.{n}", 5060)) for n in (1, 2, 3))
    dead.failed(one, 0.0)
    assert dead.living_first([one, two, three], 1.0) == [two, three, one]
    assert dead.living_first([one, two], 301.0) == [one, two]
    dead.failed(one, 0.0, retry_after=10.0)
    assert dead.is_dead(one, 9.0)
    assert not dead.is_dead(one, 10.0)
    dead.failed(one, 0.0)
    dead.answered(one)
    assert not dead.is_dead(one, 1.0)
    for target in (one, two, three):
        dead.failed(target, 0.0)
    assert [dead.is_dead(target, 1.0) for target in (one, two, three)] == [False, True, True]
