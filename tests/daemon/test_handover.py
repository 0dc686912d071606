"""Sockets go from a process to its successor without ever being closed."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import trio
import trio.lowlevel
import trio.testing

from nattrav.daemon.handover import BATCH, Inherited, collect, keep_with, leave_to, left_bound, passed
from nattrav.daemon.systemd import Notifier
from nattrav.net.address import TransportAddress
from nattrav.net.bpf.dispatcher import OBJECT as DISPATCHER
from nattrav.net.bpf.found import number_of
from nattrav.net.bpf.objects import BpfObject
from tests.net.bpf.objects import need_bpf


def bound(kind: socket.SocketKind = socket.SOCK_DGRAM) -> socket.socket:
    sock = socket.socket(socket.AF_INET, kind)
    sock.bind(("127.0.0.1", 0))
    return sock


def place(sock: socket.socket) -> TransportAddress:
    return TransportAddress(*sock.getsockname())


def test_what_a_process_leaves_its_successor_finds_with_all_that_arrived_meanwhile() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
        sock = bound()
        address = place(sock)
        with theirs, left_bound(leave_to(theirs), [sock.fileno()]):
            sock.close()
        phone.sendto(b"while nobody was there", address)
        inherited = Inherited(collect(ours))
        assert inherited.take(socket.SOCK_STREAM, address) is None
        found = inherited.take(socket.SOCK_DGRAM, address)
        assert found is not None
        with found:
            assert found.recv(100) == b"while nobody was there"
            assert not found.get_inheritable()
        assert inherited.take(socket.SOCK_DGRAM, address) is None


def test_more_sockets_than_one_message_holds_are_left() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sockets = [bound() for _ in range(BATCH + 50)]
    with ours:
        with theirs:
            leave_to(theirs)(sockets)
        inherited = Inherited(collect(ours))
    assert len(inherited) == BATCH + 50
    assert inherited.close() == BATCH + 50
    for sock in sockets:
        sock.close()


def test_what_was_to_be_kept_is_there_though_the_process_said_no_more() -> None:
    need_bpf()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, bound() as sock, BpfObject(DISPATCHER.read_bytes()) as thing:
        thing.load()
        number = number_of(thing.map("slots").fd)
        keep_with(theirs)([thing.map("slots").fd, sock.fileno()])
        theirs.close()
        thing.close()
        inherited = Inherited(collect(ours))
        assert len(inherited) == 1
        (descriptor,) = inherited.take_bpf()
        assert number_of(descriptor) == number
        assert not os.get_inheritable(descriptor)
        assert inherited.take_bpf() == ()
        os.close(descriptor)
        assert inherited.close() == 1


def test_a_process_that_left_nothing_or_whose_heir_is_gone_does_no_harm() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, bound() as sock:
        theirs.close()
        leave_to(theirs)([sock])
        assert collect(ours) == []


def test_two_sockets_on_one_address_are_given_one_after_the_other_and_foreign_descriptors_closed() -> None:
    first = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    second = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for sock in (first, second):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    first.bind(("127.0.0.1", 0))
    address = place(first)
    second.bind(address)
    read, write = os.pipe()
    os.close(write)
    inherited = Inherited([first.detach(), second.detach(), read])
    taken = [inherited.take(socket.SOCK_DGRAM, address) for _ in range(3)]
    assert [one is None for one in taken] == [False, False, True]
    for one in taken[:2]:
        assert one is not None
        one.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(read)


def test_descriptors_of_the_service_manager_are_found_by_the_process_they_are_meant_for() -> None:
    with bound() as one, bound() as other:
        start = min(one.fileno(), other.fileno())
        own = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "sip:r"}
        assert passed(own, start) == [("sip", start), ("r", start + 1)]
        assert passed(own | {"LISTEN_FDNAMES": ""}, start) == [("", start), ("", start + 1)]
        assert passed(own | {"LISTEN_PID": "1"}, start) == []
        assert passed(own | {"LISTEN_FDS": "many"}, start) == []
        assert passed({}, start) == []


async def test_the_store_of_the_service_manager_is_spoken_to_as_it_wants(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, bound() as sock:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5)
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        notifier.store("r", [sock.fileno()])
        text, descriptors, _, _ = socket.recv_fds(manager, 1000, 10)
        assert text == b"FDSTORE=1\nFDNAME=r\nFDPOLL=0"
        inherited = Inherited(descriptors)
        assert len(inherited) == 1
        inherited.close()
        notifier.forget("r")
        assert manager.recv(1000) == b"FDSTOREREMOVE=1\nFDNAME=r"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(notifier.settled)
            await trio.testing.wait_all_tasks_blocked()
            text, descriptors, _, _ = socket.recv_fds(manager, 1000, 10)
            assert text == b"BARRIER=1"
            for descriptor in descriptors:
                os.close(descriptor)
