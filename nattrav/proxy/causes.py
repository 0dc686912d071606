"""Why a request failed, in one clause for people: the true cause, and who said so."""

from __future__ import annotations

import re
from collections.abc import Iterable

from nattrav.proxy.fork import Branch
from nattrav.sip.message import Response

_CODEC = re.compile(rb"^a=rtpmap:\d+ ([^\s/]+/\d+)", re.MULTILINE)
_AUDIO = re.compile(rb"^m=\S+ \d+ \S+ ([0-9 ]+)", re.MULTILINE)
_STATIC = {b"0": "PCMU/8000", b"3": "GSM/8000", b"8": "PCMA/8000", b"9": "G722/8000", b"18": "G729/8000"}
_CODECS_NAMED = 8

_MEANINGS = {
    300: "the number has moved, and where to is left to the caller",
    301: "the number has moved, and where to is left to the caller",
    302: "the callee sends its calls elsewhere, and where to is left to the caller",
    401: "the caller did not prove who it is",
    403: "the other side does not allow this call",
    404: "nobody there has this number",
    407: "the caller did not prove who it is",
    408: "nobody answered behind it",
    410: "nobody there has this number any more",
    415: "the callee does not take this kind of body",
    416: "the number is written in a scheme that it does not know",
    420: "the call requires an extension that it does not know",
    421: "it requires an extension that the caller does not offer",
    422: "the session timer that was asked for is too short",
    430: "the connection to the callee's phone is gone",
    433: "it takes no anonymous calls",
    480: "the callee cannot be reached at present",
    481: "it does not know this dialog",
    482: "the call went in a circle",
    483: "the call passed too many hops, so somebody may send it in a circle",
    484: "the number is not complete",
    486: "the callee is busy",
    487: "the call was given up",
    488: "the callee takes none of the media offered",
    489: "it does not know this kind of event",
    491: "another change of the call was under way",
    494: "it requires a security agreement",
    500: "the other side has a fault",
    501: "the other side cannot do what was asked",
    502: "a gateway behind it has a fault",
    503: "it cannot take calls at present",
    504: "a server behind it did not answer",
    513: "the message is too large for it",
    580: "the preconditions of the call could not be met",
    600: "the callee is busy everywhere",
    603: "the callee declined",
    604: "nobody has this number anywhere",
    606: "the callee takes none of the media offered",
}

OURS = {
    400: "the request is malformed",
    403: "it is not allowed here",
    404: "nobody here has this number and no upstream takes it",
    416: "its Request-URI is neither sip nor tel",
    420: "it requires an extension that this proxy does not know",
    423: "the registration that was asked for is too short",
    430: "the connection to the phone is gone",
    439: "it asks for outbound, which its first hop does not do (RFC 5626)",
    440: "its Max-Breadth does not reach for all phones of the callee (RFC 5393)",
    480: "the callee is a user of ours without a registration",
    481: "its dialog is not known here and no flow token in its Route set proves it",
    482: "it came round unchanged: whoever got it from here sends it back here",
    483: "its Max-Forwards is used up: it may go in a circle",
    503: "this proxy has reached a limit",
    513: "it is too large for the phone and no shorter form fits",
}
"""What a refusal of ours means where its place says nothing more exact."""


def by_us(status: int) -> str:
    """What a refusal of ours means by its status alone."""
    return OURS.get(status, "the request was refused here")


def name_of(branch: Branch | None, *, phone: str = "the callee's phone") -> str:
    """Who stands behind a branch; `phone` is what one of ours is called."""
    if branch is None:
        return "the next hop"
    wanted = branch.hop_wanted
    at = "" if branch.hop is None else f" at {branch.hop.remote}"
    if wanted.upstream is not None:
        return f"upstream {wanted.upstream.name}{at}"
    return f"{phone}{at}" if wanted.access else f"the next hop{at}"


def answered(response: Response, branch: Branch | None, offer: bytes | None) -> str:
    """What a failure that somebody answered means."""
    status = response.status
    meaning = _MEANINGS.get(status, "the other side refused")
    if status in (488, 606) and offer is not None:
        meaning += f" ({', '.join(codecs(offer)) or 'no known codec'})"
    return f"{meaning}: {name_of(branch)} answered {status} {response.reason}".rstrip()


def codecs(sdp: bytes) -> list[str]:
    """The codecs a session description names."""
    named = [name.decode("latin-1") for name in _CODEC.findall(sdp)]
    formats = [number for line in _AUDIO.findall(sdp) for number in line.split()]
    known = [_STATIC[number] for number in formats if number in _STATIC]
    return list(dict.fromkeys([*known, *named]))[:_CODECS_NAMED]


def unanswered(status: int, branches: Iterable[Branch]) -> str:
    """What it means that nobody answered: silence, or nothing could be sent."""
    names = list(dict.fromkeys(map(name_of, branches)))
    who = " and ".join(names) or "the next hop"
    if status == 408:
        return f"{who} did not answer in time"
    if status == 480:
        return f"the connection to {who} closed before it answered"
    return f"nothing could be sent to {who}"
