"""Next hops by RFC 3263, as a function of what the DNS said so far.

`plan` runs the procedure against a cache of answers. When an answer is missing it returns the questions instead of
hops; the shell asks them, puts the answers into the cache and calls again. So nothing waits and nothing is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from nattrav.net.address import TransportAddress, canonical, is_literal
from nattrav.sip.transport.flow import Flow, Target
from nattrav.sip.uri import DEFAULT_PORTS, SipUri
from nattrav.sip.via import Via

Random = Callable[[], float]
"""Gives numbers in [0, 1)."""


class Naptr(NamedTuple):
    """RFC 3403 record; `service` such as `SIP+D2U`."""

    order: int
    preference: int
    flags: str
    service: str
    replacement: str


class Srv(NamedTuple):
    """RFC 2782 record."""

    priority: int
    weight: int
    port: int
    target: str


Record = Naptr | Srv | str
"""A record; addresses (A, AAAA) are their text."""


class Question(NamedTuple):
    """What to ask: a domain name in lower case without final dot, and `NAPTR`, `SRV`, `A` or `AAAA`."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said. No records: there are none (RFC 2308). `failed`: nobody answered."""

    records: tuple[Record, ...]
    ttl: float
    failed: bool = False


class Wanted(NamedTuple):
    """Where a message is to go, before any DNS (RFC 3263 §4)."""

    host: str
    port: int | None
    transport: str | None
    secure: bool = False


@dataclass(frozen=True, slots=True)
class Abilities:
    """What we can send with. `families` are 4 and 6, the preferred first; `transports` likewise."""

    transports: tuple[str, ...] = ("udp", "tcp")
    families: tuple[int, ...] = (4, 6)


@dataclass(frozen=True, slots=True)
class Questions:
    """The procedure needs these answers."""

    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class Hops:
    """Where to try, in this order. Empty: there is nothing; `reason` says why."""

    targets: tuple[Target, ...]
    reason: str = ""


_SERVICES = {"SIP+D2U": "udp", "SIP+D2T": "tcp", "SIPS+D2T": "tls", "SIP+D2W": "ws", "SIPS+D2W": "wss"}
_SRV_PREFIX = {"udp": "_sip._udp", "tcp": "_sip._tcp", "tls": "_sips._tcp", "ws": "_sip._ws", "wss": "_sips._ws"}
_SECURED = {"tcp": "tls", "ws": "wss", "udp": "tls"}
_ASKED_FOR_SRV = ("udp", "tcp", "tls")


class DnsCache:
    """Answers until their TTL is over, bounded in number and in time."""

    def __init__(self, size: int = 10_000, *, longest: float = 3600.0, shortest: float = 5.0) -> None:
        self._size = size
        self._longest = longest
        self._shortest = shortest
        self._answers: dict[Question, tuple[Answer, float]] = {}

    def put(self, question: Question, answer: Answer, now: float) -> None:
        """Keep an answer."""
        self._answers.pop(question, None)
        if len(self._answers) >= self._size:
            del self._answers[next(iter(self._answers))]
        self._answers[question] = (answer, now + min(max(answer.ttl, self._shortest), self._longest))

    def get(self, question: Question, now: float) -> Answer | None:
        """Give an answer that still holds."""
        found = self._answers.get(question)
        if found is None:
            return None
        if found[1] <= now:
            del self._answers[question]
            return None
        return found[0]


def wanted_by_uri(uri: SipUri) -> Wanted:
    """What a Request-URI or a Route asks for; `maddr` goes before the host."""
    return Wanted(uri.params.get("maddr") or uri.host, uri.port, uri.transport, uri.secure)


def wanted_by_via(via: Via) -> Wanted:
    """Where a response goes once the source address failed (RFC 3263 §5)."""
    return Wanted(via.host, via.port, via.transport, via.transport in ("tls", "wss"))


def plan(wanted: Wanted, abilities: Abilities, cache: DnsCache, random: Random, now: float) -> Hops | Questions:
    """Find the next hops (RFC 3263 §4.1, §4.2), or the questions to be answered first."""
    return _Procedure(wanted, abilities, cache, random, now).run()


class _Missing(Exception):
    def __init__(self, questions: Iterable[Question]) -> None:
        self.questions = tuple(questions)


