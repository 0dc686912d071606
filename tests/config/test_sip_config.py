"""The [sip] table and its lists."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from nattrav.config.schema import Configuration
from nattrav.config.sip_values import Listen, parse_listen


def test_an_empty_file_is_a_registrar_on_udp_and_tcp_that_takes_only_private_sources() -> None:
    sip = Configuration().sip
    assert sip.mode == "registrar"
    assert [parse_listen(text) for text in sip.listen] == [Listen(("udp", "tcp"), "auto", None, None)]
    assert sip.registrar.authentication == "auto"
    assert "10.0.0.0/8" in sip.registrar.open_nets


@pytest.mark.parametrize(
    ("text", "listen"),
    [
        ("auto", Listen(("udp", "tcp"), "auto", None, None)),
        ("udp:auto:5080", Listen(("udp",), "auto", 5080, None)),
        ("192.0.2.1", Listen(("udp", "tcp"), "192.0.2.1", None, None)),
        ("tls:192.0.2.1:5061!sip.example.org", Listen(("tls",), "192.0.2.1", 5061, "sip.example.org")),
        ("udp:[2001:db8::1]:5060", Listen(("udp",), "2001:db8::1", 5060, None)),
        ("2001:db8::1", Listen(("udp", "tcp"), "2001:db8::1", None, None)),
        ("udp:10.0.0.1:5060!198.51.100.4", Listen(("udp",), "10.0.0.1", 5060, "198.51.100.4")),
    ],
)
def test_a_listening_address_is_taken_apart(text: str, listen: Listen) -> None:
    assert parse_listen(text) == listen


@pytest.mark.parametrize("text", ["sctp:192.0.2.1", "udp:host.example", "192.0.2.1:99999", "[2001:db8::1", ""])
def test_a_wrong_listening_address_is_refused_with_its_reason(text: str) -> None:
    with pytest.raises(ValidationError):
        Configuration.model_validate({"sip": {"listen": [text]}})


def test_upstreams_users_and_quirks_are_lists_of_tables() -> None:
    configuration = Configuration.model_validate(
        {
            "upstream": [{"name": "gw", "target": "203.0.113.80:5060", "prefixes": ["0", "+"]}],
            "user": [{"name": "alice", "password": "secret"}],
            "quirk": [{"user_agent": "Acme", "rport": "never"}],
        }
    )
    assert configuration.upstream[0].target == "sip:203.0.113.80:5060"
    assert configuration.user[0].name == "alice"
    assert configuration.quirk[0].rport == "never"


@pytest.mark.parametrize(
    ("table", "hint"),
    [
        ({"user": [{"name": "alice"}]}, "password"),
        ({"quirk": [{"rport": "never"}]}, "match on"),
        ({"quirk": [{"user_agent": "("}]}, "regular expression"),
        ({"sip": {"timers": {"ringing": "2m"}}}, "three minutes"),
        ({"upstream": [{"name": "gw", "target": "sip:bob@example.org"}]}, "HOST"),
    ],
)
def test_a_mistake_is_answered_with_the_remedy(table: dict[str, object], hint: str) -> None:
    with pytest.raises(ValidationError, match=hint):
        Configuration.model_validate(table)
