"""From the [stun] table to what the service is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nattrav.config.schema import Configuration
from nattrav.daemon import stun_setup as setup
from nattrav.daemon.runtime import StartRefused
from nattrav.net.address import TransportAddress
from stun.credentials import LongTerm


def configuration(**stun: Any) -> Configuration:
    return Configuration.model_validate({"stun": stun})


def test_an_alternate_address_needs_a_partner_of_its_family() -> None:
    section = configuration(listen=["127.0.0.1"], alternate=["2001:db8::2"]).stun
    with pytest.raises(StartRefused, match="2001:db8::2: no listen address of that family"):
        setup.make_responder(section)


def test_an_alternate_address_equal_to_the_first_is_refused() -> None:
    section = configuration(listen=["127.0.0.1"], alternate=["127.0.0.1"]).stun
    with pytest.raises(StartRefused, match="no listen address"):
        setup.make_responder(section)


def test_advertised_addresses_stand_in_replies_not_in_sockets() -> None:
    section = configuration(listen=["10.0.0.1!198.51.100.1"], alternate=["10.0.0.2!198.51.100.2"]).stun
    endpoints = setup.make_responder(section).endpoints
    assert endpoints[3].local == TransportAddress("10.0.0.2", 3479)
    assert endpoints[3].advertised == TransportAddress("198.51.100.2", 3479)


def test_what_auto_is_advertised_as_does_not_touch_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "expand", lambda host: ["10.0.0.1", "127.0.0.1"] if host == "auto" else [host])
    endpoints = setup.make_responder(configuration(listen=["auto!203.0.113.9"]).stun).endpoints
    assert [(e.local.host, e.advertised.host) for e in endpoints] == [
        ("10.0.0.1", "203.0.113.9"),
        ("127.0.0.1", "127.0.0.1"),
    ]
    paired = configuration(listen=["auto!203.0.113.9"], alternate=["10.0.0.2!203.0.113.10"]).stun
    assert setup.make_responder(paired).endpoints[3].advertised == TransportAddress("203.0.113.10", 3479)


def test_nonces_outlive_a_restart_and_the_key_is_for_nobody_elses_eyes(tmp_path: Path) -> None:
    section = configuration(credentials="long-term", realm="example.org", users={"alice": "secret"}).stun
    client = TransportAddress("192.0.2.9", 5000)
    keys = [setup.nonce_key(section, tmp_path) for _ in range(2)]
    before, after = (setup.make_authenticator(section, key) for key in keys)
    assert isinstance(before, LongTerm)
    assert isinstance(after, LongTerm)
    assert before.nonce(client, 1e9) == after.nonce(client, 1e9)
    assert (tmp_path / "stun-nonce.key").stat().st_mode & 0o777 == 0o600


def test_without_long_term_credentials_no_key_is_made(tmp_path: Path) -> None:
    assert setup.nonce_key(configuration().stun, tmp_path) == b""
    assert not list(tmp_path.iterdir())
