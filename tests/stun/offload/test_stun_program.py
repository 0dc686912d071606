"""The kernel program on single frames (BPF_PROG_TEST_RUN): it answers as the responder does, or leaves them alone."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from nattrav.net.address import TransportAddress, to_row
from nattrav.net.bpf.programs import Action, Mode
from stun.admission import UNLIMITED, Limits
from stun.attributes import AttributeType
from stun.behavior import ServerAddress, lay_out
from stun.fastpath import FastPath
from stun.integrity import add_fingerprint
from stun.message import BINDING, MessageClass, encode
from stun.offload import layout
from stun.offload.io.loader import XdpAnswers, open_xdp
from stun.responder import Answer, Policy, Responder
from stun.shape import WITH_FINGERPRINT, Shape
from tests.natlab.namespaces import missing
from tests.net.bpf.objects import need_bpf
from tests.relay.offload.odd_frames import MARTIANS, odd
from tests.relay.offload.wires import NEAR, PARTIES, PARTIES6, RELAY, RELAY6, Frame, Wire, read, wire

T = AttributeType
SERVER, SERVER6 = TransportAddress(RELAY, 3478), TransportAddress(RELAY6, 3478)
ALICE, ALICE6 = TransportAddress(PARTIES[0], 40001), TransportAddress(PARTIES6[0], 40001)
FOREVER = 1 << 62


@dataclass
class Bench:
    """A server's program on a wire."""

    wire: Wire
    server: Responder
    kernel: XdpAnswers

    def know(self, client: TransportAddress, *, until: int = FOREVER, exempt: bool = False) -> None:
        rows = np.frombuffer(to_row(client), np.uint8).reshape(1, -1)
        value = np.zeros(1, layout.CLIENT)
        value["until"], value["exempt"] = until, exempt
        six = ":" in client.host
        self.kernel.answer(layout.clients(rows, six, int(six)), value)

    def show(self, request: bytes, *, slot: int = 0) -> None:
        kind = WITH_FINGERPRINT if request[-8:-6] == b"\x80\x28" else 0
        row = layout.shape(Shape.of(request, kind))
        assert row is not None
        self.kernel.know(slot, row)

    def frame(self, request: bytes, client: TransportAddress = ALICE) -> Frame:
        server = SERVER6 if ":" in client.host else SERVER
        return Frame(self.wire, client, server, request)

    def left(self, frame: Frame) -> bool:
        octets = frame.octets()
        trial = self.kernel.program.try_frame(octets, interface=NEAR)
        return trial.action == Action.PASS and trial.frame == octets

    def answered(self, frame: Frame) -> bytes:
        """Try a frame that must be answered as the responder does; give the payload."""
        trial = self.kernel.program.try_frame(frame.octets(), interface=NEAR)
        assert trial.action == Action.TX
        seen = read(trial.frame)
        assert (seen.source, seen.target) == (frame.target, frame.source)
        assert (seen.ttl, seen.tos, seen.macs) == (64, 0, self.wire.far_mac + self.wire.near_mac)
        assert seen.sound
        assert seen.checksum
        expected = self.server.respond(frame.payload, int(":" in frame.source.host), frame.source)
        assert isinstance(expected, Answer)
        assert seen.payload == expected.data
        return seen.payload


@pytest.fixture(scope="module")
def a_wire() -> Iterator[Wire]:
    need_bpf()
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    with wire() as made:
        yield made


@pytest.fixture
def serving(a_wire: Wire) -> Iterator[Callable[..., Bench]]:
    opened: list[XdpAnswers] = []

    def serve(policy: Policy | None = None, limits: Limits = UNLIMITED) -> Bench:
        server = Responder(lay_out([ServerAddress(RELAY), ServerAddress(RELAY6)], 3478, 3479), policy)
        opened.append(open_xdp(FastPath(server, 320), limits, mode=Mode.NATIVE))
        return Bench(a_wire, server, opened[-1])

    yield serve
    for kernel in opened:
        kernel.close()


def request(number: int, *attributes: tuple[int, bytes], fingerprint: bool = False) -> bytes:
    tid = struct.pack("!QI", number * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF, number)
    data = encode(BINDING, MessageClass.REQUEST, tid, attributes)
    return add_fingerprint(data) if fingerprint else data


