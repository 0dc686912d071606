"""Phones on TLS and on IPv6, firewalls that want no UDP, and a NAT that forgets its mappings in mid call."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator

import pytest

from tests.natlab import edges
from tests.natlab.calls import TALK_SECONDS, CallRecord, finish, heard_on_wire, place
from tests.natlab.capture import Capture
from tests.natlab.laboratory import BUNDLE, BUNDLE6, GATEWAY, Laboratory
from tests.natlab.namespaces import execute
from tests.natlab.nats import Kind
from tests.natlab.town import NUMBER, Town
from tests.tones import CALLEE, CALLER

pytestmark = [pytest.mark.lab, pytest.mark.interop, pytest.mark.slow]


@pytest.fixture(scope="module")
def town(laboratory: Laboratory, capture: Capture, user_agents: None) -> Iterator[Town]:
    """Alice on UDP behind a symmetric NAT, Tess on TLS behind one that drops SIP over UDP, Wally on TCP behind one that
    drops all UDP; Six on IPv6 behind a firewall.
    """
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl: apt install openssl")
    key, certificate = laboratory.directory / "key.pem", laboratory.directory / "certificate.pem"
    execute(
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={BUNDLE}"),
        *("-addext", f"subjectAltName=IP:{BUNDLE}", "-keyout", str(key), "-out", str(certificate)),
    )
    edge = edges.NattravEdge(
        laboratory,
        ("alice", "tess", "wally", "six"),
        listen=(BUNDLE, f"[{BUNDLE6}]", f"tls:{BUNDLE}:5061"),
        more=f'[sip.tls]\ncertificate = "{certificate}"\nkey = "{key}"\n',
    )
    with Town(laboratory, edge, capture) as made:
        made.phone("alice", laboratory.subscriber("alices", Kind.SYMMETRIC).phone)
        tesses = laboratory.subscriber("tesses", Kind.SYMMETRIC)
        tesses.block_sip_over_udp()
        made.phone("tess", tesses.phone, transport="tls", frequency=CALLEE)
        made.phone("wally", laboratory.subscriber("wallys", Kind.UDP_BLOCKED).phone, transport="tcp")
        six = laboratory.subscriber("sixes", Kind.IPV6_FIREWALL)
        made.phone("six", six.phone, server=f"[{BUNDLE6}]", address=six.phone.address6)
        yield made


def both_hear(record: CallRecord) -> None:
    assert record.verdict == "both", f"{record.verdict} {record.caller} {record.callee}\n{record.ladder}"


def test_a_phone_on_tls_calls_a_phone_on_udp(town: Town, capture: Capture) -> None:
    record = place(town.phones["tess"], town.phones["alice"], "alice", capture)
    both_hear(record)
    tesses = town.laboratory.subscribers["tesses"].public
    assert record.all(source=tesses) == [], "readable SIP on a TLS connection"


def test_a_phone_on_tls_is_called_over_its_connection(town: Town, capture: Capture) -> None:
    both_hear(place(town.phones["alice"], town.phones["tess"], "tess", capture))


def test_a_phone_whose_firewall_lets_no_udp_out_gets_its_calls_and_the_silence_is_explained(
    town: Town, capture: Capture
) -> None:
    assert isinstance(town.edge, edges.NattravEdge)
    wally, gateway = town.phones["wally"], town.gateway
    mark, begin = capture.mark(), time.monotonic()
    gateway.dial("wally")
    wally.wait_established(since=begin)
    gateway.wait_established(since=begin)
    time.sleep(1.5)
    (session,) = town.edge.verb("relay", "sessions.list")
    directions = town.edge.verb("relay", "sessions.show", call_id=session["call_id"])["directions"]
    record = finish(wally, gateway, capture, mark, begin, seconds=1.5)
    assert record.verdict == "none"
    silent = next(one for one in directions if one["received"] == 0)
    assert silent["cause"] == "nothing_received"
    assert "a firewall stands between" in silent["explanation"]


def test_an_ipv6_phone_calls_the_ipv4_gateway(town: Town, capture: Capture) -> None:
    record = place(town.phones["six"], town.gateway, NUMBER, capture)
    both_hear(record)
    offered = record.first("INVITE", source=BUNDLE, to=GATEWAY).message
    assert "IP6" not in offered.body
    assert offered.media[0][0] == BUNDLE
    answered = record.first(200, source=BUNDLE6).message
    assert answered.media[0][0] == BUNDLE6


def test_the_ipv4_gateway_calls_the_ipv6_phone(town: Town, capture: Capture) -> None:
    both_hear(place(town.gateway, town.phones["six"], "six", capture))


def test_an_ipv6_phone_and_a_phone_behind_an_ipv4_nat_hear_each_other(town: Town, capture: Capture) -> None:
    both_hear(place(town.phones["six"], town.phones["tess"], "tess", capture))


def test_after_the_nat_forgot_its_mappings_a_reinvite_brings_the_call_back(town: Town, capture: Capture) -> None:
    """N4: the dialog moves with a valid request from the new source, and the relay learns the new media address."""
    alice, gateway = town.phones["alice"], town.gateway
    household = town.laboratory.subscribers["alices"]
    with Capture(alice.host.namespace) as inside:
        mark, begin = capture.mark(), time.monotonic()
        alice.dial(NUMBER)
        alice.wait_established(since=begin)
        gateway.wait_established(since=begin)
        time.sleep(0.8)
        before = {packet.source for packet in capture.rtp(mark) if packet.source[0] == household.public}
        household.forget_mappings()
        time.sleep(0.4)
        alice.hold()
        time.sleep(0.6)
        resumed = time.monotonic()
        alice.resume()
        time.sleep(TALK_SECONDS)
        record = finish(alice, gateway, capture, mark, begin, seconds=TALK_SECONDS)
    late = [packet for packet in record.packets if packet.moment > resumed + 0.3]
    after = {packet.source for packet in late if packet.is_rtp and packet.source[0] == household.public}
    assert after.isdisjoint(before), "the NAT kept its mapping; nothing was tested"
    at_gateway = [packet for packet in late if packet.destination[0] == GATEWAY]
    at_alice = [packet for packet in inside.packets() if packet.moment > resumed + 0.3]
    assert heard_on_wire(at_gateway, far=CALLER, own=CALLEE).well, record.ladder
    assert heard_on_wire(at_alice, far=CALLEE, own=CALLER).well, record.ladder
