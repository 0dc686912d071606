from __future__ import annotations

import pytest
from pydantic import ValidationError

from nattrav.config.control import ControlAddress, ControlSection
from nattrav.net.address import TransportAddress


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("udp:127.0.0.1:2223", ControlAddress("udp", TransportAddress("127.0.0.1", 2223))),
        ("udp:[2001:DB8::1]:2223", ControlAddress("udp", TransportAddress("2001:db8::1", 2223))),
        ("tcp:192.0.2.1:2225", ControlAddress("tcp", TransportAddress("192.0.2.1", 2225))),
        ("unix:auto", ControlAddress("unix")),
        ("unix:/run/ng.sock", ControlAddress("unix", path="/run/ng.sock")),
    ],
)
def test_control_addresses_have_three_forms(text: str, address: ControlAddress) -> None:
    assert ControlAddress.parse(text) == address
    assert ControlAddress.parse(str(address)) == address


@pytest.mark.parametrize(
    "text", ["", "udp", "udp:", "udp:host:1", "udp:127.0.0.1", "http:127.0.0.1:1", "unix:", "2223"]
)
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        ControlAddress.parse(text)


def test_the_defaults_serve_this_host() -> None:
    section = ControlSection()
    assert section.listen == ["udp:127.0.0.1:2223", "unix:auto"]
    assert section.relay_choices() == [(ControlAddress("unix"), 1)]


def test_relays_have_weights() -> None:
    section = ControlSection(relays=["udp:192.0.2.1:2223;weight=3", "unix:auto;weight=0", "udp:192.0.2.2:2223"])
    assert [weight for _, weight in section.relay_choices()] == [3, 0, 1]


@pytest.mark.parametrize("relay", ["tcp:192.0.2.1:1", "udp:192.0.2.1:1;weight=x", "udp:192.0.2.1:1;prio=1", ""])
def test_wrong_relays_are_refused(relay: str) -> None:
    with pytest.raises(ValidationError):
        ControlSection(relays=[relay])


def test_a_listener_on_the_network_must_have_someone_to_serve() -> None:
    with pytest.raises(ValidationError, match="allow"):
        ControlSection(listen=["udp:192.0.2.1:2223"])
    ControlSection(listen=["udp:192.0.2.1:2223"], allow=["192.0.2.0/24"])
    ControlSection(listen=["udp:192.0.2.1:2223"], shared_key_file="/etc/nattrav/ng.key")


def test_a_network_must_be_one() -> None:
    with pytest.raises(ValidationError, match="write a network"):
        ControlSection(allow=["192.0.2.1/24"])
