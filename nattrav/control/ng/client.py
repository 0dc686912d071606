"""The ng client without its sockets: several relays, retransmission, health, fail-over of first offers.

A call stays on the relay that took its first offer. Only a first offer moves on, after a time-out or one of the
replies that say "full"; answer, re-offer and delete belong to the relay that has the ports.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from nattrav.control.ng import codec_bencode
from nattrav.control.ng.codec_bencode import Encodable, MalformedMessage, Value

INTERVALS = (0.25, 0.5, 1.0)
"""Seconds until the second try, the third, and giving up; the cookie stays the same."""

TOTAL = 4.0
"""No further relay is tried when a first offer has taken this long."""

PING_UP = 10.0
PING_DOWN = 2.0
CALL_LIMIT = 262144
UNREAD = "unread"
"""Key of a reply to `delete` that holds its octets; `read` decodes them."""
FAIL_OVER_REASONS = frozenset(
    {
        "Parallel session limit reached",
        "Ran out of ports",
        "CPU usage limit exceeded",
        "Load limit exceeded",
        "Bandwidth limit exceeded",
    }
)

_AWAITED = ("offer", "answer")

Reply = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RelayChoice:
    """One relay a proxy may use: `name` is its control address as configured; weight 0 takes no new calls."""

    name: str
    weight: int = 1


class SendControl(NamedTuple):
    """Send `payload` to a relay's control address, from the socket that belongs to it."""

    relay: str
    payload: bytes


class Answered(NamedTuple):
    """A request is settled. `reply` is None when no relay answered; `relay` is the one that did, or the last tried."""

    request_id: int
    reply: Reply | None
    relay: str | None


@dataclass(frozen=True, slots=True)
class RelayChanged:
    """A relay answers again, or no longer."""

    relay: str
    up: bool


Effect = SendControl | Answered | RelayChanged


@dataclass(slots=True)
class _Health:
    choice: RelayChoice
    up: bool = True
    ping_at: float = 0.0


@dataclass(slots=True)
class _Pending:
    request_id: int
    command: str
    arguments: Mapping[str, Encodable]
    call_id: str | None
    relay: str
    cookie: bytes
    payload: bytes
    first: bool
    started: float
    tries: int = 1
    refused_by: list[str] = field(default_factory=list)
    last_reply: Reply | None = None


