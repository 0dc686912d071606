"""The [relay] table: every mistake is told with its remedy."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from nattrav.config.relay import PortRange, RelayInterface, RelaySection


def test_interfaces_are_read_with_name_address_and_advertised_address() -> None:
    assert RelayInterface.parse("public/203.0.113.1!198.51.100.7") == RelayInterface(
        "public", "203.0.113.1", "198.51.100.7"
    )
    assert RelayInterface.parse("public/2001:db8::1") == RelayInterface("public", "2001:db8::1")
    assert RelayInterface.parse("203.0.113.1") == RelayInterface("default", "203.0.113.1")
    assert RelayInterface.parse("auto") == RelayInterface("default")
    assert RelayInterface.parse("public/auto!198.51.100.7") == RelayInterface("public", None, "198.51.100.7")


@pytest.mark.parametrize("text", ["", "/203.0.113.1", "a b/203.0.113.1", "public/example.org", "public/203.0.113.1!x"])
def test_what_is_no_interface_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(ValueError, match='write "NAME/ADDRESS"'):
        RelayInterface.parse(text)


@pytest.mark.parametrize("text", ["", "30000", "x-y", "40000-30000", "80-90", "60000-70000"])
def test_what_is_no_port_range_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(ValueError, match="write a range of ports"):
        PortRange.parse(text)


def test_every_spelling_reads_back_as_itself() -> None:
    for text in ("public/203.0.113.1!198.51.100.7", "default/auto", "v6/2001:db8::1"):
        assert str(RelayInterface.parse(text)) == text
    assert str(PortRange.parse("30000-39999")) == "30000-39999"


@pytest.mark.parametrize(
    "section",
    [
        {"interfaces": []},
        {"aliases": {"external": "nowhere"}},
        {"interface_ports": {"nowhere": "30000-30999"}},
        {"reachable_networks": ["10.0.0.0/33"]},
        {"excluded_ports": [0]},
        {"learning": "sometimes"},
        {"max_port_use": 0},
        {"tos": 256},
        {"timeout": "soon"},
        {"no_such_key": 1},
    ],
)
def test_mistakes_are_refused(section: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RelaySection.model_validate(section)


def test_an_interface_may_have_its_own_ports() -> None:
    section = RelaySection.model_validate(
        {"interfaces": ["public/203.0.113.1", "core/10.0.0.1"], "interface_ports": {"core": "20000-20999"}}
    )
    assert section.port_range("public") == PortRange(30000, 39999)
    assert section.port_range("core") == PortRange(20000, 20999)
