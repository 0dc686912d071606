"""Several services' programs on one interface: who comes first, who joins, who goes, and what is left."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from nattrav.net.bpf.dispatcher import OBJECT, Dispatcher, Slot, open_dispatcher, vacate
from nattrav.net.bpf.found import Found, is_bpf, number_of
from nattrav.net.bpf.objects import BpfObject
from nattrav.net.bpf.programs import Action, Mode, Program, attached_mode, attached_program
from nattrav.net.bpf.sharing import Company
from tests.natlab.namespaces import execute, missing
from tests.net.bpf.objects import ROOT, built, need_bpf
from tests.relay.io.pairs import soon
from tests.relay.offload.wires import NEAR, Wire, wire


@pytest.fixture(scope="module")
def place() -> Iterator[Wire]:
    need_bpf()
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    with wire() as made:
        yield made


@pytest.fixture
def index(place: Wire) -> int:
    return socket.if_nametoindex(NEAR)


@pytest.fixture(scope="module")
def verdicts(place: Wire, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A program that drops frames which begin with 7."""
    octets = built("tests/net/bpf/counting.bpf.c", tmp_path_factory.mktemp("bpf"))
    with BpfObject(octets) as thing:
        thing.load()
        thing.map("verdicts").update((7).to_bytes(4, "little"), Action.DROP.to_bytes(4, "little") + bytes(4))
        yield thing.program("counting")


def frame(first: int) -> bytes:
    return bytes([first]) + bytes(63)


@contextlib.contextmanager
def opened(slot: Slot, company: Company, mode: Mode | None = Mode.GENERIC) -> Iterator[Dispatcher]:
    dispatcher = open_dispatcher(slot, [NEAR], mode, company)
    try:
        yield dispatcher
    finally:
        dispatcher.close()


def test_without_programs_every_packet_passes(place: Wire) -> None:
    with opened(Slot.RELAY, Company()) as dispatcher:
        assert dispatcher.program.try_frame(frame(7)).action == Action.PASS


@pytest.mark.parametrize("slot", list(Slot))
def test_a_program_in_any_place_decides_until_it_steps_out(verdicts: Program, slot: Slot) -> None:
    with opened(slot, Company()) as dispatcher:
        dispatcher.enter(verdicts)
        assert dispatcher.program.try_frame(frame(7)).action == Action.DROP
        assert dispatcher.program.try_frame(frame(8)).action == Action.PASS
        dispatcher.step_out()
        assert dispatcher.program.try_frame(frame(7)).action == Action.PASS


def test_who_comes_second_joins_and_outlives_the_first(index: int, verdicts: Program, tmp_path: Path) -> None:
    first = open_dispatcher(Slot.RELAY, [NEAR], None, Company("relay", tmp_path))
    with opened(Slot.STUN, Company("stun", tmp_path), None) as second:
        assert number_of(first.slots) == number_of(second.slots)
        assert number_of(first.program.fd) == number_of(second.program.fd) == attached_program(index)
        second.enter(verdicts)
        first.close()
        assert attached_program(index) == number_of(second.program.fd)
        assert second.program.try_frame(frame(7)).action == Action.DROP
        with opened(Slot.RELAY, Company("relay", tmp_path)) as again:
            assert number_of(again.slots) == number_of(second.slots)
    assert attached_program(index) == 0
    assert attached_mode(index) is None
    assert [path.name for path in tmp_path.iterdir()] == ["xdp.lock"]


def test_services_that_want_different_modes_are_told(place: Wire, tmp_path: Path) -> None:
    with (
        opened(Slot.RELAY, Company("relay", tmp_path), Mode.GENERIC),
        pytest.raises(OSError, match=r"runs on near0 in generic mode: give both the same offload_mode"),
        opened(Slot.STUN, Company("stun", tmp_path), Mode.NATIVE),
    ):
        pass


def test_a_stranger_without_our_directory_is_refused_with_the_remedy(place: Wire) -> None:
    with opened(Slot.RELAY, Company()), pytest.raises(OSError, match="take that one off, or name other interfaces"):
        open_dispatcher(Slot.STUN, [NEAR], None, Company())


def test_what_a_process_left_is_taken_up_by_the_next(index: int, verdicts: Program) -> None:
    kept: list[int] = []
    with opened(Slot.RELAY, Company()) as first:
        first.enter(verdicts)
        kept += [os.dup(descriptor) for descriptor in first.descriptors()]
        number = number_of(first.slots)
        first.inside = False
    assert attached_program(index)
    found = Found.among(kept)
    second = open_dispatcher(Slot.RELAY, [NEAR], None, Company(), found)
    assert number_of(second.slots) == number
    # Nobody stepped out of its place: it does its work all the time.
    assert second.program.try_frame(frame(7)).action == Action.DROP
    assert [one.mode for one in second.attachments] == [Mode.GENERIC]
    second.enter(verdicts)
    second.close()
    found.close()
    assert attached_program(index) == 0


def test_what_is_not_wanted_any_more_is_taken_out_of_its_place(verdicts: Program, tmp_path: Path) -> None:
    with opened(Slot.STUN, Company("stun", tmp_path)) as other:
        first = open_dispatcher(Slot.RELAY, [NEAR], None, Company("relay", tmp_path))
        first.enter(verdicts)
        found = Found.among([os.dup(descriptor) for descriptor in first.descriptors()])
        first.close(leave=True)
        assert other.program.try_frame(frame(7)).action == Action.DROP
        vacate(Slot.RELAY, found)
        found.close()
        assert other.program.try_frame(frame(7)).action == Action.PASS


def test_descriptors_of_other_kinds_are_no_bpf_and_are_closed(place: Wire) -> None:
    read, write = os.pipe()
    assert not is_bpf(read)
    found = Found.among([read, write])
    assert (found.maps, found.programs, found.attachments) == ({}, {}, {})
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(read)


HOLDER = """
import sys, time
from pathlib import Path
from nattrav.net.bpf.dispatcher import Slot, open_dispatcher
from nattrav.net.bpf.sharing import Company
dispatcher = open_dispatcher(Slot[sys.argv[1]], [sys.argv[2]], None, Company(sys.argv[1], Path(sys.argv[3])))
print("there", flush=True)
time.sleep(60)
"""


def holder(role: str, directory: Path) -> subprocess.Popen[str]:
    command: Sequence[str] = (sys.executable, "-c", HOLDER, role, NEAR, str(directory))
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "there\n"
    return process


def test_killing_either_holder_leaves_the_other_served_and_killing_both_leaves_nothing(
    index: int, tmp_path: Path
) -> None:
    with holder("RELAY", tmp_path) as relay, holder("STUN", tmp_path) as stun:
        there = attached_program(index)
        relay.kill()
        relay.wait()
        assert attached_program(index) == there
        with holder("RELAY", tmp_path) as again:
            stun.kill()
            stun.wait()
            assert attached_program(index) == there
            again.kill()
    assert soon(lambda: attached_program(index) == 0)
    assert "xdp" not in json.loads(execute("ip", "-j", "link", "show", NEAR))[0]


def test_the_object_in_the_tree_is_what_its_source_gives(tmp_path: Path) -> None:
    octets, kept = built(str(OBJECT.relative_to(ROOT).with_suffix(".c")), tmp_path), OBJECT.read_bytes()
    compilers = {some[some.find(b"Clang ") :].partition(b"\0")[0] for some in (octets, kept)}
    if len(compilers) > 1:
        pytest.skip(f"another compiler than the tree's: {compilers}")
    assert octets == kept, "run make bpf and commit the result"
