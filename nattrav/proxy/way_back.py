"""Responses that did not arrive: the next ways to their sender by the DNS of its sent-by (RFC 3263 §5).

Only for upstreams: what a phone writes into its Via leads nowhere, and would let strangers steer our answers.
"""

from __future__ import annotations

import re
from functools import partial

from nattrav.net.address import TransportAddress
from nattrav.proxy.effects import Lookup
from nattrav.proxy.parts import Parts
from nattrav.proxy.routing import Routing
from nattrav.proxy.transactions import ServerTransaction
from nattrav.proxy.upstreams import Upstreams
from nattrav.sip.errors import MalformedMessage
from nattrav.sip.grammar import KNOWN_METHODS, split_first
from nattrav.sip.transport.flow import Flow, Target, Undelivered
from nattrav.sip.via import Via

_TOP_VIA = re.compile(rb"\r\n(?:via|v)[ \t]*:([^\r\n]*)", re.IGNORECASE)
TRIES = 5
"""Ways tried for one response; after that its sender has to ask again."""


def top_via(data: bytes) -> Via | None:
    """Read the topmost Via of a message of which perhaps only the beginning is there."""
    found = _TOP_VIA.search(data)
    if found is None:
        return None
    try:
        return Via(split_first(found[1].decode("latin-1").strip())[0])
    except MalformedMessage:
        return None


class WaysBack:
    """Finds other ways for responses, and lets the transaction go on by the one that was found."""

    def __init__(self, parts: Parts, upstreams: Upstreams, routing: Routing) -> None:
        self._parts = parts
        self._upstreams = upstreams
        self._routing = routing

    def failed(self, response: Undelivered, via: Via, now: float) -> None:
        """A response did not arrive; `via` is its topmost."""
        to = response.to
        server = self._transaction(via, to)
        if server is None or self._upstreams.by_source(server.came_from) is None:
            return
        if to.remote not in server.tried:
            server.tried = (*server.tried, to.remote)
        if len(server.tried) >= TRIES:
            return
        parts = self._parts
        host = f"[{via.host}]" if ":" in via.host else via.host
        port = "" if via.port is None else f":{via.port}"
        uri = f"sip:{host}{port};transport={via.transport}"
        resume = partial(self._found, server, response.data if response.whole else b"")
        parts.out.append(Lookup(parts.await_reply(resume), uri))

    def _transaction(self, via: Via, to: Flow | Target) -> ServerTransaction | None:
        host, port = via.sent_by
        for method in KNOWN_METHODS:
            server = self._parts.transactions.servers.get((via.branch or "", host, str(port), method))
            if server is not None and to in (server.flow, server.target):
                return server
        return None

    def _found(self, server: ServerTransaction, data: bytes, reply: object, now: float) -> None:
        near = self._parts.listeners.of(server.flow)
        for transport, address, name in reply if isinstance(reply, list) else ():
            remote = TransportAddress(*address)
            way = None if remote in server.tried else self._routing.to_address(transport, remote, near, name)
            if way is not None:
                server.go_by(way, data)
                return
