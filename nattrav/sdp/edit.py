"""The least change that puts a relay into a session description: every line that need not change stays as it is.

Touched are `c=`, the port of `m=`, `a=rtcp`, ICE and, if asked, `o=`; order, case and line ends are kept. This is
what a proxy does to a body by itself; what a relay shows through ng is written by `nattrav.sdp.rewrite`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from nattrav.net.address import TransportAddress
from nattrav.sdp.description import Description, Section
from nattrav.sdp.media import is_null_hold
from nattrav.sdp.rewrite import Place

_MEDIA_PORT = re.compile(r"^(m=\s*\S+\s+)\d+")
_ICE = ("a=ice-", "a=candidate:", "a=remote-candidates:", "a=end-of-candidates")


def anchor(description: Description, places: Sequence[Place | None], *, origin: str | None = None) -> bytes:
    """Put our addresses into a description, one place a section; None leaves a section as it is.

    Every `c=` of a placed section changes, a session `c=` to the first placed address; a null address stays null
    (hold). ValueError when the number of places is not that of the sections.
    """
    raw = description.raw
    out: list[str] = []
    placed = [place.rtp for place in places if place is not None and place.rtp is not None]
    for index in range(description.session.first, description.session.end):
        line = raw[index]
        if placed and line.startswith("c="):
            connection = description.session.connection
            out.append(_like(line, _connection(placed[0], null=connection is not None and connection.null)))
        elif origin is not None and line.startswith("o="):
            out.append(_like(line, "o=" + origin))
        elif not (placed and line.startswith(_ICE)):
            out.append(line)
    for section, place in zip(description.sections, places, strict=True):
        if place is None or (place.rtp is None and not place.rejected):
            out += raw[section.first : section.end]
        elif place.rtp is None:
            out.append(_with_port(raw[section.first], 0))
            out += raw[section.first + 1 : section.end]
        else:
            out += _placed(description, section, place, place.rtp, placed[0])
    return "\n".join(out).encode("latin-1")


def _placed(
    description: Description, section: Section, place: Place, rtp: TransportAddress, session: TransportAddress
) -> list[str]:
    raw = description.raw
    out = [_with_port(raw[section.first], rtp.port)]
    null = is_null_hold(description, section)
    own_rtcp = place.rtcp is not None and place.rtcp != TransportAddress(rtp.host, rtp.port + 1)
    told = False
    for index in range(section.first + 1, section.end):
        line = raw[index]
        if line.startswith("c="):
            out.append(_like(line, _connection(rtp, null=null)))
        elif line.startswith("a=rtcp:"):
            if place.rtcp is not None and not told:
                out.append(_like(line, f"a=rtcp:{place.rtcp.port}"))
                told = True
        elif line.rstrip("\r") == "a=rtcp-mux" and not place.rtcp_mux:
            continue
        elif not line.startswith(_ICE):
            out.append(line)
    if section.connection is None and (description.session.connection is None or rtp.host != session.host):
        at = 2 if section.information is not None else 1
        out.insert(at, _like(out[0], _connection(rtp, null=null)))
    if own_rtcp and not told and place.rtcp is not None:
        last = len(out)
        while not out[last - 1].rstrip("\r"):
            last -= 1
        out.insert(last, _like(out[0], f"a=rtcp:{place.rtcp.port}"))
    return out


def _with_port(line: str, port: int) -> str:
    """Change the port of an `m=` line; a port count stays, spacing too."""
    return _MEDIA_PORT.sub(rf"\g<1>{port}", line, count=1)


def _connection(address: TransportAddress, *, null: bool) -> str:
    if ":" in address.host:
        return "c=IN IP6 ::" if null else f"c=IN IP6 {address.host}"
    return "c=IN IP4 0.0.0.0" if null else f"c=IN IP4 {address.host}"


def _like(old: str, new: str) -> str:
    return new + "\r" if old.endswith("\r") else new
