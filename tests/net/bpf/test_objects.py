"""The loader against the kernel: a small program that counts frames and looks verdicts up."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator

import numpy as np
import pytest

from nattrav.net.bpf import libbpf
from nattrav.net.bpf.objects import BpfObject
from nattrav.net.bpf.programs import Action, statistics
from tests.net.bpf.objects import built, need_bpf

VERDICT = np.dtype([("action", "u4"), ("seen", "u4")])
KEY = np.dtype("u4")


@pytest.fixture(scope="module")
def octets(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    need_bpf()
    return built("tests/net/bpf/counting.bpf.c", tmp_path_factory.mktemp("bpf"))


@pytest.fixture
def loaded(octets: bytes) -> Iterator[BpfObject]:
    with BpfObject(octets, "counting") as thing:
        thing.set_size("verdicts", 20000)
        thing.load()
        yield thing


def frame(first: int) -> bytes:
    return bytes([first]) + bytes(63)


def test_a_frame_is_tried_and_comes_back_as_the_program_left_it(loaded: BpfObject) -> None:
    program = loaded.program("counting")
    assert program.try_frame(frame(7)).action == Action.PASS
    loaded.map("verdicts").update(struct.pack("=I", 7), struct.pack("=II", Action.DROP, 0))
    trial = program.try_frame(frame(7))
    assert (trial.action, trial.frame) == (Action.DROP, frame(0xEE))


def test_entries_are_written_read_and_removed(loaded: BpfObject) -> None:
    verdicts = loaded.map("verdicts")
    key, value = struct.pack("=I", 1), struct.pack("=II", 1, 2)
    assert verdicts.lookup(key) is None
    verdicts.update(key, value)
    assert verdicts.lookup(key) == value
    assert verdicts.delete(key)
    assert not verdicts.delete(key)


def test_octets_of_another_size_are_refused_before_the_kernel_reads_past_them(loaded: BpfObject) -> None:
    with pytest.raises(ValueError, match="keys are 4 octets, values 8"):
        loaded.map("verdicts").update(b"\0" * 4, b"\0")
    with pytest.raises(ValueError, match="keys are 4"):
        loaded.map("verdicts").lookup(b"")


def test_many_entries_are_written_read_and_removed_with_few_calls(loaded: BpfObject) -> None:
    verdicts = loaded.map("verdicts")
    keys = np.arange(20000, dtype=KEY)
    values = np.zeros(20000, VERDICT)
    values["seen"] = keys * 3
    verdicts.update_many(keys, values)
    found, told = verdicts.entries(KEY, VERDICT)
    assert len(found) == 20000
    assert np.array_equal(told["seen"], found * 3)
    verdicts.delete_many(np.array([5, 30000, 6], KEY))
    assert len(verdicts.entries(KEY, VERDICT)[0]) == 19998


def test_a_full_map_says_so(loaded: BpfObject) -> None:
    verdicts = loaded.map("verdicts")
    verdicts.update_many(np.arange(20000, dtype=KEY), np.zeros(20000, VERDICT))
    with pytest.raises(OSError, match="verdicts: update") as refused:
        verdicts.update(struct.pack("=I", 20000), bytes(8))
    assert refused.value.errno == errno.E2BIG


def test_an_array_is_shared_memory(loaded: BpfObject) -> None:
    counts = loaded.map("counts").memory(np.dtype("u8"))
    loaded.program("counting").try_frame(frame(9), repeat=5)
    assert counts[9] == 5
    counts[9] = 100
    loaded.program("counting").try_frame(frame(9))
    assert counts[9] == 101


def test_a_per_cpu_entry_has_a_value_for_each_processor(loaded: BpfObject) -> None:
    loaded.program("counting").try_frame(frame(1), repeat=3)
    rows = loaded.map("total").lookup_each_cpu(struct.pack("=I", 0))
    assert rows.view(np.uint64).sum() == 3


def test_constants_are_given_before_loading(octets: bytes) -> None:
    with BpfObject(octets) as thing:
        thing.set_constants(struct.pack("=I", Action.TX))
        thing.load()
        assert thing.program("counting").try_frame(frame(1)).action == Action.TX


def test_two_objects_share_a_map(octets: bytes, loaded: BpfObject) -> None:
    loaded.map("counts")
    with BpfObject(octets) as other:
        other.share("counts", loaded.map("counts").fd)
        other.load()
        other.program("counting").try_frame(frame(3))
    assert loaded.map("counts").memory(np.dtype("u8"))[3] == 1


def test_run_time_is_told_while_statistics_are_on(loaded: BpfObject) -> None:
    program = loaded.program("counting")
    before = program.run_time()
    with statistics():
        program.try_frame(frame(1), repeat=1000)
    after = program.run_time()
    # A trial runs outside of what the kernel measures on some versions; it must never run backwards.
    assert after.runs >= before.runs
    assert after.seconds >= before.seconds


def test_no_object_and_unknown_names_say_what_is_wrong(loaded: BpfObject) -> None:
    with pytest.raises(OSError, match="rubbish cannot be read"):
        BpfObject(b"no ELF", "rubbish")
    with pytest.raises(KeyError, match="no map nothing"):
        loaded.map("nothing")
    with pytest.raises(KeyError, match="no program nothing"):
        loaded.program("nothing")


def test_an_interface_that_does_not_exist_is_named(loaded: BpfObject) -> None:
    with pytest.raises(OSError, match="no interface nowhere0"):
        loaded.program("counting").attach("nowhere0")


def test_without_the_library_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    libbpf.libbpf.cache_clear()
    monkeypatch.setattr(libbpf, "LIBRARY", "libnothere.so.9")
    try:
        assert libbpf.refusal() == "libnothere.so.9 is not installed (Debian package libbpf1)"
    finally:
        libbpf.libbpf.cache_clear()
