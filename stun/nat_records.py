"""What the server learns about the NATs of its clients from the requests it sees; one record per client address.

Only a client knows which replies arrived. The server sees endpoints, sources, transaction ids and times, and judges:

    mapping    the ports of one client at A1P1, A2P1, A2P2: the same port at both addresses is endpoint-independent
               mapping; ports that agree between the ports of A2 only are address-dependent; none agree: both
    filtering  a CHANGE-REQUEST that a port keeps sending got no reply through; sent once, it did
    filtered   only that there is some filtering: from clients that ask for less, and never repeat themselves
    lifetime   the same source after a silence: the binding lived at least so long
    reported   what this project's probe says in the end: its own address and ports, and the result of its run

Every field has its basis (observed, inferred, reported) and a confidence. Identity is the run id of our probe, else
all of one address within ten seconds; several runs at once from one address are several hosts.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from nattrav.net.address import AddressClass, TransportAddress, classify
from stun.behavior import Endpoint
from stun.discovery import Dependence, Label, label_of, needs_relay
from stun.observation import Observation

_WINDOW = 10.0
_SETTLED = 3.0
"""Seconds after which a request that is no longer repeated counts as answered."""
_SETTLED_LONG = 8.0
"""The same for clients that never repeat, and wait seconds before they ask for less."""
_REPEATED_FOR = 0.9
"""Seconds over which a request is repeated when no reply comes; copies in quick succession are impatience."""
_REPEATED_PLAINLY = 0.15
"""The same request again after so many seconds: its sender had no reply."""
_REPEATED_DESPITE_LOSS = 7
"""Where plain requests are repeated as well, so many copies of one are needed to say that no reply came through."""
_PLAIN_MAX = 32
_PORTS_MAX = 64
_SESSIONS_MAX = 4
_REQUESTS_MAX = 32
_PENDING_MAX = 65536
_CROWD = 8
_CROWD_WINDOW = 300.0


@dataclass
class Known:
    """One field of a record."""

    value: Any
    basis: str
    confidence: float
    samples: int
    time: float

    def shown(self, now: float) -> dict[str, Any]:
        """Give the field for people; confidence halves every day."""
        return {
            "value": self.value.value if isinstance(self.value, Dependence) else self.value,
            "basis": self.basis,
            "confidence": round(self.confidence * 0.5 ** ((now - self.time) / 86400), 2),
            "samples": self.samples,
            "age_seconds": round(now - self.time, 1),
        }


@dataclass
class Sent:
    """One CHANGE-REQUEST: how often it came and when last."""

    flags: int
    count: int = 0
    first: float = 0.0
    last: float = 0.0

    def passed(self, lossy: bool) -> bool | None:
        """Whether a reply came through; None when this cannot be told.

        `lossy`: the client repeats plain requests too, so a few repetitions mean nothing.
        """
        repeated = self.count > 1 and self.last - self.first >= _REPEATED_FOR
        if repeated and lossy and self.count < _REPEATED_DESPITE_LOSS:
            return None
        return not repeated


@dataclass
class Session:
    """Requests that belong to one client: a run of our probe, or what one address sent within a short while."""

    begun: float
    last: float
    run: bytes | None
    classic: bool = False
    ports: dict[int, set[int]] = field(default_factory=dict)
    """Mapped ports by the endpoint's place in its set (bit 1: address, bit 0: port)."""
    order: list[int] = field(default_factory=list)
    changes: OrderedDict[tuple[int, int], Sent] = field(default_factory=OrderedDict)
    """CHANGE-REQUESTs by flags and port; some clients take a new transaction id for every repetition."""
    plain: OrderedDict[tuple[int, int, bytes], float] = field(default_factory=OrderedDict)
    """When plain requests came first, by endpoint, port and transaction."""
    claimed: bool = False
    """The client has told what it found, so nothing needs to be inferred."""
    lossy: bool = False
    """Plain requests were repeated, so datagrams get lost (or take long) whatever the NAT does."""


@dataclass
class Record:
    """What is known of one client address."""

    host: str
    first_seen: float
    last_seen: float
    requests: int = 0
    fields: dict[str, Known] = field(default_factory=dict)
    sessions: list[Session] = field(default_factory=list)
    ports: OrderedDict[int, float] = field(default_factory=OrderedDict)
    """Mapped ports and when each was seen last."""
    runs: OrderedDict[bytes, float] = field(default_factory=OrderedDict)
    epochs: int = 1
    """How often the verdict on mapping changed: another NAT, or another host behind the address."""

    def value(self, name: str) -> Any:
        """The value of a field, None when unknown."""
        known = self.fields.get(name)
        return None if known is None else known.value

    def learn(self, name: str, value: Any, basis: str, confidence: float, now: float) -> None:
        """Put a finding into a field: it strengthens the same value, and a contradiction weakens the new one."""
        known = self.fields.get(name)
        if known is None:
            self.fields[name] = Known(value, basis, confidence, 1, now)
        elif known.value == value:
            known.samples += 1
            known.time = now
            if confidence > known.confidence:
                known.confidence, known.basis = confidence, basis
        elif confidence >= known.confidence * 0.5 ** ((now - known.time) / 3600):
            self.epochs += name == "mapping"
            self.fields[name] = Known(value, basis, confidence, 1, now)
        else:
            known.confidence = max(0.2, known.confidence * 0.7)


