"""Who may register and who may call: sources without users, digest with them (R1, R4)."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from nattrav.proxy.bindings import Bindings
from nattrav.proxy.parts import Parts
from nattrav.proxy.routing import Sender
from nattrav.proxy.validate import Refused
from nattrav.sip.message import Request


class Authorisation:
    """Decides before routing. Sets `sender.authorised` and, with credentials, `sender.user`."""

    def __init__(self, parts: Parts, bindings: Bindings) -> None:
        self._parts = parts
        self._bindings = bindings
        settings = parts.sip.registrar
        self._open = [ipaddress.ip_network(net, strict=False) for net in settings.open_nets]
        self._anyone = settings.authentication == "none"
        self._from_open_net = lru_cache(maxsize=20_000)(self._in_open_net)

    def registration(self, request: Request, sender: Sender, now: float) -> Refused | None:
        """May this REGISTER go on?"""
        return self._admit(sender)

    def request(self, request: Request, sender: Sender, now: float) -> Refused | None:
        """May this request outside a dialog go on?"""
        if sender.upstream is not None and sender.upstream.settings.trusted:
            sender.authorised = True
            return None
        if self._parts.sip.mode == "edge":
            return None
        return self._admit(sender)

    def _admit(self, sender: Sender) -> Refused | None:
        if self._anyone or self._from_open_net(sender.flow.remote.host):
            sender.authorised = True
            return None
        return Refused(403, "R1")

    def _in_open_net(self, host: str) -> bool:
        address = ipaddress.ip_address(host)
        return any(address in net for net in self._open)
