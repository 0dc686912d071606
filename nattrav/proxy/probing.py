"""Asks upstreams with OPTIONS whether they are up, so that calls do not find out."""

from __future__ import annotations

from functools import partial

from nattrav.net.address import TransportAddress
from nattrav.proxy.effects import Lookup
from nattrav.proxy.parts import Parts
from nattrav.proxy.routing import Routing
from nattrav.proxy.timers import Timed
from nattrav.proxy.transactions import ClientTransaction, Context
from nattrav.proxy.upstreams import Upstreams, UpstreamState
from nattrav.sip.message import Response
from nattrav.sip.transport.flow import Flow, Target

PATIENCE = 4.0
"""Seconds without an answer that count as a loss."""
LOSSES = 2
"""Losses in a row after which an upstream counts as down."""
FIRST = 0.5


class Probe(Timed, Context):
    """The probing of one upstream."""

    __slots__ = ("ended", "prober", "sent", "state")

    def __init__(self, prober: Prober, state: UpstreamState) -> None:
        super().__init__()
        self.prober = prober
        self.state = state
        self.sent = 0.0
        self.ended = False

    def expire(self, now: float) -> None:
        self.prober.look_up(self, now)

    def on_trying(self, branch: ClientTransaction, now: float) -> None:
        """A 100 proves nothing about the service."""

    def on_response(self, branch: ClientTransaction, response: Response, now: float) -> None:
        """Any final response but 503 says that it serves (a draining peer answers 503)."""
        if response.status < 200:
            return
        self.state.round_trip = now - self.sent
        self.prober.heard(self, response.status != 503, now)

    def on_timeout(self, branch: ClientTransaction, now: float) -> None:
        """No answer."""
        branch.fail(now)
        self.prober.lost(self, now)


class Prober:
    """Probes every upstream that wants it, each in its own rhythm."""

    def __init__(self, parts: Parts, upstreams: Upstreams, routing: Routing) -> None:
        self._parts = parts
        self._upstreams = upstreams
        self._routing = routing
        self._probes: list[Probe] = []

    def start(self, now: float) -> None:
        """Begin at once; the first answers tell who is up before the first call does. Call it again for other ones."""
        known = {id(probe.state): probe for probe in self._probes}
        wanted = [state for state in self._upstreams.all if state.settings.probe]
        self._probes = [known.pop(id(s)) if id(s) in known else Probe(self, s) for s in wanted]
        for probe in known.values():
            probe.ended = True
            probe.state.up = True
            probe.deadline = None
        for number, probe in enumerate(self._probes):
            self._parts.timers.set(probe, now + FIRST * (number + 1) / len(self._probes))

    def look_up(self, probe: Probe, now: float) -> None:
        """Find where the upstream is today."""
        parts = self._parts
        parts.out.append(Lookup(parts.await_reply(partial(self._found, probe)), probe.state.uri.text))

    def _found(self, probe: Probe, reply: object, now: float) -> None:
        if isinstance(reply, list):
            for transport, address, name in reply:
                hop = self._routing.to_address(transport, TransportAddress(*address), None, name)
                if hop is not None:
                    self._send(probe, hop, now)
                    return
        self.lost(probe, now)

    def _send(self, probe: Probe, hop: Flow | Target, now: float) -> None:
        parts = self._parts
        listener = parts.listeners.of(hop)
        if listener is None:
            self.lost(probe, now)
            return
        unique = parts.unique()
        branch = f"z9hG4bKpr{unique}"
        uri = probe.state.uri.text
        client = ClientTransaction(parts.transactions, (branch, "OPTIONS"), probe)
        client.patience = PATIENCE
        probe.sent = now
        client.start(
            hop,
            (
                f"OPTIONS {uri} SIP/2.0\r\n"
                f"Via: SIP/2.0/{listener.transport.upper()} {listener.sent_by};branch={branch};rport\r\n"
                f"Max-Forwards: 1\r\nFrom: <sip:probe@{listener.sent_by}>;tag={unique}\r\nTo: <{uri}>\r\n"
                f"Call-ID: pr{unique}@{listener.sent_by}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
            ).encode("latin-1"),
            now,
        )

    def heard(self, probe: Probe, serves: bool, now: float) -> None:
        """An answer came."""
        if probe.ended:
            return
        state = probe.state
        state.losses = 0
        if serves:
            state.failed_until = 0.0
        self._set(state, serves)
        self._parts.timers.set(probe, now + state.settings.probe_interval)

    def lost(self, probe: Probe, now: float) -> None:
        """No answer came: ask again soon, and believe it after two."""
        if probe.ended:
            return
        state = probe.state
        state.losses += 1
        if state.losses >= LOSSES:
            self._set(state, False)
        self._parts.timers.set(probe, now + min(PATIENCE, state.settings.probe_interval))

    def _set(self, state: UpstreamState, up: bool) -> None:
        if state.up is not up:
            state.up = up
            self._parts.log("info" if up else "warning", "upstream_up" if up else "upstream_down", upstream=state.name)
