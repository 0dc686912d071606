"""Where a request goes: its Route set with our tokens in it, then bindings, upstreams and domains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from nattrav.location.bindings import Binding
from nattrav.location.location import Location
from nattrav.net.address import TransportAddress
from nattrav.proxy.accounts import Accounts
from nattrav.proxy.contact_mark import unmarked
from nattrav.proxy.flow_token import FlowToken, ForgedToken, TokenKind
from nattrav.proxy.hooks import Route
from nattrav.proxy.nat import NO_NAT, NatVerdict
from nattrav.proxy.parts import Parts
from nattrav.proxy.quirks import PLAIN, Treatment
from nattrav.proxy.upstreams import Upstreams, UpstreamState
from nattrav.proxy.validate import Refused
from nattrav.proxy.ways import Hop, Ways
from nattrav.sip.errors import MalformedMessage
from nattrav.sip.message import Request, Response
from nattrav.sip.name_addr import NameAddr
from nattrav.sip.transport.flow import Flow
from nattrav.sip.uri import SipUri, unescape, user_name

FORGED = "a flow token in its Route set is not one of ours: forged, altered, or signed with a key that is no more"
UNPROVEN = "who sent it has not proved to be a user of ours"
_NOTHING_MOVED: Mapping[tuple[int, TransportAddress], Flow] = MappingProxyType({})


@dataclass(slots=True)
class Sender:
    """Who sent a request, as far as routing cares."""

    flow: Flow
    upstream: UpstreamState | None = None
    verdict: NatVerdict = NO_NAT
    treatment: Treatment = PLAIN
    user: str | None = None
    authorised: bool = False
    asymmetric: bool = False
    """It sends from another port than it listens on; `flow` is where it listens (T3)."""

    @property
    def access(self) -> bool:
        """It came from the access side, not from an upstream."""
        return self.upstream is None


@dataclass(slots=True)
class RouteSet:
    """What the Route header fields said. `exit` is the flow that a token of ours names as the way out."""

    popped: int = 0
    last_used: bool = False
    """The last Route value is the target now: a strict router before us had put our URI in its place."""
    tokens: list[FlowToken] = field(default_factory=list)
    request_uri: str = ""
    exit: Flow | None = None
    outgoing: bool = False
    next_route: SipUri | None = None


class Routing(Ways):
    """Decides; keeps nothing of its own."""

    def __init__(self, parts: Parts, location: Location, accounts: Accounts, upstreams: Upstreams) -> None:
        super().__init__(parts, location)
        self._accounts = accounts
        self._upstreams = upstreams

    def route_set(self, request: Request) -> RouteSet | Refused:
        """Take our own entries off the Route set and read their tokens (R3)."""
        found = RouteSet(request_uri=request.request_uri)
        if ";maddr=" in found.request_uri:
            found.request_uri = self._without_our_maddr(found.request_uri)
        if "route" not in request.names:
            return found if ";alias=" not in found.request_uri else self._unmarked(found)
        parts = self._parts
        try:
            routes = [value.sip_uri for value in request.routes]
            uri = request.uri
        except MalformedMessage:
            return Refused(400, "R3", reason="Bad Route", why="its Route header fields cannot be read")
        if isinstance(uri, SipUri) and uri.loose and routes and parts.names_us(uri):
            # A strict router before us put our Record-Route URI into the Request-URI (§16.4).
            found.request_uri = routes.pop().text
            found.last_used = True
            routes.insert(0, uri)
        for index, route in enumerate(routes):
            if not parts.names_us(route):
                found.next_route = route
                break
            found.popped = index + (not found.last_used)
            if route.user is not None:
                try:
                    token = parts.signer.read(route.user)
                except ForgedToken:
                    return Refused(403, "R4", reason="Forbidden", why=FORGED)
                found.tokens.append(token)
        return found if ";alias=" not in found.request_uri else self._unmarked(found)

    def _without_our_maddr(self, request_uri: str) -> str:
        """Strip a maddr that names us with its port and transport: the rest is routed as if it had come so (§16.4)."""
        try:
            uri = SipUri.parse(request_uri)
        except MalformedMessage:
            return request_uri
        maddr = uri.params.get("maddr")
        if not maddr or not self._parts.names_us(uri.replace(host=maddr.strip("[]"), port=uri.port)):
            return request_uri
        params = {name: value for name, value in uri.params.items() if name not in ("maddr", "transport")}
        return SipUri.build(
            uri.host, user=uri.user, scheme=uri.scheme, params=params, headers=uri.headers, password=uri.password
        ).text

    def _unmarked(self, found: RouteSet) -> RouteSet | Refused:
        """Take a mark of ours off the Request-URI; its token names the way out as those of our Routes do."""
        try:
            mark = unmarked(found.request_uri)
            if mark is not None:
                found.tokens.append(self._parts.signer.read(mark[0]))
                found.request_uri = mark[1]
        except MalformedMessage:
            return Refused(400, "R3", reason="Bad Request-URI")
        except ForgedToken:
            return Refused(403, "R4", reason="Forbidden", why=FORGED)
        return found

    def registered_contact(self, text: str, owner: str, now: float) -> Hop | None:
        """Find the phone that registered this URI as its Contact, by the users that it and `owner` name."""
        try:
            uri = SipUri.parse(text)
            named = [uri, SipUri.parse(owner)]
        except MalformedMessage:
            return None
        users = [(one, unescape(one.user)) for one in named if one.user]
        aors = [aor for one, user in users for aor in (self.aor(one), f"{user}@{one.host.lower()}")]
        for aor in dict.fromkeys(aors):
            for binding in self._location.lookup(aor, self._parts.wall(now)):
                if binding.same_contact(text):
                    hop = self._to_binding(binding)
                    if hop.next_hop is not None or hop.uri is not None:
                        return hop
        return None

    def initial(self, request: Request, routes: RouteSet, sender: Sender, now: float) -> list[Hop] | Refused:
        """Find the destinations of a request outside a dialog (§16.5)."""
        parts = self._parts
        if routes.tokens and (sender.upstream is not None or parts.sip.mode == "edge"):
            token = routes.tokens[-1]
            if token.kind is TokenKind.EDGE or sender.upstream is not None:
                flow = self.token_flow(token)
                if flow is None:
                    return Refused(430, "N1")
                bound = self._location.by_flow(flow)
                return [Hop(routes.request_uri, flow, access=True, binding=bound[0] if bound else None)]
        if routes.next_route is not None and not sender.authorised:
            onward = routes.next_route
            # At an edge a Service-Route (RFC 3608) of the core is what a phone may ask for.
            if parts.sip.mode != "edge" or not self._upstreams.for_domain(onward.host.lower(), onward.port, now):
                return Refused(403, "R4", why=f"its Route asks us to relay to a stranger, {onward.hostport}")
        uri = request.uri if routes.request_uri == request.request_uri else SipUri.parse(routes.request_uri)
        if not isinstance(uri, SipUri):
            number = uri.number
            bound = self._location.lookup(self._own_aor(number), parts.wall(now))
            hops = [hop for hop in map(self._to_binding, bound) if hop.next_hop is not None or hop.uri is not None]
            if hops:
                return hops
            return self._to_upstreams(self._upstreams.for_number(number, now, sender.upstream), routes, sender)
        if routes.next_route is not None:
            return [self._toward(routes.next_route, routes, sender)]
        if parts.sip.mode == "edge" and sender.access:
            found = self._upstreams.for_domain(uri.host.lower(), uri.port, now) or self._upstreams.for_number(
                uri.user or "", now
            )
            return self._to_upstreams(found, routes, sender)
        if parts.names_us(uri):
            return self._inside(uri, routes, sender, now)
        if sender.authorised and uri.numeric:
            # What a transfer names is the Contact of a phone (RFC 3515 §2.1), often an address of its inside.
            registered = self.registered_contact(routes.request_uri, request.to.uri, now)
            if registered is not None:
                return [registered]
        served = self._upstreams.for_domain(uri.host.lower(), uri.port, now)
        if served:
            return self._to_upstreams(served, routes, sender) if sender.authorised else Refused(403, "R4", why=UNPROVEN)
        if not sender.authorised:
            return Refused(403, "R4", why=f"it asks us to relay to a stranger, {uri.hostport}")
        return [self._toward(uri, routes, sender)]

    def chosen(
        self, request: Request, routes: RouteSet, sender: Sender, decision: Route, now: float
    ) -> list[Hop] | Refused:
        """Follow an operator's hook: other upstreams, another number, or both."""
        try:
            uri = SipUri.parse(routes.request_uri)
        except MalformedMessage as fault:
            return Refused(fault.status, "hook")
        if decision.number is not None:
            uri = uri.replace(user=decision.number)
            routes.request_uri = uri.text
        if not decision.upstreams:
            return self._inside(uri, routes, sender, now)
        named = {state.name: state for state in self._upstreams.all}
        found = [named[name] for name in decision.upstreams if name in named]
        usable = [state for state in found if state.usable(now)]
        return self._to_upstreams(usable or found, routes, sender)

    def redirected(self, response: Response, routes: RouteSet, sender: Sender, now: float) -> list[Hop]:
        """Give the destinations of a 3xx, strangers left out."""
        hops: list[Hop] = []
        try:
            contacts = response.contacts
            uris = [] if contacts == "*" else [one.sip_uri for one in contacts]
        except MalformedMessage:
            return []
        for uri in uris[:10]:
            if self._parts.names_us(uri):
                found = self._inside(uri, replace(routes, request_uri=uri.text), sender, now)
                if not isinstance(found, Refused):
                    hops += found
        return hops

    def _inside(self, uri: SipUri, routes: RouteSet, sender: Sender, now: float) -> list[Hop] | Refused:
        if uri.user is None:
            found = self._upstreams.for_number("", now, exclude=sender.upstream)
            if found and sender.authorised and uri.host.lower() in self._parts.domains:
                return self._to_upstreams(found, routes, sender)
            return Refused(404, "R3")
        aor = self.aor(uri)
        bound = self._location.lookup(aor, self._parts.wall(now))
        if bound:
            hops = [self._to_binding(one) for one in bound]
            gone = [hop for hop in hops if hop.next_hop is None and hop.uri is None]
            hops = [hop for hop in hops if hop not in gone]
            why = f"the connection over which {aor} registered is gone" if gone else ""
            return hops or Refused(430 if gone else 480, "N1", why=why)
        if self._is_user(aor):
            return Refused(480, "R3", why=f"the callee, {aor}, is a user of ours without a registration")
        found = self._upstreams.for_number(uri.user, now, exclude=sender.upstream)
        if found and sender.upstream is None:
            return self._to_upstreams(found, routes, sender) if sender.authorised else Refused(403, "R4", why=UNPROVEN)
        return Refused(404, "R3")

    def _is_user(self, aor: str) -> bool:
        name, _, domain = aor.rpartition("@")
        return self._accounts.find(user_name(name), None if domain == "*" else domain) is not None

    def _to_binding(self, binding: Binding) -> Hop:
        flow: Flow | None = binding.flow
        if flow is not None and flow.reliable:
            flow = self._parts.connections.get((flow.listener, flow.remote.host, flow.remote.port))
            if flow is None and binding.path:
                edge = NameAddr.parse(binding.path[0]).sip_uri
                return Hop(
                    binding.uri, self.to_uri(edge, None), edge, routes=binding.path, q=binding.q, binding=binding
                )
        return Hop(binding.uri, flow, routes=binding.path, q=binding.q, access=True, binding=binding)

    def _to_upstreams(self, found: list[UpstreamState], routes: RouteSet, sender: Sender) -> list[Hop] | Refused:
        if not found:
            return Refused(404, "R9")
        hops = []
        near = self._parts.listeners[sender.flow.listener]
        for state in found:
            next_hop = self.to_uri(state.uri, near)
            hops.append(Hop(self._upstream_uri(routes.request_uri, state), next_hop, state.uri, upstream=state))
        first = hops[0]
        first.alternatives = hops[1:]
        return [first]

    def _upstream_uri(self, request_uri: str, state: UpstreamState) -> str:
        """Name the upstream in the Request-URI when it named us, so that it finds itself responsible."""
        if self._parts.sip.mode == "edge":
            return request_uri
        try:
            uri = SipUri.parse(request_uri)
        except MalformedMessage:
            return request_uri
        if not self._parts.names_us(uri) or uri.host.lower() in self._parts.domains:
            return request_uri
        user = "" if uri.user is None else f"{uri.user}@"
        params = "".join(
            f";{name}" if value is None else f";{name}={value}"
            for name, value in uri.params.items()
            if name not in ("transport", "maddr", "lr")
        )
        return f"{uri.scheme}:{user}{state.uri.hostport}{params}"

    def _toward(self, uri: SipUri, routes: RouteSet, sender: Sender) -> Hop:
        next_hop = self.to_uri(uri, self._parts.listeners[sender.flow.listener])
        return Hop(routes.request_uri, next_hop, uri)

    def within_dialog(
        self,
        request: Request,
        routes: RouteSet,
        sender: Sender,
        from_access_party: bool | None,
        other_party: Flow | None = None,
        moved: Mapping[tuple[int, TransportAddress], Flow] = _NOTHING_MOVED,
        *,
        now: float,
    ) -> Hop | Refused:
        """Find the destination of a request inside a dialog by the tokens of its Route set.

        `from_access_party` says whether its sender is a party on the access side, None when the call is not known.
        `other_party` is where a known call's other side is: clients that lost their route set still find it.
        `moved` says for flows that tokens name where their party is by now.
        """
        if len(routes.tokens) >= 2:
            return self._down(routes.tokens[-1], request, routes, moved, now)
        if routes.tokens:
            token = routes.tokens[0]
            if not (from_access_party or self._comes_from(token, sender)):
                return self._down(token, request, routes, moved, now)
        elif routes.popped == 0 and routes.next_route is None and other_party is not None:
            if self.is_open(other_party):
                return Hop(routes.request_uri, other_party)
            return self.registered_contact(routes.request_uri, request.to.uri, now) or Refused(430, "N1")
        elif not sender.authorised and other_party is None:
            # Our URI without a token proves nothing: anyone can write it.
            return Refused(481 if routes.next_route is None else 403, "R4")
        if routes.next_route is not None:
            return self._toward(routes.next_route, routes, sender)
        try:
            uri = SipUri.parse(routes.request_uri)
        except MalformedMessage as fault:
            return Refused(fault.status, "R3")
        if self._parts.names_us(uri):
            return Refused(481, "R3")
        return self._toward(uri, routes, sender)

    def _comes_from(self, token: FlowToken, sender: Sender) -> bool:
        flow = sender.flow
        if token.listener != flow.listener:
            return False
        # A token's host with another port is its phone behind a NAT that made a new mapping: another phone behind
        # the same NAT would be an access client with a token of its own.
        if token.remote == flow.remote or (sender.upstream is None and token.remote.host == flow.remote.host):
            return True
        if token.serial:
            binding = self._location.by_serial(token.serial)
            return binding is not None and binding.flow.remote == flow.remote
        return False

    def _down(
        self,
        token: FlowToken,
        request: Request,
        routes: RouteSet,
        moved: Mapping[tuple[int, TransportAddress], Flow],
        now: float,
    ) -> Hop | Refused:
        flow = moved.get((token.listener, token.remote)) if moved else None
        if flow is None or not self.is_open(flow):
            flow = self.token_flow(token)
        if flow is None:
            # Its phone may have registered the same Contact over another connection since.
            return self.registered_contact(routes.request_uri, request.to.uri, now) or Refused(430, "N1")
        routes.exit = flow
        return Hop(routes.request_uri, flow, access=True)

    def aor(self, uri: SipUri) -> str:
        """Name an address-of-record: user and domain, one domain for all of our own addresses."""
        host = uri.host.lower()
        user = unescape(uri.user or "")
        return f"{user}@{host}" if host in self._parts.domains else self._own_aor(user)

    def _own_aor(self, user: str) -> str:
        return f"{user}@{self._parts.sip.domains[0] if self._parts.sip.domains else '*'}"
