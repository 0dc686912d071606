"""rtnetlink: what is asked, and what is read from answers, also from ones that are cut off."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from nattrav.net import rtnetlink
from nattrav.net.rtnetlink import Link, Message, Neighbour, Route


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def packed(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 7, 0) + body


def only(datagram: bytes) -> Message:
    (found,) = rtnetlink.messages(datagram)
    return found


def route(*attributes: bytes, kind: int = 1) -> Route:
    head = struct.pack("=8BI", 2, 32, 0, 0, 254, 0, 0, kind, 0)
    return rtnetlink.read_route(only(packed(rtnetlink.NEW_ROUTE, head + b"".join(attributes))))


def test_a_route_is_asked_for_as_a_datagrams() -> None:
    question = rtnetlink.route_question(("192.0.2.1", 30000), ("192.0.2.9", 4000), 0xB9, 5)
    length, kind, flags, sequence, _ = struct.unpack_from("=IHHII", question)
    assert (length, kind, flags, sequence) == (len(question), rtnetlink.GET_ROUTE, 1, 5)
    assert question[16:20] == bytes([2, 32, 32, 0xB8])
    for one in (attribute(1, b"\xc0\0\2\x09"), attribute(27, b"\x11"), attribute(28, b"\x75\x30")):
        assert one in question


def test_a_route_is_read() -> None:
    out, gateway = attribute(4, struct.pack("=I", 3)), attribute(5, bytes([192, 0, 2, 254]))
    assert route(out, gateway) == Route(1, 3, "192.0.2.254", 0, 0, False)
    metrics = attribute(8, attribute(2, struct.pack("=I", 1400)) + attribute(10, struct.pack("=I", 33)))
    assert route(out, metrics, kind=2) == Route(2, 3, None, 1400, 33, False)
    assert route(out, attribute(21, b"\1\0")).encapsulated


def test_a_gateway_of_the_other_family_is_read() -> None:
    via = struct.pack("=H", 10) + bytes.fromhex("20010db8") + bytes(11) + b"\1"
    assert route(attribute(18, via)).gateway == "2001:db8::1"


def test_a_link_is_read() -> None:
    body = struct.pack("=BxHiII", 0, 1, 3, 0x10041, 0)
    body += attribute(3, b"eth0\0") + attribute(1, b"\2\0\0\0\0\1") + attribute(4, struct.pack("=I", 1500))
    link = rtnetlink.read_link(only(packed(rtnetlink.NEW_LINK, body)))
    assert link == Link(3, "eth0", rtnetlink.ETHERNET, True, b"\2\0\0\0\0\1", 1500)
    assert not rtnetlink.read_link(only(packed(rtnetlink.DELETE_LINK, body))).works


def test_a_neighbours_address_counts_while_the_kernel_would_use_it() -> None:
    def read(state: int, kind: int = rtnetlink.NEW_NEIGHBOUR) -> Neighbour | None:
        body = struct.pack("=BxxxiHBB", 2, 3, state, 0, 0)
        body += attribute(1, bytes([192, 0, 2, 9])) + attribute(2, b"\2\0\0\0\0\x09")
        return rtnetlink.read_neighbour(only(packed(kind, body)))

    for state, mac in ((0x02, b"\2\0\0\0\0\x09"), (0x04, b"\2\0\0\0\0\x09"), (0x80, b"\2\0\0\0\0\x09"), (0x20, b"")):
        assert read(state) == Neighbour(3, "192.0.2.9", mac)
    assert read(0x02, rtnetlink.DELETE_NEIGHBOUR) == Neighbour(3, "192.0.2.9", b"")


def test_a_bridges_neighbour_is_none() -> None:
    body = struct.pack("=BxxxiHBB", 7, 3, 2, 0, 0) + attribute(2, b"\2\0\0\0\0\x09")
    assert rtnetlink.read_neighbour(only(packed(rtnetlink.NEW_NEIGHBOUR, body))) is None


def test_an_error_is_an_errno() -> None:
    assert rtnetlink.error_of(only(packed(rtnetlink.ERROR, struct.pack("=i", -113) + bytes(16)))) == 113


@given(st.binary(max_size=80))
def test_what_is_cut_off_is_left_out(octets: bytes) -> None:
    for message in rtnetlink.messages(octets):
        assert len(message.body) <= len(octets)
