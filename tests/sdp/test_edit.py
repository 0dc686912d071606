from __future__ import annotations

import pytest

from nattrav.sdp.description import parse
from nattrav.sdp.edit import anchor
from tests.sdp.samples import BROWSER, PHONE, SOFTPHONE, sdp
from tests.sdp.test_rewrite import REJECTED, At, at


def edited(
    *lines: str, places: list[At | None] | None = None, end: str = "\r\n", origin: str | None = None
) -> list[str]:
    places = places if places is not None else [at()]
    text = anchor(parse(sdp(*lines, end=end)), places, origin=origin).decode("latin-1")
    assert text.endswith(end)
    return text.split(end)[:-1]


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_only_address_and_port_change(end: str) -> None:
    expected = [line.replace("4000", "30120") if line[0] == "m" else line for line in PHONE]
    expected[3] = "c=IN IP4 203.0.113.5"
    assert edited(*PHONE, end=end) == expected


def test_nothing_changes_where_nothing_is_placed() -> None:
    assert edited(*PHONE, places=[None]) == list(PHONE)


def test_the_rtcp_attribute_is_replaced_where_it_stands() -> None:
    out = edited(*SOFTPHONE)
    assert out[9] == "a=rtcp:30121"
    assert len(out) == len(SOFTPHONE)


def test_an_rtcp_port_that_is_not_the_next_one_is_added() -> None:
    place = At(at().rtp, at(40000).rtp)
    assert edited(*PHONE, places=[place])[-1] == "a=rtcp:40000"


def test_ice_goes_and_a_rejected_stream_has_port_zero() -> None:
    out = edited(*BROWSER, places=[at(mux=True), REJECTED])
    assert not [line for line in out if "candidate" in line or "ice-" in line]
    assert "m=video 0 UDP/TLS/RTP/SAVPF 96" in out
    assert "a=rtcp-mux" in out
    assert "a=rtcp-mux" not in edited(*BROWSER, places=[at(), REJECTED])


def test_a_null_address_stays_null() -> None:
    assert edited(*PHONE[:3], "c=IN IP4 0.0.0.0", *PHONE[4:])[3] == "c=IN IP4 0.0.0.0"


def test_a_section_at_another_address_gets_its_own_line() -> None:
    out = edited(*PHONE, "m=video 4002 RTP/AVP 31", "i=cam", places=[at(), at(30122, "2001:db8::5")])
    assert out[3] == "c=IN IP4 203.0.113.5"
    assert out[9:] == ["m=video 30122 RTP/AVP 31", "i=cam", "c=IN IP6 2001:db8::5"]


def test_origin_is_replaced_only_when_asked() -> None:
    assert edited(*PHONE, origin="al 11 23 IN IP4 203.0.113.5")[1] == "o=al 11 23 IN IP4 203.0.113.5"


def test_a_port_count_stays() -> None:
    assert edited(*PHONE[:5], "m=audio 4000/2 RTP/AVP 0")[5] == "m=audio 30120/2 RTP/AVP 0"


def test_spacing_in_the_media_line_stays() -> None:
    assert edited(*PHONE[:5], "m=audio\t4000  RTP/AVP 0")[5] == "m=audio\t30120  RTP/AVP 0"
