"""Transport addresses: spellings, socket addresses, classes."""

from __future__ import annotations

import contextlib
import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nattrav.net.address import (
    SOCKADDR_ROW,
    AddressClass,
    TransportAddress,
    canonical,
    classify,
    from_sockaddr,
    is_literal,
    to_row,
    to_sockaddr,
)

hosts = st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).filter(lambda host: host.ipv4_mapped is None).map(str)
addresses = st.builds(TransportAddress, hosts, st.integers(0, 65535))


@given(addresses)
def test_text_comes_back_as_written(address: TransportAddress) -> None:
    assert TransportAddress.parse(str(address)) == address


@given(addresses)
def test_socket_addresses_come_back_as_written(address: TransportAddress) -> None:
    assert from_sockaddr(to_sockaddr(address)) == address
    assert from_sockaddr(to_row(address)) == address
    assert len(to_row(address)) == SOCKADDR_ROW


@given(st.text(max_size=40))
def test_any_text_parses_to_a_canonical_address_or_is_refused(text: str) -> None:
    address = TransportAddress("192.0.2.1", 1)
    with contextlib.suppress(ValueError):
        address = TransportAddress.parse(text, 5060)
    assert canonical(address.host) == address.host
    assert 0 <= address.port <= 65535


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1:5060", ("192.0.2.1", 5060)),
        ("[2001:DB8:0::1]:65535", ("2001:db8::1", 65535)),
        ("[::ffff:192.0.2.1]:1", ("192.0.2.1", 1)),
        ("192.0.2.1", ("192.0.2.1", 99)),
        ("2001:db8::1", ("2001:db8::1", 99)),
    ],
)
def test_spellings(text: str, expected: tuple[str, int]) -> None:
    assert TransportAddress.parse(text, 99) == expected


@pytest.mark.parametrize(
    "text", ["", ":", "host:1", "192.0.2.1:", "192.0.2.1:65536", "192.0.2.1:-1", "192.0.2.1:٣", "[::1", "fe80::1%eth0"]
)
def test_what_is_no_transport_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        TransportAddress.parse(text)


def test_a_missing_port_says_how_to_write_it() -> None:
    with pytest.raises(ValueError, match="ADDRESS:PORT"):
        TransportAddress.parse("192.0.2.1")


def test_mapped_addresses_are_read_as_ipv4() -> None:
    mapped = to_sockaddr(TransportAddress("::1", 7))[:8] + ipaddress.ip_address("::ffff:192.0.2.1").packed + bytes(4)
    assert from_sockaddr(mapped) == ("192.0.2.1", 7)


def test_other_families_are_refused() -> None:
    with pytest.raises(ValueError, match="family"):
        from_sockaddr(bytes(16))


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("198.51.100.1", AddressClass.PUBLIC),
        ("10.1.2.3", AddressClass.PRIVATE),
        ("172.31.255.255", AddressClass.PRIVATE),
        ("172.32.0.1", AddressClass.PUBLIC),
        ("100.64.0.1", AddressClass.CGNAT),
        ("192.0.0.1", AddressClass.CLAT),
        ("169.254.1.1", AddressClass.LINK_LOCAL),
        ("127.3.2.1", AddressClass.LOOPBACK),
        ("0.0.0.0", AddressClass.UNSPECIFIED),
        ("::", AddressClass.UNSPECIFIED),
        ("::1", AddressClass.LOOPBACK),
        ("fe80::1", AddressClass.LINK_LOCAL),
        ("fd00::1", AddressClass.ULA),
        ("ff02::1", AddressClass.MULTICAST),
        ("239.1.1.1", AddressClass.MULTICAST),
        ("255.255.255.255", AddressClass.BROADCAST),
        ("::ffff:10.0.0.1", AddressClass.PRIVATE),
    ],
)
def test_classes(host: str, kind: AddressClass) -> None:
    assert classify(host) is kind


def test_families_and_literals() -> None:
    assert TransportAddress("::1", 1).family == socket.AF_INET6
    assert TransportAddress("127.0.0.1", 1).family == socket.AF_INET
    assert is_literal("192.0.2.1")
    assert not is_literal("example.net")
