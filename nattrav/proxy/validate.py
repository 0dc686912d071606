"""What a proxy checks before it routes a request, in the order of RFC 3261 §16.3 after the syntax."""

from __future__ import annotations

from dataclasses import dataclass

from nattrav.proxy.listener import Listeners
from nattrav.sip.branch import BranchMaker, loop_part_of
from nattrav.sip.errors import MalformedMessage
from nattrav.sip.message import Request


@dataclass(frozen=True, slots=True)
class Refused:
    """The request ends here with this response. `rule` is the id shown by `explain`."""

    status: int
    rule: str
    headers: tuple[tuple[str, str], ...] = ()
    reason: str | None = None
    why: str = ""
    """A clause for people that names the cause, where the status alone does not."""


UNDERSTOOD: frozenset[str] = frozenset()
"""Option tags this proxy understands in Proxy-Require."""

SUPPORTED = ("path", "outbound")
"""Option tags it understands where it is itself the server: as registrar, and asked with OPTIONS."""


def bad_extension(request: Request) -> Refused | None:
    """Refuse a request to ourselves that requires what we do not know (§8.2.2.3)."""
    if "require" not in request.names:
        return None
    unknown = [tag for tag in request.tokens("require") if tag.lower() not in SUPPORTED]
    return Refused(420, "R1", (("Unsupported", ", ".join(unknown)),)) if unknown else None


def refusal(request: Request, listeners: Listeners, branches: BranchMaker) -> Refused | None:
    """Check scheme, Max-Forwards, loops and Proxy-Require. None when the request may be routed."""
    try:
        _ = request.uri
    except MalformedMessage as fault:
        return Refused(fault.status, "R1", reason=None if fault.status == 416 else "Bad Request-URI")
    if request.max_forwards == 0:
        return Refused(483, "R1")
    if _is_loop(request, listeners, branches):
        return Refused(482, "R7")
    if "proxy-require" in request.names:
        unknown = [tag for tag in request.tokens("proxy-require") if tag not in UNDERSTOOD]
        if unknown:
            return Refused(420, "R1", (("Unsupported", ", ".join(unknown)),))
    return None


def _is_loop(request: Request, listeners: Listeners, branches: BranchMaker) -> bool:
    """Tell whether one of our own Vias carries the same loop part: the request came round unchanged (§16.3 step 4)."""
    names = request.names
    if names.count("via") == 1 and "," not in request.lines[names.index("via")]:
        return False
    ours = [via for via in request.vias[1:] if listeners.is_ours(via.host.lower(), via.port, via.transport)]
    if not ours:
        return False
    loop_part = branches.loop_part(request)
    return any(loop_part_of(via.branch) == loop_part for via in ours)