class NatRecords:
    """A bounded table of records; the least recently seen go first, and none outlives its retention."""

    def __init__(
        self, endpoints: Sequence[Endpoint], *, capacity: int, retention: float, sees_all: bool = True
    ) -> None:
        """`sees_all`: false where the kernel answers too, so that a gap between two requests was perhaps no silence."""
        self._sees_all = sees_all
        self._places = _places(endpoints)
        self.capacity = capacity
        self.retention = retention
        self._records: OrderedDict[str, Record] = OrderedDict()
        self._pending: OrderedDict[str, Observation] = OrderedDict()
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._records)

    def receive(self, observation: Observation) -> None:
        """Take one request. The first datagram of an address makes no record: spoofed ones do not come twice."""
        host = observation.source.host
        if host not in self._records:
            first = self._pending.pop(host, None)
            if first is None and observation.run is None:
                self._pending[host] = observation
                if len(self._pending) > _PENDING_MAX:
                    self._pending.popitem(last=False)
                return
            self._admit(first or observation)
            if first is not None:
                self._take(first)
        self._take(observation)

    def _take(self, observation: Observation) -> None:
        now, host = observation.time, observation.source.host
        record = self._records[host]
        self._records.move_to_end(host)
        record.last_seen = now
        record.requests += 1
        self._note_port(record, observation)
        session = self._session(record, observation)
        place = self._places.get(observation.at)
        if place is not None and not observation.flags:
            session.ports.setdefault(place, set()).add(observation.source.port)
        if observation.flags:
            _note_change(session, observation)
        else:
            _note_plain(session, observation)
        _learn_reported(record, observation)
        _learn_claim(record, session, observation)
        _learn_mapping(record, session, now)
        _learn_ports(record, session, now)
        _learn_crowd(record, observation, now)

    def handle_timeout(self, now: float) -> None:
        """Judge what has settled, and forget what is too old."""
        for record in self._recent(now - 2 * _WINDOW):
            for session in record.sessions:
                _learn_filtering(record, session, now)
            record.sessions = [s for s in record.sessions if now - s.last < 2 * _WINDOW]
        while self._records and now - next(iter(self._records.values())).last_seen > self.retention:
            self._records.popitem(last=False)
        while self._pending and now - next(iter(self._pending.values())).time > _CROWD_WINDOW:
            self._pending.popitem(last=False)

    def _recent(self, since: float) -> Iterator[Record]:
        for record in reversed(self._records.values()):
            if record.last_seen < since:
                return
            yield record

    def find(self, host: str) -> Record | None:
        """The record of one address."""
        return self._records.get(host)

    def newest(self, limit: int) -> list[Record]:
        """Records, the most recently seen first."""
        found: list[Record] = []
        for record in reversed(self._records.values()):
            if len(found) == limit:
                break
            found.append(record)
        return found

    def shares(self) -> dict[tuple[str, str], int]:
        """How many records have each pair of mapping and filtering behaviour."""
        counts: dict[tuple[str, str], int] = {}
        for record in self._records.values():
            pair = (_word(record.value("mapping")), _word(record.value("filtering")))
            counts[pair] = counts.get(pair, 0) + 1
        return counts

    def forget(self, host: str) -> bool:
        """Erase one record; False when there is none."""
        return self._records.pop(host, None) is not None

    def _admit(self, first: Observation) -> None:
        host = first.source.host
        self._records[host] = Record(host, first.time, first.time)
        while len(self._records) > self.capacity:
            self._records.popitem(last=False)
            self.evicted += 1

    def _note_port(self, record: Record, observation: Observation) -> None:
        port, now = observation.source.port, observation.time
        before = record.ports.pop(port, None)
        if self._sees_all and before is not None and now - before > 1.0:
            gap = round(now - before, 1)
            known = record.fields.get("lifetime_at_least")
            if known is None or gap > known.value:
                record.fields["lifetime_at_least"] = Known(gap, "observed", 0.6, 1, now)
        record.ports[port] = now
        if len(record.ports) > _PORTS_MAX:
            record.ports.popitem(last=False)

    @staticmethod
    def _session(record: Record, observation: Observation) -> Session:
        now = observation.time
        for session in reversed(record.sessions):
            if session.run == observation.run and (observation.run or now - session.last < _WINDOW):
                session.last = now
                session.classic |= observation.classic
                return session
        session = Session(now, now, observation.run, observation.classic)
        record.sessions = [*record.sessions[-_SESSIONS_MAX + 1 :], session]
        return session


