"""The server with the kernel's help on a wire: clients notice nothing, and the counters add up."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from nattrav.net.address import TransportAddress
from nattrav.net.bpf.programs import Mode
from stun.admission import Limits
from stun.attributes import AttributeType
from stun.behavior import ServerAddress, lay_out
from stun.integrity import add_fingerprint
from stun.io.server import UdpServer
from stun.message import BINDING, MessageClass, encode
from stun.offload.io.loader import OffloadRefused, carriers
from stun.responder import Answer, Policy, Responder
from tests.natlab.namespaces import missing, within
from tests.net.bpf.objects import need_bpf
from tests.relay.offload.wires import PARTIES, PARTIES6, RELAY, RELAY6, Wire, wire

T = AttributeType


@pytest.fixture(scope="module")
def a_wire() -> Iterator[Wire]:
    need_bpf()
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    with wire() as made:
        yield made


def request(number: int, *attributes: tuple[int, bytes], fingerprint: bool = False) -> bytes:
    data = encode(BINDING, MessageClass.REQUEST, number.to_bytes(12, "big"), attributes)
    return add_fingerprint(data) if fingerprint else data


def client(place: Wire, host: str) -> socket.socket:
    def make() -> socket.socket:
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((host, 0))
        sock.settimeout(5)
        return sock

    return within(place.there, make)


def test_clients_that_come_back_are_answered_by_the_kernel_as_by_us(a_wire: Wire) -> None:
    responder = Responder(lay_out([ServerAddress(RELAY), ServerAddress(RELAY6)], 3478, 3479))
    server = UdpServer(responder, Limits())
    server.open()
    try:
        server.offload(mode=Mode.GENERIC)
        server.start()
        for at, host in enumerate((PARTIES[0], PARTIES6[0])):
            with client(a_wire, host) as sock:
                source = TransportAddress(host, sock.getsockname()[1])
                to = tuple(responder.endpoints[at].local)
                for number in range(30):
                    attributes = ((T.SOFTWARE, b"agent"),) if number % 3 == 1 else ()
                    data = request(number, *attributes, fingerprint=number % 3 == 2)
                    sock.sendto(data, to)
                    reply, replier = sock.recvfrom(2048)
                    expected = responder.respond(data, at, source)
                    assert isinstance(expected, Answer)
                    assert (reply, replier[:2]) == (expected.data, to)
        assert server.kernel is not None
        # Of each client and of each shape the first request came to us; a busy machine may pass on a few more.
        assert 40 <= int(server.kernel.counters().responses.sum()) <= 56
        deadline = time.monotonic() + 5
        while int(server.counters().responses.sum()) < 60 and time.monotonic() < deadline:
            time.sleep(0.01)
        counted = server.counters()
        assert counted.requests[0].tolist() == [30, 30]
        assert int(counted.responses[0, 0]) == 60
    finally:
        server.close()


def test_a_closed_server_leaves_no_program_behind(a_wire: Wire) -> None:
    for _ in range(2):
        server = UdpServer(Responder(lay_out([ServerAddress(RELAY)], 3478, 3479)), Limits())
        server.open()
        server.offload()
        server.close()


def test_a_second_program_on_the_interface_is_refused_in_words(a_wire: Wire) -> None:
    first, second = (
        UdpServer(Responder(lay_out([ServerAddress(RELAY)], port, 3490)), Limits()) for port in (3478, 3480)
    )
    first.open()
    second.open()
    try:
        first.offload()
        with pytest.raises(OffloadRefused, match="near0"):
            second.offload()
    finally:
        first.close()
        second.close()


def test_the_kernel_follows_a_changed_configuration_or_leaves_it_to_us(a_wire: Wire) -> None:
    endpoints = lay_out([ServerAddress(RELAY)], 3478, 3479)
    server = UdpServer(Responder(endpoints), Limits())
    server.open()
    try:
        server.offload(mode=Mode.GENERIC)
        server.start()
        named = Responder(endpoints, Policy(software="another"))
        with client(a_wire, PARTIES[0]) as sock:
            source = TransportAddress(PARTIES[0], sock.getsockname()[1])

            def replies(number: int) -> bytes:
                for _ in range(3):
                    sock.sendto(request(number), tuple(endpoints[0].local))
                    reply = sock.recv(2048)
                return reply

            replies(1)
            server.follow(named, Limits())
            expected = named.respond(request(2), 0, source)
            assert isinstance(expected, Answer)
            assert replies(2) == expected.data
            assert server.kernel is not None
            answered = int(server.kernel.counters().responses.sum())
            assert answered >= 3
            server.follow(named, Limits(total_rate=1000))
            assert not server.kernel.attached
            assert replies(3)
            assert int(server.kernel.counters().responses.sum()) == answered
            server.follow(named, Limits())
            assert server.kernel.attached
            assert replies(4)
            assert int(server.kernel.counters().responses.sum()) > answered
    finally:
        server.close()


def test_a_server_wide_ceiling_keeps_answers_in_user_space(a_wire: Wire) -> None:
    server = UdpServer(Responder(lay_out([ServerAddress(RELAY)], 3478, 3479)), Limits(total_rate=100))
    server.open()
    try:
        with pytest.raises(OffloadRefused, match="total_rate"):
            server.offload()
    finally:
        server.close()


def test_loopback_alone_carries_nothing_worth_a_program() -> None:
    with pytest.raises(OffloadRefused, match="offload_interfaces"):
        carriers(["127.0.0.1"], (), [])
    assert carriers(["127.0.0.1"], ("eth7",), []) == ("eth7",)
