"""Asking the DNS with dnspython, for the procedure in nattrav.sip.resolve."""

from __future__ import annotations

from collections.abc import Callable
from random import SystemRandom

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver
import trio

from nattrav.net.clock import monotonic
from nattrav.sip.errors import MalformedMessage
from nattrav.sip.resolve import (
    Abilities,
    Answer,
    DnsCache,
    Hops,
    Naptr,
    Question,
    Record,
    Srv,
    Wanted,
    plan,
    wanted_by_uri,
)
from nattrav.sip.uri import SipUri

_NEGATIVE_TTL = 60.0
_FAILURE_TTL = 10.0
_ROUNDS = 8


class NameService:
    """Finds next hops; questions already on their way are not asked again, and only so many run at once.

    `nameservers` (addresses) and `port` replace those of the system's resolv.conf. `timeout` is in seconds, for one
    question with its retries.
    """

    def __init__(
        self,
        abilities: Abilities,
        *,
        nameservers: tuple[str, ...] = (),
        port: int = 53,
        timeout: float = 3.0,
        concurrency: int = 64,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.abilities = abilities
        self.cache = DnsCache()
        self._clock = clock
        self._random = SystemRandom().random
        self._running: dict[Question, trio.Event] = {}
        self._limit = trio.CapacityLimiter(concurrency)
        self._resolver = dns.asyncresolver.Resolver(configure=not nameservers)
        if nameservers:
            self._resolver.nameservers = list(nameservers)
            self._resolver.port = port
        self._resolver.lifetime = timeout
        self._resolver.timeout = timeout / 2

    def cached(self, wanted: Wanted) -> Hops | None:
        """Give the next hops when no question is needed, without waiting."""
        found = plan(wanted, self.abilities, self.cache, self._random, self._clock())
        return found if isinstance(found, Hops) else None

    async def resolve(self, wanted: Wanted) -> Hops:
        """Find the next hops."""
        for _ in range(_ROUNDS):
            found = plan(wanted, self.abilities, self.cache, self._random, self._clock())
            if isinstance(found, Hops):
                return found
            async with trio.open_nursery() as nursery:
                for question in found.questions:
                    nursery.start_soon(self._ask, question)
        return Hops((), "answers expire faster than they come")

    async def next_hops(self, uri: str) -> list[tuple[str, tuple[str, int], str | None]]:
        """Find the next hops of a SIP URI as (transport, address, name on the certificate), best first.

        Empty when there are none, or when the URI is none.
        """
        try:
            wanted = wanted_by_uri(SipUri.parse(uri))
        except MalformedMessage:
            return []
        hops = await self.resolve(wanted)
        return [(target.transport, target.remote, target.server_name) for target in hops.targets]

    async def _ask(self, question: Question) -> None:
        running = self._running.get(question)
        if running is not None:
            await running.wait()
            return
        done = self._running[question] = trio.Event()
        try:
            async with self._limit:
                answer = await self.ask(question)
            self.cache.put(question, answer, self._clock())
        finally:
            del self._running[question]
            done.set()

    async def ask(self, question: Question) -> Answer:
        """Ask one question of the DNS, past the cache."""
        try:
            reply = await self._resolver.resolve(question.name, question.type, search=False)
        except dns.resolver.NXDOMAIN:
            return Answer((), _NEGATIVE_TTL)
        except dns.resolver.NoAnswer as nothing:
            return Answer((), _negative_ttl(nothing))
        except (dns.exception.DNSException, OSError, UnicodeError):
            return Answer((), _FAILURE_TTL, failed=True)
        records = tuple(_read(question.type, rdata) for rdata in reply)
        return Answer(records, float(reply.rrset.ttl if reply.rrset is not None else _NEGATIVE_TTL))


def _negative_ttl(nothing: dns.resolver.NoAnswer) -> float:
    response = nothing.kwargs.get("response")
    authority = getattr(response, "authority", ())
    minimums = [min(rrset.ttl, rrset[0].minimum) for rrset in authority if rrset.rdtype == dns.rdatatype.SOA]
    return float(min(minimums, default=_NEGATIVE_TTL))


def _read(kind: str, rdata: object) -> Record:
    match kind:
        case "NAPTR":
            flags, service = (getattr(rdata, name).decode("ascii", "replace") for name in ("flags", "service"))
            order, preference = getattr(rdata, "order", 0), getattr(rdata, "preference", 0)
            return Naptr(order, preference, flags, service, _name(getattr(rdata, "replacement", None)))
        case "SRV":
            numbers = (int(getattr(rdata, name)) for name in ("priority", "weight", "port"))
            priority, weight, port = numbers
            return Srv(priority, weight, port, _name(getattr(rdata, "target", None)))
        case _:
            return str(getattr(rdata, "address", ""))


def _name(name: object) -> str:
    text = str(name).lower()
    return text if text == "." else text.rstrip(".")
