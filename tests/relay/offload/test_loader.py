"""Where the program is attached, and what is said when it cannot be."""

from __future__ import annotations

import pytest

from nattrav.net.address import classify
from nattrav.net.interfaces import InterfaceAddress
from relay.offload.io import loader
from relay.offload.io.loader import OffloadRefused, find_place, open_xdp

ADDRESSES = [
    InterfaceAddress(name, host, classify(host))
    for name, host in (
        ("lo", "127.0.0.1"),
        ("lo", "203.0.113.7"),
        ("eth0", "203.0.113.1"),
        ("eth0:1", "203.0.113.2"),
        ("eth1", "10.0.0.1"),
        ("eth1", "2001:db8::1"),
    )
]


def test_interfaces_are_those_that_carry_the_media_addresses() -> None:
    place = find_place(["203.0.113.1", "10.0.0.1", "2001:db8::1"], [], ADDRESSES)
    assert place.interfaces == ("eth0", "eth1")
    assert place.hosts == {"203.0.113.1", "10.0.0.1", "2001:db8::1"}


def test_an_alias_is_the_interface_it_stands_for() -> None:
    assert find_place(["203.0.113.2"], [], ADDRESSES).interfaces == ("eth0",)


def test_addresses_on_loopback_are_left_out_unless_interfaces_are_named() -> None:
    assert find_place(["203.0.113.1", "203.0.113.7"], [], ADDRESSES).hosts == {"203.0.113.1"}
    place = find_place(["203.0.113.7"], ["eth1", "eth0", "eth1"], ADDRESSES)
    assert place.interfaces == ("eth1", "eth0")
    assert place.hosts == {"203.0.113.7"}
    with pytest.raises(OffloadRefused, match="offload_interfaces"):
        find_place(["203.0.113.7"], [], ADDRESSES)


def test_without_bpf_the_reason_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "refusal", lambda: "libbpf.so.1 is not installed")
    with pytest.raises(OffloadRefused, match=r"libbpf\.so\.1 is not installed"):
        open_xdp(["203.0.113.1"], 10)
