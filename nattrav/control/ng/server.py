"""The ng server without its sockets: framing, who may ask, repeated cookies, size of replies."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import NamedTuple

from nattrav.control.ng import codec_bencode, codec_json
from nattrav.control.ng.codec_bencode import MalformedMessage, Value
from nattrav.control.ng.cookie_cache import CookieCache
from nattrav.control.ng.handler import Handler, Reply, error
from nattrav.control.ng.messages import CARRIED_OUT, UNSUPPORTED
from nattrav.control.ng.request_rates import RequestRates
from nattrav.control.ng.seal import Way, is_sealed, seal, unseal

REPLY_LIMIT = 60000
COOKIE_LIMIT = 256
STREAM_GARBAGE_LIMIT = 1024

Network = IPv4Network | IPv6Network


class Drop(enum.Enum):
    """Why a datagram gets no reply."""

    NO_COOKIE = "no_cookie"
    NOT_ALLOWED = "not_allowed"
    BAD_SEAL = "bad_seal"
    RATE_LIMITED = "rate_limited"


class Outcome(NamedTuple):
    """What became of one datagram. `result` is `ok`, `error`, `duplicate` or a drop reason's word."""

    reply: bytes | None
    command: str
    result: str


class Server:
    """Answers ng messages with one handler.

    Messages from the network need a source in `allow`, or the seal of `key`; those of local sockets (`source`
    None) need neither. Stored replies of network clients are kept per source address. `rate` limits the requests
    a second of each source; 0 does not.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        allow: Sequence[Network] = (),
        key: bytes | None = None,
        cache: CookieCache | None = None,
        rate: float = 0.0,
    ) -> None:
        self.handler = handler
        self.drops: Counter[Drop] = Counter()
        self._cache = cache if cache is not None else CookieCache()
        self.follow(allow, key, rate)

    def follow(self, allow: Sequence[Network], key: bytes | None, rate: float) -> None:
        """Decide by these from the next request on."""
        self._allow = tuple(allow)
        self._allowed: dict[str, bool] = {}
        self._key = key
        self._rates = RequestRates(rate) if rate else None

    def receive(self, datagram: bytes, source: str | None, now: float, wall: float) -> Outcome:
        """Answer one datagram. `source` is the sender's IP address, `wall` the time of day in Unix seconds."""
        sealed = False
        if source is not None:
            if self._key is not None and is_sealed(datagram):
                message = unseal(self._key, Way.REQUEST, datagram, wall)
                if message is None:
                    return self._drop(Drop.BAD_SEAL)
                datagram, sealed = message, True
            elif not self.allows(source):
                return self._drop(Drop.NOT_ALLOWED)
            if self._rates is not None and not self._rates.admit(source, now):
                return self._drop(Drop.RATE_LIMITED)
        cookie, space, payload = datagram.partition(b" ")
        if not space or not 0 < len(cookie) <= COOKIE_LIMIT:
            return self._drop(Drop.NO_COOKIE)
        outcome = self.answer(cookie, payload, source, now, limit=REPLY_LIMIT)
        if sealed and self._key is not None and outcome.reply is not None:
            outcome = outcome._replace(reply=seal(self._key, Way.REPLY, outcome.reply, wall))
        return outcome

    def answer(
        self, cookie: bytes, payload: bytes, source: str | None, now: float, *, limit: int | None = None
    ) -> Outcome:
        """Answer a message whose frame is taken off; `limit` bounds the reply's size."""
        key = cookie if source is None else b"%b %b" % (source.encode(), cookie)
        stored = self._cache.find(key, now)
        if stored is not None:
            return Outcome(stored, "unknown", "duplicate")
        command, reply, as_json = self._carry_out(payload, source, now)
        encode = codec_json.encode if as_json else codec_bencode.encode
        body = encode(reply)
        if limit is not None and len(body) > limit:
            body = encode(shortened(reply))
        result = b"%b %b" % (cookie, body)
        self._cache.store(key, result, now)
        return Outcome(result, command, "error" if reply["result"] == "error" else "ok")

    def record(self, source: str | None, outcome: Outcome, seconds: float) -> None:
        """Note how long a request took, for `statistics`."""
        if outcome.reply is not None and outcome.result != "duplicate":
            self.handler.statistics.count(source, outcome.command, failed=outcome.result == "error", seconds=seconds)

    def allows(self, source: str) -> bool:
        """Tell whether plain messages of a source are accepted."""
        known = self._allowed.get(source)
        if known is None:
            address = ip_address(source)
            known = any(address in network for network in self._allow if network.version == address.version)
            if len(self._allowed) > 4096:
                self._allowed.clear()
            self._allowed[source] = known
        return known

    def _drop(self, reason: Drop) -> Outcome:
        self.drops[reason] += 1
        return Outcome(None, "", reason.value)

    def _carry_out(self, payload: bytes, source: str | None, now: float) -> tuple[str, Reply, bool]:
        first = payload[:1]
        if first == b"d":
            try:
                raw = codec_bencode.decode(payload)
            except MalformedMessage:
                return "unknown", error("Could not decode bencode dictionary"), False
            assert isinstance(raw, dict)
            return command_of(raw), self.handler.handle(raw, source=source, now=now), False
        if first == b"{":
            try:
                raw = codec_json.decode(payload)
            except MalformedMessage:
                return "unknown", error("Failed to parse JSON document"), True
            return command_of(raw), self.handler.handle(raw, source=source, now=now), True
        return "unknown", error("Invalid NG data format" if first else "Invalid data (no payload)"), False


