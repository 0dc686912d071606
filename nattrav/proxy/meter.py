"""Counts messages and what becomes of calls, in labels that nobody on the wire can choose."""

from __future__ import annotations

from typing import Protocol

from nattrav.sip.grammar import KNOWN_METHODS
from nattrav.sip.response import REASONS

_METHODS = {method.encode(): method for method in KNOWN_METHODS}
_CODES = {str(code).encode(): str(code) for code in REASONS}
OTHER_METHOD = "OTHER"
OTHER_CODE = "other"
LOCAL = "local"
"""Label `upstream` of calls between phones registered here."""


class Increment(Protocol):
    """Adds one to a counter of the registry."""

    def __call__(self, name: str, *labels: str) -> None: ...


class MessageMeter:
    """Counts messages from their first octets: no parsing, so that it costs little and sees what the parser refuses."""

    def __init__(self, count: Increment) -> None:
        self._count = count

    def message(self, direction: str, transport: str, data: bytes) -> None:
        """Count one message that was received (`rx`) or is sent (`tx`); keepalives are none."""
        if data[:8] == b"SIP/2.0 ":
            code = _CODES.get(data[8:11], OTHER_CODE)
            self._count("nattrav_sip_responses_total", direction, _method_of_response(data), code)
        elif data[:1] not in b"\r\n\0":
            method = _METHODS.get(data[: data.find(b" ", 0, 32)], OTHER_METHOD)
            self._count("nattrav_sip_requests_total", direction, method, transport)


def _method_of_response(data: bytes) -> str:
    at = data.find(b"\nCSeq:")
    if at < 0:
        return OTHER_METHOD
    words = data[at + 6 : data.find(b"\r", at)].split()
    return _METHODS.get(words[1], OTHER_METHOD) if len(words) == 2 else OTHER_METHOD


def code_label(code: int, cause: str) -> str:
    """The label `code` of a call's outcome: a known status code, `timeout` or `other`."""
    if cause == "timeout" and code in (0, 408):
        return "timeout"
    return str(code) if code in REASONS else OTHER_CODE


def method_label(method: str) -> str:
    """The label `method`: one of the RFCs' methods, or OTHER."""
    return method if method in KNOWN_METHODS else OTHER_METHOD
