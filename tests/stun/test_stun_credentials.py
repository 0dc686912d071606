"""Credentials on the server, rule by rule (RFC 8489 §9, RFC 3489 §8.1)."""

from __future__ import annotations

import pytest

from nattrav.net.address import TransportAddress
from stun.attributes import AttributeType, decode_address, encode_algorithms
from stun.behavior import Endpoint
from stun.credentials import LongTerm, ShortTerm
from stun.integrity import (
    PasswordAlgorithm,
    add_classic_integrity,
    add_fingerprint,
    add_integrity,
    add_integrity_sha256,
    classic_integrity_holds,
    fingerprint_holds,
    integrity_holds,
    integrity_sha256_holds,
    long_term_key,
    userhash,
)
from stun.message import BINDING, Message, MessageClass, decode, encode
from stun.responder import Answer, Drop, DropReason, Policy, Responder, Transport

T = AttributeType
CLIENT = TransportAddress("192.0.2.1", 32853)
NOW = 1_800_000_000.0
REALM = "example.org"
MD5_KEY = long_term_key("alice", REALM, "secret", PasswordAlgorithm.MD5)
SHA_KEY = long_term_key("alice", REALM, "secret", PasswordAlgorithm.SHA256)
OFFERED = encode_algorithms([2, 1])


@pytest.fixture
def short(full_set: tuple[Endpoint, ...]) -> Responder:
    return Responder(full_set, authenticator=ShortTerm({"alice": "secret"}))


@pytest.fixture
def long_term() -> LongTerm:
    return LongTerm(REALM, {"alice": "secret"}, (b"new", b"old"))


@pytest.fixture
def long(full_set: tuple[Endpoint, ...], long_term: LongTerm) -> Responder:
    return Responder(full_set, authenticator=long_term)


def request(*attributes: tuple[int, bytes], tid: bytes = bytes(12)) -> bytes:
    return encode(BINDING, MessageClass.REQUEST, tid, attributes)


def ask(server: Responder, data: bytes, wall: float = NOW, source: TransportAddress = CLIENT) -> tuple[int, Message]:
    outcome = server.respond(data, 0, source, wall=wall)
    assert isinstance(outcome, Answer)
    return outcome.code, decode(outcome.data)


def bare(message: Message) -> bool:
    return not any(message.find(t) for t in (T.MESSAGE_INTEGRITY, T.MESSAGE_INTEGRITY_SHA256, T.USERNAME))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (request(), 400),
        (request((T.USERNAME, b"alice")), 400),
        (add_integrity(request(), b"secret"), 400),
        (add_integrity(request((T.USERNAME, b"bob")), b"secret"), 401),
        (add_integrity(request((T.USERNAME, b"alice")), b"wrong"), 401),
        (add_integrity_sha256(request((T.USERNAME, b"alice")), b"wrong"), 401),
    ],
)
def test_U2_U4_short_term_failures_have_their_codes_and_prove_nothing(short: Responder, data: bytes, code: int) -> None:
    found, message = ask(short, data)
    assert found == code
    assert bare(message)


def test_U2_U3_the_reply_proves_itself_the_way_the_request_did(short: Responder) -> None:
    code, message = ask(short, add_fingerprint(add_integrity(request((T.USERNAME, b"alice")), b"secret")))
    assert code == 0
    assert integrity_holds(message, b"secret")
    assert fingerprint_holds(message)
    assert not message.find(T.MESSAGE_INTEGRITY_SHA256)
    code, message = ask(short, add_integrity_sha256(request((T.USERNAME, b"alice")), b"secret"))
    assert code == 0
    assert integrity_sha256_holds(message, b"secret")
    assert not message.find(T.MESSAGE_INTEGRITY)


def test_U3_later_errors_are_proven_too(short: Responder) -> None:
    code, message = ask(short, add_integrity(request((T.USERNAME, b"alice"), (0x7FFF, b"")), b"secret"))
    assert code == 420
    assert integrity_holds(message, b"secret")


def test_U2_indications_are_dropped(short: Responder) -> None:
    data = encode(BINDING, MessageClass.INDICATION, bytes(12))
    outcome = short.respond(data, 0, CLIENT, wall=NOW)
    assert isinstance(outcome, Drop)
    assert outcome.reason is DropReason.INDICATION


