"""The session description a relay shows to the other party, in the one form that drivers know.

Order and wording are fixed, whatever the input's were: session part, then for each stream `m= i= c= b=`, `a=mid`
and `a=label`, payload types, header extensions, other attributes, direction, `a=rtcp`, keys, packet time.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from nattrav.net.address import TransportAddress
from nattrav.net.immutable import immutable
from nattrav.sdp.description import Connection, Description, Part, Section
from nattrav.sdp.media import STATIC_PAYLOADS, Transport, direction, is_null_hold, transport

_BANDWIDTHS = ("AS", "RR", "RS", "CT", "TIAS")
_SESSION_KEYS = ("setup", "fingerprint", "tls-id")
_NULL_HOLD = {"sendrecv": "sendonly", "sendonly": "sendonly", "recvonly": "inactive", "inactive": "inactive"}


class Place(Protocol):
    """Where one stream's media is to go, as its reader is told; None for `rtp` means that we do not carry it."""

    @property
    def rejected(self) -> bool:
        """The stream is refused: port 0."""

    @property
    def rtp(self) -> TransportAddress | None:
        """Our address for RTP or datagrams."""

    @property
    def rtcp(self) -> TransportAddress | None:
        """Our address for RTCP."""

    @property
    def rtcp_mux(self) -> bool:
        """The reader is offered, or granted, RTCP on the RTP port."""

    @property
    def family(self) -> int:
        """4 or 6."""

    @property
    def port_count(self) -> int:
        """Pairs of ports in a row that are ours."""


@immutable
class Wording:
    """How a description is to be written, apart from the places.

    origin, name        values for `o=` and `s=`; None keeps the received ones
    host                printed in `c=` instead of our address
    zero_address        write our address where the party's was null
    own_direction       write the direction only if received, as received
    rtcp                "short", "full" (with address) or "none"
    loop_mark           value of `a=rtpengine`
    make_mid            number sections that have no `a=mid`
    protocols           protocol per section index where it differs from the received one
    allowed             payload types that may stay, per section index
    """

    origin: str | None = None
    name: str | None = None
    host: Connection | None = None
    zero_address: bool = False
    own_direction: bool = False
    rtcp: str = "short"
    loop_mark: str | None = None
    make_mid: bool = False
    protocols: dict[int, str] | None = None
    allowed: dict[int, Collection[str]] | None = None


PLAIN = Wording()


class Unplaceable(ValueError):
    """A section has no place of ours and may not pass as it is."""


def compose(description: Description, places: Sequence[Place], wording: Wording = PLAIN) -> bytes:
    """Write the description for the other party, one place a section. Lines end in CRLF.

    Raises Unplaceable rather than let a section through with its own address, streams over TCP excepted.
    """
    if len(places) != len(description.sections):
        raise Unplaceable(f"{len(places)} places for {len(description.sections)} media sections")
    out = _session(description, wording)
    for index, (section, place) in enumerate(zip(description.sections, places, strict=True)):
        _section(out, description, section, place, index, wording)
    out.append("")
    return "\r\n".join(out).encode("latin-1")


def _session(description: Description, wording: Wording) -> list[str]:
    session = description.session
    out = ["v=0"]
    origin = wording.origin or description.origin
    if origin is not None:
        out.append("o=" + origin)
    name = wording.name if wording.name is not None else description.name
    out.append("s=" + (name if name is not None else "-"))
    if session.information is not None:
        out.append(session.information)
    if description.trailer:
        for letter in "uep":
            out += description.trailer.get(letter, ())
    if session.bandwidth:
        _bandwidth(out, session)
    out += description.timing or ("t=0 0",)
    if wording.loop_mark is not None:
        out.append("a=rtpengine:" + wording.loop_mark)
    attributes = session.attributes
    if attributes:
        for name in ("ptime", "maxptime", "extmap-allow-mixed", "extmap"):
            out += _lines(name, attributes.get(name, ()))
    out += session.others
    return out


def _section(
    out: list[str],
    description: Description,
    section: Section,
    place: Place,
    index: int,
    wording: Wording,
) -> None:
    kind = transport(section.protocol)
    if place.rejected:
        _rejected(out, section, place, index, wording)
        return
    protocol = section.protocol
    if wording.protocols is not None:
        protocol = wording.protocols.get(index, protocol)
    if place.rtp is None:
        if kind is not Transport.STREAM and section.media != "message":
            raise Unplaceable(f"no address for {section.media} {section.protocol}")
        _untouched(out, description, section)
        return
    formats = section.formats
    if wording.allowed is not None and index in wording.allowed:
        allowed = wording.allowed[index]
        formats = [text for text in formats if text in allowed] or formats
    # The received port count may be larger: the ports behind ours are other calls'.
    port = place.rtp.port if place.port_count == 1 else f"{place.rtp.port}/{place.port_count}"
    out.append(f"m={section.media} {port} {protocol} {' '.join(formats)}")
    if section.information is not None:
        out.append(section.information)
    null = is_null_hold(description, section)
    out.append(_connection_line(place, wording, null=null and not wording.zero_address))
    if section.bandwidth:
        _bandwidth(out, section)
    if kind is Transport.RTP:
        _rtp(out, description, section, place, index, wording, formats, null=null)
    else:
        out += _attributes_as_received(description, section)


