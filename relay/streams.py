"""The ports and flows under the sessions: opening, changing and closing them, and what their flows report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from nattrav.net.address import TransportAddress
from relay.figures import add_figures, add_rtp
from relay.interfaces import Interfaces, LocalAddress
from relay.legs import NOT_OPEN, Leg, Party, Port, PortSet, Session
from relay.plane import FlowEvent, FlowEventKind, FlowFigures, Plane, RtpFigures
from relay.policy import Policy
from relay.ports import NoSocket, Opener, PortPool
from relay.rules import flow_settings
from relay.session import Refusal

HISTORY = 32
"""Learning events kept per leg."""

EXHAUSTED = "Ran out of ports"


class Streams:
    """Keeps pools, sockets and the data plane in step."""

    def __init__(self, interfaces: Interfaces, plane: Plane, opener: Opener, policy: Policy) -> None:
        self.interfaces = interfaces
        self.plane = plane
        self.policy = policy
        self.owners: dict[int, tuple[Session, Leg, Port]] = {}
        """Who each open flow belongs to."""
        self.opener = opener
        self.ended = FlowFigures()
        """Counters of all flows that were closed, together."""
        self.ended_by_pool: dict[PortPool, FlowFigures] = {}
        self.ended_rtp: dict[str, RtpFigures] = {}
        """RTP figures of closed flows, by pool."""
        self.events_seen: Counter[FlowEventKind] = Counter()

    def take(self, local: LocalAddress, now: float, *, pair: bool, shard: int, pairs: int = 1) -> PortSet:
        """Bind an even/odd pair, `pairs` in a row, or a single port, for a session of `shard`.

        Refusal when the pool is exhausted.
        """
        if pairs > 1:
            run = local.pool.open_run(self.opener, now, pairs)
            if run is not None:
                ports = [Port(*one, rtcp=bool(at % 2), pair=at // 2) for at, one in enumerate(run)]
                return PortSet(local, ports[0], ports[1], more=tuple(ports[2:]))
        elif pair:
            both = local.pool.open_pair(self.opener, now, lane=shard, lanes=self.plane.shards)
            if both is not None:
                (rtp, rtp_socket), (rtcp, rtcp_socket) = both
                return PortSet(local, Port(rtp, rtp_socket), Port(rtcp, rtcp_socket, rtcp=True))
        else:
            one = local.pool.open_single(self.opener, now)
            if one is not None:
                return PortSet(local, Port(*one), None)
        raise Refusal(EXHAUSTED)

    def take_rtcp(self, ports: PortSet, now: float) -> Port:
        """Bind an RTCP port for a set that has none, next to its RTP port where possible."""
        one = ports.local.pool.open_single(self.opener, now, wanted=ports.rtp.number + 1)
        if one is None:
            raise Refusal(EXHAUSTED)
        return Port(*one, rtcp=True)

    def put_back(self, local: LocalAddress, port: Port) -> None:
        """Give up a port that never became a flow."""
        if port.sock is not None:
            self.opener.give_back(TransportAddress(local.host, port.number), port.sock)
            port.sock = None
        local.pool.take_back(port.number)

    def start(self, session: Session, leg: Leg, ports: PortSet, port: Port) -> None:
        """Make a bound port a flow of the data plane."""
        assert port.sock is not None
        settings = flow_settings(session, leg, ports, port, self.policy)
        local = TransportAddress(ports.local.host, port.number)
        port.flow = self.plane.open(port.sock, local, settings, shard=session.shard, learned=port.learned)
        port.sock = None
        port.settings = settings
        self.owners[port.flow] = (session, leg, port)

    def reopen(self, session: Session, now: float) -> None:
        """Bind the ports of a session from a snapshot and make flows of them; all or none.

        Refusal when a port is not to be had, NoSocket when the system gives no more sockets.
        """
        bound: list[tuple[LocalAddress, Port]] = []
        wanted = sum(len(ports.ports()) for leg in session.legs() for ports in leg.sets())
        if self.plane.room(session.shard) < wanted:
            raise Refusal("the data plane has no room for its flows")
        try:
            for leg in session.legs():
                for ports in leg.sets():
                    for port in ports.ports():
                        port.sock = ports.local.pool.reopen(self.opener, port.number, now)
                        if port.sock is None:
                            raise Refusal(f"port {port.number} of {ports.local.host} is taken")
                        bound.append((ports.local, port))
        except (Refusal, NoSocket):
            for local, port in bound:
                # Their parties know them.
                self.put_back(local, port)
                local.pool.release(port.number, now)
            raise
        for leg in session.legs():
            for ports in leg.sets():
                for port in ports.ports():
                    self.start(session, leg, ports, port)
        for party in session.parties:
            self.refresh(session, party)

    def update(self, session: Session, leg: Leg, *, relearn: bool, fresh: Collection[Port] = frozenset()) -> None:
        """Bring every flow of a leg in line with its state; `relearn` opens a learning window on all but fresh ones."""
        for ports in leg.sets():
            for port in ports.ports():
                settings = flow_settings(session, leg, ports, port, self.policy)
                window = relearn and port not in fresh
                if window or settings != port.settings:
                    self.plane.set(port.flow, settings, relearn=window)
                    port.settings = settings

    def refresh(self, session: Session, party: Party) -> None:
        """Bring every flow of a party in line with its state, without a new learning window."""
        for leg in party.legs:
            self.update(session, leg, relearn=False)

    def stop(self, local: LocalAddress, port: Port, now: float) -> None:
        """Close a flow; its last figures stay with the port."""
        if port.flow != NOT_OPEN:
            del self.owners[port.flow]
            port.last = self.plane.close(port.flow)
            port.flow = NOT_OPEN
            self._count(port.last, local.pool)
            if port.last.rtp.received:
                name = local.pool.name
                self.ended_rtp[name] = add_rtp(self.ended_rtp.get(name, RtpFigures()), self.of(port).rtp)
            local.pool.release(port.number, now)
        elif port.sock is not None:
            self.put_back(local, port)

    def _count(self, figures: FlowFigures, pool: PortPool) -> None:
        if figures.packets_in or figures.packets_out or figures.drops:
            self.ended = add_figures(self.ended, figures)
            self.ended_by_pool[pool] = add_figures(self.ended_by_pool.get(pool, FlowFigures()), figures)

    def by_pool(self) -> dict[PortPool, FlowFigures]:
        """Counters of all flows there ever were, by the pool their ports are from."""
        flows: dict[PortPool, list[int]] = {}
        for flow, (_, leg, _) in self.owners.items():
            sets = leg.sets()
            if sets:
                flows.setdefault(sets[0].local.pool, []).append(flow)
        return {
            pool: add_figures(self.ended_by_pool.get(pool, FlowFigures()), self.plane.sums(flows.get(pool, ())))
            for pool in {*flows, *self.ended_by_pool}
        }

    def sums(self) -> FlowFigures:
        """Counters of all flows there ever were."""
        return add_figures(self.ended, self.plane.sums())

    def rtp_by_pool(self) -> dict[str, RtpFigures]:
        """RTP figures of all streams there ever were, by pool; those of open ones as of their last survey."""
        found = dict(self.ended_rtp)
        for _, leg, port in self.owners.values():
            if port.seen is not None and port.seen.rtp.received and leg.ports is not None:
                name = leg.ports.local.pool.name
                found[name] = add_rtp(found.get(name, RtpFigures()), port.seen.rtp)
        return found

    def stop_rtcp(self, leg: Leg, now: float) -> None:
        """Close the RTCP ports of a leg that shares its RTP port or carries none."""
        for ports in leg.sets():
            if ports.rtcp is not None:
                self.stop(ports.local, ports.rtcp, now)
                ports.rtcp = None
            for port in ports.more:
                if port.rtcp:
                    self.stop(ports.local, port, now)
            ports.more = tuple(port for port in ports.more if not port.rtcp)

    def stop_leg(self, leg: Leg, now: float) -> None:
        """Close every flow of a leg, which keeps its ports for a last report."""
        for ports in leg.sets():
            for port in ports.ports():
                self.stop(ports.local, port, now)

    def of(self, port: Port) -> FlowFigures:
        """Counters of a port, those from before a restart included."""
        if port.flow != NOT_OPEN:
            now = self.plane.figures(port.flow)
        else:
            now = port.last or FlowFigures()
        return now if port.before is None else add_figures(port.before, now)

    def note_events(self, events: Iterable[FlowEvent]) -> list[int]:
        """File learning events with their legs; give the flows that learned something."""
        learned: list[int] = []
        for event in events:
            self.events_seen[event.kind] += 1
            owner = self.owners.get(event.flow)
            if owner is None:
                continue
            _, leg, _ = owner
            if len(leg.history) >= HISTORY:
                del leg.history[0]
            leg.history.append(event)
            if event.kind is not FlowEventKind.REJECTED:
                learned.append(event.flow)
        return learned
