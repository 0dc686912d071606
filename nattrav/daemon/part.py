"""One service of a bundle, as its supervisor sees it."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from nattrav.daemon.child import Child, Orders
from nattrav.daemon.runtime import Listening


@dataclass
class Part:
    """One service and how it fares."""

    orders: Orders
    child: Child | None = None
    listeners: list[Listening] = field(default_factory=list)
    restarts: int = 0
    silent: int = 0
    up: bool = False
    wanted: bool = False
    """Its end was asked for, so it is no crash."""
    started: trio.Event = field(default_factory=trio.Event)
    refusal: str | None = None
    """Why it did not start, after a restart that was asked for."""
    sockets: list[int] = field(default_factory=list)
    """What its last process left bound for the next one."""
