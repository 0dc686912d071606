"""The request as it goes out (RFC 3261 §16.6): Request-URI, Max-Forwards, Record-Route, Route, Via.

Works on the line lists of an `Edit`; nothing that stays is rendered anew.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from nattrav.proxy.listener import Listener
from nattrav.sip.edit import Edit
from nattrav.sip.grammar import QUOTED, as_utf8, split_first, unquote
from nattrav.sip.message import Request, Response
from nattrav.sip.name_addr import NameAddr

_REALM = re.compile(rf"[ \t,]realm[ \t]*=[ \t]*({QUOTED})", re.IGNORECASE)

RECORD_ROUTED = frozenset(("INVITE", "SUBSCRIBE", "REFER", "NOTIFY", "UPDATE"))

RECORD_ROUTED_INSIDE = frozenset(("SUBSCRIBE", "NOTIFY"))
"""Also inside a dialog: a NOTIFY that overtakes the 2xx makes the dialog itself (RFC 6665 §4.3)."""


def outgoing(
    request: Request,
    *,
    request_uri: str,
    popped: int,
    record_routes: Sequence[str] = (),
    path: Sequence[str] = (),
    routes: Sequence[str] = (),
    strip_realm: str | None = None,
    max_breadth: int | None = None,
    last_used: bool = False,
) -> tuple[Edit, str]:
    """Write the request as it goes on, all but its Via; give it with its Request-URI.

    popped         leading Route values that named us
    last_used      the last Route value became the Request-URI, where a strict router had put ours
    record_routes  values to put on top, first one topmost
    routes         Route values of the destination (a binding's Path), put before what is left
    strip_realm    credentials for this realm end here (§22.3)
    max_breadth    this branch's share of Max-Breadth (RFC 5393 §5.3.3); None for an ACK, which has none
    """
    edit = Edit(request)
    names, lines = edit.names, edit.lines
    if request_uri != request.request_uri:
        edit.start_line(f"{request.method} {request_uri} SIP/2.0")
    if "max-forwards" in names:
        left = request.max_forwards
        lines[names.index("max-forwards")] = f"Max-Forwards: {70 if left is None else left - 1}"
    else:
        at = _after_vias(names)
        names.insert(at, "max-forwards")
        lines.insert(at, "Max-Forwards: 70")
    if max_breadth is not None:
        if "max-breadth" in names:
            lines[names.index("max-breadth")] = f"Max-Breadth: {max_breadth}"
        else:
            at = names.index("max-forwards") + 1
            names.insert(at, "max-breadth")
            lines.insert(at, f"Max-Breadth: {max_breadth}")
    if last_used:
        edit.remove_last("route")
    for _ in range(popped):
        edit.remove_top("route")
    if routes:
        for value in reversed(routes):
            if "route" in names:
                edit.prepend("Route", value)
            else:
                _insert_after_vias(edit, "route", "Route", value)
    if "route" in names:
        request_uri = _strict_route(edit, request.method, request_uri)
    for value in reversed(record_routes):
        if "record-route" in names:
            at = names.index("record-route")
        else:
            at = _after_vias(names)
        names.insert(at, "record-route")
        lines.insert(at, f"Record-Route: {value}")
    for value in reversed(path):
        if "path" in names:
            edit.prepend("Path", value)
        else:
            _insert_after_vias(edit, "path", "Path", value)
    if strip_realm is not None and "proxy-authorization" in names:
        _strip_credentials(edit, strip_realm)
    return edit, request_uri


def _strip_credentials(edit: Edit, realm: str) -> None:
    for index in range(len(edit.names) - 1, -1, -1):
        if edit.names[index] == "proxy-authorization" and _realm_of(edit.lines[index]) == realm:
            del edit.names[index]
            del edit.lines[index]


def _realm_of(line: str) -> str | None:
    found = _REALM.search(line)
    return None if found is None else as_utf8(unquote(found[1]))


def record_route(listener: Listener, token: str | None, *, explicit: bool = False, secure: bool = False) -> str:
    """Write a Record-Route value of ours: loose routing, the token of an access-side peer, the transport if not UDP.

    `secure`: the request is for a `sips:` URI, and so must be our entry (§16.6 step 4), on a listener that can.
    """
    return f"<{listener.uri(token, explicit=explicit, secure=secure)};lr>"


def add_via(edit: Edit, via: str) -> None:
    """Put our Via on top."""
    at = edit.names.index("via")
    edit.names.insert(at, "via")
    edit.lines.insert(at, via)


def _after_vias(names: list[str]) -> int:
    return len(names) - names[::-1].index("via")


def _insert_after_vias(edit: Edit, name: str, spelled: str, value: str) -> None:
    at = _after_vias(edit.names)
    edit.names.insert(at, name)
    edit.lines.insert(at, f"{spelled}: {value}")


def _strict_route(edit: Edit, method: str, request_uri: str) -> str:
    """When the next Route has no `lr`, it becomes the Request-URI and the old one goes to the end (§16.6 step 6)."""
    line = edit.lines[edit.names.index("route")]
    top = NameAddr.parse(split_first(line[line.index(":") + 1 :].strip(" \t\r\n"))[0].strip())
    if "lr" in top.sip_uri.params:
        return request_uri
    edit.start_line(f"{method} {top.uri} SIP/2.0")
    edit.remove_top("route")
    if "route" in edit.names:
        edit.append("Route", f"<{request_uri}>")
    else:
        _insert_after_vias(edit, "route", "Route", f"<{request_uri}>")
    return top.uri


def ack_for_failure(sent: Edit, request_uri: str, response: Response) -> bytes:
    """Build the ACK of a non-2xx response from the INVITE as it was sent (§17.1.1.3): same branch, Route and URI."""
    lines = [f"ACK {request_uri} SIP/2.0"]
    via_seen = False
    for name, line in zip(sent.names, sent.lines, strict=True):
        if name == "via":
            if not via_seen:
                lines.append(line)
                via_seen = True
        elif name in ("route", "from", "call-id"):
            lines.append(line)
    lines.append(f"To: {response.first('to')}")
    lines.append(f"CSeq: {response.cseq.number} ACK")
    lines.append("Max-Forwards: 70")
    lines.append("Content-Length: 0")
    lines.append("\r\n")
    return "\r\n".join(lines).encode("latin-1")


def cancel_for(sent: Edit, request_uri: str, cseq: int, reason: str | None = None) -> bytes:
    """Build the CANCEL of an INVITE as it was sent (§9.1): same branch, Route, URI, To, From, Call-ID."""
    lines = [f"CANCEL {request_uri} SIP/2.0"]
    via_seen = False
    for name, line in zip(sent.names, sent.lines, strict=True):
        if name == "via":
            if not via_seen:
                lines.append(line)
                via_seen = True
        elif name in ("route", "from", "to", "call-id"):
            lines.append(line)
    lines.append(f"CSeq: {cseq} CANCEL")
    lines.append("Max-Forwards: 70")
    if reason:
        lines.append(f"Reason: {reason}")
    lines.append("Content-Length: 0")
    lines.append("\r\n")
    return "\r\n".join(lines).encode("latin-1")
