"""The rings: submissions, completions, waits, file table and buffer ring, on this kernel."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from nattrav.net import uring
from nattrav.net.address import TransportAddress
from nattrav.net.frames import NAME, PAYLOAD, Frames
from nattrav.net.options import open_udp
from nattrav.net.uring import BufferRing, Ring, Unavailable

_refusal = uring.availability()
pytestmark = pytest.mark.skipif(_refusal is not None, reason=f"io_uring cannot be used: {_refusal}")

OP_NOP = 0


@pytest.fixture
def ring() -> Iterator[Ring]:
    made = Ring(8, 16)
    yield made
    made.close()


def nop(ring: Ring, tag: int) -> None:
    entry = ring.entry()
    entry["opcode"] = OP_NOP
    entry["user_data"] = tag


def tags(ring: Ring) -> list[int]:
    completed = ring.completed()
    found: list[int] = completed[:, 0].tolist()
    ring.seen(len(found))
    return found


def test_what_is_submitted_completes(ring: Ring) -> None:
    for tag in (5, 6, 7):
        nop(ring, tag)
    assert ring.pending == 3
    assert ring.enter(3, timeout=1.0) == 0
    assert ring.pending == 0
    assert tags(ring) == [5, 6, 7]
    assert tags(ring) == []


def test_the_rings_wrap_around(ring: Ring) -> None:
    seen: list[int] = []
    for turn in range(20):
        for step in range(5):
            nop(ring, turn * 5 + step)
        ring.enter(5, timeout=1.0)
        seen += tags(ring)
    assert seen == list(range(100))


def test_a_full_ring_submits_by_itself(ring: Ring) -> None:
    for tag in range(ring.entries + 3):
        nop(ring, tag)
    ring.enter(1, timeout=1.0)
    assert tags(ring) == list(range(ring.entries + 3))


def test_a_span_that_wraps_comes_in_two_parts(ring: Ring) -> None:
    for tag in range(6):
        nop(ring, tag)
    ring.enter(6, timeout=1.0)
    tags(ring)
    parts = list(ring.spans(4))
    assert parts == [(6, 8), (0, 2)]
    for start, stop in parts:
        ring.sqe_words[start:stop] = 0
    ring.enter(4, timeout=1.0)
    assert len(tags(ring)) == 4


def test_a_wait_ends_with_its_time(ring: Ring) -> None:
    begin = time.monotonic()
    assert ring.enter(1, timeout=0.05) == errno.ETIME
    assert 0.04 < time.monotonic() - begin < 1.0


def test_a_patient_wait_ends_once_something_is_there(ring: Ring) -> None:
    if not ring.features & uring.FEATURE_MIN_TIMEOUT:
        pytest.skip("needs Linux 6.12")
    nop(ring, 1)
    begin = time.monotonic()
    ring.enter(16, min_wait=0.05, timeout=5.0)
    assert 0.03 < time.monotonic() - begin < 2.0
    assert tags(ring) == [1]


def test_a_patient_wait_without_limit_sleeps_until_something_comes(ring: Ring) -> None:
    if not ring.features & uring.FEATURE_MIN_TIMEOUT:
        pytest.skip("needs Linux 6.12")
    with open_udp(TransportAddress("127.0.0.1", 0)) as sock:
        entry = ring.entry()
        entry["opcode"] = uring.OP_POLL_ADD
        entry["fd"] = sock.fileno()
        entry["op_flags"] = 1
        later = threading.Timer(0.2, lambda: sock.sendto(b"wake", sock.getsockname()))
        later.start()
        begin = time.monotonic()
        assert ring.enter(16, min_wait=0.001) == 0
        assert time.monotonic() - begin > 0.15
        later.join()


def test_a_failed_operation_reports_its_error(ring: Ring) -> None:
    entry = ring.entry()
    entry["opcode"] = uring.OP_SEND
    entry["fd"] = 99999
    entry["user_data"] = 3
    ring.enter(1, timeout=1.0)
    assert ring.completed().view(np.int32)[0, 2] == -errno.EBADF


def test_the_kernel_knows_what_we_need(ring: Ring) -> None:
    assert ring.supports([uring.OP_RECVMSG, uring.OP_SEND, uring.OP_POLL_ADD])
    assert not ring.supports([250])


def test_files_come_and_go_in_the_table(ring: Ring) -> None:
    ring.register_files(4)
    with open_udp(TransportAddress("127.0.0.1", 0)) as sock:
        ring.update_file(2, sock.fileno())
        entry = ring.entry()
        entry["opcode"] = uring.OP_POLL_ADD
        entry["flags"] = uring.SQE_FIXED_FILE
        entry["fd"] = 2
        entry["op_flags"] = 4
        ring.enter(1, timeout=1.0)
        assert ring.completed().view(np.int32)[0, 2] & 4
        ring.update_file(2, -1)
    with pytest.raises(Unavailable, match="file table update"):
        ring.update_file(4, 0)


def test_a_multishot_receive_fills_provided_buffers(ring: Ring) -> None:
    frames = Frames(4)
    buffers = BufferRing(ring, frames.base, frames.stride, 0)
    ring.register_files(1)
    message = np.zeros(7, np.uint64)
    message[1] = NAME
    with open_udp(TransportAddress("127.0.0.1", 0)) as sock, open_udp(TransportAddress("127.0.0.1", 0)) as peer:
        local = sock.getsockname()
        ring.update_file(0, sock.fileno())

        def arm() -> None:
            entry = ring.entry()
            entry["opcode"] = uring.OP_RECVMSG
            entry["flags"] = uring.SQE_FIXED_FILE | uring.SQE_BUFFER_SELECT
            entry["ioprio"] = uring.RECV_MULTISHOT
            entry["addr"] = message.ctypes.data
            entry["len"] = 1

        arm()
        ring.enter()
        for number in range(6):
            peer.sendto(bytes([number]) * 20, local)
        ring.enter(5, timeout=1.0)
        completed = ring.completed()
        halves = completed.view(np.int32)
        assert halves[:4, 2].tolist() == [PAYLOAD + 20] * 4
        # Four buffers were there: the fifth datagram finds none and ends the receive.
        assert halves[4, 2] == -errno.ENOBUFS
        assert not halves[4, 3] & uring.CQE_MORE
        numbers = (completed[:4, 1] >> np.uint64(48)).astype(np.intp)
        assert [frames.payload(frame, 20)[0] for frame in numbers.tolist()] == [0, 1, 2, 3]
        assert {frames.source(frame) for frame in numbers.tolist()} == {TransportAddress(*peer.getsockname())}
        ring.seen(len(completed))
        buffers.recycle(numbers)
        arm()
        ring.enter(2, timeout=1.0)
        completed = ring.completed()
        assert [frames.payload(int(frame), 20)[0] for frame in completed[:, 1] >> np.uint64(48)] == [4, 5]
        ring.seen(len(completed))
        ring.cancel_all()


def test_buffers_must_be_a_power_of_two(ring: Ring) -> None:
    with pytest.raises(ValueError, match="power of two"):
        BufferRing(ring, np.zeros(3, np.uint64), 64, 0)


def test_refusals_say_what_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no io_uring" in uring._refusal(errno.ENOSYS)
    assert "seccomp" in uring._refusal(errno.EPERM) or "io_uring_disabled" in uring._refusal(errno.EPERM)
    assert "older than" in uring._refusal(errno.EINVAL)
    assert "MEMLOCK" in uring._refusal(errno.ENOMEM)
    monkeypatch.setattr(uring, "_setup", lambda *given: (-errno.ENOSYS, np.zeros(1)))
    assert uring.availability() == "this kernel has no io_uring"


def test_a_ring_leaves_no_descriptor_behind() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        Ring(8, 16).close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_sockets_are_free_once_everything_is_cancelled() -> None:
    ring = Ring(8, 16)
    ring.register_files(1)
    sock = open_udp(TransportAddress("127.0.0.1", 0))
    local = TransportAddress(*sock.getsockname())
    ring.update_file(0, sock.fileno())
    entry = ring.entry()
    entry["opcode"] = uring.OP_POLL_ADD
    entry["flags"] = uring.SQE_FIXED_FILE
    entry["op_flags"] = 1
    ring.enter()
    ring.cancel_all()
    sock.close()
    open_udp(local).close()
    ring.close()
