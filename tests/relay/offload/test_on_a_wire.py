"""Packets over a veth pair with offload on: the tests of the plane and of the attacker again, and moving to and fro."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from nattrav.net.bpf.programs import Mode
from relay.io.pump import DataPlane, open_plane
from relay.io.shard import MERGE_LAG
from relay.offload.io.loader import XdpFlows, open_xdp
from relay.plane import Content, DropReason, FlowFigures
from relay.rtcp import Report, encode
from relay.rtp import encode_header
from tests.natlab.namespaces import execute, missing
from tests.net.bpf.objects import ROOT, need_bpf
from tests.relay.io import test_attack
from tests.relay.io.pairs import Pair, Party, rtp, soon
from tests.relay.io.test_attack import (  # noqa: F401  the same tests, over a wire
    Scene,
    test_a_phone_behind_a_nat_wins_by_the_address_its_signalling_came_from,
    test_a_reinvite_does_not_reopen_the_door,
    test_a_spray_over_every_port_touches_no_call_in_progress,
    test_after_the_lock_nothing_is_forwarded_for_the_attacker_and_nothing_sent_to_him,
    test_an_attacker_who_was_first_is_pushed_out_by_the_first_packet_of_the_party,
    test_before_the_answer_nobody_is_learned_on_the_callers_port,
    test_rtcp_is_guarded_like_rtp,
)
from tests.relay.io.test_pump import (  # noqa: F401
    test_a_closed_peer_is_no_peer,
    test_a_third_party_neither_hears_nor_is_heard,
    test_closing_gives_exact_figures_and_frees_the_port,
    test_flows_come_and_go_while_others_lose_nothing,
    test_ipv6_and_ipv4_are_bridged,
    test_oversized_datagrams_are_dropped,
    test_packets_leave_from_the_address_the_party_was_given,
    test_renegotiation_does_not_interrupt,
    test_rules_change_between_packets,
    test_the_mapped_address_is_learned_and_told,
    test_the_window_ends_by_itself,
    test_two_parties_hear_each_other,
)
from tests.relay.offload.far import NAMES, MakeParty, far_host, far_parties
from tests.relay.offload.wires import NEAR, RELAY, RELAY6, Wire, wire


@pytest.fixture(scope="module")
def cable() -> Iterator[Wire]:
    need_bpf()
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    with wire() as made:
        yield made


@pytest.fixture
def kernel(cable: Wire) -> Iterator[XdpFlows]:
    opened = open_xdp([RELAY, RELAY6], 1024)
    yield opened
    opened.close()


@pytest.fixture
def plane(kernel: XdpFlows, monkeypatch: pytest.MonkeyPatch) -> Iterator[DataPlane]:
    monkeypatch.setattr("tests.relay.io.pairs.HOSTS", {4: RELAY, 6: RELAY6})
    opened = open_plane(1, kernel=kernel)
    opened.start()
    yield opened
    opened.stop()


@pytest.fixture
def party(cable: Wire) -> Iterator[MakeParty]:
    yield from far_parties(cable)


@pytest.fixture
def scene(cable: Wire, plane: DataPlane, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    class FarScene(Scene):
        def set_up(self, alice_says=None, options=None):  # type: ignore[no-untyped-def]
            if options is not None:
                options = type(options)(signalling_source=NAMES[options.signalling_source])
            return super().set_up(alice_says, options)

    monkeypatch.setattr(test_attack, "RELAY", RELAY)
    monkeypatch.setattr(test_attack, "Host", far_host(cable))
    with contextlib.ExitStack() as stack:
        yield FarScene(plane, stack)


def offloaded(plane: DataPlane, flows: int = 2) -> bool:
    return soon(lambda: plane.offloaded()[0] == flows)


def talk(a: Party, b: Party, pair: Pair, begin: int = 0, count: int = 20) -> None:
    """Speak both ways and be heard."""
    for n in range(begin, begin + count):
        a.send(rtp(n), pair.local[0])
        b.send(rtp(n, 9), pair.local[1])
    assert b.receive(count) == [rtp(n) for n in range(begin, begin + count)]
    assert a.receive(count) == [rtp(n, 9) for n in range(begin, begin + count)]


def figures_of(plane: DataPlane, flow: int) -> FlowFigures:
    """A flow's figures, not older than now."""
    time.sleep(1.5 * MERGE_LAG)
    return plane.figures(flow)