class _Procedure:
    def __init__(self, wanted: Wanted, abilities: Abilities, cache: DnsCache, random: Random, now: float) -> None:
        self.wanted = wanted
        self.abilities = abilities
        self.cache = cache
        self.random = random
        self.now = now
        self.failed = False

    def run(self) -> Hops | Questions:
        try:
            targets = self._targets()
        except _Missing as missing:
            return Questions(missing.questions)
        if targets:
            return Hops(tuple(dict.fromkeys(targets)))
        return Hops((), "no answer from the DNS" if self.failed else f"{self.wanted.host} does not exist")

    def _targets(self) -> list[Target]:
        host, port, asked, secure = self.wanted
        host = host.strip("[]").rstrip(".").lower()
        transport = None if asked is None else _SECURED.get(asked, asked) if secure else asked
        if is_literal(host):
            transport = transport or ("tls" if secure else "udp")
            if not self._can(transport):
                return []
            return [Target(transport, TransportAddress(canonical(host), port or DEFAULT_PORTS[transport]), host)]
        if port is not None:
            transport = transport or ("tls" if secure else "udp")
            return self._by_address(host, port, transport) if self._can(transport) else []
        if transport is not None:
            return self._by_service(host, transport) if self._can(transport) else []
        return self._by_naptr(host, secure)

    def _by_naptr(self, host: str, secure: bool) -> list[Target]:
        records = [record for record in self._ask([Question(host, "NAPTR")])[0] if isinstance(record, Naptr)]
        chosen = []
        for record in sorted(records, key=lambda naptr: (naptr.order, naptr.preference)):
            transport = _SERVICES.get(record.service.upper())
            if record.flags.lower() == "s" and transport is not None and self._can(transport):
                if secure and transport not in ("tls", "wss"):
                    continue
                chosen.append((transport, Question(record.replacement.lower().rstrip("."), "SRV")))
        if not chosen:
            # §4.1: no NAPTR we can use, so ask SRV for each transport we have.
            named = [name for name in _ASKED_FOR_SRV if self._can(name) and (name == "tls" or not secure)]
            chosen = [(name, Question(f"{_SRV_PREFIX[name]}.{host}", "SRV")) for name in named]
        targets = self._by_srv(chosen, host)
        if targets:
            return targets
        transport = "tls" if secure else "udp" if self._can("udp") else "tcp"
        return self._by_address(host, DEFAULT_PORTS[transport], transport) if self._can(transport) else []

    def _by_service(self, host: str, transport: str) -> list[Target]:
        if transport in _SRV_PREFIX:
            targets = self._by_srv([(transport, Question(f"{_SRV_PREFIX[transport]}.{host}", "SRV"))], host)
            if targets:
                return targets
        return self._by_address(host, DEFAULT_PORTS[transport], transport)

    def _by_srv(self, asked: Sequence[tuple[str, Question]], domain: str) -> list[Target]:
        answers = self._ask([question for _, question in asked])
        services: list[tuple[str, Srv]] = []
        for (transport, _), records in zip(asked, answers, strict=True):
            found = [record for record in records if isinstance(record, Srv) and record.target not in (".", "")]
            services += [(transport, srv) for srv in order_services(found, self.random)]
        # One round of address questions for all services.
        names = {srv.target.lower().rstrip(".") for _, srv in services}
        self._ask([question for name in sorted(names) if not is_literal(name) for question in self._addresses(name)])
        targets = []
        for transport, srv in services:
            # RFC 5922 §7.1: the certificate is for the domain that was asked for, not for the SRV target.
            targets += self._by_address(srv.target.lower().rstrip("."), srv.port, transport, domain)
        return targets

    def _by_address(self, host: str, port: int, transport: str, domain: str | None = None) -> list[Target]:
        if is_literal(host):
            return [Target(transport, TransportAddress(canonical(host), port), domain or host)]
        targets = []
        for records in self._ask(self._addresses(host)):
            hosts = [record for record in records if isinstance(record, str)]
            targets += [Target(transport, TransportAddress(canonical(text), port), domain or host) for text in hosts]
        return targets

    def _addresses(self, host: str) -> list[Question]:
        return [Question(host, "AAAA" if family == 6 else "A") for family in self.abilities.families]

    def _ask(self, questions: Sequence[Question]) -> list[tuple[Record, ...]]:
        answers = [self.cache.get(question, self.now) for question in questions]
        missing = [question for question, answer in zip(questions, answers, strict=True) if answer is None]
        if missing:
            raise _Missing(missing)
        found = [answer for answer in answers if answer is not None]
        self.failed = self.failed or any(answer.failed for answer in found)
        return [answer.records for answer in found]

    def _can(self, transport: str) -> bool:
        return transport in self.abilities.transports and transport in DEFAULT_PORTS


def order_services(services: Iterable[Srv], random: Random) -> list[Srv]:
    """Order by priority and, inside one, draw by weight (RFC 2782)."""
    ordered: list[Srv] = []
    for priority in sorted({srv.priority for srv in services}):
        # Those of weight 0 first, so that they are drawn only when the number drawn is 0.
        waiting = sorted((srv for srv in services if srv.priority == priority), key=lambda srv: srv.weight)
        while waiting:
            drawn = random() * sum(srv.weight for srv in waiting)
            total = 0
            for srv in waiting:
                total += srv.weight
                if total >= drawn:
                    break
            waiting.remove(srv)
            ordered.append(srv)
    return ordered


Way = TypeVar("Way", Flow, Target, Flow | Target)


class DeadDestinations:
    """Remembers targets that failed, so that the next call tries them last (RFC 3263 §4.3)."""

    def __init__(self, period: float = 300.0, *, size: int = 10_000) -> None:
        self._period = period
        self._size = size
        self._until: dict[tuple[str, TransportAddress], float] = {}

    def failed(self, target: Flow | Target, now: float, retry_after: float | None = None) -> None:
        """Note a time-out, a 503 (with its Retry-After), or a connection that could not be made."""
        key = (target.transport, target.remote)
        self._until.pop(key, None)
        if len(self._until) >= self._size:
            del self._until[next(iter(self._until))]
        self._until[key] = now + (self._period if retry_after is None else min(retry_after, self._period))

    def answered(self, target: Flow | Target) -> None:
        """Note that a target is well."""
        self._until.pop((target.transport, target.remote), None)

    def is_dead(self, target: Flow | Target, now: float) -> bool:
        """A failure is still remembered."""
        key = (target.transport, target.remote)
        until = self._until.get(key)
        if until is None:
            return False
        if until <= now:
            del self._until[key]
            return False
        return True

    def living_first(self, targets: Iterable[Way], now: float) -> list[Way]:
        """Put the dead behind the living, each in their order: when all are dead, the first is worth a try."""
        return sorted(targets, key=lambda target: self.is_dead(target, now))