@pytest.mark.parametrize("policy", [Policy(), Policy(software="nattrav 1"), Policy(minimal=True)])
def test_what_the_program_answers_the_responder_answers_with_the_same_octets(
    serving: Callable[..., Bench], policy: Policy
) -> None:
    bench = serving(policy)
    shapes: list[tuple[tuple[tuple[int, bytes], ...], bool]] = [
        (((T.SOFTWARE, b"agent 1.0"),), False),
        ((), True),
        (((T.SOFTWARE, b"agent"), (T.PRIORITY, bytes(4))), True),
        (((T.ICE_CONTROLLING, bytes(range(8))),), True),
    ]
    for slot, (attributes, fingerprint) in enumerate(shapes):
        bench.show(request(0, *attributes, fingerprint=fingerprint), slot=slot)
    numbers = np.random.default_rng(1)
    for number in range(60):
        client = TransportAddress((PARTIES, PARTIES6)[number % 2][0], int(numbers.integers(1024, 65536)))
        bench.know(client)
        attributes, fingerprint = ((), False) if number % 5 == 4 else shapes[number % 5]
        bench.answered(bench.frame(request(number, *attributes, fingerprint=fingerprint), client))
    assert int(bench.kernel.counters().responses.sum()) == 60


def test_who_was_not_answered_lately_at_that_very_endpoint_is_left_to_user_space(serving: Callable[..., Bench]) -> None:
    bench = serving()
    plain = bench.frame(request(1))
    assert bench.left(plain)
    bench.know(ALICE)
    bench.answered(plain)
    assert bench.left(plain.but(source=replace_port(ALICE, 40002)))
    assert bench.left(plain.but(source=TransportAddress(PARTIES[1], ALICE.port)))
    assert bench.left(plain.but(target=replace_port(SERVER, 3479)))
    bench.know(ALICE, until=1)
    assert bench.left(plain)


def replace_port(address: TransportAddress, port: int) -> TransportAddress:
    return TransportAddress(address.host, port)


def test_what_is_not_plainly_a_sound_request_is_left_untouched(serving: Callable[..., Bench]) -> None:
    bench = serving()
    for client in (ALICE, ALICE6):
        bench.know(client)
        plain = bench.frame(request(1), client)
        bench.answered(plain)
        payload = plain.payload
        for changed in (
            payload[:19],
            payload + bytes(4),
            b"\0\x11" + payload[2:],
            b"\1\1" + payload[2:],
            b"\0\1\0\4" + payload[4:],
            b"\0\1\0\2" + payload[4:] + bytes(2),
            payload[:4] + bytes(4) + payload[8:],
            request(1, (T.CHANGE_REQUEST, b"\0\0\0\6")),
            request(1, (T.SOFTWARE, b"never shown")),
            request(1, (T.PADDING, bytes(400))),
            request(1, fingerprint=True),
        ):
            assert bench.left(plain.but(payload=changed)), changed
        assert bench.left(plain.but(checksum=0x1234))
        assert bench.left(plain.but(udp_length=24))
        assert bench.left(plain.but(protocol=socket.IPPROTO_TCP))
    plain = bench.frame(request(1))
    assert bench.left(plain.but(options=bytes(4)))
    assert bench.left(plain.but(fragment=0x2000))
    assert bench.left(plain.but(header_checksum=0x1234))
    assert bench.left(bench.frame(request(1), ALICE6).but(checksum=0))


def test_over_ipv4_a_request_without_checksum_is_answered_with_one(serving: Callable[..., Bench]) -> None:
    bench = serving()
    bench.know(ALICE)
    bench.answered(bench.frame(request(1)).but(checksum=0))


def test_a_wrong_fingerprint_is_left_to_be_counted(serving: Callable[..., Bench]) -> None:
    bench = serving()
    bench.know(ALICE)
    right = request(1, (T.SOFTWARE, b"agent"), fingerprint=True)
    bench.show(right)
    bench.answered(bench.frame(right))
    for place in (9, 19, len(right) - 1):
        wrong = right[:place] + bytes([right[place] ^ 4]) + right[place + 1 :]
        assert bench.left(bench.frame(wrong))


