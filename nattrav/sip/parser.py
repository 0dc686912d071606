"""From octets to a checked message: one datagram, or one frame that the stream framer cut out.

What comes back from `parse_datagram_untrusted` has a usable top Via, From, To, Call-ID, CSeq and Max-Forwards:
those properties do not raise afterwards (RFC 3261 §16.3: only what a proxy needs must be well-formed).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import cast

from nattrav.sip.errors import BodyTooShort, MalformedMessage
from nattrav.sip.grammar import KNOWN_METHODS, SPELLINGS, canonical_name, is_token
from nattrav.sip.message import Message, Request, Response
from nattrav.sip.uri import SipUri

MAX_LINE = 8192
MAX_LINES = 200
MAX_VIAS = 70
MAX_STREAM_MESSAGE = 65536

_REQUEST_LINE = re.compile(r"([A-Za-z0-9\-.!%*_+`'~]+) ([^\x00-\x20\x7f<>\"]+) [sS][iI][pP]/([0-9]+\.[0-9]+)")
_STATUS_LINE = re.compile(r"[sS][iI][pP]/2\.0 ([1-6][0-9][0-9])(?: (.*))?", re.DOTALL)
_SINGLE = ("call-id", "cseq", "from", "to", "max-forwards")
_spelling = SPELLINGS.get


def parse_datagram_untrusted(data: bytes) -> Request | Response:
    """Read one datagram.

    Octets beyond Content-Length are dropped; without Content-Length the body reaches to the end (RFC 3261 §18.3).
    Raises MalformedMessage with what was readable as `message`, and the status a server would answer.
    """
    end = data.find(b"\r\n\r\n")
    whole = end >= 0
    text = (data[:end] if whole else data).decode("latin-1")
    message, problem = _read_head(text, data[end + 4 :] if whole else b"")
    try:
        if problem is not None:
            raise problem
        if not whole:
            raise MalformedMessage("the head does not end with an empty line")
        _cut_body(message)
        check(message)
    except MalformedMessage as fault:
        if fault.message is None:
            fault.message = message
        raise
    return message


def readable(head: bytes) -> Request | Response | None:
    """Give what can be read of the head of a message that is broken, for the 400; None for no message at all."""
    try:
        return _read_head(head.decode("latin-1"), b"")[0]
    except MalformedMessage:
        return None


def _read_head(text: str, body: bytes) -> tuple[Request | Response, MalformedMessage | None]:
    """Index the head; the problem, if any, is given beside a message of what was readable."""
    problem = None
    lines = text.split("\r\n")
    breaks = len(lines) - 1
    if text.count("\n") != breaks or text.count("\r") != breaks:
        problem = MalformedMessage("a CR or LF stands alone in the head")
    if "\r\n " in text or "\r\n\t" in text:
        lines = _unfolded_lines(lines)
    start_line = lines.pop(0)
    if len(lines) > MAX_LINES:
        problem = MalformedMessage(f"more than {MAX_LINES} header lines")
        del lines[MAX_LINES:]
    if len(text) > MAX_LINE and problem is None and max(map(len, lines), default=0) > MAX_LINE:
        problem = MalformedMessage(f"a header line of more than {MAX_LINE} octets")
    found = [_spelling(name) if colon else None for name, colon, _ in [line.partition(":") for line in lines]]
    if None in found:
        lines, names, bad_line = _settle_names(lines, found)
        problem = bad_line or problem
    else:
        names = cast("list[str]", found)
    message, start_problem = _read_start_line(start_line, lines, names, body)
    return message, start_problem or problem


def _read_status_line(line: str) -> tuple[int, str] | None:
    match = _STATUS_LINE.fullmatch(line)
    return None if match is None else (int(match[1]), match[2] or "")


_read_status_line_again = lru_cache(maxsize=512)(_read_status_line)


def _unfolded_lines(lines: list[str]) -> list[str]:
    """Put folded lines together; each keeps its CRLF."""
    logical = [lines[0]]
    for line in lines[1:]:
        if line[:1] in (" ", "\t") and len(logical) > 1:
            logical[-1] += "\r\n" + line
        else:
            logical.append(line)
    return logical


def _settle_names(lines: list[str], found: list[str | None]) -> tuple[list[str], list[str], MalformedMessage | None]:
    """Name the unusual lines; lines that are no header field are left out and reported."""
    problem = None
    kept_lines, names = [], []
    for line, name in zip(lines, found, strict=True):
        if name is None:
            spelling, colon, _ = line.partition(":")
            name = canonical_name(spelling)
            # White space before a name would make it the continuation of whatever we put in front of it.
            if not colon or not is_token(spelling.rstrip(" \t")):
                problem = MalformedMessage(f"{line[:60]!r} is not a header field")
                continue
        kept_lines.append(line)
        names.append(name)
    return kept_lines, names, problem


def _read_start_line(
    start_line: str, lines: list[str], names: list[str], body: bytes
) -> tuple[Request | Response, MalformedMessage | None]:
    status = _read_status_line_again(start_line) if start_line[:4] == "SIP/" and len(start_line) < 100 else None
    if status is not None:
        return Response(*status, start_line, lines, names, body), None
    match = _REQUEST_LINE.fullmatch(start_line)
    if match is not None:
        method, request_uri, version = match.groups()
        request = Request(method, request_uri, start_line, lines, names, body)
        if version != "2.0":
            return request, MalformedMessage(f"version {version[:20]}", status=505)
        if len(start_line) > MAX_LINE:
            return request, MalformedMessage(f"Request-URI of {len(request_uri)} octets", status=414)
        return request, None
    status = _read_status_line(start_line)
    if status is not None:
        return Response(*status, start_line, lines, names, body), None
    problem = MalformedMessage(f"{start_line[:80]!r} is neither a request line nor a status line")
    if start_line[:4].upper() == "SIP/":
        return Response(0, "", start_line, lines, names, body), problem
    method = start_line.partition(" ")[0]
    if not is_token(method):
        raise problem
    return Request(method, "", start_line, lines, names, body), problem


def _cut_body(message: Message) -> None:
    names = message.names
    if "content-length" not in names:
        return
    value = message.lines[names.index("content-length")].partition(":")[2].strip(" \t\r\n")
    if not (value.isascii() and value.isdigit() and len(value) < 12):
        raise MalformedMessage(f"Content-Length is {value[:40]!r}")
    length = int(value)
    if names.count("content-length") > 1 and len({other.lstrip("0") for other in message.all("l")}) > 1:
        raise MalformedMessage("several Content-Lengths that differ")
    if length > len(message.body):
        raise BodyTooShort(length, len(message.body))
    if length < len(message.body):
        message.body = message.body[:length]


def check(message: Request | Response) -> None:
    """See that what routing and matching need is there, once and well-formed. Raises MalformedMessage."""
    names = message.names
    if len(set(names)) < len(names):
        _check_repeated(names)
    message.read_routing_fields()
    if isinstance(message, Request):
        cseq = message.cseq
        if cseq.method != message.method:
            status = 400 if message.method in KNOWN_METHODS else 501
            raise MalformedMessage(f"CSeq method {cseq.method[:40]} in a {message.method[:40]}", status=status)
        if message.request_uri[:4].lower() in ("sip:", "sips"):
            uri = message.uri
            if isinstance(uri, SipUri) and uri.headers is not None:
                raise MalformedMessage("header fields in the Request-URI")


def _check_repeated(names: list[str]) -> None:
    for name in _SINGLE:
        if names.count(name) > 1:
            raise MalformedMessage(f"{name.title()} is there {names.count(name)} times")
    if names.count("via") > MAX_VIAS:
        raise MalformedMessage(f"more than {MAX_VIAS} Vias")
