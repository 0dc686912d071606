"""Devices that need other treatment."""

from __future__ import annotations

from nattrav.net.address import TransportAddress
from nattrav.proxy.quirks import PLAIN, QuirkRule, Quirks, Treatment, rule_from

SOURCE = TransportAddress("198.51.100.7", 5060)


def test_an_unknown_device_is_treated_plainly() -> None:
    assert Quirks().treatment("Acme/1", SOURCE, None) is PLAIN
    assert Quirks().treatment(None, SOURCE, None) is PLAIN


def test_phones_that_listen_on_5060_only_are_answered_there() -> None:
    assert Quirks().treatment("Cisco-CP7970G/8.5", SOURCE, None).rport == "never"


def test_the_operators_own_entry_wins_over_the_shipped_one() -> None:
    own = rule_from({"user_agent": "cisco", "rport": "always"}, 0)
    treatment = Quirks([own]).treatment("Cisco-CP7970G", SOURCE, None)
    assert (treatment.rport, treatment.entry) == ("always", "quirk[0]")


def test_all_that_an_entry_names_must_match() -> None:
    rule = QuirkRule(Treatment(ping="none"), user_agent="acme", source="198.51.100.0/24", aor="alice@example.org")
    quirks = Quirks([rule], shipped=())
    assert quirks.treatment("Acme", SOURCE, "alice@example.org").ping == "none"
    assert quirks.treatment("Acme", SOURCE, "bob@example.org") is PLAIN
    assert quirks.treatment("Acme", TransportAddress("203.0.113.1", 5060), "alice@example.org") is PLAIN
