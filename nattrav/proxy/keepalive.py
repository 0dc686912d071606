"""Keepalives to phones behind NATs: prebuilt bytes, spread over the interval, one per flow."""

from __future__ import annotations

import re
import sys
import zlib

from nattrav.location.bindings import Binding
from nattrav.location.location import Location
from nattrav.net.address import TransportAddress
from nattrav.proxy.alg import AlgSign, is_altered
from nattrav.proxy.effects import Send
from nattrav.proxy.lifetimes import Lifetimes
from nattrav.proxy.listener import Listener
from nattrav.proxy.parts import Parts
from nattrav.proxy.registrar import Registrar, behind_nat
from nattrav.proxy.timers import Timed
from nattrav.sip.errors import MalformedMessage
from nattrav.sip.message import Response
from nattrav.sip.transport.flow import Flow

CRLF = b"\r\n\r\n"
ZEROS = b"\0\0\0\0"
RETRY = 5.0
"""Seconds after which an unanswered keepalive is repeated."""
SOON = 150
"""A binding with less seconds left will be refreshed by its phone before long."""
_BRANCH = "z9hG4bKka"
_NUMBER = re.compile(r"[0-9a-f]{1,16}")
_ANSWER = re.compile(
    rb"SIP/2\.0 [2-6][^\r\n]{2,80}\r\n[Vv](?:[Ii][Aa])?[ \t]*:[^\r\n,]{10,200}?;branch=z9hG4bKka([0-9a-f]{1,16})[;\r]"
)
"""The status line and a topmost Via of ours, as nearly every phone gives it back."""


class FlowKeepalive(Timed):
    """The keepalive of one flow. `waiting` is the Call-ID of an OPTIONS whose answer is due."""

    __slots__ = ("device", "flow", "keepalive", "losses", "method", "seen", "sequence", "testing", "waiting")

    def __init__(self, keepalive: Keepalive, flow: Flow, device: str, method: str) -> None:
        super().__init__()
        self.keepalive = keepalive
        self.flow = flow
        self.device = device
        self.method = method
        self.testing = False
        self.losses = 0
        self.seen = 0.0
        self.sequence = 0
        self.waiting = False

    @property
    def nat(self) -> tuple[str, str]:
        """What its mapping lifetime is learned by: the public host and the kind of device."""
        return self.flow.remote.host, self.device

    def expire(self, now: float) -> None:
        self.keepalive.ping(self, now)


