"""What NAT is this? Mapping and filtering behaviour by RFC 5780 §4, with the classic names of RFC 3489 as labels.

Tests and what their answers say (A1:P1 is the server as asked, A2:P2 its OTHER-ADDRESS):

    M1  plain → A1:P1                    X1 is our own address: no NAT
    M2  plain → A2:P1                    X2 = X1: endpoint-independent mapping
    M3  plain → A2:P2                    X3 = X2: address-dependent, else address-and-port-dependent
    M4  plain → A1:P2                    tells NATs that look at the port only
    F2  change both → A1:P1              answered from A2:P2: endpoint-independent filtering
    F3  change port → A1:P1              answered from A1:P2: address-dependent filtering
    F4  change address → A1:P1           answered from A2:P1: filters on the port only
    none of F2-F4, yet M2-M4 answered    address-and-port-dependent filtering

Silence alone is weak evidence (erratum 7971): only when the other addresses answer plain requests was it the filter.
Each F test has a local port of its own, which first asks plainly; mapping is tested last, for it opens filters.
Where requests had to be repeated although they were answered in the end, datagrams get lost: then silent tests are run
again, until chance would hardly have lost them all.
"""

from __future__ import annotations

import enum
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from nattrav.net.address import TransportAddress
from stun.attributes import AttributeType, ChangeFlags
from stun.message import BINDING, MessageClass, encode
from stun.transaction import INTERACTIVE, Outcome, Verdict

T = AttributeType


class Dependence(enum.Enum):
    """What mapping or filtering depends on (RFC 4787 §4.1, §5)."""

    INDEPENDENT = "endpoint-independent"
    ADDRESS = "address-dependent"
    PORT = "port-dependent"
    ADDRESS_AND_PORT = "address-and-port-dependent"


class Label(enum.Enum):
    """The names people know (RFC 3489 §5)."""

    OPEN = "open"
    FULL_CONE = "full cone"
    RESTRICTED_CONE = "restricted cone"
    PORT_RESTRICTED_CONE = "port restricted cone"
    SYMMETRIC = "symmetric"
    SYMMETRIC_FIREWALL = "symmetric firewall"
    UDP_BLOCKED = "UDP blocked"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Question:
    """One request to send: from the local port `port` names, to `to`, expecting the answer from `expect_from`."""

    name: str
    port: str
    to: TransportAddress
    expect_from: TransportAddress
    change: int = 0
    padding: int = 0

    def request(self, transaction_id: bytes, run: bytes) -> bytes:
        """Build the request; `run` (RUN_ID's value) lets our own server join the requests of one run."""
        attributes: list[tuple[int, bytes]] = [(T.RUN_ID, run)]
        if self.change:
            attributes.append((T.CHANGE_REQUEST, self.change.to_bytes(4, "big")))
        if self.padding:
            attributes.append((T.PADDING, bytes(self.padding)))
        return encode(BINDING, MessageClass.REQUEST, transaction_id, attributes)


FRAGMENTED = 1480
"""PADDING that makes request and reply larger than an Ethernet frame."""

_RISK = 1e-4
"""How likely a silence may be mere loss that counts as a filter's."""
_TRIES_MAX = 4
_TRIES_OF_FIRST = 2
"""Before UDP counts as blocked, with nothing to tell the loss from, the first question is asked so often."""

_FILTER_TESTS = (
    ("F2", "both", ChangeFlags.IP | ChangeFlags.PORT),
    ("F3", "port", ChangeFlags.PORT),
    ("F4", "address", ChangeFlags.IP),
)


@dataclass(frozen=True)
class Findings:
    """What discovery found; None means that it could not be determined, and `undetermined` says why."""

    server: TransportAddress
    local: TransportAddress | None
    mapped: TransportAddress | None
    other: TransportAddress | None
    nat: bool | None
    mapping: Dependence | None
    filtering: Dependence | None
    label: Label
    port_preserved: bool | None
    port_step: int | None
    """Difference of the mapped ports of two local ports opened one after the other."""
    pooling_paired: bool | None
    """False when the mapped IP address changed with the destination."""
    alg: bool | None
    """True when MAPPED-ADDRESS and XOR-MAPPED-ADDRESS differ: something rewrites addresses in payloads."""
    fragments: bool | None
    udp: bool
    software: str
    round_trip: float | None
    undetermined: tuple[str, ...]
    needs_relay: bool | None
    advice: str


