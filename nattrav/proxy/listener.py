"""Our listening sockets as the core sees them: what their Via says, and which of them reaches whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from nattrav.net.address import TransportAddress
from nattrav.sip.transport.flow import SECURE, Flow, Target

_DEFAULT_PORT = {"udp": 5060, "tcp": 5060, "tls": 5061, "ws": 80, "wss": 443}


@dataclass(frozen=True)
class Listener:
    """One bound socket. `id` as in flows and tokens; `advertised`, name or address, is what Via and URIs show."""

    id: int
    transport: str
    bound: TransportAddress
    advertised: str
    port: int

    @cached_property
    def sent_by(self) -> str:
        """`host[:port]` as written into Via and URIs; always with the port unless it is the default one."""
        host = f"[{self.advertised}]" if ":" in self.advertised else self.advertised
        return host if self.port == _DEFAULT_PORT[self.transport] else f"{host}:{self.port}"

    def via(self, branch: str) -> str:
        """The Via header field of a request that leaves from here."""
        before, after = self._around_branch
        return f"{before}{branch}{after}"

    @cached_property
    def _around_branch(self) -> tuple[str, str]:
        rport = ";rport" if self.transport == "udp" else ""
        return f"Via: SIP/2.0/{self.transport.upper()} {self.sent_by};branch=", rport

    def uri(self, user: str | None, *, explicit: bool = False, secure: bool = False) -> str:
        """A URI that leads here; with its transport when it is not UDP, or `explicit`.

        `secure` makes it `sips:` where the transport can be. WSS has no transport parameter of its own (RFC 7118
        §5.2): it is `ws`, and its port is always written, as the default one of `ws` is another.
        """
        userinfo = "" if user is None else f"{user}@"
        transport, place = self.transport, self.sent_by
        if transport == "wss":
            transport = "ws"
            if self.port == _DEFAULT_PORT["wss"]:
                place = f"{place}:{self.port}"
        if secure and self.transport in SECURE:
            return f"sips:{userinfo}{place}{';transport=ws' if transport == 'ws' else ''}"
        return f"sip:{userinfo}{place}{f';transport={transport}' if explicit or transport != 'udp' else ''}"

    @property
    def family(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.bound.host else 4


class Listeners:
    """All listeners, found by number, by token identifier, by address, and by what can reach a destination."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self.all = tuple(listeners)
        self.by_id = {listener.id: listener for listener in listeners}
        self._ours: set[tuple[str, int]] = set()
        for listener in listeners:
            self._ours.add((listener.advertised.lower(), listener.port))
            self._ours.add((listener.bound.host, listener.bound.port))
        self.hosts = frozenset(host for host, _ in self._ours)

    def __getitem__(self, number: int) -> Listener:
        return self.by_id[number]

    def is_ours(self, host: str, port: int | None, transport: str = "udp") -> bool:
        """Tell whether `host:port` of a URI or Via names one of our listeners."""
        return (host, _DEFAULT_PORT.get(transport, 5060) if port is None else port) in self._ours or (
            port is None and (host, 5060) in self._ours
        )

    def reaching(self, transport: str, remote: TransportAddress, prefer: Listener | None = None) -> Listener | None:
        """Choose the listener that sends to `remote`: the preferred one when it fits, else the first that does.

        A loopback listener reaches only loopback, and nothing else reaches it.
        """
        family = 6 if ":" in remote.host else 4
        loopback = _is_loopback(remote.host)
        fitting = [one for one in self.all if one.transport == transport and one.family == family]
        if prefer is not None and prefer in fitting:
            fitting.insert(0, prefer)
        for one in fitting:
            if _is_loopback(one.bound.host) == loopback:
                return one
        return fitting[0] if fitting else None

    def of(self, hop: Flow | Target) -> Listener | None:
        """The listener that a next hop is reached from: its flow's, or the one a new connection will advertise."""
        if isinstance(hop, Flow):
            return self.by_id.get(hop.listener)
        return self.reaching(hop.transport, hop.remote)


def _is_loopback(host: str) -> bool:
    return host.startswith("127.") or host == "::1"