class Keepalive:
    """Pings every NATed flow that has a binding; any final answer to OPTIONS proves it alive."""

    def __init__(self, parts: Parts, location: Location, registrar: Registrar) -> None:
        self._parts = parts
        self._location = location
        self._registrar = registrar
        self._flows: dict[int, dict[TransportAddress, FlowKeepalive]] = {one.id: {} for one in parts.listeners.all}
        self._waiting: dict[int, FlowKeepalive] = {}
        self._key = parts.unique()
        self._heads = {listener.id: self._head(listener) for listener in parts.listeners.all}
        self._number = 0
        settings = parts.sip.keepalive
        self.lifetimes = Lifetimes(settings.interval, settings.longest)
        self.probing: set[Flow] = set()
        """Flows whose silence is being measured."""
        self._unproven: set[FlowKeepalive] = set()
        """Those whose first answer is still to be compared with what was asked."""
        self.sent = 0
        self.dead = 0

    def _head(self, listener: Listener) -> tuple[str, str]:
        via = f"Via: SIP/2.0/{listener.transport.upper()} {listener.sent_by};branch={_BRANCH}"
        after = (
            f";rport\r\nMax-Forwards: 1\r\nFrom: <sip:keepalive@{listener.sent_by}>;tag={self._key}\r\n"
            f"CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n"
        )
        return via, after

    def __len__(self) -> int:
        return sum(map(len, self._flows.values()))

    def _of(self, flow: Flow) -> FlowKeepalive | None:
        return self._flows[flow.listener].get(flow.remote)

    def follow(self) -> None:
        """Go by the intervals as they are now, each flow from its next keepalive on; what was learned of NATs stays."""
        settings = self._parts.sip.keepalive
        self.lifetimes.start, self.lifetimes.longest = settings.interval, settings.longest

    def watch(self, binding: Binding, now: float) -> None:
        """A binding was made or refreshed: keep its flow alive when a NAT is in the way."""
        settings = self._parts.sip.keepalive
        flow = binding.flow
        wanted = self._parts.quirks.treatment(binding.user_agent, flow.remote, binding.aor).ping or settings.method
        if not behind_nat(binding) or wanted == "none":
            return
        if wanted == "auto":
            wanted = "crlf" if flow.reliable else "options"
        known = self._of(flow)
        if known is not None:
            known.flow = flow
            self.heard(flow)
            if known.deadline is None:
                known.losses = 0
                self._parts.timers.set(known, now + settings.interval)
            return
        device = sys.intern(binding.user_agent.partition("/")[0].partition(" ")[0])
        one = self._flows[flow.listener][flow.remote] = FlowKeepalive(self, flow, device, wanted)
        if wanted == "options" and not flow.secure:
            self._unproven.add(one)
        spread = zlib.crc32(str(flow.remote).encode()) % 1000 / 1000
        self._parts.timers.set(one, now + settings.interval * (0.5 + 0.5 * spread))

    def ping(self, one: FlowKeepalive, now: float) -> None:
        """Send the next keepalive of a flow, or give the flow up."""
        parts = self._parts
        settings = parts.sip.keepalive
        if one.waiting:
            one.waiting = False
            one.losses += 1
            parts.count("nattrav_sip_keepalives_total", "options", "timeout")
        elif one.losses == 0:
            self.probing.discard(one.flow)
        bindings = self._location.by_flow(one.flow)
        if not bindings:
            self._forget(one)
            return
        if one.losses >= settings.losses:
            tested, one.testing = one.testing, False
            if tested and self.lifetimes.lost(one.nat, one.flow):
                return  # our own silence closed the mapping: the phone opens it again with its next REGISTER
            self._give_up(one, bindings)
            return
        method = one.method
        if method == "options":
            one.waiting = True
            parts.out.append(Send(one.flow, self._options(one)))
        else:
            parts.out.append(Send(one.flow, ZEROS if method == "zero4" and not one.flow.reliable else CRLF))
            parts.count("nattrav_sip_keepalives_total", "crlf", "ok")
        self.sent += 1
        # A lost answer is asked again soon: the mapping may be about to close.
        parts.timers.set(one, now + (RETRY if one.losses or one.testing else settings.interval))

    def _next_wait(self, one: FlowKeepalive, now: float) -> float:
        """The usual interval of this NAT, or a longer one to learn by, when its phone comes back soon anyhow."""
        settings = self._parts.sip.keepalive
        if not settings.adaptive or one.method != "options":
            return settings.interval
        wall = self._parts.wall(now)
        soon = min((binding.remaining(wall) for binding in self._location.by_flow(one.flow)), default=0) < SOON
        wait, one.testing = self.lifetimes.interval(one.nat, one.flow, now, may_probe=soon)
        if one.testing:
            self.probing.add(one.flow)
        return wait

    def kept(self, flow: Flow, now: float) -> None:
        """The phone keeps its flow alive by itself (STUN, CRLF, WebSocket ping): ours can wait."""
        one = self._of(flow)
        if one is None:
            return
        self.heard(flow)
        one.losses = 0
        one.seen = now
        if one.deadline is not None and not one.waiting:
            self._parts.timers.set(one, now + self._parts.sip.keepalive.interval)

    def seen(self, flow: Flow) -> float | None:
        """When a flow last proved to be alive by a keepalive, None before the first."""
        one = self._of(flow)
        return one.seen or None if one is not None else None

    def heard(self, flow: Flow) -> None:
        """Other traffic passed on a flow: a measurement of its silence is void."""
        if flow not in self.probing:
            return
        self.probing.discard(flow)
        one = self._of(flow)
        if one is not None and one.testing:
            one.testing = False
            self.lifetimes.disturbed(one.nat, flow)

    def _options(self, one: FlowKeepalive) -> bytes:
        self._number += 1
        name = f"{self._number:x}"
        self._waiting.pop(one.sequence, None)
        via, after = self._heads[one.flow.listener]
        one.sequence = self._number
        self._waiting[self._number] = one
        host = one.flow.remote
        return (
            f"OPTIONS sip:{host} SIP/2.0\r\n{via}{name}{after}To: <sip:{host}>\r\nCall-ID: ka{name}@{self._key}\r\n\r\n"
        ).encode("latin-1")

    def recognise(self, flow: Flow, data: bytes, now: float) -> bool:
        """Take what is plainly a final response to a keepalive of this flow, without parsing it; False for the rest."""
        found = _ANSWER.match(data) if self._waiting else None
        if found is None:
            return False
        one = self._waiting.get(int(found[1], 16))
        if one is None or one.flow.remote != flow.remote or one in self._unproven:
            return False
        self._answered(one, now)
        return True

    def receive(self, branch: str, flow: Flow, now: float, response: Response) -> bool:
        """A response with one of our keepalive branches came; True when it was one."""
        number = branch[len(_BRANCH) :]
        if not branch.startswith(_BRANCH) or _NUMBER.fullmatch(number) is None:
            return False
        one = self._waiting.get(int(number, 16))
        if one is not None and one.flow.remote == flow.remote:
            if one in self._unproven:
                self._compare(one, number, response, now)
            self._answered(one, now)
        return True

    def _compare(self, one: FlowKeepalive, number: str, response: Response, now: float) -> None:
        """Look whether the first answer of a flow repeats what was asked: an ALG may have changed it."""
        self._unproven.discard(one)
        call_id = f"ka{number}@{self._key}"
        try:
            altered = is_altered(response, call_id=call_id, from_tag=self._key, to_host=one.flow.remote.host)
        except MalformedMessage:
            altered = True
        if altered:
            self._parts.suspect_alg(one.flow, AlgSign.CANARY_ALTERED, now)

    def _answered(self, one: FlowKeepalive, now: float) -> None:
        del self._waiting[one.sequence]
        one.losses = 0
        one.seen = now
        if one.waiting:
            one.waiting = False
            self._parts.count("nattrav_sip_keepalives_total", "options", "ok")
        if one.testing:
            one.testing = False
            self.lifetimes.answered(one.nat, one.flow)
        self._parts.timers.set(one, now + self._next_wait(one, now))

    def _give_up(self, one: FlowKeepalive, bindings: list[Binding]) -> None:
        self._forget(one)
        self.dead += 1
        self._parts.log("info", "flow_dead", flow=str(one.flow), bindings=len(bindings))
        if self._parts.sip.keepalive.remove_dead:
            self._registrar.drop(bindings, "expired")

    def _forget(self, one: FlowKeepalive) -> None:
        self._flows[one.flow.listener].pop(one.flow.remote, None)
        self.probing.discard(one.flow)
        self._unproven.discard(one)
        self._waiting.pop(one.sequence, None)
        one.deadline = None