def _places(endpoints: Sequence[Endpoint]) -> dict[int, int]:
    """Where in its set of four an endpoint stands; endpoints without a set are left out."""
    places = {}
    for at, endpoint in enumerate(endpoints):
        if endpoint.changed is not None:
            places[at] = at - min(endpoint.changed)
    return places


def _note_change(session: Session, observation: Observation) -> None:
    key = (observation.flags, observation.source.port)
    sent = session.changes.get(key)
    if sent is None:
        sent = session.changes[key] = Sent(observation.flags, first=observation.time)
        if len(session.changes) > _REQUESTS_MAX:
            session.changes.popitem(last=False)
    sent.count += 1
    sent.last = observation.time


def _note_plain(session: Session, observation: Observation) -> None:
    key = (observation.at, observation.source.port, observation.transaction)
    first = session.plain.setdefault(key, observation.time)
    session.lossy |= observation.time - first >= _REPEATED_PLAINLY
    if len(session.plain) > _PLAIN_MAX:
        session.plain.popitem(last=False)


def _learn_reported(record: Record, observation: Observation) -> None:
    local = observation.reported
    if local is None:
        return
    now = observation.time
    record.learn("nat", local.host != observation.source.host, "reported", 0.8, now)
    record.learn("local_address", local.host, "reported", 0.8, now)
    if local.host != observation.source.host:
        preserved = local.port == observation.source.port
        known = record.fields.get("ports")
        if preserved or known is None or known.value == "preserved":
            record.learn("ports", "preserved" if preserved else "changed", "reported", 0.8, now)
    if classify(local.host) is AddressClass.CGNAT:
        record.learn("carrier_grade", True, "reported", 0.9, now)


def _learn_claim(record: Record, session: Session, observation: Observation) -> None:
    """Take a probe's own result: it knows which replies came through, and what is only loss."""
    if observation.claim is None:
        return
    session.claimed = True
    for name, value in (("mapping", observation.claim.mapping), ("filtering", observation.claim.filtering)):
        if value is not None:
            record.learn(name, value, "reported", 0.8, observation.time)


def _learn_mapping(record: Record, session: Session, now: float) -> None:
    """Compare the ports one client showed at the endpoints of a set."""
    here, there_p1, there_p2 = (session.ports.get(place, set()) for place in (0, 2, 3))
    confidence = 0.95 if session.run else 0.6
    if here & there_p1 or here & there_p2:
        # One mapped port for two destinations is proof whoever sent it.
        record.learn("mapping", Dependence.INDEPENDENT, "observed", 0.95, now)
    elif here and there_p1 and there_p2:
        mapping = Dependence.ADDRESS if there_p1 & there_p2 else Dependence.ADDRESS_AND_PORT
        record.learn("mapping", mapping, "observed", confidence, now)
    elif here and there_p1 and not session.run:
        # Classic clients ask only one other address: it depends on it, on how much more cannot be told.
        record.learn("mapping", Dependence.ADDRESS_AND_PORT, "inferred", 0.4, now)


def _learn_filtering(record: Record, session: Session, now: float) -> None:
    """Repeated means lost, not repeated means answered; the strictest test that passed names the behaviour."""
    settled = [sent for sent in session.changes.values() if now - sent.last > _SETTLED]
    if session.claimed or not settled or len(settled) < len(session.changes):
        return
    if session.run is None and not session.classic and all(sent.count == 1 for sent in settled):
        _learn_from_order(record, settled, now)
        return
    judged = [(sent.flags, sent.passed(session.lossy)) for sent in settled]
    passed: dict[int, bool | None] = {}
    for flags in {sent.flags for sent in settled}:
        verdicts = [verdict for one, verdict in judged if one == flags]
        passed[flags] = True if True in verdicts else None if None in verdicts else False
    found = _filtering(passed)
    if found is None:
        return
    clear = session.run is not None or any(verdict is False for _, verdict in judged)
    record.learn("filtering", found, "inferred", 0.3 if session.lossy or not clear else 0.6, now)


