"""The named NAT tests, one by one."""

from __future__ import annotations

import pytest

from nattrav.net.address import TransportAddress
from nattrav.proxy.nat import FirstHop, NatTest, NatTests, NatVerdict

PUBLIC = TransportAddress("198.51.100.7", 5060)


def examine(**facts: object) -> NatVerdict:
    settings: dict[str, object] = {
        "transport": "udp",
        "source": PUBLIC,
        "via_host": "198.51.100.7",
        "via_port": 5060,
        "rport": False,
    }
    settings.update(facts)
    return NatTests().examine(FirstHop(**settings))  # type: ignore[arg-type]


def test_a_phone_on_a_public_address_shows_no_nat() -> None:
    verdict = examine(contact=("198.51.100.7", 5060), media_hosts=("198.51.100.7",))
    assert verdict.fired == frozenset()
    assert not verdict.nat


@pytest.mark.parametrize(
    ("facts", "test"),
    [
        ({"contact": ("10.0.0.5", 5060)}, NatTest.CONTACT_NONPUBLIC),
        ({"via_host": "203.0.113.9"}, NatTest.VIA_HOST_DIFFERS),
        ({"via_host": "192.168.1.9"}, NatTest.VIA_NONPUBLIC),
        ({"media_hosts": ("203.0.113.1", "172.16.3.4")}, NatTest.SDP_NONPUBLIC),
        ({"via_port": 5062}, NatTest.VIA_PORT_DIFFERS),
        ({"source": TransportAddress("10.1.1.1", 5060)}, NatTest.SOURCE_NONPUBLIC),
        ({"transport": "wss", "via_host": "x7dq.invalid"}, NatTest.WEBSOCKET),
        ({"contact": ("198.51.100.7", 6000)}, NatTest.CONTACT_PORT_DIFFERS),
        ({"contact": ("203.0.113.5", 5060)}, NatTest.CONTACT_HOST_DIFFERS),
        ({"media_hosts": ("203.0.113.1",)}, NatTest.SDP_HOST_DIFFERS),
        ({"via_host": "100.64.3.2"}, NatTest.CGNAT),
        ({"contact": ("192.0.0.4", 5060)}, NatTest.CLAT),
        ({"contact": ("[fd00::5]", 5060)}, NatTest.CONTACT_NONPUBLIC),
        ({"contact": ("::ffff:10.0.0.5", 5060)}, NatTest.CONTACT_NONPUBLIC),
    ],
)
def test_each_test_fires_on_its_sign(facts: dict[str, object], test: NatTest) -> None:
    assert test in examine(**facts).fired


def test_a_port_says_nothing_on_a_stream() -> None:
    verdict = examine(transport="tcp", source=TransportAddress("198.51.100.7", 49152), contact=("198.51.100.7", 5060))
    assert not verdict.fired
    assert not verdict.nat


def test_a_host_name_decides_nothing() -> None:
    assert not examine(via_host="phone.example.org", contact=("pc33.example.org", None)).fired


def test_a_null_address_in_sdp_is_hold_and_no_nat() -> None:
    assert not examine(media_hosts=("0.0.0.0", "::")).fired


def test_other_ports_with_rport_asked_are_a_nat_and_without_it_an_asymmetric_phone() -> None:
    with_rport = examine(source=TransportAddress("198.51.100.7", 61000), rport=True)
    without = examine(source=TransportAddress("198.51.100.7", 61000))
    assert (with_rport.nat, with_rport.asymmetric) == (True, False)
    assert (without.nat, without.asymmetric) == (False, True)


def test_sdp_alone_does_not_decide_signalling() -> None:
    verdict = examine(media_hosts=("10.0.0.5",))
    assert NatTest.SDP_NONPUBLIC in verdict.fired
    assert not verdict.nat


def test_a_local_net_is_reached_without_a_nat() -> None:
    hop = FirstHop("udp", TransportAddress("10.1.1.1", 5060), "10.1.1.1", 5060, False, ("10.1.1.1", 5060))
    assert NatTests().examine(hop).nat
    assert not NatTests(["10.1.0.0/16"]).examine(hop).nat
