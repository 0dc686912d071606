"""A NAT in RFC 4787's terms, and a client that asks the real responder through it: no sockets, no time."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field

from nattrav.net.address import TransportAddress
from stun.discovery import Dependence, Discovery, Findings, Question
from stun.observation import Claim, Observation, write_run
from stun.responder import Answer, Responder
from stun.transaction import INTERACTIVE, Outcome, Transaction


@dataclass
class Nat:
    """Mapping None translates nothing; filtering None lets nothing pass."""

    mapping: Dependence | None
    filtering: Dependence | None
    preserves_ports: bool = False
    loses: frozenset[str] = frozenset()
    """Names of questions whose answers are lost."""
    loss: float = 0.0
    """Share of the datagrams lost in each direction, drawn by `chance`."""
    chance: random.Random = field(default_factory=lambda: random.Random(1))
    bindings: dict[tuple[object, ...], TransportAddress] = field(default_factory=dict)
    sent: set[tuple[TransportAddress, TransportAddress]] = field(default_factory=set)
    seen: list[Observation] = field(default_factory=list)
    """What the server saw."""
    _ports: itertools.count[int] = field(default_factory=lambda: itertools.count(40001, 2))

    def outbound(self, source: TransportAddress, to: TransportAddress) -> TransportAddress:
        key = self.key(self.mapping or Dependence.INDEPENDENT, source, to)
        if key not in self.bindings:
            port = source.port if self.preserves_ports else next(self._ports)
            self.bindings[key] = source if self.mapping is None else TransportAddress("192.0.2.1", port)
        self.sent.add((self.bindings[key], to))
        return self.bindings[key]

    @staticmethod
    def key(kind: Dependence, source: TransportAddress, to: TransportAddress) -> tuple[object, ...]:
        return {
            Dependence.INDEPENDENT: (source,),
            Dependence.ADDRESS: (source, to.host),
            Dependence.PORT: (source, to.port),
            Dependence.ADDRESS_AND_PORT: (source, to),
        }[kind]

    def admits(self, mapped: TransportAddress, remote: TransportAddress) -> bool:
        if self.filtering is None:
            return False
        passes = {
            Dependence.INDEPENDENT: lambda to: True,
            Dependence.ADDRESS: lambda to: to.host == remote.host,
            Dependence.PORT: lambda to: to.port == remote.port,
            Dependence.ADDRESS_AND_PORT: lambda to: to == remote,
        }[self.filtering]
        return any(passes(to) for own, to in self.sent if own == mapped)


def ask(nat: Nat, server: Responder, local: TransportAddress, question: Question, number: int) -> Outcome:
    """One question through the NAT to the responder and back."""
    request = question.request(number.to_bytes(12, "big"), write_run(b"run-0001", local))
    transaction = Transaction(request, question.to, INTERACTIVE, 0.0, expect_from=question.expect_from)
    while (due := transaction.next_timeout()) is not None:
        for send in transaction.handle_timeout(due):
            mapped = nat.outbound(local, send.to)
            at = next((i for i, e in enumerate(server.endpoints) if e.local == send.to), None)
            if nat.chance.random() < nat.loss:
                continue
            answer = None if at is None else server.respond(send.data, at, mapped)
            if at is not None:
                moment = 3.0 * number + due
                seen = Observation(moment, at, mapped, question.change, send.data[4:20], False, b"run-0001", local)
                nat.seen.append(seen)
            if isinstance(answer, Answer) and question.name not in nat.loses and nat.chance.random() >= nat.loss:
                source = server.endpoints[answer.at].local
                if nat.admits(mapped, source):
                    transaction.receive(answer.data, source, due)
    assert transaction.outcome is not None
    return transaction.outcome


def discover(nat: Nat, server: Responder, address: TransportAddress) -> tuple[Discovery, Findings]:
    """A whole run."""
    run = Discovery(address)
    numbers = itertools.count(1)
    inside = "192.0.2.1" if nat.mapping is None else "10.0.0.5"
    while rounds := run.questions():
        for question in itertools.chain.from_iterable(rounds):
            local = run.locals.setdefault(question.port, TransportAddress(inside, 50000 + len(run.locals)))
            run.tell(question, ask(nat, server, local, question, next(numbers)))
    found = run.findings()
    local, number = run.locals["mapping"], next(numbers)
    claim = Claim(found.mapping, found.filtering)
    reporting = Observation(
        3.0 * number, 0, nat.outbound(local, address), 0, bytes(12), False, b"run-0001", local, claim
    )
    nat.seen.append(reporting)
    return run, found
