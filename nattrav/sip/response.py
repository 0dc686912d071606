"""Responses this element makes itself (RFC 3261 §8.2.6)."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType

from nattrav.sip.errors import MalformedMessage
from nattrav.sip.grammar import unfold
from nattrav.sip.message import Message
from nattrav.sip.name_addr import NameAddr

REASONS = MappingProxyType(
    {
        100: "Trying",
        180: "Ringing",
        181: "Call Is Being Forwarded",
        182: "Queued",
        183: "Session Progress",
        199: "Early Dialog Terminated",
        200: "OK",
        202: "Accepted",
        204: "No Notification",
        300: "Multiple Choices",
        301: "Moved Permanently",
        302: "Moved Temporarily",
        305: "Use Proxy",
        380: "Alternative Service",
        400: "Bad Request",
        401: "Unauthorized",
        402: "Payment Required",
        403: "Forbidden",
        404: "Not Found",
        405: "Method Not Allowed",
        406: "Not Acceptable",
        407: "Proxy Authentication Required",
        408: "Request Timeout",
        410: "Gone",
        412: "Conditional Request Failed",
        413: "Request Entity Too Large",
        414: "Request-URI Too Long",
        415: "Unsupported Media Type",
        416: "Unsupported URI Scheme",
        417: "Unknown Resource-Priority",
        420: "Bad Extension",
        421: "Extension Required",
        422: "Session Interval Too Small",
        423: "Interval Too Brief",
        428: "Use Identity Header",
        430: "Flow Failed",
        439: "First Hop Lacks Outbound Support",
        440: "Max-Breadth Exceeded",
        469: "Bad Info Package",
        480: "Temporarily Unavailable",
        481: "Call/Transaction Does Not Exist",
        482: "Loop Detected",
        483: "Too Many Hops",
        484: "Address Incomplete",
        485: "Ambiguous",
        486: "Busy Here",
        487: "Request Terminated",
        488: "Not Acceptable Here",
        489: "Bad Event",
        491: "Request Pending",
        493: "Undecipherable",
        494: "Security Agreement Required",
        500: "Server Internal Error",
        501: "Not Implemented",
        502: "Bad Gateway",
        503: "Service Unavailable",
        504: "Server Time-out",
        505: "Version Not Supported",
        513: "Message Too Large",
        580: "Precondition Failure",
        600: "Busy Everywhere",
        603: "Decline",
        604: "Does Not Exist Anywhere",
        606: "Not Acceptable",
    }
)

_COPIED = frozenset(("via", "from", "to", "call-id", "cseq"))
_COPIED_IN_100 = _COPIED | {"timestamp"}


def respond(
    request: Message,
    status: int,
    reason: str | None = None,
    *,
    to_tag: str | None,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
) -> bytes:
    """Write a response to a request, even to one that lacks header fields (then so does the response).

    `to_tag` goes into To when the request has none there; None for 100. `headers` are (name, value) pairs.
    Header fields of the request are copied octet by octet.
    """
    if reason is None:
        reason = REASONS.get(status, "Unknown")
    lines = [f"SIP/2.0 {status} {reason}"]
    copied = _COPIED_IN_100 if status == 100 else _COPIED
    for name, line in zip(request.names, request.lines, strict=True):
        if name in copied:
            if name == "to" and to_tag is not None and not _tagged(unfold(line)):
                line = f"{line};tag={to_tag}"
            lines.append(line)
    lines.extend(f"{name}: {value}" for name, value in headers)
    lines.append(f"Content-Length: {len(body)}")
    lines.append("\r\n")
    return "\r\n".join(lines).encode("latin-1") + body


def _tagged(line: str) -> bool:
    try:
        return NameAddr.parse(line[line.index(":") + 1 :].strip(" \t")).tag is not None
    except MalformedMessage:
        # In a request we refuse as malformed; its sender must find its own To again.
        return ";tag=" in line
