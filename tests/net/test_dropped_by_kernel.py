from __future__ import annotations

import socket

from nattrav.net.address import TransportAddress
from nattrav.net.options import dropped_by_kernel, open_udp


def test_datagrams_that_nobody_fetched_in_time_are_counted() -> None:
    with open_udp(TransportAddress("127.0.0.1", 0), receive_buffer=4096) as sock:
        assert dropped_by_kernel(sock) == 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(200):
                sender.sendto(bytes(1000), sock.getsockname())
        sock.settimeout(0)
        kept = 0
        try:
            while sock.recv(2048):
                kept += 1
        except BlockingIOError:
            pass
        assert 0 < kept < 200
        assert dropped_by_kernel(sock) == 200 - kept


def test_a_closed_socket_has_dropped_nothing() -> None:
    sock = open_udp(TransportAddress("127.0.0.1", 0))
    sock.close()
    assert dropped_by_kernel(sock) == 0
