"""A small SIP and SDP reader of the laboratory's own, so that what is under test does not judge itself."""

from __future__ import annotations

import re
from dataclasses import dataclass

_COMPACT = {
    "v": "via",
    "f": "from",
    "t": "to",
    "i": "call-id",
    "m": "contact",
    "l": "content-length",
    "c": "content-type",
    "k": "supported",
}
_PRIVATE = re.compile(
    r"(?<![\d.])(?:10\.\d{1,3}\.\d{1,3}\.\d{1,3}|192\.168\.\d{1,3}\.\d{1,3}|172\.(?:1[6-9]|2\d|3[01])\.\d{1,3}\.\d{1,3}"
    r"|100\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.\d{1,3}\.\d{1,3})(?![\d.])"
)


@dataclass(frozen=True)
class SipMessage:
    """A message as text: start line, header fields in order, body."""

    start: str
    fields: tuple[tuple[str, str], ...]
    body: str

    def all(self, name: str) -> list[str]:
        """Values of a header field; for Via, Route, Record-Route, Path and Contact one per comma-separated value."""
        values = [value for key, value in self.fields if key == name.lower()]
        if name.lower() in ("via", "route", "record-route", "path", "contact"):
            return [part.strip() for value in values for part in re.split(r",(?=[^>]*(?:<|$))", value)]
        return values

    def first(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)

    @property
    def method(self) -> str | None:
        return None if self.start.startswith("SIP/") else self.start.split(" ", 1)[0]

    @property
    def status(self) -> int | None:
        return int(self.start.split(" ", 2)[1]) if self.start.startswith("SIP/") else None

    @property
    def request_uri(self) -> str:
        return self.start.split(" ")[1]

    @property
    def cseq_method(self) -> str:
        return (self.first("cseq") or " ").split()[-1]

    @property
    def call_id(self) -> str:
        return self.first("call-id") or ""

    def is_request(self, method: str) -> bool:
        return self.method == method

    def is_response(self, status: int, method: str) -> bool:
        return self.status == status and self.cseq_method == method

    @property
    def media(self) -> list[tuple[str, int]]:
        """Address and port of every `m=` line of the SDP body (RFC 8866 §5.7, §5.14)."""
        session = None
        found: list[tuple[str | None, int]] = []
        for line in self.body.splitlines():
            if line.startswith("c="):
                address = line.split()[-1]
                if found:
                    found[-1] = (address, found[-1][1])
                else:
                    session = address
            elif line.startswith("m="):
                found.append((None, int(line.split()[1].split("/")[0])))
        return [(address or session or "", port) for address, port in found]

    @property
    def private_addresses(self) -> list[str]:
        """`field: address` for each private address in a place that somebody would send to.

        From, To, Call-ID and the SDP origin are names, not places. Contact stays as the phone wrote it and comes back
        as Request-URI, the route set leads there; in Via `received` and `rport` take the place of its sent-by.
        """
        names = {
            "from",
            "to",
            "call-id",
            "via",
            "contact",
            "authorization",
            "proxy-authorization",
            "warning",
            "user-agent",
        }
        found = [f"{key}: {hit}" for key, value in self.fields if key not in names for hit in _PRIVATE.findall(value)]
        lines = [line for line in self.body.splitlines() if not line.startswith("o=")]
        return found + [f"sdp {line[:2]}: {hit}" for line in lines for hit in _PRIVATE.findall(line)]


def parameter(value: str, name: str) -> str | None:
    """A `;name=value` parameter outside of angle brackets."""
    found = re.search(rf";\s*{name}\s*=\s*([^;,\s>]+)", value.rsplit(">", 1)[-1], re.IGNORECASE)
    return found.group(1) if found else None


def parse(data: bytes) -> SipMessage | None:
    """Read one message; None when it is none."""
    head, separator, body = data.partition(b"\r\n\r\n")
    if not separator:
        return None
    lines = re.sub(r"\r\n[ \t]+", " ", head.decode("utf-8", "replace")).split("\r\n")
    fields = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon:
            return None
        key = name.strip().lower()
        fields.append((_COMPACT.get(key, key), value.strip()))
    return SipMessage(lines[0], tuple(fields), body.decode("utf-8", "replace"))


def messages_in_stream(data: bytes) -> tuple[list[SipMessage], bytes]:
    """Cut a TCP stream into messages by Content-Length; returns them and what is left."""
    found = []
    while True:
        data = data.lstrip(b"\r\n")
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return found, data
        head = parse(data[: end + 4])
        if head is None:
            return found, b""
        length = int(head.first("content-length") or 0)
        if len(data) < end + 4 + length:
            return found, data
        whole = parse(data[: end + 4 + length])
        if whole is not None:
            found.append(whole)
        data = data[end + 4 + length :]
