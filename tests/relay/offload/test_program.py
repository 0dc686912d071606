"""The kernel program on single frames (BPF_PROG_TEST_RUN): what it forwards, how, and what it leaves to the sockets."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nattrav.net.address import TransportAddress
from nattrav.net.bpf.device import Device
from nattrav.net.bpf.programs import Action
from relay.offload import layout
from relay.offload.io.loader import OBJECT, XdpFlows
from relay.offload.layout import Way
from relay.rtp import encode_header
from tests.natlab.namespaces import execute
from tests.net.bpf.objects import ROOT, built, need_bpf
from tests.relay.offload.trials import (
    ALICE,
    BOB,
    BOB6,
    LOCAL,
    RTP,
    SOURCE,
    SOURCE6,
    Bench,
)
from tests.relay.offload.wires import NEAR, PARTIES, PARTIES6, RELAY, read


def test_a_packet_of_the_flow_is_sent_on_like_one_of_our_own(bench: Bench) -> None:
    seen = bench.sent(bench.frame)
    assert (seen.source, seen.target) == (SOURCE, BOB)
    assert (seen.ttl, seen.tos) == (64, 0xB8)
    assert seen.payload == RTP
    assert seen.sound
    assert seen.checksum != 0
    assert seen.macs == bench.wire.far_mac + bench.wire.near_mac


def test_ipv6_is_sent_on_likewise(bench: Bench) -> None:
    seen = bench.sent(bench.frame6)
    assert (seen.source, seen.target) == (SOURCE6, BOB6)
    assert (seen.ttl, seen.tos) == (64, 0xB8)
    assert seen.payload == RTP
    assert seen.sound
    assert bench.rows["packets"][:2].tolist() == [0, 1]


@pytest.mark.parametrize("length", [0, 1, 2, 3, 5, 33, 500, 1388])
def test_checksums_hold_for_any_payload(bench: Bench, length: int) -> None:
    for seed in range(40):
        payload = encode_header(8, seed, seed, 7) + np.random.default_rng(seed).bytes(length)
        seen = bench.sent(bench.frame.but(payload=payload))
        assert seen.sound
        assert seen.payload == payload
        assert bench.sent(bench.frame6.but(payload=payload)).sound


def test_a_sender_without_checksum_stays_without(bench: Bench) -> None:
    assert bench.sent(bench.frame.but(checksum=0)).checksum == 0


def test_a_broken_payload_stays_broken_for_the_receiver_to_drop(bench: Bench) -> None:
    right = struct.unpack_from("!H", bench.frame.octets(), 40)[0]
    assert not bench.sent(bench.frame.but(checksum=right ^ 0x0100)).sound


def test_one_hop_left_is_enough_to_reach_us(bench: Bench) -> None:
    assert bench.sent(bench.frame.but(ttl=1)).ttl == 64
    assert bench.sent(bench.frame6.but(ttl=1)).ttl == 64


def test_the_next_hop_is_remembered_for_packets_no_longer_than_seen(bench: Bench) -> None:
    with_memory = open_xdp_beside(bench)
    try:
        with_memory.reset()
        assert with_memory.sent(with_memory.frame).sound
        execute("ip", "-n", bench.wire.here, "neigh", "del", BOB.host, "dev", NEAR)
        assert with_memory.run(with_memory.frame).action == Action.TX
        assert with_memory.run(with_memory.frame.but(payload=RTP + b"longer")).action == Action.PASS
    finally:
        execute(
            "ip",
            "-n",
            bench.wire.here,
            "neigh",
            "replace",
            BOB.host,
            "lladdr",
            bench.wire.far_mac.hex(":"),
            "dev",
            NEAR,
        )
        with_memory.kernel.close()


def open_xdp_beside(bench: Bench) -> Bench:
    """A second program with a memory for next hops; the first one has the interface, so this one only tries frames."""
    import relay.offload.io.loader as loader

    thing = loader.BpfObject(OBJECT.read_bytes())
    for name in ("flows", "rows"):
        thing.set_size(name, 8)
    thing.load()
    thing.map("devices").update(*Device(socket.if_nametoindex(NEAR), bench.wire.near_mac, True).entry())
    flows = XdpFlows(loader.Place((NEAR,), frozenset({RELAY})), thing, None, 8)
    flows.set_up(hop_time=loader.HOP_TIME, build=0)
    return Bench(bench.wire, flows)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"source": TransportAddress(PARTIES[2], 4000)}, "other_source"),
        ({"source": TransportAddress(ALICE.host, 4001)}, "other_source"),
        ({"target": TransportAddress(RELAY, 30001)}, None),
        ({"target": TransportAddress("10.91.0.9", 30000)}, None),
        ({"fragment": 0x2000}, None),
        ({"fragment": 0x0001}, None),
        ({"options": b"\x94\x04\0\0"}, None),
        ({"protocol": 6}, None),
        ({"header_checksum": 0x1234}, "not_sound"),
        ({"udp_length": 300}, "not_sound"),
        ({"udp_length": 100}, "not_sound"),
        ({"udp_length": 12}, "not_plain"),
        ({"payload": RTP[:11]}, "not_plain"),
        ({"payload": b""}, "not_plain"),
        ({"payload": b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12)}, "not_plain"),
        ({"payload": b"\x16\xfe\xfd" + bytes(40)}, "not_plain"),
        ({"payload": b"\x80\xc8\x00\x06" + bytes(24)}, "not_plain"),
        ({"payload": b"\x80\xdf\x00\x06" + bytes(24)}, "not_plain"),
        ({"payload": b"\x40" + RTP[1:]}, "not_plain"),
        ({"payload": RTP + bytes(1400)}, "too_long"),
        ({"mac": b"\x02\0\0\0\0\x99"}, "foreign_device"),
        ({"mac": b"\xff" * 6}, "foreign_device"),
    ],
)
def test_whatever_is_not_exactly_the_flow_is_left_to_its_socket(
    bench: Bench, changes: dict[str, object], reason: str | None
) -> None:
    assert bench.left(bench.frame.but(**changes)) == reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"source": TransportAddress(PARTIES6[1], 4000)}, "other_source"),
        ({"protocol": 44}, None),
        ({"protocol": 0}, None),
        ({"checksum": 0}, "not_sound"),
        ({"udp_length": 300}, "not_sound"),
        ({"payload": b"\x80\xc8\x00\x06" + bytes(24)}, "not_plain"),
    ],
)
def test_the_same_of_ipv6(bench: Bench, changes: dict[str, object], reason: str | None) -> None:
    assert bench.left(bench.frame6.but(**changes)) == reason


def test_a_frame_cut_anywhere_in_its_headers_is_left_alone(bench: Bench) -> None:
    for frame in (bench.frame, bench.frame6):
        octets = frame.octets()
        # The kernel takes no frame for a trial that is shorter than an Ethernet header.
        for length in range(14, len(octets) - len(RTP) + 12):
            bench.left(octets[:length])


def test_octets_after_the_datagram_are_no_harm(bench: Bench) -> None:
    short = bench.frame.but(payload=RTP[:12])
    trial = bench.run(short.octets().ljust(60, b"\0"))
    assert trial.action == Action.TX
    assert read(trial.frame).sound


def test_a_checksum_that_a_local_sender_left_to_its_device_is_left_to_the_stack(bench: Bench) -> None:
    for frame, reason in ((bench.frame, "not_sound"), (bench.frame6, "not_sound")):
        source = socket.inet_pton(frame.source.family, frame.source.host)
        target = socket.inet_pton(frame.target.family, frame.target.host)
        total = sum(struct.unpack(f"!{len(source)}H", source + target)) + 17 + 8 + len(RTP)
        partial = (total & 0xFFFF) + (total >> 16)
        assert bench.left(frame.but(checksum=partial)) == reason


def test_without_a_route_or_a_neighbour_the_stack_finds_the_way(bench: Bench) -> None:
    execute("ip", "-n", bench.wire.here, "neigh", "del", BOB.host, "dev", NEAR)
    try:
        assert bench.left(bench.frame) == "no_way"
    finally:
        execute(
            "ip",
            "-n",
            bench.wire.here,
            "neigh",
            "replace",
            BOB.host,
            "lladdr",
            bench.wire.far_mac.hex(":"),
            "dev",
            NEAR,
        )
    nowhere = Way(LOCAL, ALICE, SOURCE, TransportAddress("198.51.100.1", 5000), 1400, 1000, 0)
    bench.kernel.put(layout.key(LOCAL), layout.flow(nowhere, 0))
    assert bench.left(bench.frame) == "no_way"


def test_what_the_way_out_is_too_narrow_for_is_left_to_be_fragmented(bench: Bench) -> None:
    execute("ip", "-n", bench.wire.here, "link", "set", NEAR, "mtu", "1300")
    try:
        assert bench.left(bench.frame.but(payload=RTP[:12] + bytes(1300))) == "no_way"
    finally:
        execute("ip", "-n", bench.wire.here, "link", "set", NEAR, "mtu", "1500")


def test_beyond_its_rate_a_flow_is_dropped_and_counted(bench: Bench) -> None:
    narrow = Way(LOCAL, ALICE, SOURCE, BOB, 1400, 3, 0)
    bench.kernel.put(layout.key(LOCAL), layout.flow(narrow, 0))
    actions = [bench.run(bench.frame).action for _ in range(5)]
    assert actions == [Action.TX] * 3 + [Action.DROP] * 2
    assert bench.rows["packets"][0] == 3
    assert bench.rows["limited"][0] == 2


def test_packets_octets_and_sequence_are_counted(bench: Bench) -> None:
    for sequence in (65533, 65534, 0, 65535, 2, 2, 1):
        bench.sent(bench.frame.but(payload=encode_header(8, sequence, sequence * 160, 7) + bytes(160)))
    row = bench.rows[0]
    assert (row["packets"], row["bytes"]) == (7, 7 * 172)
    assert (row["base_sequence"], row["max_sequence"], row["last_sequence"]) == (65533, 65538, 65537)
    assert (row["duplicates"], row["reordered"]) == (1, 2)
    assert (row["ssrc"], row["payload_type"], row["started"]) == (7, 8, 1)
    assert row["last"] == row["arrival"] > 0


def test_another_stream_on_the_flow_begins_a_new_run(bench: Bench) -> None:
    for ssrc, sequence in ((7, 10), (7, 12), (9, 5000), (9, 5001), (9, 20000)):
        bench.sent(bench.frame.but(payload=encode_header(8, sequence, 0, ssrc) + bytes(160)))
    row = bench.rows[0]
    assert row["expected_before"] == 3 + 2
    assert (row["base_sequence"], row["max_sequence"], row["ssrc"]) == (20000, 20000, 9)


def test_the_kernel_carries_on_where_user_space_was(bench: Bench) -> None:
    bench.reset(base_sequence=90, max_sequence=65536 + 98, last_sequence=65536 + 98, ssrc=7, started=1)
    bench.sent(bench.frame)
    row = bench.rows[0]
    assert (row["base_sequence"], row["max_sequence"], row["expected_before"]) == (90, 65536 + 100, 0)


def test_a_withdrawn_flow_is_left_to_its_socket(bench: Bench) -> None:
    assert bench.run(bench.frame).action == Action.TX
    bench.kernel.remove(layout.key(LOCAL))
    bench.reset()
    bench.kernel.remove(layout.key(LOCAL))
    assert bench.left(bench.frame) is None


def test_a_full_kernel_table_is_said_and_not_raised(bench: Bench) -> None:
    ports = range(40000, 40012)
    ways = [Way(TransportAddress(RELAY, port), ALICE, SOURCE, BOB, 1400, 1000, 0) for port in ports]
    taken = [bench.kernel.put(layout.key(way.local), layout.flow(way, 0)) for way in ways]
    assert False in taken
    for way in ways:
        bench.kernel.remove(layout.key(way.local))


def test_two_capabilities_are_enough_to_load_it() -> None:
    need_bpf()
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    script = f"from nattrav.net.bpf.objects import BpfObject; BpfObject(open({str(OBJECT)!r}, 'rb').read()).load()"
    confined = ["setpriv", "--inh-caps=-all", "--bounding-set=-all,+bpf,+net_admin", sys.executable, "-c", script]
    done = subprocess.run(confined, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_object_in_the_tree_is_what_its_source_gives(tmp_path: Path) -> None:
    source = str(OBJECT.relative_to(ROOT).with_suffix(".c"))
    octets = built(source, tmp_path)
    kept = OBJECT.read_bytes()
    if compiler(octets) != compiler(kept):
        pytest.skip(f"another compiler ({compiler(octets)}) than the tree's ({compiler(kept)})")
    assert octets == kept, "run make bpf and commit the result"


def compiler(octets: bytes) -> str:
    """Which clang made an object, as the source has it say."""
    at = octets.find(b"Clang ")
    return octets[at : octets.find(b"\0", at)].decode() if at >= 0 else ""
