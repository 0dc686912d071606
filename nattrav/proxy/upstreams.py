"""Upstreams: gateways and cores on public addresses, chosen by number or domain, priority and weight."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field

from nattrav.config.sip import Upstream
from nattrav.net.address import TransportAddress, is_literal
from nattrav.sip.uri import SipUri

FAILED_FOR = 300.0


@dataclass(slots=True)
class UpstreamState:
    """One upstream and what is known of it. `addresses` are those its name resolved to."""

    settings: Upstream
    uri: SipUri
    addresses: frozenset[str]
    up: bool = True
    failed_until: float = 0.0
    round_trip: float | None = None
    losses: int = 0
    attempts: int = 0
    disabled: bool = False
    """An operator took it out of use: it gets no new calls; its own requests are still known."""
    current: int = field(default=0)

    @property
    def name(self) -> str:
        """Its name."""
        return self.settings.name

    def usable(self, now: float) -> bool:
        """Neither down by probing nor failed lately."""
        return self.up and self.failed_until <= now


class Upstreams:
    """All of them."""

    def __init__(self, settings: Sequence[Upstream]) -> None:
        self.all: list[UpstreamState] = []
        self.follow(settings)

    def follow(self, settings: Sequence[Upstream]) -> None:
        """Go by these; of one whose name and target stay the same it is still known how it fares."""
        before = {(state.name, state.settings.target): state for state in self.all}
        self.all = []
        for one in settings:
            state = before.get((one.name, one.target))
            if state is None:
                uri = SipUri.parse(one.target)
                known = frozenset([uri.host]) if is_literal(uri.host) else frozenset()
                state = UpstreamState(one, uri, known)
            else:
                state.settings = one
            self.all.append(state)
        self._networks = [
            (ipaddress.ip_network(net, strict=False), state) for state in self.all for net in state.settings.sources
        ]
        self._by_source: dict[str, UpstreamState | None] = {}
        self.hosts = frozenset(host for state in self.all for host in state.addresses)
        """Literal addresses of all of them."""

    def resolved(self, name: str, addresses: Sequence[str]) -> None:
        """Remember what an upstream's name resolved to, so that its requests are recognised."""
        for state in self.all:
            if state.name == name:
                state.addresses = frozenset(addresses)
        self._by_source.clear()
        self.hosts = frozenset(host for state in self.all for host in state.addresses)

    def by_source(self, source: TransportAddress) -> UpstreamState | None:
        """Find the upstream a request came from, by address; on loopback, which programs share, by port as well."""
        host = source.host
        loopback = host.startswith("127.") or host == "::1"
        key = str(source) if loopback else host
        if key in self._by_source:
            return self._by_source[key]
        found = None
        for state in self.all:
            if host in state.addresses and (not loopback or (state.uri.port or 5060) == source.port):
                found = state
                break
        if found is None and self._networks:
            address = ipaddress.ip_address(host)
            found = next((state for net, state in self._networks if address in net), None)
        if len(self._by_source) >= 20_000:
            self._by_source.clear()
        self._by_source[key] = found
        return found

    def for_number(self, user: str, now: float, exclude: UpstreamState | None = None) -> list[UpstreamState]:
        """Give the upstreams of the longest matching prefix in the order to try them."""
        best = -1
        found: list[UpstreamState] = []
        for state in self.all:
            if state is exclude or state.disabled:
                continue
            longest = max((len(p) for p in state.settings.prefixes if user.startswith(p)), default=-1)
            if longest < 0 or longest < best:
                continue
            if longest > best:
                best, found = longest, []
            found.append(state)
        return self._in_order(found, now)

    def for_domain(self, host: str, port: int | None, now: float) -> list[UpstreamState]:
        """Give the upstreams that serve a domain or are that host."""
        found = [
            state
            for state in self.all
            if not state.disabled
            and (
                host in state.settings.domains
                or (state.uri.host == host and (port is None or (state.uri.port or 5060) == port))
                or (host in state.addresses and (port is None or (state.uri.port or 5060) == port))
            )
        ]
        return self._in_order(found, now)

    def _in_order(self, found: list[UpstreamState], now: float) -> list[UpstreamState]:
        """Usable ones first, by priority; within one priority smooth weighted round robin picks the first."""
        if len(found) < 2:
            return found
        found = sorted(found, key=lambda state: (not state.usable(now), state.settings.priority))
        head = [
            s
            for s in found
            if s.usable(now) == found[0].usable(now) and s.settings.priority == found[0].settings.priority
        ]
        total = sum(state.settings.weight for state in head)
        if len(head) > 1 and total:
            for state in head:
                state.current += state.settings.weight
            chosen = max(head, key=lambda state: state.current)
            chosen.current -= total
            found.remove(chosen)
            found.insert(0, chosen)
        return found

    def failed(self, state: UpstreamState, now: float, retry_after: float | None = None) -> None:
        """It did not answer or refused service: try others first for a while."""
        if len(self.all) > 1:
            state.failed_until = now + (FAILED_FOR if retry_after is None else retry_after)