@dataclass
class Discovery:
    """The run: ask `questions()`, `tell` each outcome, until there are none; then `findings()`."""

    server: TransportAddress
    locals: dict[str, TransportAddress] = field(default_factory=dict)
    """Local addresses by the names of ports, as far as the shell has opened them."""
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    round: int = 0
    """1 asks the server plainly, 2 tests filtering and fragments, 3 mapping."""
    _tries: int = 0
    _asked: list[list[Question]] = field(default_factory=list)
    _sends: int = 0
    _answers: int = 0

    def questions(self) -> list[list[Question]]:
        """Give the next round: lists that may run beside each other, each in its own order. Empty when done."""
        self._tries += 1
        if self._tries <= (_TRIES_OF_FIRST if self.round == 1 else tries(self.loss)) and (again := self._silent()):
            return again
        self.round += 1
        self._tries = 1
        self._asked = self._next()
        return self._asked

    def _silent(self) -> list[list[Question]]:
        """Give the questions of this round that have no answer at all."""
        again = [[q for q in line if self.outcomes[q.name].verdict is Verdict.SILENT] for line in self._asked]
        return [line for line in again if line]

    def _next(self) -> list[list[Question]]:
        if self.round == 1:
            return [[self._plain("M1", "mapping", self.server)]]
        if not self._first.answered:
            return []
        if self.round == 2:
            fragments = Question("P", "fragments", self.server, self.server, padding=FRAGMENTED)
            return [*([self._filter(n, p, c) for n, p, c in _FILTER_TESTS] if self._pair else []), [fragments]]
        if self.round == 3 and self._pair:
            a2p1, a2p2, a1p2 = self._others()
            places = (("M2", a2p1), ("M3", a2p2), ("M4", a1p2))
            return [[self._plain(name, "mapping", place) for name, place in places]]
        return []

    def tell(self, question: Question, outcome: Outcome) -> None:
        """Take the outcome of one question."""
        before = self.outcomes.get(question.name)
        self.outcomes[question.name] = outcome
        if outcome.answered and not question.padding:
            self._sends += outcome.sends + (0 if before is None else before.sends)
            self._answers += 1

    @property
    def loss(self) -> float:
        """Share of the round trips that fail, judged by the requests that were answered in the end; 0 if all were."""
        if self._sends == self._answers:
            return 0.0
        # One more of each: few transactions prove little.
        return (self._sends - self._answers + 1) / (self._sends + 2)

    @property
    def _first(self) -> Outcome:
        return self.outcomes.get("M1", Outcome(Verdict.SILENT))

    @property
    def _pair(self) -> bool:
        """Whether the server offers a second address and port (RFC 5780)."""
        other = self._first.other
        return other is not None and other.host != self.server.host and other.port != self.server.port

    def _others(self) -> tuple[TransportAddress, TransportAddress, TransportAddress]:
        other = self._first.other
        assert other is not None
        return (
            TransportAddress(other.host, self.server.port),
            other,
            TransportAddress(self.server.host, other.port),
        )

    @staticmethod
    def _plain(name: str, port: str, to: TransportAddress) -> Question:
        return Question(name, port, to, to)

    def _filter(self, name: str, port: str, change: int) -> list[Question]:
        a2p1, a2p2, a1p2 = self._others()
        expected = {"F2": a2p2, "F3": a1p2, "F4": a2p1}[name]
        return [self._plain(f"{name}-open", port, self.server), Question(name, port, self.server, expected, change)]

    def findings(self) -> Findings:
        """Draw the conclusions."""
        first = self._first
        unknown: list[str] = []
        mapped, local = first.mapped if first.answered else None, self.locals.get("mapping")
        nat = None if mapped is None or local is None else mapped != local
        mapping = self._mapping(nat, unknown) if first.answered else None
        filtering = self._filtering(unknown) if first.answered else None
        # No answer at all may also be a dead server; the shell knows more when TCP answers.
        label = Label.UNKNOWN if not first.answered else label_of(nat, mapping, filtering)
        if not first.answered:
            unknown.append(_why_not(first, "the server"))
        preserved, step = self._ports()
        fragments = self.outcomes.get("P")
        return Findings(
            server=self.server,
            local=local,
            mapped=mapped,
            other=first.other,
            nat=nat,
            mapping=mapping,
            filtering=filtering,
            label=label,
            port_preserved=preserved,
            port_step=step,
            pooling_paired=self._pooling(),
            alg=None if first.plain_mapped is None or mapped is None else first.plain_mapped != mapped,
            fragments=self._fragments(fragments, unknown),
            udp=first.answered,
            software=first.software,
            round_trip=first.seconds if first.answered else None,
            undetermined=tuple(unknown),
            needs_relay=needs_relay(nat, mapping, filtering),
            advice=ADVICE[label],
        )

    def _mapping(self, nat: bool | None, unknown: list[str]) -> Dependence | None:
        if nat is False:
            return Dependence.INDEPENDENT
        if not self._pair:
            unknown.append("mapping: the server has no second address and port (no OTHER-ADDRESS)")
            return None
        first, second, third, fourth = (self.outcomes.get(n) for n in ("M1", "M2", "M3", "M4"))
        if first is None or second is None or not second.answered:
            unknown.append(f"mapping: {_why_not(second, 'the second address')}")
            return None
        if second.mapped == first.mapped:
            other_port = fourth is not None and fourth.answered and fourth.mapped != first.mapped
            return Dependence.PORT if other_port else Dependence.INDEPENDENT
        if third is None or not third.answered:
            unknown.append(f"mapping: {_why_not(third, 'the second address and port')}")
            return None
        return mapping_of(first.mapped, second.mapped, third.mapped)

    def _filtering(self, unknown: list[str]) -> Dependence | None:
        if not self._pair:
            unknown.append("filtering: the server has no second address and port (no OTHER-ADDRESS)")
            return None
        for name, behaviour in (
            ("F2", Dependence.INDEPENDENT),
            ("F3", Dependence.ADDRESS),
            ("F4", Dependence.PORT),
        ):
            outcome, opened = self.outcomes.get(name), self.outcomes.get(f"{name}-open")
            if outcome is not None and outcome.answered:
                return behaviour
            if opened is None or not opened.answered:
                unknown.append("filtering: the server does not always answer, so silence may be loss")
                return None
            if outcome is None or outcome.verdict is not Verdict.SILENT:
                unknown.append(f"filtering: {_why_not(outcome, 'the server')}")
                return None
        silent = [n for n in ("M2", "M3", "M4") if n not in self.outcomes or not self.outcomes[n].answered]
        if silent:
            unknown.append("filtering: silence may be loss, for not every address of the server answers plain requests")
            return None
        return Dependence.ADDRESS_AND_PORT

    def _ports(self) -> tuple[bool | None, int | None]:
        """Port preservation over all local ports, and the step from one mapped port to the next."""
        pairs = []
        for name, port in (("M1", "mapping"), ("F2-open", "both"), ("F3-open", "port"), ("F4-open", "address")):
            outcome, local = self.outcomes.get(name), self.locals.get(port)
            if outcome is not None and outcome.mapped is not None and local is not None:
                pairs.append((local.port, outcome.mapped.port))
        if not pairs:
            return None, None
        preserved = all(inside == outside for inside, outside in pairs)
        mapped = [outside for _, outside in pairs]
        steps = {b - a for a, b in itertools.pairwise(mapped)}
        return preserved, steps.pop() if len(steps) == 1 and not preserved else None

    def _pooling(self) -> bool | None:
        hosts = {o.mapped.host for n, o in self.outcomes.items() if n.startswith("M") and o.mapped is not None}
        return None if len(self.outcomes) < 2 or not hosts else len(hosts) == 1

    def _fragments(self, outcome: Outcome | None, unknown: list[str]) -> bool | None:
        if outcome is None:
            return None
        if outcome.answered and outcome.padding:
            return True
        if outcome.verdict is Verdict.SILENT and self.loss:
            unknown.append("fragments: whole datagrams get lost here too")
            return None
        if outcome.verdict is Verdict.SILENT:
            return False
        unknown.append("fragments: the server does not answer PADDING with PADDING")
        return None