def by_kernel(plane: DataPlane) -> int:
    """Packets the kernel forwarded so far."""
    time.sleep(0.25)
    return plane.offloaded()[1].packets


@pytest.fixture(params=[4, 6])
def pair(request: pytest.FixtureRequest, plane: DataPlane, party: MakeParty) -> tuple[Party, Party, Pair]:
    a, b = party(request.param), party(request.param)
    made = Pair(plane, a.address, b.address)
    talk(a, b, made, count=1)
    assert offloaded(plane)
    return a, b, made


def test_latched_flows_are_forwarded_by_the_kernel_and_counted_once(
    plane: DataPlane, pair: tuple[Party, Party, Pair]
) -> None:
    a, b, flows = pair
    talk(a, b, flows, begin=1, count=50)
    for index in (0, 1):
        figures = figures_of(plane, flows.flow[index])
        assert (figures.packets_in, figures.packets_out) == (51, 51)
        assert (figures.bytes_in, figures.bytes_out) == (51 * 172, 51 * 172)
        assert (figures.rtp.received, figures.rtp.expected, figures.rtp.lost) == (51, 51, 0)
        assert figures.rtp.highest_sequence == 50
        assert figures.drops == {}
    assert by_kernel(plane) == 100
    assert plane.received(flows.flow) == [51, 51]
    assert plane.offloaded_flows() == set(flows.flow)
    assert time.monotonic() - plane.last_accepted(flows.flow) < 2
    assert (plane.sums().packets_in, plane.sums().packets_out) == (102, 102)
    assert plane.close(flows.flow[0]).packets_in == 51


def test_loss_and_order_are_told_across_both_paths(plane: DataPlane, pair: tuple[Party, Party, Pair]) -> None:
    a, b, flows = pair
    for n in (1, 2, 5, 4, 6, 6):
        a.send(rtp(n), flows.local[0])
    assert len(b.receive(6)) == 6
    flows.change(0, blocked=True)
    flows.change(0, blocked=False)
    flows.change(0, validate=False)
    for n in (7, 9):
        a.send(rtp(n), flows.local[0])
    assert len(b.receive(2)) == 2
    flows.change(0, validate=True)
    assert offloaded(plane)
    a.send(rtp(11), flows.local[0])
    assert len(b.receive(1)) == 1
    figures = figures_of(plane, flows.flow[0]).rtp
    assert (figures.expected, figures.received) == (12, 10)
    assert (figures.lost, figures.reordered, figures.duplicates) == (3, 1, 1)


def test_rtcp_and_everything_that_is_not_rtp_takes_the_other_path(
    plane: DataPlane, pair: tuple[Party, Party, Pair]
) -> None:
    a, b, flows = pair
    before = by_kernel(plane)
    report = encode(Report(7, None, 0, 0, ()))
    a.send(report, flows.local[0])
    assert b.receive(1) == [report]
    a.send(b"\x16\xfe\xfd" + bytes(30), flows.local[0])
    assert b.hears_nothing()
    figures = figures_of(plane, flows.flow[0])
    assert figures.rtcp_in == 1
    assert figures.drops == {DropReason.NOT_RTP: 1}
    assert by_kernel(plane) == before


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"blocked": True}, DropReason.BLOCKED), ({"may_send": False}, DropReason.ON_HOLD)],
)
def test_what_signalling_forbids_is_withdrawn_at_once(
    plane: DataPlane, pair: tuple[Party, Party, Pair], changes: dict[str, bool], reason: DropReason
) -> None:
    a, b, flows = pair
    flows.change(0, **changes)
    for n in range(1, 6):
        a.send(rtp(n), flows.local[0])
    assert b.hears_nothing()
    assert figures_of(plane, flows.flow[0]).drops == {reason: 5}
    assert plane.offloaded()[0] == 1
    b.send(rtp(1, 9), flows.local[1])
    assert a.receive() == [rtp(1, 9)]


