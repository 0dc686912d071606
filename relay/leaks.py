"""Finds ports that the pools and the sessions do not agree on, and ports that another program sits on."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from relay.legs import Session
from relay.ports import PortPool, PortState


class Leak(enum.StrEnum):
    """What is wrong with a port."""

    NO_SESSION = "no_session"
    """Bound for a call, and no session has it: it never comes back."""
    NOT_BOUND = "not_bound"
    """A session has it, and the pool would give it out again."""
    FOREIGN = "foreign"
    """Another program was found on it; it is tried again later."""


@dataclass(frozen=True, slots=True)
class LeakedPort:
    """One port; `call_id` where a session has it."""

    pool: PortPool
    number: int
    leak: Leak
    call_id: str | None = None


def leaks(pools: Iterable[PortPool], sessions: Iterable[Session]) -> list[LeakedPort]:
    """Compare pools with sessions, by address and number."""
    held: dict[PortPool, dict[int, str]] = {}
    for session in sessions:
        for leg in session.legs():
            for ports in leg.sets():
                for port in ports.ports():
                    held.setdefault(ports.local.pool, {})[port.number] = session.call_id
    found = []
    for pool in pools:
        owners = held.get(pool, {})
        used = set(pool.numbers(PortState.USED))
        found += [LeakedPort(pool, number, Leak.NO_SESSION) for number in sorted(used - owners.keys())]
        found += [LeakedPort(pool, number, Leak.NOT_BOUND, owners[number]) for number in sorted(owners.keys() - used)]
        found += [LeakedPort(pool, number, Leak.FOREIGN) for number in pool.numbers(PortState.ASIDE)]
    return found
