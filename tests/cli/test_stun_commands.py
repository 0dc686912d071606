"""`nattrav stun probe`: the picture, the findings and the data, for NATs of every kind; what the command line takes."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from nattrav.cli.app import run
from nattrav.cli.stun_client import host_and_port
from nattrav.cli.stun_report import as_data, as_text, picture
from nattrav.net.address import TransportAddress
from stun.behavior import ServerAddress, lay_out
from stun.discovery import Dependence, Label
from stun.gateway import GatewayReport
from stun.io.connections import OverStream
from stun.io.probe import Report
from stun.lifetime import LifetimeSearch
from stun.responder import Responder
from tests.stun.nat_model import Nat, discover

SERVER = TransportAddress("198.51.100.1", 3478)
D = Dependence


def report(mapping: D | None, filtering: D | None, *, pair: bool = True) -> Report:
    address = ServerAddress("198.51.100.1", alternate="198.51.100.2" if pair else "")
    _, findings = discover(Nat(mapping, filtering), Responder(lay_out([address], 3478, 3479)), SERVER)
    return Report(findings)


@pytest.mark.parametrize(
    ("mapping", "filtering", "words"),
    [
        (None, D.INDEPENDENT, ("no NAT", "◄───►")),
        (None, D.ADDRESS_AND_PORT, ("firewall", "◄───►")),
        (D.INDEPENDENT, D.INDEPENDENT, ("NAT", "full cone", "192.0.2.1:40001")),
        (D.ADDRESS_AND_PORT, D.ADDRESS_AND_PORT, ("NAT", "symmetric", "198.51.100.2:3479")),
        (D.INDEPENDENT, None, ("?", "╳")),
    ],
)
def test_the_picture_shows_client_nat_and_server(
    mapping: D | None, filtering: D | None, words: tuple[str, ...]
) -> None:
    lines = picture(report(mapping, filtering))
    text = "\n".join(lines)
    assert all(word in text for word in ("client", "server", "198.51.100.1:3478", *words))
    assert lines[0].count("┌") + lines[1].count("┌") >= 2
    assert all(line == line.rstrip() for line in lines)


def test_udp_that_is_blocked_is_said_when_tcp_answers() -> None:
    blocked = replace(report(D.INDEPENDENT, None), tcp=OverStream(TransportAddress("192.0.2.1", 5)))
    assert blocked.label is Label.UDP_BLOCKED
    text = as_text(blocked)
    assert "UDP blocked" in text
    assert "over TCP        192.0.2.1:5" in text
    assert text.endswith(blocked.advice)
    assert as_data(blocked)["tcp_mapped_address"] == "192.0.2.1:5"


def test_what_could_not_be_determined_is_said_with_its_reason() -> None:
    text = as_text(report(D.ADDRESS, D.ADDRESS, pair=False))
    assert text.count("could not be determined") == 2
    assert len(re.findall(r"^undetermined .*no OTHER-ADDRESS", text, re.MULTILINE)) == 2


def test_the_data_has_every_finding_and_is_json() -> None:
    search = LifetimeSearch()
    search.round()
    search.tell(60, True)
    search.tell(120, False)
    found = replace(
        report(D.INDEPENDENT, D.ADDRESS),
        hairpin=True,
        hairpin_external=False,
        lifetime=search,
        gateway=GatewayReport("10.0.0.138", nat_pmp="100.64.1.1", upnp_failure="no answer", pcp_failure="no answer"),
    )
    data = json.loads(json.dumps(as_data(found)))
    assert (data["mapping"], data["filtering"]) == ("endpoint-independent", "address-dependent")
    assert data["binding_lifetime_seconds"] == [60, 120]
    assert data["gateway"]["cascade"] == "carrier_grade"
    text = as_text(found)
    assert "between 60 and 120 s; send a keepalive every 25 s" in text
    assert "yes, with the inside address as source" in text
    assert "NATs in a row   cascaded NATs: the router's own address is carrier-grade" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("stun.example.net", ("stun.example.net", 3478)),
        ("stun.example.net:19302", ("stun.example.net", 19302)),
        ("192.0.2.1", ("192.0.2.1", 3478)),
        ("192.0.2.1:5", ("192.0.2.1", 5)),
        ("2001:db8::1", ("2001:db8::1", 3478)),
        ("[2001:db8::1]", ("2001:db8::1", 3478)),
        ("[2001:db8::1]:5", ("2001:db8::1", 5)),
    ],
)
def test_servers_are_named_with_or_without_a_port(text: str, expected: tuple[str, int]) -> None:
    assert tuple(host_and_port(text)) == expected


def test_a_port_that_is_none_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["stun", "probe", "stun.example.net:x"]) == 2
    assert "HOST:PORT" in capsys.readouterr().err


def test_a_wrong_address_to_serve_is_told_with_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["stun", "serve", "--listen", "example.net"]) == 2
    assert "not an IP address" in capsys.readouterr().err
