"""From a description's media sections to the relay's values."""

from __future__ import annotations

from functools import lru_cache

from nattrav.net.address import TransportAddress
from nattrav.sdp.description import Description, Section
from nattrav.sdp.media import (
    Transport,
    clock_rate,
    direction,
    has_mux,
    is_null_hold,
    is_secured,
    payloads,
    rtcp_address,
    rtp_address,
    transport,
)
from relay.session import Carriage, Direction, PartyMedia

_CACHED_LINES = 64
_DIRECTIONS = {word.value: word for word in Direction}
_CARRIAGES = {
    Transport.RTP: Carriage.RTP,
    Transport.DATAGRAM: Carriage.DATAGRAM,
    Transport.STREAM: Carriage.NONE,
}


class IncompleteDescription(ValueError):
    """A section that is to be relayed has no address at all."""


def party_media(description: Description, host: str | None = None, *, source: str | None = None) -> list[PartyMedia]:
    """Give one value a section. `host` replaces the address of the SDP (`SIP-source-address`), null ones excepted.

    `source` is where the SIP message came from: the best guess for a `c=` with a domain name, until packets tell.
    Raises IncompleteDescription when a section in use has no `c=` to go by, or one with a name and no such guess:
    nothing would tell the party from anybody else.
    """
    found = []
    for section in description.sections:
        connection = description.connection(section)
        named = connection is not None and not connection.literal
        if named and host is None and source is None and _is_carried(section):
            raise IncompleteDescription(f"nothing but a name for {section.media}")
        found.append(_section(description, section, source if named and host is None else host))
    return found


def _is_carried(section: Section) -> bool:
    return section.port != 0 and transport(section.protocol) is not Transport.STREAM


def _section(description: Description, section: Section, host: str | None) -> PartyMedia:
    carriage = _CARRIAGES[transport(section.protocol)]
    if section.port == 0:
        return PartyMedia(section.media, section.protocol, carriage, None, rejected=True, mid=section.attribute("mid"))
    if host is None and carriage is not Carriage.NONE and description.connection(section) is None:
        raise IncompleteDescription(f"no address for {section.media}")
    null = is_null_hold(description, section)
    moved = host is not None and not null
    rtp = TransportAddress(host, section.port) if host is not None and moved else rtp_address(description, section)
    if carriage is not Carriage.RTP:
        return PartyMedia(
            section.media,
            section.protocol,
            carriage,
            rtp,
            direction=_DIRECTIONS[direction(section, description.session)],
            port_count=section.port_count,
            null_address=null,
            secured=is_secured(section.protocol),
            mid=section.attribute("mid"),
        )
    rtcp = rtcp_address(section, rtp) if rtp is not None else None
    if rtcp is not None and host is not None and moved:
        rtcp = TransportAddress(host, rtcp.port)
    types, clock_rates, codecs = _encodings(section)
    mux = has_mux(section) or (rtp is not None and rtcp == rtp)
    return PartyMedia(
        section.media,
        section.protocol,
        carriage,
        rtp,
        rtcp=None if mux else rtcp,
        rtcp_mux=mux,
        direction=_DIRECTIONS[direction(section, description.session)],
        payload_types=types,
        clock_rates=clock_rates,
        codecs=codecs,
        port_count=section.port_count,
        null_address=null,
        secured=is_secured(section.protocol),
        mid=section.attribute("mid"),
    )


_Encodings = tuple[frozenset[int], dict[int, int], dict[int, str]]


def _encodings(section: Section) -> _Encodings:
    """Payload types, their clock rates and their codecs. Phones of one make say the same call after call."""
    formats, maps = tuple(section.formats), tuple(section.attributes.get("rtpmap", ()))
    if len(formats) + len(maps) > _CACHED_LINES:
        return _read_encodings.__wrapped__(formats, maps)
    return _read_encodings(formats, maps)


@lru_cache(maxsize=512)
def _read_encodings(formats: tuple[str, ...], maps: tuple[str, ...]) -> _Encodings:
    encodings = payloads(formats, maps)
    return (
        frozenset(encodings),
        {number: rate for number, text in encodings.items() if (rate := clock_rate(text)) is not None},
        {number: text.partition("/")[0] for number, text in encodings.items() if text},
    )
