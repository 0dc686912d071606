"""Subscribers with their user agents around one edge."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from tests.natlab.baresip import Baresip
from tests.natlab.capture import Capture
from tests.natlab.edges import Edge
from tests.natlab.laboratory import Host, Laboratory
from tests.tones import CALLEE, CALLER

NUMBER = "9000"
"""The gateway's; an edge sends numbers beginning with 9 there."""


class Town:
    """An edge that runs, a gateway, and phones that come in one by one. Use as a context manager."""

    def __init__(self, laboratory: Laboratory, edge: Edge, capture: Capture) -> None:
        self.laboratory = laboratory
        self.edge = edge
        self.capture = capture
        self.phones: dict[str, Baresip] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Town:
        with ExitStack() as building:
            building.enter_context(self.edge)
            self._gateway: Baresip | None = None
            self._stack = building.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def gateway(self) -> Baresip:
        """A user agent on a public address that answers every call and registers nowhere."""
        if self._gateway is None:
            self._gateway = self.user_agent(self.laboratory.gateway, NUMBER, CALLEE, register=False)
        return self._gateway

    def phone(self, name: str, host: Host, *, frequency: float = CALLER, **options: Any) -> Baresip:
        """A phone that is registered when this returns."""
        phone = self.user_agent(host, name, frequency, **options)
        phone.wait_registered()
        return phone

    def user_agent(self, host: Host, name: str, frequency: float, **options: Any) -> Baresip:
        options.setdefault("server", self.edge.domain)
        directory = self.laboratory.directory / name
        made = Baresip(host, name, directory=directory, frequency=frequency, **options)
        self.phones[name] = self._stack.enter_context(made)
        return made
