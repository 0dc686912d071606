"""The UDP server on loopback: real sockets, both implementations of batched I/O, one and two threads."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from stun.admission import Limits
from stun.attributes import AttributeType, decode_xor_address
from stun.behavior import ServerAddress, lay_out
from stun.integrity import add_fingerprint
from stun.io.server import UdpServer
from stun.message import BINDING, MessageClass, decode, encode
from stun.responder import DropReason, Responder
from tests.free_port import free_port

T = AttributeType
PAIR = ServerAddress("127.0.0.1", alternate="127.0.0.2")


def serve(threads: int = 1, limits: Limits | None = None, **options: bool) -> UdpServer:
    for _ in range(20):
        port = free_port()
        server = UdpServer(Responder(lay_out([PAIR], port, port ^ 1)), limits or Limits(), threads=threads, **options)
        try:
            server.open()
        except OSError:
            continue
        server.start()
        return server
    raise AssertionError("no free pair of ports")


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.9", 0))
        sock.settimeout(5)
        yield sock


def request(number: int, *attributes: tuple[int, bytes]) -> bytes:
    return encode(BINDING, MessageClass.REQUEST, number.to_bytes(12, "big"), attributes)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("portable", [False, True])
def test_every_kind_of_request_is_answered_from_where_it_should(
    peer: socket.socket, threads: int, portable: bool
) -> None:
    server = serve(threads, portable=portable)
    try:
        first = server.endpoints[0].local
        sent = {
            1: (request(1), 0),
            2: (add_fingerprint(request(2, (T.SOFTWARE, b"abc"))), 0),
            3: (request(3, (T.CHANGE_REQUEST, bytes([0, 0, 0, 6]))), 3),
            4: (request(4, (T.PADDING, bytes(16))), 0),
            5: (request(5, (T.CHANGE_REQUEST, bytes([0, 0, 0, 2]))), 1),
        }
        for data, _ in sent.values():
            peer.sendto(data, first)
        for _ in range(len(sent)):
            reply, source = peer.recvfrom(2048)
            number = int.from_bytes(reply[8:20], "big")
            assert source == server.endpoints[sent.pop(number)[1]].local
        counters = server.counters()
        assert int(counters.requests[0, 0]) == 5
        assert int(counters.responses[0, 0]) == 5
        assert counters.changes.tolist() == [1, 0, 1]
    finally:
        server.close()


def test_garbage_is_dropped_with_its_reason_and_the_server_lives_on(peer: socket.socket) -> None:
    server = serve()
    try:
        first = server.endpoints[0].local
        for data in (
            b"",
            b"x",
            b"\0" * 19,
            b"\xff" * 40,
            request(1) + b"junk",
            bytes(1800),
            request(1)[:2] + b"\xff" * 18,
        ):
            peer.sendto(data, first)
        peer.sendto(request(7), first)
        reply, _ = peer.recvfrom(2048)
        assert reply[8:20] == (7).to_bytes(12, "big")
        # Plain requests are answered before the odd ones of their batch are looked at.
        deadline = time.monotonic() + 5
        while sum((drops := server.counters().drops()).values()) < 7 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert drops["not_stun"] == 4
        assert drops["truncated"] == 1
        assert drops["malformed"] == 2
    finally:
        server.close()


def test_a_source_over_its_limit_gets_silence_and_one_count(peer: socket.socket) -> None:
    server = serve(limits=Limits(source_rate=1, source_burst=5, exempt=()))
    try:
        for number in range(20):
            peer.sendto(request(number), server.endpoints[0].local)
        received = 0
        peer.settimeout(0.5)
        while True:
            try:
                peer.recv(2048)
            except TimeoutError:
                break
            received += 1
        assert received == 5
        assert server.counters().drops()["rate_limited"] == 15
    finally:
        server.close()


def test_E9_a_client_that_answers_errors_by_sending_again_meets_silence(peer: socket.socket) -> None:
    server = serve(limits=Limits(guarded_burst=10))
    try:
        answered = 0
        peer.settimeout(0.5)
        for number in range(100):
            peer.sendto(request(number, (0x7FFF, b"")), server.endpoints[0].local)
            try:
                peer.recv(2048)
            except TimeoutError:
                break
            answered += 1
        assert 10 <= answered <= 15
        assert server.counters().drops()["rate_limited"] == 1
    finally:
        server.close()


def test_a_taken_port_is_named() -> None:
    server = serve()
    try:
        taken = server.endpoints[0].local
        for threads in (1, 2):
            second = UdpServer(server.responder, Limits(), threads=threads)
            with pytest.raises(OSError, match=f"{taken.host}:{taken.port}"):
                second.open()
    finally:
        server.close()


def test_a_crowd_is_answered_in_batches_and_leaves_numbers(peer: socket.socket) -> None:
    server = serve()
    try:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        for number in range(2000):
            peer.sendto(request(number), server.endpoints[number % 4].local)
        seen = {peer.recv(2048)[8:20] for _ in range(2000)}
        assert len(seen) == 2000
        counters = server.counters()
        assert int(counters.responses[0, 0]) == 2000
        assert int(counters.request_bytes[0]) == 2000 * 20
        assert int(counters.response_bytes[0]) == 2000 * 68
        assert int(counters.slow[0]) == 0
        assert int(counters.batches.sum()) <= 2000
        assert server.overflows() == 0
        assert sum(server.send_errors().values()) == 0
        assert server.data_threads[0].cpu_seconds() > 0
        assert counters.dropped[list(DropReason).index(DropReason.MALFORMED)] == 0
    finally:
        server.close()


def test_a_stopped_server_frees_its_ports() -> None:
    server = serve(threads=2)
    server.close()
    time.sleep(0)
    again = UdpServer(server.responder, Limits())
    again.open()
    again.close()


def test_a_flood_of_odd_requests_from_many_sources_does_not_silence_an_honest_client(peer: socket.socket) -> None:
    server = serve(limits=Limits(exempt=()))
    stop = threading.Event()

    def flood() -> None:
        sources = []
        for last in range(20, 60):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((f"127.0.7.{last}", 0))
            sources.append(sock)
        odd = [request(1, (0x7FFF, b"")), request(2, (T.PADDING, bytes(64))), b"\0\1garbage" * 5, request(3)]
        while not stop.is_set():
            for number, sock in enumerate(sources):
                sock.sendto(odd[number % len(odd)], server.endpoints[0].local)
        for sock in sources:
            sock.close()

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        peer.settimeout(1)
        answered = 0
        for number in range(20):
            peer.sendto(request(1000 + number), server.endpoints[0].local)
            try:
                answered += peer.recv(2048)[8:20] == (1000 + number).to_bytes(12, "big")
            except TimeoutError:
                continue
            time.sleep(0.02)
        assert answered >= 19
        assert server.counters().drops()["rate_limited"] > 0
    finally:
        stop.set()
        thread.join()
        server.close()


def test_ipv6_is_answered_from_its_own_socket() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.bind(("::1", 0))
        client.settimeout(5)
        server = UdpServer(
            Responder(lay_out([ServerAddress("::1"), ServerAddress("127.0.0.1")], free_port(), 1)), Limits()
        )
        server.open()
        server.start()
        try:
            for data in (request(1), add_fingerprint(request(2)), request(3, (T.PADDING, bytes(8)))):
                client.sendto(data, server.endpoints[0].local)
                reply, source = client.recvfrom(2048)
                message = decode(reply)
                mapped = decode_xor_address(message.first(T.XOR_MAPPED_ADDRESS) or b"", message.transaction_id)
                assert mapped == client.getsockname()[:2]
                assert source[:2] == server.endpoints[0].local
            assert server.counters().requests[0].tolist() == [0, 3]
        finally:
            server.close()


@pytest.mark.parametrize("size", [0, 1472, 1640])
def test_padding_makes_replies_large_enough_to_be_fragmented(peer: socket.socket, size: int) -> None:
    server = serve()
    try:
        peer.sendto(request(1, (T.PADDING, bytes(size))), server.endpoints[0].local)
        message = decode(peer.recv(4096))
        assert len(message.first(T.PADDING) or b"") == min(size, 1500)
    finally:
        server.close()
