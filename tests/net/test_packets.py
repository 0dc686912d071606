"""Packet sockets: who may have them, and how many share an interface."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from nattrav.net import packets
from nattrav.net.options import Socket

LOOPBACK = 1


def test_a_refusal_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    for code, word in ((errno.EPERM, "CAP_NET_RAW"), (errno.EAFNOSUPPORT, "AF_PACKET"), (errno.EMFILE, "Too many")):

        def refuse(code: int = code) -> Socket:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(packets, "_open", refuse)
        assert word in (packets.refusal() or "")


@pytest.mark.skipif(packets.refusal() is not None, reason="packet sockets need CAP_NET_RAW")
class TestSenders:
    def test_a_sender_is_bound_and_receives_nothing(self) -> None:
        with packets.open_sender(LOOPBACK) as sender:
            assert sender.getsockname()[:2] == ("lo", 0)
            assert sender.getsockopt(263, 15) == 1
            assert not sender.getblocking()

    def test_many_share_an_interface_where_each_has_little_room(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for granted, count in ((packets.SEND_ROOM, 1), (packets.SEND_ROOM // 2, 2), (4096, packets.SENDERS_MAX)):

            def sender(interface: int, granted: int = granted) -> Socket:
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                sock.setsockopt(socket.SOL_SOCKET, 32, granted)
                return sock

            monkeypatch.setattr(packets, "open_sender", sender)
            opened = packets.open_senders(LOOPBACK)
            assert len(opened) == count
            for sock in opened:
                sock.close()

    def test_no_interface_is_an_error(self) -> None:
        with pytest.raises(OSError, match="o such"):
            packets.open_senders(999999)