class RelayPool:
    """Requests to relays. `prefix` begins every cookie and must be unguessable; request numbers start at 1."""

    def __init__(
        self,
        relays: Sequence[RelayChoice],
        *,
        prefix: str,
        intervals: Sequence[float] = INTERVALS,
        ping_up: float = PING_UP,
        ping_down: float = PING_DOWN,
    ) -> None:
        if not relays:
            raise ValueError("a pool needs at least one relay")
        self._relays = {choice.name: _Health(choice) for choice in relays}
        self._prefix = prefix
        self._intervals = tuple(intervals)
        self._ping_up = ping_up
        self._ping_down = ping_down
        self._number = 0
        self._cookies = 0
        self._pending: dict[bytes, _Pending] = {}
        self.awaited = 0
        """How many of them a message waits for: offers and answers."""
        self._calls: OrderedDict[str, str] = OrderedDict()
        self._timers: list[tuple[float, bytes]] = []

    def follow(self, relays: Sequence[RelayChoice], intervals: Sequence[float]) -> None:
        """Use these relays. One that is no longer named takes no new calls, and keeps those it has."""
        wanted = {choice.name: choice for choice in relays}
        for name, health in self._relays.items():
            health.choice = wanted.pop(name, RelayChoice(name, 0))
        self._relays |= {name: _Health(choice) for name, choice in wanted.items()}
        self._intervals = tuple(intervals)

    def ask(
        self,
        command: str,
        arguments: Mapping[str, Encodable],
        *,
        call_id: str | None = None,
        relay: str | None = None,
        now: float,
    ) -> tuple[int, list[Effect]]:
        """Send a command; `call-id` is added from `call_id`. `relay` names one where the caller knows better."""
        self._number += 1
        bound = self._calls.get(call_id) if call_id is not None else None
        chosen = relay or bound
        first = command == "offer" and chosen is None
        if chosen is None or chosen not in self._relays:
            chosen = self._first_choice(call_id or "")
        if call_id is not None:
            if command == "offer":
                self._bind(call_id, chosen)
            if "call-id" not in arguments:
                arguments = {**arguments, "call-id": call_id}
        return self._number, self._send(
            _Request(self._number, command, arguments, call_id, first, now), chosen, [], now
        )

    @property
    def pending(self) -> int:
        """How many requests wait for their reply."""
        return len(self._pending)

    def relay_of(self, call_id: str) -> str | None:
        """The relay that a call is on."""
        return self._calls.get(call_id)

    def bind(self, call_id: str, relay: str) -> None:
        """Put a call on the relay it was on before a restart."""
        if relay in self._relays:
            self._bind(call_id, relay)

    def states(self) -> dict[str, bool]:
        """Which relays answer."""
        return {name: health.up for name, health in self._relays.items()}

    def receive(self, relay: str, datagram: bytes, now: float) -> list[Effect]:
        """Take a datagram from a relay; what is no reply to an open request of that relay is ignored."""
        cookie, _, payload = datagram.partition(b" ")
        pending = self._pending.get(cookie)
        if pending is None or pending.relay != relay:
            return []
        if pending.command == "delete" and payload[:1] == b"d" and b"6:result2:ok" in payload:
            # Its statistics are most of what a relay ever says; whoever wants them decodes them with `read`.
            self._forget(cookie)
            unread: Reply = {"result": "ok", UNREAD: payload}
            self._settle(pending, unread)
            return [*self._seen(relay, now), Answered(pending.request_id, unread, relay)]
        try:
            raw = codec_bencode.decode(payload)
        except MalformedMessage:
            return []
        if not isinstance(raw, dict) or not isinstance(raw.get(b"result"), bytes):
            return []
        self._forget(cookie)
        effects = self._seen(relay, now)
        if pending.request_id == 0:
            return effects
        reply = plain(raw)
        if pending.first and _is_full(reply):
            pending.last_reply = reply
            return effects + self._next_relay(pending, now)
        self._settle(pending, reply)
        return [*effects, Answered(pending.request_id, reply, relay)]

    def handle_timeout(self, now: float) -> list[Effect]:
        """Send again, give up, try the next relay, ping: whatever is due."""
        effects: list[Effect] = []
        while self._timers and self._timers[0][0] <= now:
            _, cookie = heapq.heappop(self._timers)
            pending = self._pending.get(cookie)
            if pending is None:
                continue
            if pending.tries < len(self._intervals):
                effects.append(SendControl(pending.relay, pending.payload))
                heapq.heappush(self._timers, (now + self._intervals[pending.tries], cookie))
                pending.tries += 1
            else:
                self._forget(cookie)
                effects += self._silent(pending, now)
        for name, health in self._relays.items():
            if now >= health.ping_at:
                health.ping_at = now + (self._ping_up if health.up else self._ping_down)
                effects += self._send(_Request(0, "ping", {}, None, first=False, started=now), name, [], now)
        return effects

    def next_timeout(self) -> float:
        """When `handle_timeout` should be called again."""
        while self._timers and self._timers[0][1] not in self._pending:
            heapq.heappop(self._timers)
        ping = min(health.ping_at for health in self._relays.values())
        return min(self._timers[0][0], ping) if self._timers else ping

    def _send(self, request: _Request, relay: str, refused_by: list[str], now: float) -> list[Effect]:
        self._cookies += 1
        cookie = f"{self._prefix}_{self._cookies}".encode()
        body = codec_bencode.encode({**request.arguments, "command": request.command})
        payload = b"%b %b" % (cookie, body)
        self._pending[cookie] = _Pending(
            request.number,
            request.command,
            request.arguments,
            request.call_id,
            relay,
            cookie,
            payload,
            request.first,
            request.started,
            refused_by=refused_by,
        )
        if request.command in _AWAITED:
            self.awaited += 1
        heapq.heappush(self._timers, (now + self._intervals[0], cookie))
        return [SendControl(relay, payload)]

    def _forget(self, cookie: bytes) -> None:
        if self._pending.pop(cookie).command in _AWAITED:
            self.awaited -= 1

    def _silent(self, pending: _Pending, now: float) -> list[Effect]:
        """Every try went unanswered."""
        effects: list[Effect] = []
        health = self._relays[pending.relay]
        if health.up:
            health.up = False
            health.ping_at = now + self._ping_down
            effects.append(RelayChanged(pending.relay, up=False))
        if pending.request_id == 0:
            return effects
        if not pending.first:
            self._settle(pending, None)
            return [*effects, Answered(pending.request_id, None, pending.relay)]
        # It may have carried the offer out, or may do so yet.
        effects += self._farewell(pending, now)
        return effects + self._next_relay(pending, now)

    def _farewell(self, pending: _Pending, now: float) -> list[Effect]:
        names = ("call-id", "from-tag")
        arguments = {name: pending.arguments[name] for name in names if name in pending.arguments}
        request = _Request(0, "delete", arguments, None, first=False, started=now)
        return self._send(request, pending.relay, [], now)

    def _next_relay(self, pending: _Pending, now: float) -> list[Effect]:
        refused_by = [*pending.refused_by, pending.relay]
        left = self._candidates(pending.call_id or "", refused_by)
        if not left or now - pending.started >= TOTAL:
            self._settle(pending, pending.last_reply)
            if pending.call_id is not None:
                self._calls.pop(pending.call_id, None)
            return [Answered(pending.request_id, pending.last_reply, pending.relay)]
        if pending.call_id is not None:
            self._bind(pending.call_id, left[0])
        request = _Request(
            pending.request_id, pending.command, pending.arguments, pending.call_id, first=True, started=pending.started
        )
        effects = self._send(request, left[0], refused_by, now)
        self._pending[self._last_cookie()].last_reply = pending.last_reply
        return effects

    def _last_cookie(self) -> bytes:
        return f"{self._prefix}_{self._cookies}".encode()

    def _first_choice(self, call_id: str) -> str:
        return next(iter(self._relays)) if len(self._relays) == 1 else self._candidates(call_id, ())[0]

    def _candidates(self, call_id: str, refused_by: Sequence[str]) -> list[str]:
        """Relays in the order a call should try them: rendezvous hashing by weight, those that answer first.

        Of those that do not answer only the best is tried, and only when it is the only hope.
        """
        ranked = sorted(
            (health for name, health in self._relays.items() if name not in refused_by and health.choice.weight > 0),
            key=lambda health: _score(call_id, health.choice),
        )
        up = [health.choice.name for health in ranked if health.up]
        if up:
            return up
        down = [health.choice.name for health in ranked] or list(self._relays)
        return [] if refused_by else down[:1]

    def _seen(self, relay: str, now: float) -> list[Effect]:
        health = self._relays[relay]
        health.ping_at = now + self._ping_up
        if health.up:
            return []
        health.up = True
        return [RelayChanged(relay, up=True)]

    def _settle(self, pending: _Pending, reply: Reply | None) -> None:
        if pending.call_id is None:
            return
        failed_offer = pending.first and (reply is None or reply.get("result") != "ok")
        if failed_offer or (
            pending.command == "delete" and reply is not None and "via-branch" not in pending.arguments
        ):
            self._calls.pop(pending.call_id, None)

    def _bind(self, call_id: str, relay: str) -> None:
        self._calls[call_id] = relay
        self._calls.move_to_end(call_id)
        while len(self._calls) > CALL_LIMIT:
            self._calls.popitem(last=False)


