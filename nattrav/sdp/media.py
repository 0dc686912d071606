"""What a media section means: how it is carried, where its party wants packets, which payloads, which direction."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from functools import lru_cache
from types import MappingProxyType

from nattrav.net.address import TransportAddress
from nattrav.sdp.description import Connection, Description, MalformedMessage, Part, Section, parse_address

DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")
ICE_DISCARD_PORT = 9

STATIC_PAYLOADS = MappingProxyType(
    {
        0: "PCMU/8000",
        3: "GSM/8000",
        4: "G723/8000",
        5: "DVI4/8000",
        6: "DVI4/16000",
        7: "LPC/8000",
        8: "PCMA/8000",
        9: "G722/8000",
        10: "L16/44100/2",
        11: "L16/44100",
        12: "QCELP/8000",
        13: "CN/8000",
        14: "MPA/90000",
        15: "G728/8000",
        16: "DVI4/11025",
        17: "DVI4/22050",
        18: "G729/8000",
        25: "CelB/90000",
        26: "JPEG/90000",
        28: "nv/90000",
        31: "H261/90000",
        32: "MPV/90000",
        33: "MP2T/90000",
        34: "H263/90000",
    }
)
"""The fixed payload types of RFC 3551 §6, as `a=rtpmap` would name them."""


RTP_PROTOCOLS = frozenset({"RTP/AVP", "RTP/AVPF", "RTP/SAVP", "RTP/SAVPF", "UDP/TLS/RTP/SAVP", "UDP/TLS/RTP/SAVPF"})


class Transport(enum.Enum):
    """How a section's protocol carries media: RTP, other datagrams, or a stream that is not ours to carry."""

    RTP = "rtp"
    DATAGRAM = "datagram"
    STREAM = "stream"


@lru_cache(maxsize=256)
def transport(protocol: str) -> Transport:
    """Classify an `m=` line's protocol. What is not known to be RTP or over TCP is taken for datagrams."""
    name = protocol.upper()
    if name in RTP_PROTOCOLS:
        return Transport.RTP
    return Transport.STREAM if name.startswith("TCP") else Transport.DATAGRAM


@lru_cache(maxsize=256)
def is_secured(protocol: str) -> bool:
    """Tell whether packets are SRTP or DTLS, which nobody on the way can check."""
    name = protocol.upper()
    return "SAVP" in name or "DTLS" in name or "TLS" in name.split("/")


def rtp_address(description: Description, section: Section) -> TransportAddress | None:
    """Where the party wants RTP, as the SDP says; None without a literal, non-null address and a port."""
    connection = description.connection(section)
    if connection is None or not connection.literal or connection.null or not section.port:
        return None
    return TransportAddress(connection.host, section.port)


def rtcp_address(section: Section, rtp: TransportAddress) -> TransportAddress | None:
    """Where the party wants RTCP: `a=rtcp` (RFC 3605), else RTP port + 1; None when that is no port.

    `a=rtcp` is ignored when the `m=` line has a port count, and when it is malformed.
    """
    value = section.attribute("rtcp")
    if value is not None and section.port_count == 1:
        fields = value.split()
        if fields and fields[0].isascii() and fields[0].isdigit() and 0 < int(fields[0][:6]) <= 65535:
            port = int(fields[0])
            if len(fields) == 4 and fields[1] == "IN" and fields[2] in ("IP4", "IP6"):
                host = _literal(fields[2], fields[3])
                return TransportAddress(host or rtp.host, port)
            return TransportAddress(rtp.host, port)
    return TransportAddress(rtp.host, rtp.port + 1) if rtp.port < 65535 else None


def _literal(kind: str, host: str) -> str | None:
    try:
        connection = parse_address(kind, host)
    except MalformedMessage:
        return None
    return connection.host if connection.literal and not connection.null else None


def has_mux(section: Section) -> bool:
    """The party offers or accepts RTP and RTCP on one port (RFC 5761, RFC 8858)."""
    return "rtcp-mux" in section.attributes or "a=rtcp-mux-only" in section.others


def has_ice(description: Description, section: Section) -> bool:
    """The section has ICE parameters of its own or of the session."""
    names = section.attributes
    return "candidate" in names or "ice-ufrag" in names or "ice-ufrag" in description.session.attributes


def is_trickling(description: Description, section: Section) -> bool:
    """No address yet, candidates follow (RFC 8840 §4.1.1): a null address with port 9 means no hold then."""
    connection = description.connection(section)
    if connection is None or not connection.null or section.port != ICE_DISCARD_PORT:
        return False
    options = section.attributes.get("ice-options", []) + description.session.attributes.get("ice-options", [])
    return any("trickle" in value.split() for value in options)


def is_null_hold(description: Description, section: Section) -> bool:
    """Hold in the old way: the address is 0.0.0.0 or :: (RFC 3264 §8.4)."""
    connection = description.connection(section)
    return connection is not None and connection.null and section.port != 0 and not is_trickling(description, section)


def direction(section: Section, session: Part) -> str:
    """`sendrecv`, `sendonly`, `recvonly` or `inactive`: the section's word, else the session's, else `sendrecv`."""
    for part in (section, session):
        names = part.attributes
        for word in DIRECTIONS:
            if word in names:
                return word
    return "sendrecv"


def payloads(formats: Iterable[str], rtpmaps: Iterable[str]) -> dict[int, str]:
    """Payload type → encoding (`PCMU/8000`), in the order of the `m=` line; "" where nothing says what it is.

    Malformed `a=rtpmap` values and formats that are no payload type are left out.
    """
    maps: dict[str, str] = {}
    for value in rtpmaps:
        number, _, encoding = value.partition(" ")
        maps.setdefault(number, encoding.strip())
    found: dict[int, str] = {}
    for text in formats:
        if text.isascii() and text.isdigit() and len(text) <= 3 and (number_of := int(text)) <= 127:
            found[number_of] = maps.get(text) or STATIC_PAYLOADS.get(number_of, "")
    return found


@lru_cache(maxsize=1024)
def clock_rate(encoding: str) -> int | None:
    """Timestamp rate of an encoding in Hz: 8000 for `PCMU/8000`; None when it does not say."""
    rate = encoding.partition("/")[2].partition("/")[0]
    return int(rate) if rate.isascii() and rate.isdigit() and 0 < len(rate) <= 7 and int(rate) else None


def addresses(description: Description) -> list[Connection]:
    """Every `c=` address of a description, in the order of its parts."""
    parts: list[Part] = [description.session, *description.sections]
    return [part.connection for part in parts if part.connection is not None]
