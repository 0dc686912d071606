"""Connections that serve both directions: TLS peers that proved who they are and ask for it (RFC 5923).

Never for a client without a certificate: its `alias` would let it take the requests meant for another. The proof is
asked for again with every request that is sent: the domain that was looked up must be one the certificate is for.
"""

from __future__ import annotations

from nattrav.net.address import TransportAddress
from nattrav.sip.transport.flow import Flow
from nattrav.sip.via import Via

ALIAS = ";alias"


class Reuse:
    """Who proved what on which connection, by which addresses those connections may be used as well."""

    def __init__(self) -> None:
        self.dialled: set[Flow] = set()
        """Connections that we opened."""
        self._proved: dict[Flow, frozenset[str]] = {}
        self._aliases: dict[TransportAddress, Flow] = {}
        self._of: dict[Flow, set[TransportAddress]] = {}

    def __len__(self) -> int:
        return len(self._aliases)

    def proved(self, flow: Flow, names: tuple[str, ...]) -> None:
        """The peer of an accepted connection showed a certificate for these names."""
        self._proved[flow] = frozenset(names)

    def closed(self, flow: Flow) -> None:
        """Forget a connection."""
        self.dialled.discard(flow)
        self._proved.pop(flow, None)
        for address in self._of.pop(flow, ()):
            if self._aliases.get(address) == flow:
                del self._aliases[address]

    def ask(self, flow: Flow, via: Via) -> None:
        """A request with `alias` came: from now on requests to its sent-by may go over its connection (§5)."""
        names = self._proved.get(flow)
        if names is None or flow.transport != "tls" or via.transport != "tls" or via.host.lower() not in names:
            return
        address = TransportAddress(flow.remote.host, via.sent_by[1])
        self._aliases[address] = flow
        self._of.setdefault(flow, set()).add(address)

    def find(self, address: TransportAddress, server_name: str | None) -> Flow | None:
        """Give the connection that stands for an address, when its peer proved to be who is wanted (§8)."""
        flow = self._aliases.get(address)
        if flow is None or (server_name or address.host).lower() not in self._proved.get(flow, ()):
            return None
        return flow
