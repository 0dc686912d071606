from __future__ import annotations

from dataclasses import dataclass

from nattrav.net.address import TransportAddress
from nattrav.sdp.description import MalformedMessage, parse
from nattrav.sdp.rewrite import compose
from tests.sdp.samples import BROWSER, FAX, PHONE, SOFTPHONE, sdp

_RTP = TransportAddress("203.0.113.5", 30000)
_RTCP = TransportAddress("203.0.113.5", 30001)


@dataclass(frozen=True)
class _Place:
    port_count = 1
    rejected: bool
    rtp: TransportAddress | None
    rtcp: TransportAddress | None = _RTCP
    rtcp_mux: bool = False
    family: int = 4


SEEDS = [sdp(*lines) for lines in (PHONE, SOFTPHONE, BROWSER, FAX)]


def target(data: bytes) -> None:
    """What parses renders to itself; what is composed from it parses, has as many sections, and composes to itself."""
    try:
        description = parse(data)
    except MalformedMessage:
        return
    assert description.render() == data
    places = [_Place(section.port == 0, _RTP if section.port else None) for section in description.sections]
    text = compose(description, places)
    again = parse(text)
    assert len(again.sections) == len(description.sections)
    assert compose(again, places) == text
