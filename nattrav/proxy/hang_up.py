"""BYEs of our own, to both sides of a call that has to end: its media died, or an operator wants it.

A proxy may not do this in general; here both sides have nothing to lose. The dialog facts are taken from the first 2xx
as it came from the callee, when every Record-Route and both Contacts are known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nattrav.sip.errors import MalformedMessage
from nattrav.sip.message import Response
from nattrav.sip.uri import SipUri


@dataclass(frozen=True, slots=True)
class Dialog:
    """What a BYE to either side needs. Route values go from us towards that side."""

    call_id: str
    caller: str
    callee: str
    caller_target: str
    callee_target: str
    caller_routes: tuple[str, ...]
    callee_routes: tuple[str, ...]


def dialog_of(response: Response, caller_target: str | None, names_us: Callable[[SipUri], bool]) -> Dialog | None:
    """Read the dialog off the 2xx of an INVITE; None when it lacks a Contact or an own Record-Route entry."""
    try:
        contacts = response.contacts
        routes = response.record_routes
        ours = [index for index, one in enumerate(routes) if names_us(one.sip_uri)]
    except MalformedMessage:
        return None
    if caller_target is None or not ours or contacts == "*" or not contacts:
        return None
    return Dialog(
        call_id=response.call_id,
        caller=response.from_.text,
        callee=response.to.text,
        caller_target=caller_target,
        callee_target=contacts[0].uri,
        caller_routes=tuple(one.text for one in routes[ours[-1] + 1 :]),
        callee_routes=tuple(one.text for one in reversed(routes[: ours[0]])),
    )


def bye(dialog: Dialog, *, to_caller: bool, cseq: int, via: str, reason: str) -> bytes:
    """Write the BYE to one side, in the other side's name; `cseq` is the next number of that other side."""
    target = dialog.caller_target if to_caller else dialog.callee_target
    routes = dialog.caller_routes if to_caller else dialog.callee_routes
    from_, to = (dialog.callee, dialog.caller) if to_caller else (dialog.caller, dialog.callee)
    lines = [f"BYE {target} SIP/2.0", f"Via: {via}", "Max-Forwards: 70"]
    lines += [f"Route: {route}" for route in routes]
    lines += [
        f"From: {from_}",
        f"To: {to}",
        f"Call-ID: {dialog.call_id}",
        f"CSeq: {cseq} BYE",
        f'Reason: SIP;text="{reason}"',
        "Content-Length: 0",
        "\r\n",
    ]
    return "\r\n".join(lines).encode("latin-1")
