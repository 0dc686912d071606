"""Finding and replacing session descriptions inside a message body (RFC 2046, RFC 5621).

Only the octets of `application/sdp` parts change; preamble, other parts, delimiters and line ends stay exact.
One multipart inside another is looked into, no deeper.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

PART_LIMIT = 32

_PARAMETER = re.compile(r';\s*([^\s=;]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;]+)')
_LENGTH = re.compile(rb"(?im)^(content-length[ \t]*:[ \t]*)(\d+)")


@dataclass(frozen=True, slots=True)
class SdpPart:
    """Where one session description lies in the body, and what its part's header says.

    `disposition` is `session` unless told otherwise (RFC 5621 §8.2); `encoded` means that it cannot be read here.
    """

    start: int
    end: int
    disposition: str = "session"
    encoded: bool = False
    header: tuple[int, int] | None = None


def find(content_type: str, body: bytes, *, encoded: bool = False) -> list[SdpPart]:
    """List the session descriptions of a body; empty when it has none or its structure is broken.

    `encoded` is for a Content-Encoding header field of the whole message.
    """
    kind = _media_type(content_type)
    if kind == "application/sdp":
        return [SdpPart(0, len(body), encoded=encoded)] if body else []
    if kind.startswith("multipart/") and not encoded:
        return _parts(content_type, body, 0, len(body), nested=False)
    return []


def replace(body: bytes, parts: Sequence[SdpPart], texts: Sequence[bytes]) -> bytes:
    """Put new texts in the place of the parts that `find` gave, and mend their parts' Content-Length."""
    out: list[bytes] = []
    position = 0
    for part, text in sorted(zip(parts, texts, strict=True), key=lambda pair: pair[0].start):
        if part.header is not None:
            first, last = part.header
            out.append(body[position:first])
            out.append(_LENGTH.sub(lambda m, n=len(text): m[1] + str(n).encode(), body[first:last]))  # type: ignore[misc]
            position = last
        out.append(body[position : part.start])
        out.append(text)
        position = part.end
    out.append(body[position:])
    return b"".join(out)


def _parts(content_type: str, body: bytes, start: int, end: int, *, nested: bool) -> list[SdpPart]:
    boundary = _parameter(content_type, "boundary")
    if not boundary or len(boundary) > 70:
        return []
    delimiter = re.compile(rb"(?:^|\r?\n)--" + re.escape(boundary.encode("latin-1")) + rb"(--)?[ \t]*(?=\r?\n|$)")
    found: list[SdpPart] = []
    opened: int | None = None
    for count, match in enumerate(delimiter.finditer(body[start:end])):
        if opened is not None:
            found += _part(body, opened, start + match.start(), nested=nested)
        if match[1] or count >= PART_LIMIT:
            return found
        opened = start + match.end()
    return found


def _part(body: bytes, start: int, end: int, *, nested: bool) -> list[SdpPart]:
    """Look at one part: what lies between the line end after its delimiter and the one before the next."""
    start += 2 if body.startswith(b"\r\n", start) else 1
    blank = re.compile(rb"\r?\n\r?\n|\A\r?\n").search(body[start:end])
    if blank is None:
        return []
    header_end = start + blank.start()
    content = start + blank.end()
    header = _header(body[start:header_end])
    kind = header.get("content-type", "text/plain")
    encoded = header.get("content-transfer-encoding", "binary").lower() not in ("binary", "8bit", "7bit")
    if _media_type(kind) == "application/sdp" and content < end:
        disposition = header.get("content-disposition", "session").partition(";")[0].strip().lower()
        return [SdpPart(content, end, disposition, encoded or "content-encoding" in header, (start, header_end))]
    if _media_type(kind).startswith("multipart/") and not nested and not encoded:
        return _parts(kind, body, content, end, nested=True)
    return []


def _header(head: bytes) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in re.sub(r"\r?\n[ \t]+", " ", head.decode("latin-1")).splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip().lower(), value.strip())
    return fields


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _parameter(content_type: str, name: str) -> str | None:
    for match in _PARAMETER.finditer(content_type):
        if match[1].lower() == name:
            value = match[2]
            return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
    return None