def tries(loss: float, sends: int = len(INTERACTIVE.sends), risk: float = _RISK) -> int:
    """How often to run a silent transaction of so many `sends` before it is more than chance."""
    if not loss:
        return 1
    return min(_TRIES_MAX, math.ceil(math.log(risk) / math.log(loss) / sends))


def _why_not(outcome: Outcome | None, who: str) -> str:
    if outcome is None:
        return f"{who} was not asked"
    match outcome.verdict:
        case Verdict.SILENT:
            return f"{who} does not answer"
        case Verdict.REFUSED:
            return f"{who} refuses with {outcome.error} {outcome.reason}".rstrip()
        case Verdict.WRONG_SOURCE:
            return f"{who} ignores CHANGE-REQUEST and answers from {outcome.source}"
        case _:
            return f"{who} gives a reply without a usable address"


def mapping_of(
    first: TransportAddress | None, second: TransportAddress | None, third: TransportAddress | None
) -> Dependence:
    """Compare the mapped addresses of one local port towards A1:P1, A2:P1 and A2:P2 (RFC 5780 §4.3)."""
    if second == first:
        return Dependence.INDEPENDENT
    return Dependence.ADDRESS if third == second else Dependence.ADDRESS_AND_PORT


def label_of(nat: bool | None, mapping: Dependence | None, filtering: Dependence | None) -> Label:
    """Give the classic name; the pair of RFC 4787 is the result, this only its label."""
    if nat is False:
        if filtering is None:
            return Label.UNKNOWN
        return Label.OPEN if filtering is Dependence.INDEPENDENT else Label.SYMMETRIC_FIREWALL
    if mapping is None:
        return Label.UNKNOWN
    if mapping is not Dependence.INDEPENDENT:
        return Label.SYMMETRIC
    return _CONES[filtering] if filtering is not None else Label.UNKNOWN


