"""Devices that need other treatment than the rest: a shipped table after the operator's own, first match wins."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from nattrav.net.address import TransportAddress


@dataclass(frozen=True, slots=True)
class Treatment:
    """How one device is treated; None leaves the general setting in force. `entry` names the match for `explain`."""

    contact: str | None = None
    rport: str | None = None
    rr_transport: str | None = None
    token_alphabet: str | None = None
    latch: str | None = None
    ping: str | None = None
    o_line: str | None = None
    ice: str | None = None
    max_udp: int | None = None
    digest: str | None = None
    entry: str | None = None

    @property
    def needs_base32(self) -> bool:
        """The device changes the letter case of user parts."""
        alphabet = self.token_alphabet
        return alphabet is not None and alphabet != "base64url"


PLAIN = Treatment()


@dataclass(frozen=True, slots=True)
class QuirkRule:
    """What to match (all that is given must hold) and the treatment."""

    treatment: Treatment
    user_agent: str | None = None
    source: str | None = None
    aor: str | None = None


SHIPPED: tuple[QuirkRule, ...] = (
    # These phones send from an ephemeral port, ask for no rport and listen on the port of their Via only.
    QuirkRule(Treatment(rport="never", entry="cisco-79xx"), user_agent=r"Cisco-CP79[4-7]\d"),
    # Without an explicit transport in the Record-Route URI they fall back from TCP to UDP in mid-dialog.
    QuirkRule(Treatment(rr_transport="explicit", entry="linphone"), user_agent=r"Linphone|belle-sip"),
    # They refuse a REGISTER's whole 401 when one of its challenges names an algorithm they do not know.
    QuirkRule(Treatment(digest="md5", entry="baresip-1"), user_agent=r"^baresip v?[01]\."),
    # Their media servers send from other ports than they announce.
    QuirkRule(Treatment(latch="never", entry="asymmetric-gateway"), user_agent=r"\bAudiocodes-Sip-Gateway\b"),
)


class Quirks:
    """Finds the treatment of a device; results are remembered per User-Agent text, bounded."""

    def __init__(self, own: Sequence[QuirkRule] = (), shipped: Sequence[QuirkRule] = SHIPPED) -> None:
        self._rules = [
            (
                rule,
                re.compile(rule.user_agent, re.IGNORECASE) if rule.user_agent is not None else None,
                ipaddress.ip_network(rule.source, strict=False) if rule.source is not None else None,
            )
            for rule in (*own, *shipped)
        ]
        self.marks_contacts = any(rule.treatment.contact in ("alias", "rewrite") for rule, _, _ in self._rules)
        """Some device's Contact is to be changed."""
        self.limits_size = any(rule.treatment.max_udp is not None for rule, _, _ in self._rules)
        """Some device cannot take every datagram."""
        self.names_users = any(rule.aor is not None for rule, _, _ in self._rules)
        """Some entry is for one address-of-record."""
        self._by_agent_only = all(rule.source is None and rule.aor is None for rule, _, _ in self._rules)
        self._remembered: dict[tuple[str, ...], Treatment] = {}

    def treatment(self, user_agent: str | None, source: TransportAddress, aor: str | None) -> Treatment:
        """Give the first matching treatment, PLAIN without one."""
        key = (user_agent or "",) if self._by_agent_only else (user_agent or "", source.host, aor or "")
        found = self._remembered.get(key)
        if found is None:
            found = self._search(user_agent or "", source.host, aor)
            if len(self._remembered) >= 10_000:
                self._remembered.clear()
            self._remembered[key] = found
        return found

    def _search(self, user_agent: str, host: str, aor: str | None) -> Treatment:
        for rule, pattern, network in self._rules:
            if pattern is not None and not pattern.search(user_agent):
                continue
            if network is not None and ipaddress.ip_address(host) not in network:
                continue
            if rule.aor is not None and rule.aor != aor:
                continue
            return rule.treatment
        return PLAIN


def rule_from(settings: dict[str, Any], number: int) -> QuirkRule:
    """Make a rule of one [[quirk]] table."""
    known = {field.name for field in fields(Treatment)} - {"entry"}
    treatment = replace(
        Treatment(entry=f"quirk[{number}]"),
        **{name: value for name, value in settings.items() if name in known and value is not None},
    )
    return QuirkRule(treatment, settings.get("user_agent"), settings.get("source"), settings.get("aor"))
