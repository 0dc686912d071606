"""Requests that were refused before they became calls, kept for `explain`: the latest so many."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from nattrav.proxy.causes import by_us
from nattrav.proxy.validate import Refused
from nattrav.sip.errors import MalformedMessage
from nattrav.sip.message import Request
from nattrav.sip.transport.flow import Flow

KEPT = 1000


class Refusal(NamedTuple):
    """One of them. `at` is in the core's clock; `to` is the Request-URI."""

    at: float
    method: str
    call_id: str
    from_: str
    to: str
    flow: Flow
    status: int
    rule: str
    why: str

    @property
    def sentence(self) -> str:
        """What happened and why."""
        return f"The {self.method} was refused with {self.status}: {self.why}."


class Refusals:
    """The latest of them, bounded in number; what is kept of each is cut to a sensible length."""

    def __init__(self) -> None:
        self._kept: deque[Refusal] = deque(maxlen=KEPT)

    def __len__(self) -> int:
        return len(self._kept)

    def note(self, request: Request, flow: Flow, refused: Refused, now: float) -> None:
        """Keep a refusal."""
        try:
            from_ = request.from_.uri
        except MalformedMessage:
            from_ = ""
        self._kept.append(
            Refusal(
                now,
                request.method[:20],
                request.call_id[:200],
                from_[:200],
                request.request_uri[:200],
                flow,
                refused.status,
                refused.rule,
                refused.why or by_us(refused.status),
            )
        )

    def find(self, wanted: str) -> list[Refusal]:
        """Those of a Call-ID, of a number or user on either side, or of a source address; newest first."""
        return [one for one in reversed(self._kept) if _matches(one, wanted)]


def _matches(one: Refusal, wanted: str) -> bool:
    return wanted in (one.call_id, one.flow.remote.host, *names_of(one.from_), *names_of(one.to))


def names_of(uri: str) -> tuple[str, ...]:
    """What an operator may call a party: its URI, user@domain, or the user or number alone."""
    address = uri.partition(":")[2].partition(";")[0]
    user, _, host = address.partition("@")
    return uri, address, user, f"{user}@{host.partition(':')[0]}"
