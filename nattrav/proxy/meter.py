"""Counts messages and what becomes of calls, in labels that nobody on the wire can choose."""

from __future__ import annotations

from typing import Protocol

from nattrav.sip.grammar import KNOWN_METHODS
from nattrav.sip.response import REASONS

_METHODS = {method.encode(): method for method in KNOWN_METHODS}
_CODES = {str(code).encode(): str(code) for code in REASONS}
_TOLD_IN_FULL = frozenset({b"INVITE", b"REGISTER"})
_COMMON = frozenset(str(code).encode() for code in (200, 202, 401, 403, 404, 407, 408, 481, 500, 503))
"""Codes told apart for all other methods. Every code of every method would be a thousand series, which anybody could
make with stray responses."""

OTHER_METHOD = "OTHER"
OTHER_CODE = "other"
LOCAL = "local"
"""Label `upstream` of calls between phones registered here."""


class Increment(Protocol):
    """Adds to a counter of the registry."""

    def __call__(self, name: str, *labels: str, by: float = 1) -> None: ...


class MessageMeter:
    """Counts messages from their first octets: no parsing, so that it costs little and sees what the parser refuses.

    The counts are kept by octets of the messages, of which only those that the RFCs know become keys.
    """

    def __init__(self) -> None:
        self._requests: dict[tuple[str, bytes, str], int] = {}
        self._responses: dict[tuple[str, bytes, bytes], int] = {}

    def message(self, direction: str, transport: str, data: bytes) -> None:
        """Count one message that was received (`rx`) or is sent (`tx`); keepalives are none."""
        if data[:8] == b"SIP/2.0 ":
            at = data.find(b"\nCSeq:")
            method = data[data.rfind(b" ", at, end := data.find(b"\r", at)) + 1 : end] if at >= 0 else b""
            response = (direction, data[8:11], method)
            if response not in self._responses:
                known = _CODES if method in _TOLD_IN_FULL else _COMMON
                code = response[1] if response[1] in known else b""
                response = (direction, code, method if method in _METHODS else b"")
                self._responses.setdefault(response, 0)
            self._responses[response] += 1
        elif data[:1] not in b"\r\n\0":
            request = (direction, data[: data.find(b" ", 0, 32)], transport)
            if request not in self._requests:
                request = (direction, request[1] if request[1] in _METHODS else b"", transport)
                self._requests.setdefault(request, 0)
            self._requests[request] += 1

    def hand_over(self, count: Increment) -> None:
        """Add what was counted since the last call to the registry's counters."""
        for (direction, code, method), by in self._responses.items():
            label = _METHODS.get(method, OTHER_METHOD)
            count("nattrav_sip_responses_total", direction, label, _CODES.get(code, OTHER_CODE), by=by)
        for (direction, method, transport), by in self._requests.items():
            count("nattrav_sip_requests_total", direction, _METHODS.get(method, OTHER_METHOD), transport, by=by)
        self._responses.clear()
        self._requests.clear()


def code_label(code: int, cause: str) -> str:
    """The label `code` of a call's outcome: a known status code, `timeout` or `other`."""
    if cause == "timeout" and code in (0, 408):
        return "timeout"
    return str(code) if code in REASONS else OTHER_CODE


def method_label(method: str) -> str:
    """The label `method`: one of the RFCs' methods, or OTHER."""
    return method if method in KNOWN_METHODS else OTHER_METHOD