def test_a_flow_whose_peer_ended_is_withdrawn(plane: DataPlane, pair: tuple[Party, Party, Pair]) -> None:
    a, b, flows = pair
    plane.close(flows.flow[1])
    a.send(rtp(1), flows.local[0])
    assert b.hears_nothing()
    assert soon(lambda: figures_of(plane, flows.flow[0]).drops == {DropReason.NO_PEER: 1})
    assert plane.offloaded()[0] == 0


def test_a_party_that_moves_after_a_renegotiation_is_followed(
    plane: DataPlane, pair: tuple[Party, Party, Pair], party: MakeParty
) -> None:
    a, b, flows = pair
    moved = party(6 if ":" in a.address.host else 4)
    flows.change(0, relearn=True, advertised=moved.address)
    moved.send(rtp(1), flows.local[0])
    assert b.receive() == [rtp(1)]
    assert offloaded(plane)
    before = by_kernel(plane)
    talk(moved, b, flows, begin=2)
    assert by_kernel(plane) == before + 40
    a.send(rtp(30), flows.local[0])
    assert b.hears_nothing()
    assert a.hears_nothing()


def test_a_stranger_is_refused_and_counted_while_the_kernel_forwards(
    plane: DataPlane, pair: tuple[Party, Party, Pair], party: MakeParty
) -> None:
    a, b, flows = pair
    stranger = party(6 if ":" in a.address.host else 4)
    for n in range(20):
        stranger.send(rtp(n + 1), flows.local[0])
    talk(a, b, flows, begin=1)
    assert stranger.hears_nothing()
    assert figures_of(plane, flows.flow[0]).drops == {DropReason.SOURCE_MISMATCH: 20}


def test_nothing_is_lost_or_counted_twice_while_a_flow_moves_to_and_fro(
    plane: DataPlane, pair: tuple[Party, Party, Pair]
) -> None:
    a, b, flows = pair
    heard: list[bytes] = []
    for n in range(1, 301):
        a.send(rtp(n), flows.local[0])
        if n % 3 == 0:
            # A rule that the kernel cannot follow, and back.
            flows.change(0, continuity=n % 2 == 0)
        if n % 20 == 0:
            heard += b.receive(20)
    assert sorted(heard) == [rtp(n) for n in range(1, 301)]
    figures = figures_of(plane, flows.flow[0])
    assert (figures.packets_in, figures.rtp.received, figures.rtp.expected) == (301, 301, 301)
    assert figures_of(plane, flows.flow[1]).packets_out == 301
    assert plane.offloaded()[1].withdrawn > 10
    assert 0 < by_kernel(plane) < 300


def test_the_packet_rate_of_a_flow_is_limited_in_the_kernel_too(plane: DataPlane, party: MakeParty) -> None:
    a, b = party(), party()
    flows = Pair(plane, a.address, b.address, packet_rate_limit=30)
    talk(a, b, flows, count=1)
    assert offloaded(plane)
    for n in range(100):
        a.send(rtp(n + 1), flows.local[0])
    assert len(b.receive(60, 0.3)) == 30
    figures = figures_of(plane, flows.flow[0])
    assert figures.packets_in == 31
    assert figures.drops == {DropReason.RATE_LIMITED: 70}


def test_muxed_rtp_is_offloaded_and_its_rtcp_is_not(plane: DataPlane, party: MakeParty) -> None:
    a, b = party(), party()
    flows = Pair(plane, a.address, b.address, content=Content.MUX)
    talk(a, b, flows, count=1)
    assert offloaded(plane)
    report = encode(Report(7, None, 0, 0, ()))
    a.send(report, flows.local[0])
    assert b.receive() == [report]
    talk(a, b, flows, begin=1)
    figures = figures_of(plane, flows.flow[0])
    assert (figures.packets_in, figures.rtcp_in) == (22, 1)


@pytest.mark.parametrize(
    "rules", [{"content": Content.DATAGRAM}, {"validate": False}, {"strict": False}, {"handover": True}]
)
def test_flows_with_more_to_decide_stay_in_user_space(
    plane: DataPlane, party: MakeParty, rules: dict[str, object]
) -> None:
    a, b = party(), party()
    flows = Pair(plane, a.address, b.address, **rules)
    talk(a, b, flows)
    assert plane.offloaded()[0] == 0