def challenged(message: Message) -> bytes:
    nonce = message.first(T.NONCE)
    assert nonce is not None
    assert message.first(T.REALM) == REALM.encode()
    assert message.first(T.PASSWORD_ALGORITHMS) == OFFERED
    assert bare(message)
    return nonce


def test_U5_U6_long_term_with_sha256_and_userhash(long: Responder) -> None:
    code, message = ask(long, request())
    assert code == 401
    nonce = challenged(message)
    for who in ((T.USERNAME, b"alice"), (T.USERHASH, userhash("alice", REALM))):
        algorithms = ((T.PASSWORD_ALGORITHM, encode_algorithms([2])), (T.PASSWORD_ALGORITHMS, OFFERED))
        data = request(who, (T.REALM, REALM.encode()), (T.NONCE, nonce), *algorithms)
        code, message = ask(long, add_integrity_sha256(data, SHA_KEY))
        assert code == 0
        assert integrity_sha256_holds(message, SHA_KEY)
        assert not any(message.find(t) for t in (T.REALM, T.NONCE, T.USERNAME))


def test_U5_a_client_without_algorithms_falls_back_to_md5(long: Responder) -> None:
    nonce = challenged(ask(long, request())[1])
    data = request((T.USERNAME, b"alice"), (T.REALM, REALM.encode()), (T.NONCE, nonce))
    code, message = ask(long, add_integrity(data, MD5_KEY))
    assert code == 0
    assert integrity_holds(message, MD5_KEY)


def test_U5_order_of_failures(long: Responder, long_term: LongTerm) -> None:
    nonce, realm = long_term.nonce(CLIENT, NOW), (T.REALM, REALM.encode())
    user = (T.USERNAME, b"alice")
    assert ask(long, add_integrity(request(user, realm), MD5_KEY))[0] == 400
    assert ask(long, add_integrity(request(user, (T.NONCE, nonce)), MD5_KEY))[0] == 400
    assert ask(long, add_integrity(request(realm, (T.NONCE, nonce)), MD5_KEY))[0] == 400
    stranger = request((T.USERNAME, b"bob"), realm, (T.NONCE, nonce))
    code, message = ask(long, add_integrity(stranger, MD5_KEY))
    assert code == 401
    challenged(message)
    code, message = ask(long, add_integrity(request(user, realm, (T.NONCE, nonce)), b"wrong"))
    assert code == 401
    challenged(message)
    elsewhere = request(user, (T.REALM, b"elsewhere"), (T.NONCE, nonce))
    assert ask(long, add_integrity(elsewhere, MD5_KEY))[0] == 401


@pytest.mark.parametrize(
    "algorithms",
    [
        ((T.PASSWORD_ALGORITHM, encode_algorithms([2])),),
        ((T.PASSWORD_ALGORITHMS, OFFERED),),
        ((T.PASSWORD_ALGORITHM, encode_algorithms([1])), (T.PASSWORD_ALGORITHMS, encode_algorithms([1]))),
        ((T.PASSWORD_ALGORITHM, encode_algorithms([9])), (T.PASSWORD_ALGORITHMS, OFFERED)),
        ((T.PASSWORD_ALGORITHM, b"\0"), (T.PASSWORD_ALGORITHMS, OFFERED)),
    ],
)
def test_U5_a_bid_down_is_a_bad_request(
    long: Responder, long_term: LongTerm, algorithms: tuple[tuple[int, bytes], ...]
) -> None:
    nonce = long_term.nonce(CLIENT, NOW)
    data = request((T.USERNAME, b"alice"), (T.REALM, REALM.encode()), (T.NONCE, nonce), *algorithms)
    assert ask(long, add_integrity_sha256(data, SHA_KEY))[0] == 400


def test_U5_U8_a_stale_nonce_gets_a_fresh_one(long: Responder, long_term: LongTerm) -> None:
    nonce = long_term.nonce(CLIENT, NOW)
    data = add_integrity(request((T.USERNAME, b"alice"), (T.REALM, REALM.encode()), (T.NONCE, nonce)), MD5_KEY)
    assert ask(long, data, NOW + 599)[0] == 0
    code, message = ask(long, data, NOW + 601)
    assert code == 438
    assert challenged(message) != nonce
    assert ask(long, data, source=TransportAddress("192.0.2.1", 32854))[0] == 438


