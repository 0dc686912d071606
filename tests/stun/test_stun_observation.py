"""Notes of the data threads: what is kept, in what order it is read, and that unread ones do not pile up."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nattrav.net.address import TransportAddress
from nattrav.net.batch import Batch
from stun.attributes import AttributeType
from stun.discovery import Dependence
from stun.message import BINDING, MessageClass, encode
from stun.observation import Claim, Notebook, observations, read_run, write_run

T = AttributeType
LOCAL = TransportAddress("10.0.0.5", 50000)


def batch(count: int, *attributes: tuple[int, bytes]) -> Batch:
    made = Batch(count, 256)
    for slot in range(count):
        data = encode(BINDING, MessageClass.REQUEST, slot.to_bytes(12, "big"), attributes)
        made.put(slot, data, TransportAddress(f"192.0.2.{slot}", 4000 + slot))
    made.count = count
    return made


def write(book: Notebook, made: Batch, kind: int = 0, at: int = 0, time: float = 1.0) -> None:
    book.write(time, at, made, np.arange(made.count), np.full(made.count, kind, np.uint8))


def test_a_note_reads_back_as_it_was_seen() -> None:
    book = Notebook()
    write(book, batch(2, (T.RUN_ID, write_run(b"run-0001", LOCAL)), (T.CHANGE_REQUEST, bytes([0, 0, 0, 6]))), kind=3)
    found = list(observations(book.read(), frozenset({0}), 10, 10))
    assert [o.source for o in found] == [TransportAddress("192.0.2.0", 4000), TransportAddress("192.0.2.1", 4001)]
    assert {(o.flags, o.run, o.reported, o.classic, o.at, o.time) for o in found} == {
        (6, b"run-0001", LOCAL, False, 0, 1.0)
    }
    assert found[1].transaction[4:] == (1).to_bytes(12, "big")


def test_what_an_earlier_datagram_left_in_the_buffer_is_not_read() -> None:
    """Else one customer's result would go on the record of the next whose request is shorter."""
    book, made = Notebook(), batch(1, (T.RUN_ID, write_run(b"run-0001", LOCAL, Claim(Dependence.ADDRESS, None))))
    made.put(0, encode(BINDING, MessageClass.REQUEST, bytes(12)), TransportAddress("192.0.2.9", 4000))
    write(book, made)
    (found,) = observations(book.read(), frozenset({0}), 10, 10)
    assert (found.source.host, found.run, found.reported, found.claim) == ("192.0.2.9", None, None, None)


def test_classic_requests_are_told_apart() -> None:
    book, made = Notebook(), Batch(1, 256)
    made.put(0, encode(BINDING, MessageClass.REQUEST, bytes(range(16))), TransportAddress("192.0.2.1", 4000))
    made.count = 1
    write(book, made, kind=8)
    (found,) = observations(book.read(), frozenset({0}), 10, 10)
    assert found.classic
    assert found.run is None


def test_of_a_large_batch_a_few_dozen_plain_requests_are_kept_and_every_change_request() -> None:
    book, made = Notebook(), batch(250)
    kinds = np.zeros(250, np.uint8)
    kinds[[17, 133]] = 1
    book.write(1.0, 0, made, np.arange(250), kinds)
    found = list(observations(book.read(), frozenset({0}), 1000, 1000))
    assert len(found) <= 66
    assert [o.flags for o in found[:2]] == [2, 2]


def test_what_tells_something_is_read_before_plain_requests() -> None:
    book = Notebook()
    write(book, batch(5), time=1.0)
    write(book, batch(2), at=2, time=2.0)
    write(book, batch(1, (T.RUN_ID, write_run(b"run-0001", None))), time=3.0)
    found = list(observations(book.read(), frozenset({0}), 4, 1))
    assert [o.time for o in found] == [2.0, 2.0, 3.0, 1.0]
    assert book.read() == []


def test_of_many_plain_batches_a_sample_is_kept_but_none_of_the_others_is_passed_over() -> None:
    book, made = Notebook(frozenset({0})), batch(1)
    for _ in range(1000):
        book.write(1.0, 0, made, np.arange(1), np.zeros(1, np.uint8), plain=True)
        book.write(1.0, 2, made, np.arange(1), np.zeros(1, np.uint8), plain=True)
    notes = book.read()
    assert len([n for n in notes if n.at == 2]) == 1000
    assert len([n for n in notes if n.at == 0]) < 120


def test_unread_notes_do_not_pile_up() -> None:
    book, made = Notebook(), batch(1)
    for _ in range(3000):
        write(book, made)
    assert len(book.read()) == 2048
    assert book.lost == 3000 - 2048


BEHAVIOURS = st.none() | st.sampled_from(Dependence)


@given(
    st.binary(min_size=8, max_size=8),
    st.ip_addresses(v=4).map(str),
    st.integers(0, 65535),
    st.none() | st.builds(Claim, BEHAVIOURS, BEHAVIOURS),
)
def test_run_ids_round_trip(run: bytes, host: str, port: int, claim: Claim | None) -> None:
    local = TransportAddress(host, port)
    assert read_run(write_run(run, local, claim)) == (run, None if host == "0.0.0.0" else local, claim)
    assert read_run(write_run(run, None, claim)) == (run, None, claim)
    assert read_run(write_run(run, TransportAddress("2001:db8::1", 1))) == (run, None, None)


@given(st.binary(min_size=16, max_size=16))
def test_any_run_id_can_be_read(value: bytes) -> None:
    read_run(value)
