"""Rules that no single part owns: what a server of any configuration keeps to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nattrav.config.stun import StunSection
from nattrav.net.address import TransportAddress, to_row
from stun.admission import Admission, Limits
from stun.attributes import AttributeType, decode_types
from stun.behavior import Endpoint
from stun.credentials import LongTerm
from stun.integrity import add_fingerprint, fingerprint_holds
from stun.message import BINDING, MessageClass, decode, encode
from stun.responder import Answer, Drop, DropReason, Policy, Responder, Transport

T = AttributeType
CLIENT = TransportAddress("192.0.2.1", 32853)
MODERN, CLASSIC = bytes(range(12)), bytes(range(16))
ROOT = Path(__file__).parents[2]


def request(*attributes: tuple[int, bytes], tid: bytes = MODERN) -> bytes:
    return encode(BINDING, MessageClass.REQUEST, tid, attributes)


def answer(server: Responder, data: bytes, at: int = 0) -> Answer:
    outcome = server.respond(data, at, CLIENT)
    assert isinstance(outcome, Answer)
    return outcome


def test_H5_without_cookie_a_request_is_classic_and_dropped_where_classic_is_off(
    full_set: tuple[Endpoint, ...],
) -> None:
    assert decode(answer(Responder(full_set), request(tid=CLASSIC)).data).classic
    outcome = Responder(full_set, Policy(classic="off")).respond(request(tid=CLASSIC), 0, CLIENT)
    assert isinstance(outcome, Drop)
    assert outcome.reason is DropReason.CLASSIC_REFUSED


@given(st.binary(min_size=12, max_size=12))
def test_H6_the_reply_has_the_transaction_id_of_its_request(tid: bytes) -> None:
    from stun.behavior import ServerAddress, lay_out

    server = Responder(lay_out([ServerAddress("198.51.100.1", alternate="198.51.100.2")], 3478, 3479))
    assert answer(server, request(tid=tid)).data[4:20] == request(tid=tid)[4:20]
    classic = b"\1\2\3\4" + tid
    assert answer(server, request(tid=classic)).data[4:20] == classic


def test_H8_a_response_is_never_answered_so_two_servers_cannot_keep_each_other_busy(server: Responder) -> None:
    for data in (answer(server, request()).data, answer(server, request((0x7FFF, b""))).data):
        outcome = server.respond(data, 0, CLIENT)
        assert isinstance(outcome, Drop)
        assert outcome.reason is DropReason.RESPONSE_SEEN


@given(st.binary(min_size=3, max_size=3))
def test_A2_padding_of_any_value_is_accepted(padding: bytes) -> None:
    from stun.behavior import ServerAddress, lay_out

    server = Responder(lay_out([ServerAddress("198.51.100.1")], 3478, 3479))
    data = request((T.SOFTWARE, b"agent"))
    assert answer(server, data[:-3] + padding).data == answer(server, data).data


@pytest.mark.parametrize(
    "attribute",
    [
        (T.CHANGE_REQUEST, b"\0\0\0\6"),
        (T.PADDING, bytes(8)),
        (T.RESPONSE_PORT, b"\x40\0\0\0"),
        (T.RESPONSE_ADDRESS, bytes.fromhex("00010bb8c0000201")),
    ],
)
@pytest.mark.parametrize("policy", [Policy(), Policy(minimal=True), Policy(response_port=False)])
def test_A7_what_changes_a_replys_way_or_size_is_honoured_or_refused_never_ignored(
    attribute: tuple[int, bytes], policy: Policy, single: tuple[Endpoint, ...], full_set: tuple[Endpoint, ...]
) -> None:
    for endpoints in (single, full_set):
        server = Responder(endpoints, policy)
        plain, got = answer(server, request()), answer(server, request(attribute))
        if got.code:
            assert got.code == 420
            assert decode_types(decode(got.data).first(T.UNKNOWN_ATTRIBUTES) or b"") == (attribute[0],)
        else:
            assert (got.at, got.to, len(got.data)) != (plain.at, plain.to, len(plain.data))


def test_B3_a_retransmission_gets_the_same_reply_and_nothing_is_remembered(server: Responder) -> None:
    assert answer(server, request()) == answer(server, request())


def test_B6_replies_name_their_software_only_where_it_is_switched_on(full_set: tuple[Endpoint, ...]) -> None:
    assert StunSection().software == ""
    assert decode(answer(Responder(full_set), request()).data).first(T.SOFTWARE) is None
    named = decode(answer(Responder(full_set, Policy(software="any")), request()).data)
    assert named.first(T.SOFTWARE) == b"any"


def test_B7_fingerprint_is_echoed_and_never_demanded(server: Responder) -> None:
    with_one, without = (decode(answer(server, data).data) for data in (add_fingerprint(request()), request()))
    assert fingerprint_holds(with_one)
    assert without.first(T.FINGERPRINT) is None


def test_B8_nothing_on_a_datagrams_way_can_write_a_log_line() -> None:
    for path in (ROOT / "stun").rglob("*.py"):
        assert not re.search(r"\b(structlog|logging|print)\b", path.read_text()), path


def test_C2_classic_change_requests_are_followed_as_modern_ones(server: Responder) -> None:
    for flags in (0, 2, 4, 6):
        change = (int(T.CHANGE_REQUEST), flags.to_bytes(4, "big"))
        for at in range(4):
            classic, modern = (answer(server, request(change, tid=tid), at) for tid in (CLASSIC, MODERN))
            assert (classic.code, classic.at, classic.to) == (0, modern.at, modern.to)


def test_E7_over_tls_and_tcp_classic_binding_is_not_known(server: Responder) -> None:
    for transport in (Transport.TCP, Transport.TLS):
        assert isinstance(server.respond(request(tid=CLASSIC), 0, CLIENT, transport), Drop)


def test_U9_the_nonce_offers_anonymity_only_where_names_may_come_hashed() -> None:
    bits = [
        LongTerm("example.org", {"alice": "secret"}, (b"key",), anonymity=anonymity).nonce(CLIENT, 1e9)[9:13]
        for anonymity in (True, False)
    ]
    assert bits == [b"AAAD", b"AAAB"]


def test_X2_over_the_limit_there_is_silence_and_no_penalty() -> None:
    admission = Admission(Limits(source_rate=10, source_burst=10), (11, 13))
    assert sum(admission.admit_one(CLIENT, 0.0) for _ in range(1000)) == 10
    assert sum(admission.admit_one(CLIENT, 1.0) for _ in range(1000)) == 10


def test_X3_the_default_limits_leave_discovery_its_room() -> None:
    assert Limits().source_rate >= 20
    admission = Admission(Limits(), (11, 13))
    # Ten new transactions a second, each sent three times, for ten seconds.
    assert all(admission.admit_one(CLIENT, number / 30) for number in range(300))


def test_X5_nobody_is_answered_at_an_address_that_nobody_can_have(server: Responder) -> None:
    for host in ("0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1"):
        source = TransportAddress(host, 5000)
        assert len(to_row(source)) == 32
        outcome = server.respond(request(), 0, source)
        assert isinstance(outcome, Drop)
        assert outcome.reason is DropReason.BAD_SOURCE
