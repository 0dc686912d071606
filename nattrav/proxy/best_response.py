"""Which of several failures goes back to the caller (RFC 3261 §16.7 step 6)."""

from __future__ import annotations

from collections.abc import Sequence

from nattrav.sip.edit import Edit
from nattrav.sip.message import Response

_PREFERRED = (401, 407, 415, 420, 484)
_CHALLENGES = ("www-authenticate", "proxy-authenticate")


def best(responses: Sequence[Response]) -> Response | None:
    """Choose: any 6xx, else the lowest class, inside 4xx those that help the caller to repair the request."""
    if not responses:
        return None
    return min(responses, key=_rank)


def _rank(response: Response) -> tuple[int, int]:
    status = response.status
    if status >= 600:
        return 0, 0
    return status // 100, 0 if status in _PREFERRED else 2 if status in (408, 430) else 1


def with_all_challenges(chosen: Response, edit: Edit, responses: Sequence[Response]) -> None:
    """Put the challenges of all branches into a 401 or 407 (§16.7 step 7)."""
    if chosen.status not in (401, 407):
        return
    for other in responses:
        if other is chosen or other.status not in (401, 407):
            continue
        for name in _CHALLENGES:
            for value in other.all(name):
                edit.append("WWW-Authenticate" if name == "www-authenticate" else "Proxy-Authenticate", value)
