"""RTCP compound packets, reports, and the round trip between them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.rtcp import Report, ReportBlock, RoundTrip, consistent, encode, middle, packets, reports
from relay.rtp import MalformedMessage

word = st.integers(0, 0xFFFFFFFF)
block = st.builds(
    ReportBlock, word, st.integers(0, 255), st.integers(-(1 << 23), (1 << 23) - 1), word, word, word, word
)
report = st.builds(
    Report,
    word,
    st.none(),
    st.just(0),
    st.just(0),
    st.lists(block, max_size=31).map(tuple),
) | st.builds(Report, word, st.integers(0, (1 << 64) - 1), word, word, st.lists(block, max_size=31).map(tuple))

SDES = bytes.fromhex("81CA0003 00000007 01026162 00000000")


@given(st.lists(report, min_size=1, max_size=3))
def test_reports_come_back_as_written(written: list[Report]) -> None:
    compound = b"".join(encode(each) for each in written) + SDES
    assert reports(compound) == written
    assert consistent(compound)


def test_a_compound_packet_is_split_by_its_lengths() -> None:
    compound = encode(Report(7, None, 0, 0, ())) + SDES
    assert [kind for kind, _ in packets(compound)] == [201, 202]


@pytest.mark.parametrize("damage", [b"", b"\x80", b"\x80\xc9\x00\x09" + bytes(4), b"\x40\xc9\x00\x01" + bytes(4)])
def test_lengths_that_do_not_add_up_are_refused(damage: bytes) -> None:
    with pytest.raises(MalformedMessage):
        packets(damage)
    assert not consistent(damage)


def test_report_blocks_past_the_end_are_refused() -> None:
    with pytest.raises(MalformedMessage, match="blocks"):
        reports(b"\x82\xc9\x00\x01" + bytes(4))


def test_of_secured_rtcp_only_the_first_header_is_read() -> None:
    secured = encode(Report(7, None, 0, 0, ())) + bytes(range(1, 15))
    assert consistent(secured, secured=True)
    assert not consistent(secured)


def test_the_round_trip_is_what_the_party_did_not_spend_itself() -> None:
    trip = RoundTrip()
    ntp = 0x1234_5678_9ABC_DEF0
    trip.passed_on(ntp, 10.0)
    trip.answered(ReportBlock(1, 0, 0, 0, 0, middle(ntp), 65536 // 2), 10.58)
    assert trip.seconds == pytest.approx(0.08)


def test_a_report_on_something_unknown_measures_nothing() -> None:
    trip = RoundTrip()
    trip.passed_on(1 << 40, 10.0)
    trip.answered(ReportBlock(1, 0, 0, 0, 0, 99, 0), 11.0)
    trip.answered(ReportBlock(1, 0, 0, 0, 0, 0, 0), 11.0)
    assert trip.seconds == 0.0
