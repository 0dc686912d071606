"""The server's rules one by one, by their names in RFC 8489, 5780 and 3489."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nattrav.net.address import TransportAddress
from stun.attributes import (
    AttributeType,
    decode_address,
    decode_error,
    decode_types,
    decode_xor_address,
    encode_address,
)
from stun.behavior import Endpoint, ServerAddress, lay_out
from stun.integrity import add_fingerprint, fingerprint_holds
from stun.message import BINDING, SHARED_SECRET, Message, MessageClass, decode, encode
from stun.responder import Answer, Drop, DropReason, Policy, Responder, Transport, answer_keepalive

T = AttributeType
TID = bytes(range(12))
CLASSIC_TID = bytes(range(16))
CLIENT = TransportAddress("192.0.2.1", 32853)


def request(*attributes: tuple[int, bytes], tid: bytes = TID, method: int = BINDING) -> bytes:
    return encode(method, MessageClass.REQUEST, tid, attributes)


def change(flags: int) -> tuple[int, bytes]:
    return (T.CHANGE_REQUEST, flags.to_bytes(4, "big"))


def answer(server: Responder, data: bytes, at: int = 0, **kwargs: Transport) -> tuple[Answer, Message]:
    outcome = server.respond(data, at, CLIENT, **kwargs)
    assert isinstance(outcome, Answer), outcome
    return outcome, decode(outcome.data)


def refusal(server: Responder, data: bytes, at: int = 0, **kwargs: Transport) -> tuple[int, tuple[int, ...]]:
    outcome, message = answer(server, data, at, **kwargs)
    assert message.message_class is MessageClass.ERROR
    assert outcome.guarded
    assert (outcome.at, outcome.to) == (at, CLIENT)
    error = message.first(T.ERROR_CODE)
    assert error is not None
    assert decode_error(error)[0] == outcome.code
    return outcome.code, decode_types(message.first(T.UNKNOWN_ATTRIBUTES) or b"")


def dropped(server: Responder, data: bytes, source: TransportAddress = CLIENT) -> DropReason:
    outcome = server.respond(data, 0, source)
    assert isinstance(outcome, Drop)
    return outcome.reason


def test_modern_request_gets_the_reply_of_the_project_vector(server: Responder) -> None:
    outcome, _ = answer(server, request())
    assert outcome.data.hex() == (
        "010100302112a442000102030405060708090a0b0001000800018055c0000201002000080001a147e112a643"
        "802b000800010d96c6336401802c000800010d97c6336402"
    )
    assert (outcome.at, outcome.to, outcome.code, outcome.guarded) == (0, CLIENT, 0, False)


def test_modern_request_with_fingerprint_gets_one_back(server: Responder) -> None:
    outcome, message = answer(server, add_fingerprint(request()))
    assert outcome.data[2:4] == b"\0\x38"
    assert outcome.data[-4:].hex() == "aa939cd5"
    assert fingerprint_holds(message)


def test_classic_request_gets_the_reply_of_the_project_vector(server: Responder) -> None:
    outcome, _ = answer(server, request(tid=CLASSIC_TID))
    assert outcome.data.hex() == (
        "01010024000102030405060708090a0b0c0d0e0f0001000800018055c00002010004000800010d96c63364010005000800010d97c6336402"
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (request()[:19], DropReason.NOT_STUN),
        (b"\x80" + request()[1:], DropReason.NOT_STUN),
        (request()[:2] + b"\0\2" + request()[4:], DropReason.MALFORMED),
        (request() + b"\0\0\0\0", DropReason.MALFORMED),
        (encode(3, MessageClass.REQUEST, TID), DropReason.UNSUPPORTED_METHOD),
        (encode(BINDING, MessageClass.SUCCESS, TID), DropReason.RESPONSE_SEEN),
        (encode(BINDING, MessageClass.ERROR, TID), DropReason.RESPONSE_SEEN),
        (encode(BINDING, MessageClass.INDICATION, TID), DropReason.INDICATION),
        (encode(BINDING, MessageClass.INDICATION, TID, [(0x7FFF, b"")]), DropReason.INDICATION),
        (encode(BINDING, MessageClass.INDICATION, CLASSIC_TID), DropReason.INDICATION),
        (encode(3, MessageClass.REQUEST, CLASSIC_TID), DropReason.UNSUPPORTED_METHOD),
    ],
)
def test_H1_to_H10_what_fails_a_basic_check_is_dropped_with_its_reason(
    server: Responder, data: bytes, reason: DropReason
) -> None:
    assert dropped(server, data) is reason


@pytest.mark.parametrize(
    "attribute",
    [
        (T.CHANGE_REQUEST, b"\0\0\0"),
        (T.CHANGE_REQUEST, bytes(8)),
        (T.RESPONSE_PORT, b"\1"),
        (T.RESPONSE_PORT, bytes(8)),
        (T.USERHASH, bytes(31)),
    ],
)
def test_H11_known_attribute_of_impossible_length_is_a_bad_request(
    server: Responder, attribute: tuple[int, bytes]
) -> None:
    assert refusal(server, request(attribute)) == (400, ())


def test_A1_padding_in_replies_is_zero(full_set: tuple[Endpoint, ...]) -> None:
    server = Responder(full_set, Policy(software="abcde"))
    outcome, _ = answer(server, request())
    assert outcome.data.endswith(b"\x80\x22\0\5abcde\0\0\0")


def test_A3_of_duplicates_the_first_counts(server: Responder) -> None:
    outcome, _ = answer(server, request(change(0), change(6)))
    assert outcome.at == 0


@pytest.mark.parametrize(
    "attributes",
    [
        ((0x8FFF, b"abc"),),
        ((T.SOFTWARE, b"agent"), (T.ICE_CONTROLLING, bytes(8)), (T.PRIORITY, bytes(4)), (T.USE_CANDIDATE, b"")),
        ((T.MAPPED_ADDRESS, encode_address(CLIENT)), (T.XOR_MAPPED_ADDRESS, bytes(8)), (T.REALM, b"x")),
        ((T.USERNAME, b"a:b"), (T.NONCE, b"n"), (T.MESSAGE_INTEGRITY, bytes(20))),
    ],
)
def test_A4_A5_U1_optional_and_misplaced_attributes_change_nothing(
    server: Responder, attributes: tuple[tuple[int, bytes], ...]
) -> None:
    assert answer(server, request(*attributes))[0].data == answer(server, request())[0].data


def test_A6_after_integrity_only_its_successors_are_read(server: Responder) -> None:
    outcome, _ = answer(server, request((T.MESSAGE_INTEGRITY, bytes(20)), (0x7FFF, b""), change(6)))
    assert (outcome.code, outcome.at) == (0, 0)


def test_A8_wrong_or_early_fingerprint_is_dropped(server: Responder) -> None:
    good = add_fingerprint(request())
    assert dropped(server, good[:-1] + bytes([good[-1] ^ 1])) is DropReason.BAD_FINGERPRINT
    early = encode(BINDING, MessageClass.REQUEST, TID, [(T.FINGERPRINT, good[-4:]), (T.SOFTWARE, b"late")])
    assert dropped(server, early) is DropReason.BAD_FINGERPRINT


def test_E1_errors_leave_from_where_the_request_arrived(server: Responder) -> None:
    assert refusal(server, request((0x7FFF, b""), change(6), (T.RESPONSE_PORT, b"\x40\0")), at=2)[0] == 420


def test_E2_420_lists_every_unknown_type_once_in_order(server: Responder) -> None:
    unknown = [(0x7FFF, b""), (0x0031, b"abcd"), (0x7FFF, b""), (0x8FFF, b""), (0x0030, b"")]
    assert refusal(server, request(*unknown)) == (420, (0x7FFF, 0x0031, 0x0030))


def test_E3_E6_classic_420_is_even_and_its_reason_aligned(server: Responder) -> None:
    outcome, message = answer(server, request((0x7FFF, b""), tid=CLASSIC_TID))
    assert outcome.code == 420
    assert decode_types(message.first(T.UNKNOWN_ATTRIBUTES) or b"") == (0x7FFF, 0x7FFF)
    assert all(len(a.value) % 4 == 0 for a in message.attributes)


def test_E4_E6_modern_errors_declare_unpadded_lengths(server: Responder) -> None:
    _, message = answer(server, request((0x7FFF, b"")))
    assert len(message.first(T.ERROR_CODE) or b"") == 4 + len("Unknown Attribute")
    assert len(message.first(T.UNKNOWN_ATTRIBUTES) or b"") == 2


def test_B1_ipv4_mapped_sources_are_unwrapped(server: Responder) -> None:
    source = TransportAddress.parse("[::ffff:192.0.2.1]:32853")
    outcome = server.respond(request(), 0, source)
    assert isinstance(outcome, Answer)
    value = decode(outcome.data).first(T.XOR_MAPPED_ADDRESS)
    assert value is not None
    assert decode_xor_address(value, TID) == CLIENT


def test_B5_replies_stay_small(server: Responder) -> None:
    ipv6 = Responder(lay_out([ServerAddress("2001:db8::1", alternate="2001:db8::2")], 3478, 3479))
    outcome = ipv6.respond(add_fingerprint(request()), 0, TransportAddress("2001:db8::99", 4000))
    assert isinstance(outcome, Answer)
    assert len(outcome.data) == 116 + 8
    assert len(answer(server, request())[0].data) == 68


def test_B9_attributes_of_a_reply_stand_in_the_documented_order(full_set: tuple[Endpoint, ...]) -> None:
    server = Responder(full_set, Policy(software="s"))
    _, message = answer(server, add_fingerprint(request((T.PADDING, bytes(8)))))
    assert [a.type for a in message.attributes] == [
        T.MAPPED_ADDRESS,
        T.XOR_MAPPED_ADDRESS,
        T.RESPONSE_ORIGIN,
        T.OTHER_ADDRESS,
        T.PADDING,
        T.SOFTWARE,
        T.FINGERPRINT,
    ]


def test_B10_minimal_replies_carry_one_address_and_refuse_discovery(full_set: tuple[Endpoint, ...]) -> None:
    server = Responder(full_set, Policy(minimal=True))
    outcome, message = answer(server, request())
    assert len(outcome.data) == 32
    assert [a.type for a in message.attributes] == [T.XOR_MAPPED_ADDRESS]
    discovery = request(change(0), (T.RESPONSE_PORT, b"\x40\0"), (T.PADDING, b""))
    assert refusal(server, discovery) == (420, (T.CHANGE_REQUEST, T.RESPONSE_PORT, T.PADDING))


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("flags", [0, 2, 4, 6, 0xFFFFFFFF])
@pytest.mark.parametrize("tid", [TID, CLASSIC_TID])
def test_D1_D2_D3_D4_the_change_table_holds_from_all_four_endpoints(
    server: Responder, full_set: tuple[Endpoint, ...], at: int, flags: int, tid: bytes
) -> None:
    outcome, message = answer(server, request(change(flags), tid=tid), at)
    arrived = full_set[at].local
    host = arrived.host if not flags & 4 else {"198.51.100.1": "198.51.100.2"}.get(arrived.host, "198.51.100.1")
    port = arrived.port if not flags & 2 else 3478 + 3479 - arrived.port
    assert full_set[outcome.at].local == (host, port)
    assert outcome.to == CLIENT
    origin = message.first(T.RESPONSE_ORIGIN if len(tid) == 12 else T.SOURCE_ADDRESS)
    other = message.first(T.OTHER_ADDRESS if len(tid) == 12 else T.CHANGED_ADDRESS)
    assert origin is not None
    assert other is not None
    assert decode_address(origin) == (host, port)
    opposite = full_set[at ^ 3].local
    assert decode_address(other) == opposite


@pytest.mark.parametrize("value", [b"\x40\x01", b"\x40\x01\0\0"])
def test_D2_D5_response_port_of_either_length_is_followed(server: Responder, value: bytes) -> None:
    outcome, _ = answer(server, request((T.RESPONSE_PORT, value), change(4)))
    assert outcome.to == TransportAddress(CLIENT.host, 0x4001)
    assert (outcome.at, outcome.guarded) == (2, True)


@pytest.mark.parametrize("port", [0, 19, 53, 123])
def test_D5_X6_response_port_never_names_a_reflector(server: Responder, port: int) -> None:
    assert refusal(server, request((T.RESPONSE_PORT, port.to_bytes(2, "big")))) == (400, ())


def test_D5_response_port_switched_off_is_refused_as_unknown(full_set: tuple[Endpoint, ...]) -> None:
    server = Responder(full_set, Policy(response_port=False))
    assert refusal(server, request((T.RESPONSE_PORT, b"\x40\1"))) == (420, (T.RESPONSE_PORT,))


def test_D6_D9_response_port_and_padding_work_with_one_address(lonely: Responder) -> None:
    assert answer(lonely, request((T.RESPONSE_PORT, b"\x40\1")))[0].to.port == 0x4001
    _, message = answer(lonely, request((T.PADDING, bytes(12))))
    assert message.first(T.PADDING) == bytes(12)
    assert message.find(T.RESPONSE_ORIGIN)
    assert not message.find(T.OTHER_ADDRESS)


@pytest.mark.parametrize(("asked", "given"), [(0, 0), (1, 4), (100, 100), (1500, 1500), (1640, 1500)])
def test_D7_padding_in_the_reply_never_exceeds_the_request(server: Responder, asked: int, given: int) -> None:
    _, message = answer(server, request((T.PADDING, b"x" * asked)))
    assert message.first(T.PADDING) == bytes(given)


def test_D8_unknown_attributes_come_before_bad_combinations(lonely: Responder) -> None:
    data = request(change(2), (0x7FFF, b""), (T.RESPONSE_PORT, b"\x40\0"), (T.PADDING, b""))
    assert refusal(lonely, data) == (420, (T.CHANGE_REQUEST, 0x7FFF))


def test_D2_response_port_with_padding_is_a_bad_request(server: Responder) -> None:
    assert refusal(server, request((T.RESPONSE_PORT, b"\x40\0"), (T.PADDING, bytes(4)))) == (400, ())


@pytest.mark.parametrize("flags", [2, 4, 6])
def test_D9_E5_change_request_without_a_pair_is_refused_by_name(lonely: Responder, flags: int) -> None:
    assert refusal(lonely, request(change(flags))) == (420, (T.CHANGE_REQUEST,))
    outcome, message = answer(lonely, request(change(flags), tid=CLASSIC_TID))
    assert outcome.code == 420
    assert decode_types(message.first(T.UNKNOWN_ATTRIBUTES) or b"") == (3, 3)


def test_D10_change_request_without_flags_is_answered_unless_strict(
    lonely: Responder, single: tuple[Endpoint, ...]
) -> None:
    strict = Responder(single, Policy(strict_change_request=True))
    for tid in (TID, CLASSIC_TID):
        assert answer(lonely, request(change(0), tid=tid))[0].code == 0
        assert answer(strict, request(change(0), tid=tid))[0].code == 420


@pytest.mark.parametrize(
    ("address", "ports", "complaint"),
    [
        (ServerAddress("198.51.100.1", alternate="198.51.100.1"), (3478, 3479), "own alternate"),
        (ServerAddress("198.51.100.1", alternate="2001:db8::1"), (3478, 3479), "families"),
        (ServerAddress("198.51.100.1", alternate="198.51.100.2"), (3478, 3478), "both 3478"),
        (
            ServerAddress("10.0.0.1", "198.51.100.1", alternate="10.0.0.2", alternate_advertised="198.51.100.1"),
            (3478, 3479),
            "both addresses are advertised",
        ),
        (ServerAddress("0.0.0.0", alternate="198.51.100.2"), (3478, 3479), "cannot be advertised"),
    ],
)
def test_D11_a_pair_that_cannot_work_is_refused_with_the_rule(
    address: ServerAddress, ports: tuple[int, int], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        lay_out([address], *ports)


def test_D12_behind_a_one_to_one_nat_the_advertised_pair_is_shown() -> None:
    pair = ServerAddress.parse("10.0.0.1!198.51.100.1", "10.0.0.2!198.51.100.2")
    server = Responder(lay_out([pair], 3478, 3479))
    assert server.endpoints[3].local == TransportAddress("10.0.0.2", 3479)
    plain = Responder(lay_out([ServerAddress("198.51.100.1", alternate="198.51.100.2")], 3478, 3479))
    assert answer(server, request())[0].data == answer(plain, request())[0].data


def test_D13_each_family_has_its_own_set() -> None:
    pairs = [
        ServerAddress("198.51.100.1", alternate="198.51.100.2"),
        ServerAddress("2001:db8::1", alternate="2001:db8::2"),
    ]
    server = Responder(lay_out(pairs, 3478, 3479))
    outcome = server.respond(request(change(6)), 4, TransportAddress("2001:db8::99", 4000))
    assert isinstance(outcome, Answer)
    assert server.endpoints[outcome.at].local == TransportAddress("2001:db8::2", 3479)
    other = decode(outcome.data).first(T.OTHER_ADDRESS)
    assert other is not None
    assert decode_address(other) == ("2001:db8::2", 3479)


@pytest.mark.parametrize("transport", [Transport.TCP, Transport.TLS])
def test_D14_streams_show_the_pair_but_change_nothing(server: Responder, transport: Transport) -> None:
    _, message = answer(server, request(), transport=transport)
    assert message.find(T.OTHER_ADDRESS)
    for attribute in (change(2), (T.RESPONSE_PORT, b"\x40\0"), (T.PADDING, bytes(4))):
        assert refusal(server, request(attribute), transport=transport) == (400, ())
    assert answer(server, request(change(0)), transport=transport)[0].code == 0


def test_C1_classic_replies_hold_nothing_a_classic_client_does_not_know(full_set: tuple[Endpoint, ...]) -> None:
    server = Responder(full_set, Policy(software="odd"))
    data = request((T.FINGERPRINT, bytes(4)), (T.SOFTWARE, b"x"), tid=CLASSIC_TID)
    _, message = answer(server, data)
    assert [a.type for a in message.attributes] == [T.MAPPED_ADDRESS, T.SOURCE_ADDRESS, T.CHANGED_ADDRESS]


def test_C3_classic_with_one_address_has_no_changed_address(lonely: Responder) -> None:
    _, message = answer(lonely, request(tid=CLASSIC_TID))
    assert [a.type for a in message.attributes] == [T.MAPPED_ADDRESS, T.SOURCE_ADDRESS]


def test_C4_response_address_is_refused_or_follows_to_the_same_ip_only(full_set: tuple[Endpoint, ...]) -> None:
    mine, foreign = TransportAddress(CLIENT.host, 5000), TransportAddress("203.0.113.9", 5000)
    default, same_ip = Responder(full_set), Responder(full_set, Policy(response_address="same_ip"))
    for server, target, code in ((default, mine, 420), (same_ip, foreign, 420), (same_ip, mine, 0)):
        data = request((T.RESPONSE_ADDRESS, encode_address(target)), tid=CLASSIC_TID)
        outcome, message = answer(server, data)
        assert outcome.code == code
        assert outcome.guarded
        assert outcome.to == (mine if code == 0 else CLIENT)
        reflected = message.first(T.REFLECTED_FROM)
        assert (reflected is not None) == (code == 0)
    assert refusal(same_ip, request((T.RESPONSE_ADDRESS, encode_address(mine)))) == (420, (T.RESPONSE_ADDRESS,))


def test_C4_malformed_response_address_is_a_bad_request(full_set: tuple[Endpoint, ...]) -> None:
    server = Responder(full_set, Policy(response_address="same_ip"))
    outcome, _ = answer(server, request((T.RESPONSE_ADDRESS, b"\0\1"), tid=CLASSIC_TID))
    assert outcome.code == 400


def test_C5_shared_secrets_need_tls(server: Responder) -> None:
    data = request(tid=CLASSIC_TID, method=SHARED_SECRET)
    for transport in (Transport.UDP, Transport.TCP):
        assert answer(server, data, transport=transport)[0].code == 433


def test_C6_classic_over_ipv6_is_silent(server: Responder) -> None:
    source = TransportAddress("2001:db8::99", 4000)
    assert dropped(server, request(tid=CLASSIC_TID), source) is DropReason.CLASSIC_REFUSED


def test_classic_can_be_plain_or_off(full_set: tuple[Endpoint, ...]) -> None:
    plain, off = Responder(full_set, Policy(classic="plain")), Responder(full_set, Policy(classic="off"))
    assert dropped(off, request(tid=CLASSIC_TID)) is DropReason.CLASSIC_REFUSED
    _, message = answer(plain, request(tid=CLASSIC_TID))
    assert not message.find(T.CHANGED_ADDRESS)
    assert answer(plain, request(change(2), tid=CLASSIC_TID))[0].code == 420


@pytest.mark.parametrize(
    "source",
    [
        TransportAddress("192.0.2.1", 0),
        TransportAddress("192.0.2.1", 53),
        TransportAddress("192.0.2.1", 123),
        TransportAddress("198.51.100.1", 3478),
        TransportAddress("198.51.100.2", 3479),
        TransportAddress("224.0.0.1", 4000),
        TransportAddress("255.255.255.255", 4000),
        TransportAddress("0.0.0.0", 4000),
        TransportAddress("ff02::1", 4000),
        TransportAddress("::", 4000),
    ],
)
def test_X4_X5_impossible_sources_and_reflectors_are_never_answered(
    server: Responder, source: TransportAddress
) -> None:
    assert dropped(server, request(), source) is DropReason.BAD_SOURCE


def test_S1_S2_a_keepalive_on_a_sip_port_gets_the_mapped_address_alone() -> None:
    reply = answer_keepalive(add_fingerprint(request()), CLIENT)
    assert reply is not None
    message = decode(reply)
    assert [a.type for a in message.attributes] == [T.XOR_MAPPED_ADDRESS, T.FINGERPRINT]
    assert fingerprint_holds(message)
    assert len(answer_keepalive(request(), CLIENT) or b"") == 32


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\r\n\r\n",
        b"OPTIONS sip:a@b SIP/2.0\r\n\r\n",
        request(tid=CLASSIC_TID),
        encode(BINDING, MessageClass.INDICATION, TID),
        request()[:-1],
    ],
)
def test_S1_C8_what_is_no_modern_request_is_left_to_sip(datagram: bytes) -> None:
    assert answer_keepalive(datagram, CLIENT) is None


@given(st.binary(max_size=200), st.booleans())
def test_any_datagram_is_answered_or_dropped(tail: bytes, framed: bool) -> None:
    server = Responder(lay_out([ServerAddress("198.51.100.1", alternate="198.51.100.2")], 3478, 3479))
    data = b"\0\1" + len(tail).to_bytes(2, "big") + b"\x21\x12\xa4\x42" + TID + tail if framed else tail
    assert isinstance(server.respond(data, 0, CLIENT), Answer | Drop)
