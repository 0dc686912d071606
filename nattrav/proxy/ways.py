"""How a destination is reached: from addresses, URIs and tokens to flows, and to targets still to be connected to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from nattrav.location.bindings import Binding
from nattrav.location.location import Location
from nattrav.net.address import TransportAddress, canonical, is_literal
from nattrav.proxy.flow_token import FlowToken, TokenKind
from nattrav.proxy.listener import Listener
from nattrav.proxy.parts import Parts
from nattrav.proxy.upstreams import UpstreamState
from nattrav.sip.transport.flow import SECURE, Flow, Target
from nattrav.sip.uri import SipUri

NO_TCP_FOR = 300.0
MAX_BREADTH = 60
"""Parallel branches of a request that names no limit, and the most that any may ask for (RFC 5393 §5.3.3)."""
_PORTS = {"udp": 5060, "tcp": 5060, "tls": 5061, "ws": 80, "wss": 443}


@dataclass(slots=True)
class Hop:
    """One destination. `next_hop` is None while `uri` must still be looked up (RFC 3263)."""

    request_uri: str
    next_hop: Flow | Target | None
    uri: SipUri | None = None
    routes: tuple[str, ...] = ()
    q: float = 1.0
    access: bool = False
    upstream: UpstreamState | None = None
    binding: Binding | None = None
    breadth: int = MAX_BREADTH
    """Its share of the request's Max-Breadth (RFC 5393 §5.3.3)."""
    by_size: bool | None = None
    """True: chosen for the request's size (R8); False: the way back from that, whatever the size."""
    alternatives: list[Hop] = field(default_factory=list)

    @property
    def secure(self) -> bool:
        """It is reached over TLS, or will be when its `sips:` URI is looked up."""
        if self.next_hop is not None:
            return self.next_hop.transport in SECURE
        return self.uri is not None and (self.uri.secure or self.uri.transport == "tls")


class Ways:
    """Finds the flow or target; knows what it has learned about who takes no TCP."""

    def __init__(self, parts: Parts, location: Location) -> None:
        self._parts = parts
        self._location = location
        self._no_tcp: dict[TransportAddress, float] = {}
        self._ways: dict[tuple[str, int], Flow | Target] = {}

    def token_flow(self, token: FlowToken) -> Flow | None:
        """Give the flow a token names, at its newest address; None when it is gone."""
        listener = self._parts.listeners.by_id.get(token.listener)
        if listener is None:
            return None
        remote = token.remote
        if token.serial:
            binding = self._location.by_serial(token.serial)
            if binding is not None and binding.flow.listener == listener.id:
                remote = binding.flow.remote
        if listener.transport == "udp":
            return Flow("udp", listener.id, listener.bound, remote)
        return self._parts.connections.get((listener.id, remote.host, remote.port))

    def is_open(self, flow: Flow) -> bool:
        """A message can leave by that flow."""
        if not flow.reliable:
            return True
        return self._parts.connections.get((flow.listener, flow.remote.host, flow.remote.port)) == flow

    def token_for(
        self,
        flow: Flow,
        now: float,
        *,
        kind: TokenKind = TokenKind.DIALOG,
        base32: bool = False,
        asymmetric: bool = False,
    ) -> str:
        """Sign a token for a flow."""
        parts = self._parts
        on_flow = self._location.by_flow(flow)
        token = FlowToken(
            kind=kind,
            listener=flow.listener,
            remote=flow.remote,
            serial=on_flow[0].serial if len(on_flow) == 1 else 0,
            hours=int(parts.wall(now) // 3600),
            asymmetric=asymmetric,
        )
        return parts.signer.write(token, base32=base32)

    def to_uri(self, uri: SipUri, near: Listener | None) -> Flow | Target | None:
        """Give the next hop of a URI with a literal address; None when its name must be looked up."""
        key = (uri.text, 0 if near is None else near.id)
        way = self._ways.get(key)
        if way is None:
            way = self._to_uri(uri, near)
            # Which flow a datagram takes depends on nothing that changes.
            if isinstance(way, Flow) and not way.reliable:
                if len(self._ways) >= 10_000:
                    self._ways.clear()
                self._ways[key] = way
        return way

    def _to_uri(self, uri: SipUri, near: Listener | None) -> Flow | Target | None:
        host = uri.params.get("maddr") or uri.host
        host = host.strip("[]")
        if not is_literal(host):
            return None
        transport = uri.transport or ("tls" if uri.secure else "udp")
        if uri.secure and transport == "tcp":
            transport = "tls"
        return self.to_address(
            transport, TransportAddress(canonical(host), uri.port or _PORTS.get(transport, 5060)), near
        )

    def to_address(
        self, transport: str, address: TransportAddress, near: Listener | None, server_name: str | None = None
    ) -> Flow | Target | None:
        """Choose the listener or connection that reaches a literal address; None when no listener can."""
        listener = self._parts.listeners.reaching(transport, address, near)
        if listener is None:
            return None
        if transport == "udp":
            return Flow("udp", listener.id, listener.bound, address)
        open_one = self._parts.connections.get((listener.id, address.host, address.port))
        if open_one is None and transport == "tls" and len(self._parts.reuse):
            open_one = self._parts.reuse.find(address, server_name)
        if open_one is None and transport in ("ws", "wss"):
            return None  # only clients open WebSockets (RFC 7118 §3)
        return open_one or Target(transport, address, server_name or "")

    def instead_of_udp(self, hop: Hop, flow: Flow, now: float) -> Hop | None:
        """Give the way over TCP for a request too large for UDP, with UDP to fall back on (RFC 3261 §18.1.1)."""
        named = hop.uri is not None and hop.uri.transport == "udp"
        if named or hop.access or hop.by_size is not None or self._no_tcp.get(flow.remote, 0.0) > now:
            return None
        tcp = self.to_address("tcp", flow.remote, self._parts.listeners.of(flow))
        if tcp is None:
            return None
        back = replace(hop, next_hop=flow, by_size=False)
        return replace(hop, next_hop=tcp, by_size=True, alternatives=[back])

    def offers_no_tcp(self, remote: TransportAddress, now: float) -> None:
        """Remember for a while that a next hop cannot be reached over TCP."""
        if len(self._no_tcp) >= 10_000:
            self._no_tcp.clear()
        self._no_tcp[remote] = now + NO_TCP_FOR
