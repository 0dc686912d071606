"""The data plane on real sockets over loopback: the same tests for every backend."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from nattrav.net.address import TransportAddress
from nattrav.net.options import force_receive_buffer, open_udp
from relay.io.pump import DataPlane, open_plane
from relay.plane import Content, DropReason, FlowEventKind, FlowSettings, Learned, Rank
from relay.rtp import PIERCE
from tests.relay.io.pairs import Pair, Party, local_of, rtp, soon


def test_two_parties_hear_each_other(plane: DataPlane, party: Callable[..., Party]) -> None:
    a, b = party(), party()
    pair = Pair(plane, a.address, b.address)
    for n in range(20):
        a.send(rtp(n), pair.local[0])
        b.send(rtp(n, 9), pair.local[1])
    assert b.receive(20) == [rtp(n) for n in range(20)]
    assert a.receive(20) == [rtp(n, 9) for n in range(20)]
    figures = plane.figures(pair.flow[0])
    assert (figures.packets_in, figures.packets_out) == (20, 20)
    assert figures.rtp.ssrc == 7
    assert figures.rtp.lost == 0
    assert figures.learned == Learned(a.address, a.address, True, Rank.EXACT, figures.learned.since)
    assert plane.last_accepted(pair.flow) > 0


def test_packets_leave_from_the_address_the_party_was_given(plane: DataPlane, party: Callable[..., Party]) -> None:
    a, b = party(), party()
    pair = Pair(plane, a.address, b.address)
    a.send(rtp(1), pair.local[0])
    b.sock.settimeout(2)
    _, source = b.sock.recvfrom(2000)
    assert TransportAddress(*source) == pair.local[1]


def test_ipv6_and_ipv4_are_bridged(plane: DataPlane, party: Callable[..., Party]) -> None:
    try:
        a, b = party(6), party(4)
    except OSError:
        pytest.skip("needs IPv6 on loopback: sysctl net.ipv6.conf.lo.disable_ipv6=0")
    pair = Pair(plane, a.address, b.address)
    a.send(rtp(1), pair.local[0])
    b.send(rtp(2), pair.local[1])
    assert b.receive() == [rtp(1)]
    assert a.receive() == [rtp(2)]
    intruder = party(6)
    intruder.send(rtp(3), pair.local[0])
    assert b.hears_nothing()


def test_a_third_party_neither_hears_nor_is_heard(plane: DataPlane, party: Callable[..., Party]) -> None:
    a, b, intruder = party(), party(), party()
    pair = Pair(plane, a.address, b.address)
    a.send(rtp(1), pair.local[0])
    b.send(rtp(1), pair.local[1])
    assert a.receive()
    assert b.receive()
    for n in range(30):
        intruder.send(rtp(n + 2), pair.local[0])
    assert b.hears_nothing()
    b.send(rtp(2), pair.local[1])
    assert a.receive() == [rtp(2)]
    assert intruder.hears_nothing()
    assert plane.figures(pair.flow[0]).drops == {DropReason.SOURCE_MISMATCH: 30}


def test_the_mapped_address_is_learned_and_told(plane: DataPlane, party: Callable[..., Party]) -> None:
    phone, gateway = party(), party()
    pair = Pair(plane, TransportAddress("127.0.0.9", 9), gateway.address)
    phone.send(rtp(1), pair.local[0])
    assert gateway.receive() == [rtp(1)]
    gateway.send(rtp(2), pair.local[1])
    assert phone.receive() == [rtp(2)]
    told = [(event.flow, event.kind, event.source) for event in plane.events()]
    assert (pair.flow[0], FlowEventKind.LEARNED, phone.address) in told
    assert plane.events() == []


def test_the_window_ends_by_itself(plane: DataPlane, party: Callable[..., Party]) -> None:
    phone, gateway, other = party(), party(), party()
    pair = Pair(plane, TransportAddress("127.0.0.9", 9), gateway.address, window=0.1)
    phone.send(rtp(1), pair.local[0])
    assert gateway.receive()
    time.sleep(0.15)
    phone.send(rtp(2), pair.local[0])
    assert gateway.receive()
    assert plane.figures(pair.flow[0]).learned.latched
    other.send(rtp(3), pair.local[0])
    assert gateway.hears_nothing()


def test_rules_change_between_packets(plane: DataPlane, party: Callable[..., Party]) -> None:
    a, b = party(), party()
    pair = Pair(plane, a.address, b.address)
    a.send(rtp(1), pair.local[0])
    assert b.receive()
    pair.change(0, may_send=False)
    a.send(rtp(2), pair.local[0])
    assert b.hears_nothing()
    pair.change(0, may_send=True, blocked=True)
    a.send(rtp(3), pair.local[0])
    assert b.hears_nothing()
    pair.change(0, blocked=False)
    a.send(rtp(4), pair.local[0])
    assert b.receive() == [rtp(4)]
    assert plane.figures(pair.flow[0]).drops == {DropReason.ON_HOLD: 1, DropReason.BLOCKED: 1}


def test_renegotiation_does_not_interrupt(plane: DataPlane, party: Callable[..., Party]) -> None:
    a, b = party(), party()
    pair = Pair(plane, TransportAddress("127.0.0.9", 9), b.address, window=0.05)
    a.send(rtp(1), pair.local[0])
    time.sleep(0.1)
    a.send(rtp(2), pair.local[0])
    assert len(b.receive(2)) == 2
    for n in range(10):
        pair.change(0, relearn=True)
        b.send(rtp(n), pair.local[1])
        a.send(rtp(n + 3), pair.local[0])
    assert len(a.receive(10)) == 10
    assert len(b.receive(10)) == 10


def test_flows_come_and_go_while_others_lose_nothing(plane: DataPlane, party: Callable[..., Party]) -> None:
    a, b = party(), party()
    pair = Pair(plane, a.address, b.address)
    received: list[bytes] = []
    for n in range(150):
        other = Pair(plane, a.address, b.address)
        a.send(rtp(n), pair.local[0])
        for flow in other.flow:
            plane.close(flow)
        received += b.receive(1)
    assert received == [rtp(n) for n in range(150)]
    assert plane.figures(pair.flow[0]).packets_in == 150


def test_closing_gives_exact_figures_and_frees_the_port(plane: DataPlane, party: Callable[..., Party]) -> None:
    a, b = party(), party()
    pair = Pair(plane, a.address, b.address)
    for n in range(7):
        a.send(rtp(n), pair.local[0])
    assert len(b.receive(7)) == 7
    assert plane.close(pair.flow[0]).packets_in == 7
    assert plane.close(pair.flow[1]).packets_out == 7

    def port_is_free() -> bool:
        try:
            open_udp(pair.local[0]).close()
        except OSError:
            return False
        return True

    assert soon(port_is_free)
    with pytest.raises(KeyError):
        plane.figures(pair.flow[0])


def test_a_closed_peer_is_no_peer(plane: DataPlane, party: Callable[..., Party]) -> None:
    a, b = party(), party()
    pair = Pair(plane, a.address, b.address)
    a.send(rtp(1), pair.local[0])
    assert b.receive()
    plane.close(pair.flow[1])
    a.send(rtp(2), pair.local[0])
    assert soon(lambda: plane.figures(pair.flow[0]).drops == {DropReason.NO_PEER: 1})


def test_restored_flows_go_on_at_once(plane: DataPlane, party: Callable[..., Party]) -> None:
    a, b = party(), party()
    sock, other = open_udp(TransportAddress("127.0.0.1", 0)), open_udp(TransportAddress("127.0.0.1", 0))
    local, away = local_of(sock), local_of(other)
    nowhere = TransportAddress("127.0.0.9", 9)
    out = plane.open(other, away, FlowSettings(Content.RTP, advertised=b.address, public=True), shard=0)
    learned = Learned(a.address, a.address, True, Rank.NEITHER, 1.0)
    settings = FlowSettings(Content.RTP, advertised=nowhere, public=True, egress=out)
    flow = plane.open(sock, local, settings, shard=0, learned=learned)
    plane.set(out, FlowSettings(Content.RTP, advertised=b.address, public=True, egress=flow), relearn=False)
    b.send(rtp(1), away)
    assert a.receive() == [rtp(1)]
    a.send(rtp(2), local)
    assert b.receive() == [rtp(2)]
    assert plane.figures(flow).learned == learned


def test_a_party_behind_a_nat_is_pierced(plane: DataPlane, party: Callable[..., Party]) -> None:
    a, b = party(), party()
    Pair(plane, a.address, b.address, pierce=True)
    assert a.receive() == [PIERCE]


def test_sends_the_kernel_refuses_are_counted(plane: DataPlane, party: Callable[..., Party]) -> None:
    a = party()
    pair = Pair(plane, a.address, TransportAddress("127.0.0.9", 9), size_limit=1552)
    pair.change(1, advertised=TransportAddress("127.0.0.9", 9))
    a.send(rtp(1), pair.local[0])
    time.sleep(0.02)
    # Loopback addresses cannot be left for elsewhere.
    outside = replace(pair.settings[1], advertised=TransportAddress("127.255.255.255", 9))
    plane.set(pair.flow[1], outside, relearn=True)
    a.send(rtp(2), pair.local[0])
    assert soon(lambda: plane.figures(pair.flow[0]).drops.get(DropReason.SEND_ERROR, 0) == 1)


def test_oversized_datagrams_are_dropped(plane: DataPlane, party: Callable[..., Party]) -> None:
    a, b = party(), party()
    pair = Pair(plane, a.address, b.address)
    a.send(rtp(1, size=1488), pair.local[0])
    a.send(rtp(2, size=1489), pair.local[0])
    a.send(rtp(3, size=30000), pair.local[0])
    a.send(b"", pair.local[0])
    assert b.receive(2, 0.3) == [rtp(1, size=1488)]
    assert plane.figures(pair.flow[0]).drops == {DropReason.TOO_BIG: 2, DropReason.MALFORMED: 1}


def test_more_at_once_than_there_are_frames(backend: str, party: Callable[..., Party]) -> None:
    plane = open_plane(1, backend)
    plane.start()
    try:
        a, b = party(), party()
        force_receive_buffer(b.sock, 1 << 24)
        pairs = [Pair(plane, a.address, b.address, packet_rate_limit=100000) for _ in range(60)]
        for n in range(100):
            for pair in pairs:
                a.send(rtp(n, size=20), pair.local[0])
        got = b.receive(6000, 0.5)
        lost = 6000 - len(got)
        assert lost <= 6000 // 2
        received = sum(plane.figures(pair.flow[0]).packets_in for pair in pairs)
        assert received >= len(got)
        a.send(rtp(200), pairs[0].local[0])
        assert b.receive(1) == [rtp(200)]
    finally:
        plane.stop()


def test_sessions_are_spread_over_threads(backend: str, party: Callable[..., Party]) -> None:
    plane = open_plane(2, backend, pin=True)
    plane.start()
    try:
        assert plane.shards == 2
        a, b = party(), party()
        pairs = [Pair(plane, a.address, b.address, shard=n % 2) for n in range(6)]
        assert len({flow for pair in pairs for flow in pair.flow}) == 12
        for pair in pairs:
            a.send(rtp(1), pair.local[0])
        assert len(b.receive(6)) == 6
        batches, packets, drops = plane.totals()
        assert packets == 6
        assert 0 < batches <= 6
        assert drops == {}
    finally:
        plane.stop()


def test_stopping_closes_every_socket(backend: str, party: Callable[..., Party]) -> None:
    plane = open_plane(1, backend)
    plane.start()
    a, b = party(), party()
    pair = Pair(plane, a.address, b.address)
    a.send(rtp(1), pair.local[0])
    b.receive(1)
    plane.stop()
    for local in pair.local:
        open_udp(local).close()


def test_an_idle_plane_forwards_a_single_packet_without_waiting_for_company(
    backend: str, party: Callable[..., Party]
) -> None:
    plane = open_plane(1, backend, coalesce=0.5)
    plane.start()
    try:
        a, b = party(), party()
        pair = Pair(plane, a.address, b.address)
        # One wait in which the flows are opened, one in which nothing comes.
        time.sleep(1.2)
        a.send(rtp(0), pair.local[0])
        assert b.receive(timeout=0.4) == [rtp(0)]
    finally:
        plane.stop()


def test_what_the_threads_did_is_counted(plane: DataPlane, party: Callable[..., Party]) -> None:
    a, b = party(), party()
    pair = Pair(plane, a.address, b.address)
    for n in range(3):
        a.send(rtp(n), pair.local[0])
        assert b.receive() == [rtp(n)]
    activity = plane.activity()
    assert activity.departed >= 2
    assert sum(activity.handling) == activity.departed
    assert activity.handled > 0
    assert (activity.exhausted, int(activity.rtcp.sum())) == (0, 0)