def command_of(raw: dict[bytes, Value]) -> str:
    """Give the command as a metric label: its name, or `unknown`."""
    command = raw.get(b"command")
    name = command.decode("latin-1") if isinstance(command, bytes) else ""
    return name if name in CARRIED_OUT or name in UNSUPPORTED else "unknown"


def shortened(reply: Reply) -> Reply:
    """Make a reply fit into a datagram: half of a long list, or the totals without their details."""
    short = dict(reply)
    calls = short.get("calls")
    if isinstance(calls, list):
        size = 0
        kept = []
        for call in calls:
            size += len(str(call)) + 8
            if size > REPLY_LIMIT - 200:
                break
            kept.append(call)
        short["calls"] = kept
        note = f"reply cut: {len(calls) - len(kept)} of {len(calls)} calls left out"
    else:
        dropped = [name for name in ("SSRC", "tags", "interfaces", "controlstatistics") if short.pop(name, None)]
        note = f"reply cut: {', '.join(dropped)} left out"
    result = short.pop("result")
    short["warning"] = note
    short["result"] = result
    return short


class Stream:
    """One TCP connection: requests `cookie SP dictionary` one after the other, bencode only."""

    def __init__(self, server: Server, source: str | None) -> None:
        self._server = server
        self._source = source
        self._buffer = b""
        self.closed = False
        """What came cannot be a request: close the connection."""

    def feed(self, data: bytes, now: float) -> list[Outcome]:
        """Take octets in, answer the requests that are whole."""
        self._buffer += data
        outcomes: list[Outcome] = []
        while self._buffer and not self.closed:
            self._buffer = self._buffer.lstrip(b"\r\n")
            cookie, space, rest = self._buffer.partition(b" ")
            if not space:
                self.closed = len(self._buffer) > COOKIE_LIMIT
                break
            if not rest:
                break
            try:
                _, end = codec_bencode.decode_prefix(rest, 0)
            except MalformedMessage as fault:
                self.closed = not fault.incomplete and len(rest) > STREAM_GARBAGE_LIMIT
                if fault.incomplete or not self.closed:
                    break
                continue
            if len(cookie) > COOKIE_LIMIT or not cookie:
                self.closed = True
                break
            outcomes.append(self._server.answer(cookie, rest[:end], self._source, now))
            self._buffer = rest[end:]
        return outcomes