def _filtering(passed: dict[int, bool | None]) -> Dependence | None:
    """Name the behaviour by what became of the tests, by their flags; None when an unclear one decides."""
    # Debian's client changes the address alone for the test that others do with both.
    order = [(6, Dependence.INDEPENDENT)] if 6 in passed else [(4, Dependence.INDEPENDENT)]
    order += [(2, Dependence.ADDRESS), *([(4, Dependence.PORT)] if 6 in passed else [])]
    for flags, behaviour in order:
        verdict = passed.get(flags, False)
        if verdict is not False:
            return behaviour if verdict else None
    return Dependence.ADDRESS_AND_PORT if 2 in passed and (6 in passed or 4 in passed) else None


def _learn_from_order(record: Record, settled: list[Sent], now: float) -> None:
    """A client that never repeats: asking for less means that more did not come through."""
    flags = [sent.flags for sent in settled]
    if flags == [6] and now - settled[0].last > _SETTLED_LONG:
        record.learn("filtering", Dependence.INDEPENDENT, "inferred", 0.3, now)
    elif flags == [6, 2]:
        record.learn("filtered", True, "inferred", 0.3, now)


def _learn_ports(record: Record, session: Session, now: float) -> None:
    """The pattern of ports that were opened one after the other."""
    latest = next(reversed(record.ports))
    if not session.order or session.order[-1] != latest:
        session.order = [*session.order[-7:], latest]
    steps = [b - a for a, b in itertools.pairwise(session.order)]
    if len(steps) < 3 or record.value("ports") == "preserved":
        return
    if len(set(steps)) == 1:
        record.learn("ports", f"sequential ({steps[0]:+d})", "observed", 0.6, now)
    elif max(abs(step) for step in steps) > 1024:
        record.learn("ports", "random", "observed", 0.5, now)


def _learn_crowd(record: Record, observation: Observation, now: float) -> None:
    """Many ports or several runs of one address at a time: many hosts share it."""
    if observation.run is not None:
        record.runs[observation.run] = now
        if len(record.runs) > _PORTS_MAX:
            record.runs.popitem(last=False)
    if len(record.ports) >= _PORTS_MAX // 2:
        recent = sum(1 for seen in record.ports.values() if now - seen < _CROWD_WINDOW)
        if recent >= _PORTS_MAX // 2 and not record.runs:
            record.learn("carrier_grade", True, "inferred", 0.4, now)
    if len(record.runs) >= _CROWD:
        recent = sum(1 for seen in record.runs.values() if now - seen < _CROWD_WINDOW)
        if recent >= _CROWD:
            record.learn("carrier_grade", True, "inferred", 0.6, now)


def describe(record: Record, now: float) -> dict[str, Any]:
    """Give one record for people and programs."""
    mapping, filtering, nat = record.value("mapping"), record.value("filtering"), record.value("nat")
    lifetime = record.value("lifetime_at_least")
    relay = needs_relay(nat, mapping, filtering)
    keepalive = 25.0 if lifetime is None else max(5.0, min(25.0, lifetime / 2))
    return {
        "address": record.host,
        "first_seen_seconds_ago": round(now - record.first_seen, 1),
        "last_seen_seconds_ago": round(now - record.last_seen, 1),
        "requests": record.requests,
        "mapping": _word(mapping),
        "filtering": _word(filtering),
        "classic_name": _name(label_of(nat, mapping, filtering), nat, mapping, bool(record.value("filtered"))),
        "needs_relay": True if relay is None else relay,
        "keepalive_seconds": keepalive,
        "carrier_grade": bool(record.value("carrier_grade")),
        "ports_seen": len(record.ports),
        "epochs": record.epochs,
        "fields": {name: known.shown(now) for name, known in sorted(record.fields.items())},
    }


def _name(label: Label, nat: bool | None, mapping: Dependence | None, filtered: bool) -> str:
    """The classic name; requests alone do not tell whether addresses are translated at all."""
    if label is Label.UNKNOWN and mapping is Dependence.INDEPENDENT:
        # Clients that test no filtering, and those that do not repeat themselves, leave it at that.
        which = f"{Label.RESTRICTED_CONE.value} or {Label.PORT_RESTRICTED_CONE.value}" if filtered else "some cone"
        return which if nat else f"{which}, or no NAT"
    if nat is None and label is Label.FULL_CONE:
        return f"{label.value} or {Label.OPEN.value}"
    if nat is None and label in (Label.RESTRICTED_CONE, Label.PORT_RESTRICTED_CONE):
        return f"{label.value} or {Label.SYMMETRIC_FIREWALL.value}"
    return label.value


def _word(value: Dependence | None) -> str:
    return "unknown" if value is None else value.value


def source_of(text: str) -> TransportAddress:
    """Read an address with or without a port, for looking up. ValueError when it is none."""
    return TransportAddress.parse(text, 0)