class _Request(NamedTuple):
    number: int
    command: str
    arguments: Mapping[str, Encodable]
    call_id: str | None
    first: bool
    started: float


def read(reply: Reply) -> Reply:
    """Decode a reply that was left unread; any other is given back as it is. Empty when it cannot be decoded."""
    if UNREAD not in reply:
        return reply
    try:
        raw = codec_bencode.decode(reply[UNREAD])
    except MalformedMessage:
        return {}
    decoded: Reply = plain(raw) if isinstance(raw, dict) else {}
    return decoded


def plain(value: Value) -> Any:
    """Give a decoded reply as Python data: text for keys and strings (latin-1), octets for `sdp`."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {
            key.decode("latin-1"): item if key == b"sdp" and isinstance(item, bytes) else plain(item)
            for key, item in value.items()
        }
    return value


def _is_full(reply: Reply) -> bool:
    return reply["result"] == "load limit" or (
        reply["result"] == "error" and reply.get("error-reason") in FAIL_OVER_REASONS
    )


def _score(call_id: str, choice: RelayChoice) -> float:
    """Smaller is better; a weight of 2 wins twice as often as one of 1."""
    digest = hashlib.blake2b(f"{choice.name}\0{call_id}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
    uniform = (int.from_bytes(digest, "big") + 1) / 2**64
    return -math.log(uniform) / choice.weight
