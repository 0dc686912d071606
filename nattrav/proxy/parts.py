"""What the proxy's rooms share: settings, listeners, tables and the list of effects that the shell will carry out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from nattrav.config.sip import Quirk, SipSection, Upstream, User
from nattrav.proxy.alg import AlgSign, AlgWatch
from nattrav.proxy.effects import Drop, DropReason, Effect, Log, Observe
from nattrav.proxy.flow_token import TokenSigner
from nattrav.proxy.hooks import NO_HOOKS
from nattrav.proxy.listener import Listener, Listeners
from nattrav.proxy.nat import NatTests
from nattrav.proxy.quirks import Quirks, rule_from
from nattrav.proxy.reuse import Reuse
from nattrav.proxy.timers import Timers
from nattrav.proxy.transactions import TimerValues, Transactions
from nattrav.sip.branch import BranchMaker
from nattrav.sip.message import Request
from nattrav.sip.resolve import DeadDestinations
from nattrav.sip.transport.flow import Flow
from nattrav.sip.uri import SipUri

SECURED = MappingProxyType({"udp": "tls", "tcp": "tls", "ws": "wss"})
"""What carries `sips:` instead of a transport that its URI names or leaves out (RFC 5630 §3.1.3, RFC 7118 §5.2)."""

URIS_KEPT = 20_000

Randomness = Callable[[int], bytes]
"""Gives that many unpredictable octets; tests pass a counter, so that a run can be replayed octet by octet."""


@dataclass(frozen=True)
class Settings:
    """The parts of the configuration that the core reads."""

    sip: SipSection
    upstreams: Sequence[Upstream] = ()
    users: Sequence[User] = ()
    quirks: Sequence[Quirk] = ()
    kept_realm: str | None = None
    """Realm of before a change of domains."""

    @property
    def realm(self) -> str:
        """Realm of challenges and of flow tokens."""
        return self.kept_realm or self.sip.realm or (self.sip.domains[0] if self.sip.domains else "nattrav")


class Parts:
    """One of each; made once by the core and given to every room."""

    def __init__(
        self,
        settings: Settings,
        listeners: Sequence[Listener],
        token_secrets: list[bytes],
        randomness: Randomness,
        wall_offset: float = 0.0,
    ) -> None:
        self.listeners = Listeners(listeners)
        shown = {(one.advertised, one.port) for one in listeners}
        self.sent_by = frozenset(shown | {(host, None) for host, _ in shown})
        """What the topmost Via of a response to us can say."""
        self.signer = TokenSigner(token_secrets, settings.realm)
        self.randomness = randomness
        self.wall_offset = wall_offset
        self.utc_offset = 0.0
        """Local time minus UTC in seconds, for hooks that know office hours."""
        self.hooks = NO_HOOKS
        self.out: list[Effect] = []
        self.timers = Timers()
        self.transactions = Transactions(self.timers, TimerValues(), self.out)
        self.follow(settings)
        self.alg = AlgWatch()
        self.connections: dict[tuple[int, str, int], Flow] = {}
        self.reuse = Reuse()
        self.dead = DeadDestinations()
        self.waiting: dict[int, Callable[[object, float], None]] = {}
        self._request = 0
        self._unique = 0
        self._counts: dict[tuple[str, tuple[str, ...]], float] = {}
        self._salt = randomness(9)
        self.branches = BranchMaker(randomness(32))
        self._tag_secret = randomness(16)

    def follow(self, settings: Settings) -> None:
        """Go by these settings from the next message on."""
        self.settings = settings
        self.sip = settings.sip
        values = settings.sip.timers
        self.transactions.follow(TimerValues(values.t1, values.t2, values.t4, values.ringing, values.next_hop))
        self.nat = NatTests(settings.sip.local_nets)
        self.quirks = Quirks([rule_from(q.model_dump(), number) for number, q in enumerate(settings.quirks)])
        self.domains = frozenset(settings.sip.domains)
        self._ours: dict[str, bool] = {}

    def wall(self, now: float) -> float:
        """Seconds since the epoch, for records."""
        return now + self.wall_offset

    def unique(self) -> str:
        """A text never given before, not guessable from outside (branches, tags, Call-IDs)."""
        self._unique += 1
        digest = hashlib.blake2b(self._unique.to_bytes(8, "big"), digest_size=8, key=self._salt)
        return digest.hexdigest()

    def to_tag(self, branch: str) -> str:
        """The To tag of a response made without state: the same for the same request (RFC 3261 §8.2.7)."""
        return hashlib.blake2b(branch.encode("latin-1", "replace"), digest_size=6, key=self._tag_secret).hexdigest()

    def await_reply(self, continuation: Callable[[object, float], None]) -> int:
        """Number a question to the shell; its reply is handed to `continuation`."""
        self._request += 1
        self.waiting[self._request] = continuation
        return self._request

    def names_us(self, uri: SipUri) -> bool:
        """The URI's host is this proxy or one of its domains; without a port it is the default one of its transport."""
        known = self._ours.get(uri.text)
        if known is None:
            if len(self._ours) >= URIS_KEPT:
                self._ours.clear()
            known = self._ours[uri.text] = self._names_us(uri)
        return known

    def _names_us(self, uri: SipUri) -> bool:
        host = uri.host.lower()
        if uri.port is None and host in self.domains:
            return True
        transport = uri.transport or "udp"
        return self.listeners.is_ours(host, uri.port, SECURED.get(transport, transport) if uri.secure else transport)

    def comes_round(self, request: Request) -> bool:
        """The request passed here before: a Via of ours stands below its topmost one."""
        names = request.names
        if names.count("via") == 1 and "," not in request.lines[names.index("via")]:
            return False
        ours = self.listeners.is_ours
        return any(ours(via.host.lower(), via.port, via.transport) for via in request.vias[1:])

    def count(self, name: str, *labels: str, by: float = 1) -> None:
        """Move a counter; whoever exports metrics takes the sums with `take_counts`."""
        key = (name, labels)
        self._counts[key] = self._counts.get(key, 0) + by

    def take_counts(self) -> dict[tuple[str, tuple[str, ...]], float]:
        """Give what was counted since the last call: (metric, labels) to sum."""
        for name, times in self.nat.take_detections().items():
            self.count("nattrav_sip_nat_detections_total", name, by=times)
        counts, self._counts = self._counts, {}
        return counts

    def suspect_alg(self, flow: Flow, sign: AlgSign, now: float) -> None:
        """A message from this flow shows the work of a SIP ALG."""
        if self.alg.note(flow, sign, now):
            self.count("nattrav_sip_alg_signs_total", sign.value)

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Put a value into a histogram."""
        self.out.append(Observe(name, value, labels))

    def drop(self, reason: DropReason, flow: Flow) -> None:
        """End a message here."""
        self.out.append(Drop(reason, flow))

    def log(self, level: str, event: str, **facts: object) -> None:
        """Tell the operator."""
        self.out.append(Log(level, event, facts))