def _rtp(
    out: list[str],
    description: Description,
    section: Section,
    place: Place,
    index: int,
    wording: Wording,
    formats: list[str],
    *,
    null: bool,
) -> None:
    attributes = section.attributes
    _names(out, section, index, wording)
    general_feedback = _payload_types(out, attributes, formats)
    if "extmap-allow-mixed" in attributes:
        out.append("a=extmap-allow-mixed")
    if "extmap" in attributes:
        out += _lines("extmap", attributes["extmap"])
    out += general_feedback
    if place.rtcp_mux:
        out += section.others
    else:
        out += [line for line in section.others if line != "a=rtcp-mux-only"]
    word = direction(section, description.session)
    if not wording.own_direction:
        out.append("a=" + (_NULL_HOLD[word] if null else word))
    elif word in attributes:
        out.append("a=" + word)
    # With a port count the RTCP ports follow from it, and `a=rtcp` says nothing (RFC 3605 §2.1).
    if place.rtcp is not None and wording.rtcp != "none" and place.port_count == 1:
        if wording.rtcp == "full":
            host = wording.host
            family = host.family if host is not None else (6 if ":" in place.rtcp.host else 4)
            out.append(f"a=rtcp:{place.rtcp.port} IN IP{family} {host.host if host else place.rtcp.host}")
        else:
            out.append(f"a=rtcp:{place.rtcp.port}")
    if place.rtcp_mux:
        out.append("a=rtcp-mux")
    _keys(out, description.session, section)
    for name in ("ptime", "maxptime"):
        if name in attributes:
            out.append(f"a={name}:{attributes[name][0]}")


def _payload_types(out: list[str], attributes: dict[str, list[str]], formats: list[str]) -> list[str]:
    """Append rtpmap, fmtp and rtcp-fb by payload type; give back the lines of `a=rtcp-fb:*`."""
    maps = _by_first_word(attributes.get("rtpmap"))
    parameters = _by_first_word(attributes.get("fmtp"))
    feedback = _by_first_word(attributes.get("rtcp-fb"))
    for text in formats:
        if text in maps:
            out.append("a=rtpmap:" + maps[text][0])
        elif len(text) <= 2 and text.isascii() and text.isdigit() and int(text) in STATIC_PAYLOADS:
            out.append(f"a=rtpmap:{text} {STATIC_PAYLOADS[int(text)]}")
        if text in parameters:
            out += _lines("fmtp", parameters[text])
        if text in feedback:
            out += _lines("rtcp-fb", feedback[text])
    return _lines("rtcp-fb", feedback.get("*", ()))


def _by_first_word(values: list[str] | None) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for value in values or ():
        found.setdefault(value.partition(" ")[0], []).append(value)
    return found


def _names(out: list[str], section: Section, index: int, wording: Wording) -> None:
    attributes = section.attributes
    if "mid" in attributes:
        out.append("a=mid:" + attributes["mid"][0])
    elif wording.make_mid:
        out.append(f"a=mid:{index + 1}")
    if "label" in attributes:
        out.append("a=label:" + attributes["label"][0])


def _keys(out: list[str], session: Part, section: Section) -> None:
    attributes = section.attributes
    if "crypto" in attributes:
        out += _lines("crypto", attributes["crypto"])
    for name in _SESSION_KEYS:
        values = attributes.get(name) or session.attributes.get(name)
        if values:
            out += _lines(name, values)


def _rejected(out: list[str], section: Section, place: Place, index: int, wording: Wording) -> None:
    out.append(f"m={section.media} 0 {section.protocol} {' '.join(section.formats)}")
    if section.information is not None:
        out.append(section.information)
    out.append("c=IN IP6 ::" if place.family == 6 else "c=IN IP4 0.0.0.0")
    if section.bandwidth:
        _bandwidth(out, section)
    _names(out, section, index, wording)


def _untouched(out: list[str], description: Description, section: Section) -> None:
    out.append(description.lines[section.first])
    if section.information is not None:
        out.append(section.information)
    connection = description.connection(section)
    if connection is not None:
        out.append(f"c=IN IP{connection.family} {connection.host}")
    out += section.bandwidth
    out += [line for line in description.lines[section.first : section.end] if line.startswith("a=")]


def _attributes_as_received(description: Description, section: Section) -> list[str]:
    """All attributes in their order but those that would name an address that is not ours: ICE's and `a=rtcp`."""
    return [
        line
        for line in description.lines[section.first : section.end]
        if line.startswith("a=")
        and not line.startswith(("a=ice-", "a=candidate", "a=remote-candidates", "a=end-of-candidates", "a=rtcp:"))
    ]


def _connection_line(place: Place, wording: Wording, *, null: bool) -> str:
    if wording.host is not None:
        family, host = wording.host.family, wording.host.host
    else:
        assert place.rtp is not None
        host = place.rtp.host
        family = 6 if ":" in host else 4
    if null:
        return "c=IN IP6 ::" if family == 6 else "c=IN IP4 0.0.0.0"
    return f"c=IN IP{family} {host}"


def _bandwidth(out: list[str], part: Part) -> None:
    for modifier in _BANDWIDTHS:
        start = f"b={modifier}:"
        out += [line for line in part.bandwidth if line.startswith(start)]


def _lines(name: str, values: Collection[str]) -> list[str]:
    return [f"a={name}:{value}" if value else f"a={name}" for value in values]