_CONES: Mapping[Dependence, Label] = {
    Dependence.INDEPENDENT: Label.FULL_CONE,
    Dependence.ADDRESS: Label.RESTRICTED_CONE,
    Dependence.PORT: Label.PORT_RESTRICTED_CONE,
    Dependence.ADDRESS_AND_PORT: Label.PORT_RESTRICTED_CONE,
}


def needs_relay(nat: bool | None, mapping: Dependence | None, filtering: Dependence | None) -> bool | None:
    """Whether media to another NATed party has to be relayed; None when unknown."""
    if nat is False:
        return False if filtering is not None else None
    return None if mapping is None else mapping is not Dependence.INDEPENDENT


ADVICE: Mapping[Label, str] = {
    Label.OPEN: "No NAT and no filter: SIP and media reach this host directly; no relay is needed.",
    Label.FULL_CONE: (
        "SIP works with keepalives, and media can reach the mapped address from anywhere: "
        "no relay is needed unless the other side is symmetric and filtered."
    ),
    Label.RESTRICTED_CONE: (
        "SIP works with keepalives; media passes once this host has sent to the other address: "
        "a relay is needed only if the other side cannot be addressed before it sends."
    ),
    Label.PORT_RESTRICTED_CONE: (
        "SIP works with keepalives; media passes once both sides have sent: "
        "a relay is needed when the other side is behind a symmetric NAT."
    ),
    Label.SYMMETRIC: (
        "Every destination sees another address and port, so the address learnt by STUN is of no use for media: "
        "calls need the relay, and SIP needs rport and keepalives."
    ),
    Label.SYMMETRIC_FIREWALL: (
        "No address is translated, but only answers come in: SIP needs keepalives, and media passes once this host "
        "has sent; a relay is needed when the other side is behind a symmetric NAT."
    ),
    Label.UDP_BLOCKED: "UDP does not pass: use SIP over TCP or TLS; media over UDP cannot pass, with or without relay.",
    Label.UNKNOWN: "Not enough could be determined to say: plan with keepalives and with the relay.",
}
