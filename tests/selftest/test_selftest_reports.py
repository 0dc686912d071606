"""What test phones report lets whoever passes it on measure the round trip to each of them."""

from __future__ import annotations

import struct

import pytest

from nattrav.selftest.reports import Reporter
from relay.rtcp import RoundTrip, consistent, packets, reports


def rtp(sequence: int, ssrc: int) -> bytes:
    return struct.pack("!BBHII", 0x80, 0, sequence, 160 * sequence, ssrc) + bytes(160)


def test_a_report_is_a_compound_packet_with_a_name() -> None:
    phone = Reporter(7, "alice@selftest")
    phone.sent(160)
    data = phone.report(1_700_000_000.5, 10.0)
    assert consistent(data)
    assert [kind for kind, _ in packets(data)] == [200, 202]
    (report,) = reports(data)
    assert (report.ssrc, report.packets, report.octets, report.blocks) == (7, 1, 160, ())
    assert b"alice@selftest" in data


@pytest.mark.parametrize("cname", ["a", "ab", "abc", "abcd", "abcde"])
def test_names_of_any_length_are_padded_to_words(cname: str) -> None:
    assert consistent(Reporter(1, cname).report(1_700_000_000.0, 0.0))


def test_losses_are_reported() -> None:
    phone = Reporter(7, "a")
    for sequence in (10, 11, 13):
        phone.heard(rtp(sequence, 99))
    (report,) = reports(phone.report(1_700_000_000.0, 0.0))
    (block,) = report.blocks
    assert (block.ssrc, block.cumulative_lost, block.fraction_lost, block.highest_sequence) == (99, 1, 64, 13)


def test_a_relay_between_two_phones_measures_the_way_to_the_one_that_answers() -> None:
    near, far, trip = Reporter(1, "near"), Reporter(2, "far"), RoundTrip()
    far.heard(rtp(1, 1))
    sent = near.report(1_700_000_000.0, 0.0)
    (report,) = reports(sent)
    assert report.ntp is not None
    trip.passed_on(report.ntp, 100.0)
    far.receive(sent, 50.0)
    (answer,) = reports(far.report(1_700_000_001.0, 50.5))
    trip.answered(answer.blocks[0], 100.54)
    assert trip.seconds == pytest.approx(0.04, abs=1e-3)


def test_garbage_is_no_report() -> None:
    phone = Reporter(1, "a")
    for data in (b"", b"\x80", bytes(40), b"\xff" * 100):
        phone.receive(data, 0.0)
    assert consistent(phone.report(1_700_000_000.0, 0.0))
