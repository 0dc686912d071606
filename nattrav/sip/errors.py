"""What parsing may raise: one class, so that nothing else can come out of a parser."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nattrav.sip.message import Request, Response


class MalformedMessage(Exception):
    """The bytes are not a SIP message, or one that no element could handle.

    `status` is the response code RFC 3261 §8.2 or §16.3 asks for, should a response be possible;
    `message` is as much of the message as could be read, None when not even a start line was there.
    """

    def __init__(self, reason: str, message: Request | Response | None = None, status: int = 400) -> None:
        super().__init__(reason)
        self.reason = reason
        self.message = message
        self.status = status


class BodyTooShort(MalformedMessage):
    """A datagram with fewer octets of body than Content-Length says; `missing` so many."""

    def __init__(self, length: int, there: int) -> None:
        super().__init__(f"Content-Length {length}, but {there} octets follow")
        self.missing = length - there


class UnsupportedScheme(MalformedMessage):
    """A URI that is well-formed as far as we can tell, but neither `sip`, `sips` nor `tel` (RFC 3261 §16.3, 416)."""

    def __init__(self, scheme: str) -> None:
        super().__init__(f"URI scheme {scheme!r} is not supported", status=416)
        self.scheme = scheme