def test_U7_the_nonce_says_its_features_least_significant_bit_first(long_term: LongTerm) -> None:
    nonce = long_term.nonce(CLIENT, NOW)
    assert nonce.startswith(b"obMatJos2AAAD")
    assert len(nonce) < 128
    assert not set(b'"\\') & set(nonce)
    without = LongTerm(REALM, {"alice": "secret"}, (b"new",), anonymity=False)
    assert without.nonce(CLIENT, NOW).startswith(b"obMatJos2AAAB")


def test_U8_what_signs_a_nonce_changes_by_the_hour_and_a_fresh_nonce_outlives_the_change(long: Responder) -> None:
    hour = 3600.0 * 500_000
    first, second = (LongTerm(REALM, {}, (b"new",)).nonce(CLIENT, at) for at in (hour - 1, hour))
    assert first[-16:] != second[-16:]
    data = request((T.USERNAME, b"alice"), (T.REALM, REALM.encode()), (T.NONCE, first))
    answer = long.respond(add_integrity(data, MD5_KEY), 0, CLIENT, Transport.UDP, wall=hour + 5)
    assert isinstance(answer, Answer)
    assert answer.code == 0


def test_U8_nonces_survive_the_rotation_of_the_secret(full_set: tuple[Endpoint, ...], long: Responder) -> None:
    nonce = LongTerm(REALM, {}, (b"old",)).nonce(CLIENT, NOW)
    data = request((T.USERNAME, b"alice"), (T.REALM, REALM.encode()), (T.NONCE, nonce))
    assert ask(long, add_integrity(data, MD5_KEY))[0] == 0
    forged = request((T.USERNAME, b"alice"), (T.REALM, REALM.encode()), (T.NONCE, nonce[:-1] + b"!"))
    assert ask(long, add_integrity(forged, MD5_KEY))[0] == 438


def classic(*attributes: tuple[int, bytes], key: bytes | None = None) -> bytes:
    data = request(*attributes, tid=bytes(range(16)))
    return data if key is None else add_classic_integrity(data, key)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (classic(), 401),
        (classic(key=b"secret"), 432),
        (classic((T.USERNAME, b"bobb"), key=b"secret"), 430),
        (classic((T.USERNAME, b"alice   "), key=b"wrong"), 431),
    ],
)
def test_U10_classic_failures_have_their_codes(short: Responder, long: Responder, data: bytes, code: int) -> None:
    for server in (short, long):
        assert ask(server, data)[0] == code


def test_U10_classic_replies_are_proven_in_classic_terms(short: Responder) -> None:
    code, message = ask(short, classic((T.USERNAME, b"alice   "), key=b"secret"))
    assert code == 0
    assert classic_integrity_holds(message, b"secret")


def test_E8_authenticated_clients_may_be_sent_elsewhere(full_set: tuple[Endpoint, ...]) -> None:
    second, sixth = TransportAddress("203.0.113.5", 3478), TransportAddress("2001:db8::5", 3478)
    policy = Policy(alternate_servers=(sixth, second), alternate_domain="stun2.example.org")
    server = Responder(full_set, policy, ShortTerm({"alice": "secret"}))
    code, message = ask(server, add_integrity(request((T.USERNAME, b"alice")), b"secret"))
    assert code == 300
    assert integrity_holds(message, b"secret")
    named = [decode_address(a.value) for a in message.attributes if a.type == T.ALTERNATE_SERVER]
    assert named == [second, sixth]
    assert not message.find(T.ALTERNATE_DOMAIN)
    discovery = add_integrity(request((T.USERNAME, b"alice"), (T.CHANGE_REQUEST, bytes(4))), b"secret")
    assert ask(server, discovery)[0] == 0
    secured = server.respond(
        add_integrity_sha256(request((T.USERNAME, b"alice")), b"secret"), 0, CLIENT, Transport.TLS, wall=NOW
    )
    assert isinstance(secured, Answer)
    assert decode(secured.data).first(T.ALTERNATE_DOMAIN) == b"stun2.example.org"