def test_a_source_and_its_network_have_their_burst_and_no_more(serving: Callable[..., Bench]) -> None:
    bench = serving(limits=Limits(source_rate=0.01, source_burst=5, network_rate=0.01, network_burst=8))
    for client in (ALICE, ALICE6):
        ports = [TransportAddress(client.host, 41000 + number) for number in range(10)]
        for port in ports:
            bench.know(port)
        frames = [bench.frame(request(1), port).octets() for port in ports]
        actions = [bench.kernel.program.try_frame(octets, interface=NEAR).action for octets in frames]
        assert actions == [Action.TX] * 5 + [Action.DROP] * 5
    neighbours = [TransportAddress(PARTIES[1], 42000 + number) for number in range(5)]
    for neighbour in neighbours:
        bench.know(neighbour)
    trials = [bench.kernel.program.try_frame(bench.frame(request(1), n).octets(), interface=NEAR) for n in neighbours]
    assert [trial.action for trial in trials].count(Action.TX) == 3
    bench.know(ALICE, exempt=True)
    for _ in range(20):
        bench.answered(bench.frame(request(2)))
    assert bench.kernel.counters().drops()["rate_limited"] == 12


def test_counters_tell_requests_and_octets_by_family(serving: Callable[..., Bench]) -> None:
    bench = serving()
    bench.know(ALICE)
    bench.know(ALICE6)
    sent = [bench.answered(bench.frame(request(n), client)) for n, client in enumerate((ALICE, ALICE, ALICE6))]
    counted = bench.kernel.counters()
    assert counted.requests[0].tolist() == [2, 1]
    assert int(counted.request_bytes[0]) == 60
    assert int(counted.response_bytes[0]) == sum(map(len, sent))


def test_odd_frames_are_left_to_the_network_stack_untouched(serving: Callable[..., Bench]) -> None:
    bench = serving()
    bench.know(ALICE)
    bench.know(ALICE6)
    plain, plain6 = bench.frame(request(1)), bench.frame(request(1), ALICE6)
    for what, octets in odd(plain, plain6).items():
        trial = bench.kernel.program.try_frame(octets, interface=NEAR)
        assert (trial.action, trial.frame) == (Action.PASS, octets), what
    for frame in (plain, plain6):
        for length in range(14, len(frame.octets())):
            assert bench.kernel.program.try_frame(frame.octets()[:length], interface=NEAR).action == Action.PASS


@pytest.mark.parametrize("host", MARTIANS)
def test_a_victim_that_asked_nothing_is_sent_nothing(serving: Callable[..., Bench], host: str) -> None:
    bench = serving()
    bench.know(ALICE)
    assert bench.left(bench.frame(request(1)).but(source=TransportAddress(host, ALICE.port)))


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1", "224.0.0.5", "255.255.255.255", RELAY])
def test_a_source_that_routes_do_not_lead_back_to_is_sent_nothing(serving: Callable[..., Bench], host: str) -> None:
    bench = serving()
    source = TransportAddress(host, ALICE.port)
    bench.know(source)
    assert bench.left(bench.frame(request(1)).but(source=source))


@pytest.mark.parametrize("mac", [b"\xff" * 6, b"\x01\x00\x5e\x00\x00\x01", b"\x02\0\0\0\0\x99"])
def test_frames_for_everybody_or_for_another_host_are_not_ours(serving: Callable[..., Bench], mac: bytes) -> None:
    bench = serving()
    bench.know(ALICE)
    assert bench.left(bench.frame(request(1)).but(mac=mac))


def test_octets_beyond_the_request_are_not_echoed(serving: Callable[..., Bench]) -> None:
    bench = serving()
    bench.know(ALICE)
    frame = bench.frame(request(1))
    trial = bench.kernel.program.try_frame(frame.octets() + b"secret" * 40, interface=NEAR)
    assert trial.action == Action.TX
    assert b"secret" not in trial.frame
    assert len(trial.frame) == 42 + len(bench.answered(frame))
