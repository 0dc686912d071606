"""Branch parameters of our Vias: a unique part, and a loop part that hashes what steers routing (RFC 3261 §16.6)."""

from __future__ import annotations

import hashlib

from nattrav.sip.message import Request
from nattrav.sip.via import COOKIE


class BranchMaker:
    """Makes branches nobody can guess. `key` is random and secret; the same key gives the same sequence."""

    def __init__(self, key: bytes) -> None:
        self._unique = hashlib.blake2s(key=key[:32], digest_size=9, person=b"branch")
        self._loop = hashlib.blake2s(key=key[:32], digest_size=6, person=b"loop")
        self._stateless = hashlib.blake2s(key=key[:32], digest_size=9, person=b"stateles")
        self._count = 0

    def new(self, loop_part: str) -> str:
        """Make a branch that was never used: cookie, unique part, `-`, loop part."""
        self._count += 1
        digest = self._unique.copy()
        digest.update(self._count.to_bytes(8, "big"))
        return f"{COOKIE}{digest.hexdigest()}-{loop_part}"

    def loop_part(self, request: Request) -> str:
        """Hash what routing depends on, as received: same again in one of our Vias means a loop, other a spiral.

        Neither the method (CANCEL and ACK must match their INVITE) nor the top Via is in it.
        """
        digest = self._loop.copy()
        names = request.names
        parts = [request.request_uri, request.call_id, str(request.cseq.number)]
        parts += [request.from_.tag or "", request.to.tag or ""]
        if "route" in names:
            parts += request.all("route")
        if "proxy-require" in names:
            parts += request.all("proxy-require")
        if "proxy-authorization" in names:
            parts += request.all("proxy-authorization")
        digest.update("\0".join(parts).encode("latin-1"))
        return digest.hexdigest()

    def stateless(self, request: Request) -> str:
        """Derive a branch from the incoming one, so that retransmissions map alike (RFC 3261 §16.11)."""
        via = request.via
        digest = self._stateless.copy()
        seed: tuple[object, ...]
        if via.has_cookie:
            seed = (via.branch,)
        else:
            number = request.cseq.number
            seed = (via.text, request.call_id, number, request.request_uri, request.from_.tag, request.to.tag)
        digest.update(repr((seed, via.sent_by)).encode())
        return f"{COOKIE}{digest.hexdigest()}-{self.loop_part(request)}"


def loop_part_of(branch: str | None) -> str | None:
    """Read the loop part out of one of our branches; None for a branch that is not of our form."""
    if branch is None or not branch.startswith(COOKIE):
        return None
    unique, dash, loop_part = branch[len(COOKIE) :].partition("-")
    return loop_part if dash and len(unique) == 18 and len(loop_part) == 12 else None