def test_an_event_among_the_audio_changes_the_clock_and_nothing_else(plane: DataPlane, party: MakeParty) -> None:
    a, b = party(), party()
    flows = Pair(plane, a.address, b.address, clock_rates=((0, 8000), (101, 48000)))
    talk(a, b, flows, count=1)
    assert offloaded(plane)
    event = encode_header(101, 1, 160, 7) + bytes(4)
    a.send(event, flows.local[0])
    assert b.receive() == [event]
    assert by_kernel(plane) == 1
    assert figures_of(plane, flows.flow[0]).rtp.payload_type == 101


def test_dscp_is_set_as_configured(plane: DataPlane, party: MakeParty) -> None:
    a, b = party(), party()
    flows = Pair(plane, a.address, b.address, tos=0xB8)
    b.sock.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    for n in range(3):
        a.send(rtp(n), flows.local[0])
        b.send(rtp(n, 9), flows.local[1])
        time.sleep(0.02)
    assert offloaded(plane)
    a.send(rtp(3), flows.local[0])
    b.sock.settimeout(2)
    for _ in range(4):
        _, ancillary, _, _ = b.sock.recvmsg(2000, 100)
        assert ancillary[0][2][0] == 0xB8


def test_when_the_plane_stops_the_kernel_forwards_no_more(
    plane: DataPlane, kernel: XdpFlows, pair: tuple[Party, Party, Pair]
) -> None:
    a, b, flows = pair
    plane.stop()
    with contextlib.suppress(ConnectionRefusedError):
        a.send(rtp(1), flows.local[0])
        assert b.hears_nothing()
    plane.start = lambda: None  # type: ignore[method-assign]
    plane.stop = lambda: None  # type: ignore[method-assign]


def test_two_threads_share_the_program(kernel: XdpFlows, party: MakeParty, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.relay.io.pairs.HOSTS", {4: RELAY, 6: RELAY6})
    plane = open_plane(2, kernel=kernel)
    plane.start()
    try:
        a, b = party(), party()
        pairs = [Pair(plane, a.address, b.address, shard=n % 2) for n in range(4)]
        for flows in pairs:
            talk(a, b, flows, count=1)
        assert offloaded(plane, 8)
        for flows in pairs:
            talk(a, b, flows, begin=1, count=10)
        assert [figures_of(plane, flow).packets_in for flows in pairs for flow in flows.flow] == [11] * 8
        assert plane.sums().packets_in == 88
    finally:
        plane.stop()


def test_a_full_kernel_table_leaves_the_rest_to_user_space(
    cable: Wire, party: MakeParty, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.relay.io.pairs.HOSTS", {4: RELAY, 6: RELAY6})
    kernel = open_xdp([RELAY], 2)
    plane = open_plane(1, kernel=kernel)
    plane.start()
    try:
        a, b = party(), party()
        pairs = [Pair(plane, a.address, b.address) for _ in range(3)]
        for flows in pairs:
            talk(a, b, flows, count=5)
        assert offloaded(plane, 2)
        assert plane.offloaded()[1].full > 0
    finally:
        plane.stop()
        kernel.close()


def test_an_interface_that_has_a_program_already_is_named(kernel: XdpFlows) -> None:
    from relay.offload.io.loader import OffloadRefused

    with pytest.raises(OffloadRefused, match="near0: it has an XDP program already"):
        open_xdp([RELAY], 8, mode=Mode.GENERIC)


def test_a_process_that_is_killed_leaves_nothing_attached(cable: Wire) -> None:
    script = (
        f"import time; from relay.offload.io.loader import open_xdp; kernel = open_xdp(['{RELAY}'], 8); "
        "print(kernel.how, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{NEAR} generic\n"
        assert "xdp" in json.loads(execute("ip", "-j", "link", "show", NEAR))[0]
        process.kill()
        process.wait()
    assert soon(lambda: "xdp" not in json.loads(execute("ip", "-j", "link", "show", NEAR))[0])
