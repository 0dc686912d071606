"""Signs of a SIP ALG: a NAT that rewrites the messages it carries, mostly half, and breaks calls nobody can explain.

The signs are kept by public address, because the ALG is a property of the NAT and not of one phone behind it. Phones
that learn their address by STUN show it everywhere; an ALG leaves seams: one field rewritten and its neighbour not,
lengths that no longer fit, a branch that changes between a request and its retransmission.
"""

from __future__ import annotations

import enum
import re
from collections import OrderedDict
from dataclasses import dataclass
from types import MappingProxyType

from nattrav.net.address import NON_PUBLIC, AddressClass, classify
from nattrav.proxy.nat import NatTest, NatVerdict, literal
from nattrav.sip.message import Message, Request
from nattrav.sip.transport.flow import SECURE, Flow

HOSTS = 20_000
REMEMBERED = 7 * 86400.0
"""Seconds after which a sign that was not seen again is forgotten."""
SUSPECTED = 50
"""Score from which on an ALG is named as a cause."""
ADDRESS_LENGTHS = 32
"""Octets by which a rewritten body may differ: a few addresses of another length."""

_ORIGIN = re.compile(rb"^o=\S* \S+ \S+ IN IP[46] (\S+)", re.MULTILINE)
_BANDWIDTH = re.compile(rb"^b=(?![A-Za-z0-9-]+:[0-9]+\r?$)", re.MULTILINE)


class AlgSign(enum.Enum):
    """A sign; the value is its name in metrics, `registrations show` and `explain`."""

    VIA_REWRITTEN = "via_rewritten"
    """Via shows the public source, Contact still the private address."""
    ORIGIN_PRIVATE = "sdp_origin_private"
    """c= shows the public source, o= still the private address."""
    BODY_LENGTH = "body_length"
    """Content-Length differs from the body by about the length of an address."""
    BANDWIDTH_DAMAGED = "bandwidth_damaged"
    """A b= line that no phone writes."""
    BRANCH_ALTERED = "branch_altered"
    """The same request came again with another branch."""
    CANARY_ALTERED = "canary_altered"
    """The answer to an OPTIONS of ours does not repeat what the phone must copy."""


WEIGHTS = MappingProxyType(
    {
        AlgSign.VIA_REWRITTEN: 50,
        AlgSign.ORIGIN_PRIVATE: 30,
        AlgSign.BODY_LENGTH: 50,
        AlgSign.BANDWIDTH_DAMAGED: 30,
        AlgSign.BRANCH_ALTERED: 40,
        AlgSign.CANARY_ALTERED: 60,
    }
)


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What speaks for an ALG in front of one address; `score` is 0 to 100."""

    score: int
    signs: tuple[str, ...]

    @property
    def named(self) -> bool:
        """Enough to call it a cause."""
        return self.score >= SUSPECTED


NONE = Suspicion(0, ())


class AlgWatch:
    """Collects signs by public address, bounded."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, dict[AlgSign, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def note(self, flow: Flow, sign: AlgSign, now: float) -> bool:
        """Remember a sign; True when it is new for this address."""
        host = flow.remote.host
        signs = self._seen.get(host)
        if signs is None:
            signs = self._seen[host] = {}
            if len(self._seen) > HOSTS:
                self._seen.popitem(last=False)
        new = sign not in signs
        signs[sign] = now
        return new

    def suspicion(self, host: str, now: float) -> Suspicion:
        """Give the signs seen from an address lately and what they add up to."""
        signs = self._seen.get(host)
        if signs is None:
            return NONE
        live = [sign for sign, at in signs.items() if now - at < REMEMBERED]
        return Suspicion(min(100, sum(WEIGHTS[sign] for sign in live)), tuple(sorted(sign.value for sign in live)))


def signs_of(flow: Flow, request: Request, verdict: NatVerdict, sdp: bytes | None, octets: bytes) -> list[AlgSign]:
    """Look for seams in a first-hop request; `octets` is it as received. Encrypted flows pass every ALG unseen."""
    if flow.transport in SECURE:
        return []
    found = []
    fired = verdict.fired
    public = classify(flow.remote.host) is AddressClass.PUBLIC
    if (
        public
        and NatTest.CONTACT_NONPUBLIC in fired
        and NatTest.VIA_HOST_DIFFERS not in fired
        and literal(request.via.host) is not None
    ):
        found.append(AlgSign.VIA_REWRITTEN)
    if sdp is not None:
        if public and NatTest.SDP_HOST_DIFFERS not in fired and NatTest.SDP_NONPUBLIC not in fired:
            origin = _ORIGIN.search(sdp)
            host = None if origin is None else literal(origin[1].decode("latin-1"))
            if host is not None and classify(host) in NON_PUBLIC:
                found.append(AlgSign.ORIGIN_PRIVATE)
        if _BANDWIDTH.search(sdp) is not None:
            found.append(AlgSign.BANDWIDTH_DAMAGED)
        if not flow.reliable and not octets.endswith(request.body) and _has_tail(octets, request.body):
            found.append(AlgSign.BODY_LENGTH)
    return found


def _has_tail(octets: bytes, body: bytes) -> bool:
    """Content-Length cut off the last words of the body, and not just line ends that some phones add."""
    tail = octets[octets.rfind(body) + len(body) :]
    return 0 < len(tail) <= ADDRESS_LENGTHS and bool(tail.strip())


def is_altered(answer: Message, *, call_id: str, from_tag: str, to_host: str) -> bool:
    """Tell whether the answer to an OPTIONS of ours repeats other identities than it was sent (RFC 3261 §8.2.6.2)."""
    to = literal(answer.to.sip_uri.host)
    return answer.call_id != call_id or answer.from_.tag != from_tag or (to is not None and to != to_host)
