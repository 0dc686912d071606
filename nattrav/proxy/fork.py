"""One attempt to deliver a request: a client transaction with its destination; and the order of several."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from nattrav.proxy.transactions import ClientTransaction, Context, Key, Transactions
from nattrav.proxy.ways import Hop
from nattrav.sip.edit import Edit
from nattrav.sip.message import Response
from nattrav.sip.transport.flow import Flow


class Branch(ClientTransaction):
    """A client transaction of a proxied request.

    `edit` is the request as sent until the transaction is over; `answers` maps SDP bodies of responses to what the
    relay made of them (None while it is asked).
    """

    __slots__ = (
        "answers",
        "cancelled",
        "cseq",
        "edit",
        "ended",
        "final",
        "hop_wanted",
        "reason",
        "relayed",
        "request_uri",
        "response",
    )

    def __init__(self, table: Transactions, key: Key, context: Context, hop: Hop, edit: Edit, request_uri: str) -> None:
        super().__init__(table, key, context)
        self.hop_wanted = hop
        self.edit: Edit | None = edit
        self.request_uri = request_uri
        self.cancelled = False
        self.ended = False
        self.relayed = False
        self.reason: str | None = None
        """Why it is cancelled (RFC 3326)."""
        self.response: Response | None = None
        self.answers: dict[tuple[str, bytes], bytes | None] = {}
        self.final: Response | None = None
        """A 2xx whose SDP is being asked about on behalf of a 18x."""
        self.cseq = 0

    @property
    def branch(self) -> str:
        """The branch parameter of our Via."""
        return self.key[0]

    @property
    def flow(self) -> Flow | None:
        """The flow it went out on, if it is one."""
        return self.hop if isinstance(self.hop, Flow) else None


def in_groups(hops: Sequence[Hop]) -> list[list[Hop]]:
    """Split destinations into groups of equal q, highest first: parallel inside a group, groups in turn (§16.6).

    Several flows of one instance (RFC 5626) are tried one after another, never together.
    """
    groups: list[list[Hop]] = []
    for _, group in groupby(sorted(hops, key=lambda hop: -hop.q), key=lambda hop: hop.q):
        first: list[Hop] = []
        instances: dict[str, Hop] = {}
        for hop in group:
            instance = hop.binding.instance if hop.binding is not None else None
            if instance is not None and instance in instances:
                instances[instance].alternatives.append(hop)
            else:
                if instance is not None:
                    instances[instance] = hop
                first.append(hop)
        groups.append(first)
    return groups


def share_breadth(breadth: int, group: Sequence[Hop]) -> bool:
    """Split Max-Breadth over destinations tried together (RFC 5393 §5.3.3); False when it does not reach for all.

    What takes a destination's place later has its share: it begins when the one before it has ended (§5.3.3.1).
    """
    if breadth < len(group):
        return False
    share, more = divmod(breadth, len(group))
    for number, hop in enumerate(group):
        for one in (hop, *hop.alternatives):
            one.breadth = share + (number < more)
    return True
