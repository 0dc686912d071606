"""The vectorised path answers byte for byte as the responder does, and leaves to it what it cannot know."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nattrav.net.address import TransportAddress, canonical
from nattrav.net.batch import Batch
from stun.attributes import AttributeType
from stun.behavior import Endpoint, ServerAddress, lay_out
from stun.crc import crc32_rows
from stun.fastpath import FastPath, Outcome
from stun.integrity import add_fingerprint
from stun.message import BINDING, MessageClass, append, encode
from stun.responder import Answer, Drop, DropReason, Policy, Responder

T = AttributeType
PAIR = ServerAddress("198.51.100.1", alternate="198.51.100.2")
PAIR6 = ServerAddress("2001:db8::1", alternate="2001:db8::2")
LAYOUTS = {
    "pair": lay_out([PAIR, PAIR6], 3478, 3479),
    "single": lay_out([ServerAddress("198.51.100.1"), ServerAddress("2001:db8::1")], 3478, 3479),
}
POLICIES = {
    "default": Policy(),
    "software": Policy(software="nattrav test"),
    "minimal": Policy(minimal=True),
    "strict": Policy(strict_change_request=True, classic="plain"),
    "modern": Policy(classic="off", response_port=False),
}
SERVERS = {(a, b): Responder(LAYOUTS[a], POLICIES[b]) for a in LAYOUTS for b in POLICIES}

tids = st.one_of(st.binary(min_size=12, max_size=12), st.binary(min_size=16, max_size=16))
known = st.sampled_from(
    [
        (int(T.SOFTWARE), b"agent 1.0"),
        (int(T.PRIORITY), bytes(4)),
        (int(T.USE_CANDIDATE), b""),
        (int(T.ICE_CONTROLLING), bytes(8)),
        (int(T.USERNAME), b"a:b"),
        (int(T.MESSAGE_INTEGRITY), bytes(20)),
        (int(T.USERHASH), bytes(32)),
        (int(T.RESPONSE_PORT), b"\x40\0"),
        (int(T.PADDING), bytes(20)),
        (int(T.RESPONSE_ADDRESS), bytes.fromhex("00010bb8c0000201")),
        (int(T.CHANGED_ADDRESS), bytes.fromhex("00010bb8c0000201")),
        (int(T.CHANGE_REQUEST), bytes(4)),
        (int(T.CHANGE_REQUEST), bytes([0, 0, 0, 2])),
        (int(T.CHANGE_REQUEST), bytes([0, 0, 0, 4])),
        (int(T.CHANGE_REQUEST), bytes([9, 9, 9, 0xFF])),
        (int(T.CHANGE_REQUEST), bytes(3)),
        (int(T.FINGERPRINT), bytes(4)),
        (0x7FFF, b"x"),
        (0x8FFF, b"xy"),
    ]
)
entries = st.lists(st.one_of(known, st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=9))), max_size=4)


@st.composite
def datagrams(draw: st.DrawFn) -> bytes:
    data = encode(BINDING, draw(st.sampled_from(MessageClass)), draw(tids), draw(entries))
    data = b"\0\1" + data[2:] if draw(st.integers(0, 4)) else data
    closing = draw(st.integers(0, 3))
    if closing == 1:
        data = add_fingerprint(data)
    elif closing == 2:
        data = append(add_fingerprint(data), T.SOFTWARE, b"late")
    if draw(st.integers(0, 9)) == 0:
        position = draw(st.integers(0, len(data) - 1))
        data = data[:position] + bytes([draw(st.integers(0, 255))]) + data[position + 1 :]
    return data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 9)) == 0 else data


ports = st.one_of(st.integers(1024, 65535), st.sampled_from([0, 19, 53, 3478, 3479]))
sources4 = st.builds(
    TransportAddress,
    st.one_of(st.ip_addresses(v=4).map(str), st.sampled_from(["198.51.100.1", "224.0.0.1", "0.0.0.0"])),
    ports,
)
sources6 = st.builds(
    TransportAddress,
    st.one_of(
        st.integers(1, 2**64 - 1).map(
            lambda n: canonical(f"2001:db8::{n >> 48:x}:{n >> 32 & 0xFFFF:x}:{n >> 16 & 0xFFFF:x}:1")
        ),
        st.sampled_from(["2001:db8::1", "ff02::1", "::", "::1"]),
    ),
    ports,
)


def batch_of(sent: list[tuple[bytes, TransportAddress]]) -> Batch:
    batch = Batch(max(len(sent), 1), 1728)
    batch.data[:] = 0xEE
    for slot, (data, source) in enumerate(sent):
        batch.put(slot, data, source)
    batch.count = len(sent)
    return batch


def answered(fast: FastPath, at: int, batch: Batch) -> tuple[Outcome, list[tuple[bytes, int, TransportAddress]]]:
    out = Batch(batch.slots, 320)
    out.data[:] = 0xDD
    outcome = fast.answer(at, batch, out)
    replies = [
        (out.payload(slot), segment.at, out.peer_address(slot))
        for segment in outcome.segments
        for slot in range(segment.start, segment.stop)
    ]
    return outcome, replies


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(sorted(SERVERS)), st.integers(0, 3), st.booleans())
def test_what_the_fast_path_answers_the_responder_answers_with_the_same_bytes(
    data: st.DataObject, name: tuple[str, str], place: int, ipv6: bool
) -> None:
    server = SERVERS[name]
    half = len(server.endpoints) // 2
    at = place % half + (half if ipv6 else 0)
    fast = FastPath(server, 320)
    # What the first batch leaves remembered may not change the answers to the second.
    for _ in range(2):
        sent = data.draw(st.lists(st.tuples(datagrams(), sources6 if ipv6 else sources4), max_size=12))
        compare(server, at, sent, *answered(fast, at, batch_of(sent)))


def compare(
    server: Responder,
    at: int,
    sent: list[tuple[bytes, TransportAddress]],
    outcome: Outcome,
    replies: list[tuple[bytes, int, TransportAddress]],
) -> None:
    expected = [server.respond(datagram, at, source) for datagram, source in sent]
    slow = set(outcome.slow.tolist())
    wanted = [(e.data, e.at, e.to) for row, e in enumerate(expected) if row not in slow and isinstance(e, Answer)]
    assert sorted(replies) == sorted(wanted)
    assert all(isinstance(e, Drop) or not e.guarded for row, e in enumerate(expected) if row not in slow)
    drops = [e.reason for row, e in enumerate(expected) if row not in slow and isinstance(e, Drop)]
    assert sorted(r.value for r in drops) == sorted(r.value for r, count in outcome.drops for _ in range(count))
    assert outcome.answered == len(replies)
    assert outcome.bytes_out == sum(len(r[0]) for r in replies)


def plain(
    count: int, *attributes: tuple[int, bytes], fingerprint: bool = False
) -> list[tuple[bytes, TransportAddress]]:
    sent = []
    for i in range(count):
        data = encode(BINDING, MessageClass.REQUEST, i.to_bytes(12, "big"), attributes)
        sent.append(
            (add_fingerprint(data) if fingerprint else data, TransportAddress(f"10.0.{i >> 8}.{i & 255}", 5000))
        )
    return sent


@pytest.mark.parametrize("fingerprint", [False, True])
@pytest.mark.parametrize(
    "attributes",
    [
        (),
        ((T.SOFTWARE, b"agent"),),
        ((T.PRIORITY, bytes(4)), (T.ICE_CONTROLLED, bytes(8)), (T.SOFTWARE, b"abc")),
        ((T.CHANGE_REQUEST, bytes([0, 0, 0, 6])),),
    ],
)
def test_plain_requests_never_leave_the_vector_path(
    attributes: tuple[tuple[int, bytes], ...], fingerprint: bool
) -> None:
    sent = plain(300, *attributes, fingerprint=fingerprint)
    outcome, replies = answered(FastPath(SERVERS["pair", "default"], 320), 0, batch_of(sent))
    assert len(outcome.slow) == 0
    assert len(replies) == 300


def test_a_flood_of_wrong_fingerprints_is_dropped_without_the_responder() -> None:
    sent = [(data[:-1] + bytes([data[-1] ^ 1]), source) for data, source in plain(100, fingerprint=True)]
    outcome, replies = answered(FastPath(SERVERS["pair", "default"], 320), 0, batch_of(sent))
    assert (len(outcome.slow), replies) == (0, [])
    assert outcome.drops == [(DropReason.BAD_FINGERPRINT, 100)]


def test_shapes_that_were_seen_are_answered_alike_and_wrong_fingerprints_among_them_dropped() -> None:
    server = SERVERS["pair", "default"]
    fast = FastPath(server, 320)
    for attributes in ((), ((T.SOFTWARE, b"agent"),), ((T.CHANGE_REQUEST, bytes([0, 0, 0, 4])),)):
        sent = plain(20, *attributes, fingerprint=True) + plain(5, *attributes)
        for _ in range(2):
            compare(server, 0, sent, *answered(fast, 0, batch_of(sent)))
        broken = [(data[:-1] + bytes([data[-1] ^ 1]), source) for data, source in sent[:3]]
        outcome, replies = answered(fast, 0, batch_of(broken + sent[3:]))
        assert (len(replies), outcome.drops) == (22, [(DropReason.BAD_FINGERPRINT, 3)])


@pytest.mark.parametrize("fingerprint", [False, True])
def test_a_batch_of_one_shape_is_answered_as_the_responder_does(fingerprint: bool) -> None:
    server = SERVERS["pair", "default"]
    fast = FastPath(server, 320)
    for attributes in (((T.SOFTWARE, b"agent"),), ((T.CHANGE_REQUEST, bytes([0, 0, 0, 2])),)):
        sent = plain(30, *attributes, fingerprint=fingerprint)
        for _ in range(2):
            compare(server, 0, sent, *answered(fast, 0, batch_of(sent)))
        broken = [(data[:-1] + bytes([data[-1] ^ 1]), source) for data, source in sent[10:12]]
        mixed = sent[:10] + broken + sent[12:]
        compare(server, 0, mixed, *answered(fast, 0, batch_of(mixed)))


def test_shapes_are_forgotten_before_they_grow_without_bound() -> None:
    fast = FastPath(SERVERS["pair", "default"], 320)
    for number in range(700):
        outcome, _ = answered(fast, 0, batch_of(plain(1, (T.SOFTWARE, b"agent %d" % number))))
        assert outcome.answered == 1
    assert len(fast._shapes[0]) <= 4


def test_truncated_datagrams_are_left_to_be_counted() -> None:
    batch = batch_of(plain(3, (T.SOFTWARE, b"agent")))
    batch.truncated[1] = True
    outcome, replies = answered(FastPath(SERVERS["pair", "default"], 320), 0, batch)
    assert outcome.slow.tolist() == [1]
    assert len(replies) == 2


def test_rows_that_were_not_admitted_are_not_touched() -> None:
    batch = batch_of(plain(4))
    out = Batch(4, 320)
    outcome = FastPath(SERVERS["pair", "default"], 320).answer(0, batch, out, np.array([1, 3]))
    assert outcome.answered == 2
    assert [out.peer_address(slot).host for slot in range(2)] == ["10.0.0.1", "10.0.0.3"]


def test_replies_too_long_for_a_slot_are_left_to_the_responder(full_set: tuple[Endpoint, ...]) -> None:
    fast = FastPath(Responder(full_set, Policy(software="x" * 400)), 320)
    outcome, replies = answered(fast, 0, batch_of(plain(5)))
    assert replies == []
    assert outcome.slow.tolist() == [0, 1, 2, 3, 4]
    assert len(outcome.rows) == 0


def test_a_reply_batch_must_hold_all_rows() -> None:
    with pytest.raises(ValueError, match="smaller"):
        FastPath(SERVERS["pair", "default"], 320).answer(0, batch_of(plain(4)), Batch(3, 320))


@given(st.integers(0, 200), st.integers(0, 6), st.randoms(use_true_random=False))
def test_crc_of_rows_is_zlibs(length: int, count: int, random: object) -> None:
    rows = np.random.default_rng(length * 7 + count).integers(0, 256, (count, length), np.uint8)
    assert crc32_rows(rows).tolist() == [zlib.crc32(row.tobytes()) for row in rows]
