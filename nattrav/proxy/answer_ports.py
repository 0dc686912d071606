"""On which port phones listen that send from another than their Via names, and ask for no rport.

Most listen where their Via says. A retransmission says that the answer did not arrive: the other port is tried, and
kept for the next requests of the same kind of phone, until that one is no good either.
"""

from __future__ import annotations

from collections import OrderedDict

from nattrav.sip.message import Request
from nattrav.sip.transport.flow import Flow

KNOWN_LIMIT = 10_000


class AnswerPorts:
    """Phones that are answered at their source port, by address and User-Agent; bounded."""

    def __init__(self) -> None:
        self._at_source: OrderedDict[tuple[str, str], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._at_source)

    def prefers_source(self, flow: Flow, request: Request) -> bool:
        """Answers to the port of the Via did not arrive last time."""
        return bool(self._at_source) and _key(flow, request) in self._at_source

    def try_other(self, flow: Flow, request: Request) -> bool:
        """A request came again: answer it at the other port; True for the source port."""
        key = _key(flow, request)
        if key in self._at_source:
            del self._at_source[key]
            return False
        self._at_source[key] = None
        if len(self._at_source) > KNOWN_LIMIT:
            self._at_source.popitem(last=False)
        return True


def _key(flow: Flow, request: Request) -> tuple[str, str]:
    return flow.remote.host, request.user_agent or ""
