"""Connections that are too many, silent or slow; and what the first octets of a datagram say."""

from __future__ import annotations

import pytest

from nattrav.net.address import TransportAddress
from nattrav.sip.transport.flow import CloseReason, Flow, listener_id
from nattrav.sip.transport.keepalive import Kind, kind_of, without_leading_lines
from nattrav.sip.transport.limits import ConnectionTable, StreamLimits

LOCAL = TransportAddress("203.0.113.10", 5060)
LIMITS = StreamLimits(connections=3, per_source=2, greeting=10, slow=5, idle=100)


def flow(serial: int, host: str = "198.51.100.7") -> Flow:
    return Flow("tcp", 1, LOCAL, TransportAddress(host, 1000 + serial), serial)


def test_connections_are_counted_per_source_and_in_all() -> None:
    table = ConnectionTable(LIMITS)
    table.add(flow(1), 0, accepted=True)
    table.add(flow(2), 0, accepted=True)
    assert not table.admits("198.51.100.7")
    assert table.admits("198.51.100.8")
    table.add(flow(3, "198.51.100.8"), 0, accepted=True)
    assert not table.admits("198.51.100.9")
    table.remove(flow(1))
    table.remove(flow(1))
    assert table.admits("198.51.100.7")
    assert len(table) == 2


def test_an_accepted_connection_owes_a_message_soon_and_ours_does_not() -> None:
    table = ConnectionTable(LIMITS)
    table.add(flow(1), 0, accepted=True)
    table.add(flow(2), 0, accepted=False)
    assert table.expired(9.9) == []
    assert table.expired(10) == [(flow(1), CloseReason.SLOW)]
    table.heard(flow(1), 9, message=True, partial=False)
    assert table.expired(10) == []


def test_a_message_begun_must_end_in_time() -> None:
    table = ConnectionTable(LIMITS)
    table.add(flow(1), 0, accepted=False)
    table.heard(flow(1), 1, message=False, partial=True)
    table.heard(flow(1), 5, message=False, partial=True)
    assert table.expired(5.9) == []
    assert table.expired(6) == [(flow(1), CloseReason.SLOW)]
    table.heard(flow(1), 6, message=True, partial=True)
    assert table.expired(10.9) == []
    table.heard(flow(1), 10, message=True, partial=False)
    assert table.expired(60) == []


def test_an_idle_connection_is_closed() -> None:
    table = ConnectionTable(LIMITS)
    table.add(flow(1), 0, accepted=False)
    table.heard(flow(1), 50, message=True, partial=False)
    assert table.expired(149) == []
    assert table.expired(150) == [(flow(1), CloseReason.IDLE)]
    table.heard(flow(9), 150, message=True, partial=False)


STUN = bytes([0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42]) + bytes(12)


@pytest.mark.parametrize(
    ("datagram", "kind"),
    [
        (STUN, Kind.STUN),
        (b"\x01" + STUN[1:], Kind.STUN),
        (STUN[:19], Kind.SIP),
        (b"\x04" + STUN[1:], Kind.SIP),
        (STUN[:4] + bytes(16), Kind.SIP),
        (bytes(4), Kind.KEEPALIVE),
        (b"", Kind.KEEPALIVE),
        (b"\r\n\r\n", Kind.KEEPALIVE),
        (b"\r\nOPTIONS", Kind.SIP),
        (b"OPTIONS", Kind.SIP),
        (b"\x16\x03\x01", Kind.SIP),
    ],
)
def test_the_first_octets_tell_the_kind(datagram: bytes, kind: Kind) -> None:
    assert kind_of(datagram) is kind


def test_empty_lines_before_a_start_line_are_skipped() -> None:
    assert without_leading_lines(b"\r\n\r\nOPTIONS\r\n") == b"OPTIONS\r\n"
    assert without_leading_lines(b"OPTIONS\r\n") == b"OPTIONS\r\n"


def test_a_listener_id_depends_on_what_is_bound_and_on_nothing_else() -> None:
    assert listener_id("udp", LOCAL) == listener_id("udp", TransportAddress("203.0.113.10", 5060))
    assert len({listener_id(t, LOCAL) for t in ("udp", "tcp", "tls", "ws", "wss")}) == 5
    assert 0 <= listener_id("udp", LOCAL) < 65536


def test_flows_are_written_for_people() -> None:
    assert str(flow(3)) == "tcp:203.0.113.10:5060<>198.51.100.7:1003#3"
    assert flow(3).reliable
    assert not flow(3).secure
