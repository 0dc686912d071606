"""RFC 5769 and RFC 8489 vectors both ways, and the codec's properties."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nattrav.net.address import TransportAddress
from stun.attributes import (
    AttributeType,
    MalformedMessage,
    decode_address,
    decode_algorithms,
    decode_error,
    decode_types,
    decode_xor_address,
    encode_address,
    encode_algorithms,
    encode_error,
    encode_types,
    encode_xor_address,
)
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
    short_term_key,
    userhash,
)
from stun.message import BINDING, MessageClass, append, decode, encode, message_type, split_type

T = AttributeType
KEY = short_term_key("VOkJxbRl1RmTxUk/WvJxBt")
REQUEST = bytes.fromhex(
    "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff80290008932ff9b1"
    "51263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf"
)
REPLY_IPV4 = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643000800142b91f599"
    "fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96"
)
REPLY_IPV6 = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a1470113a9faa5d3f179bc25f4b5"
    "bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c"
)
LONG_TERM = bytes.fromhex(
    "000100602112a44278ad3433c6ad72c029da412e00060012e3839ee38388e383aae38383e382afe382b900000015001c662f2f3439396b39"
    "353464364f4c33346f4c394653547679363473410014000b6578616d706c652e6f72670000080014f67024656dd64a3e02b8e0712e85c9a2"
    "8ca89666"
)
SHA256 = bytes.fromhex(
    "000100902112a44278ad3433c6ad72c029da412e001e00204a3cf38fef6992bda952c6780417da0f24819415569e60b205c46e41407f1704"
    "001500296f624d61744a6f733241414143662f2f3439396b39353464364f4c33346f4c3946535476793634734100000000140"
    "00b6578616d706c652e6f726700001d000400020000001c0020b5c7bf005b6c52a21c51c5e892f81924136296cb927c43149309278cc6518e65"
)
USER, REALM, PASSWORD = "マトリックス", "example.org", "TheMatrIX"


def test_rfc5769_sample_request_reads_and_its_integrity_holds() -> None:
    message = decode(REQUEST)
    assert (message.method, message.message_class) == (BINDING, MessageClass.REQUEST)
    assert message.first(T.SOFTWARE) == b"STUN test client"
    assert message.first(T.USERNAME) == b"evtj:h6vY"
    assert message.first(T.PRIORITY) == bytes.fromhex("6e0001ff")
    assert integrity_holds(message, KEY)
    assert not integrity_holds(message, KEY + b"x")
    assert fingerprint_holds(message)


@pytest.mark.parametrize(
    ("data", "address"),
    [
        (REPLY_IPV4, TransportAddress("192.0.2.1", 32853)),
        (REPLY_IPV6, TransportAddress("2001:db8:1234:5678:11:2233:4455:6677", 32853)),
    ],
)
def test_rfc5769_sample_replies_give_the_mapped_address(data: bytes, address: TransportAddress) -> None:
    message = decode(data)
    assert message.message_class is MessageClass.SUCCESS
    xored = message.first(T.XOR_MAPPED_ADDRESS)
    assert xored is not None
    assert decode_xor_address(xored, message.transaction_id) == address
    assert encode_xor_address(address, message.transaction_id) == xored
    assert integrity_holds(message, KEY)
    assert fingerprint_holds(message)


@pytest.mark.parametrize("data", [REQUEST, REPLY_IPV4, REPLY_IPV6])
def test_rfc5769_samples_rebuild_byte_for_byte(data: bytes) -> None:
    message = decode(data)
    plain = [(a.type, a.value) for a in message.attributes[:-2]]
    built = encode(message.method, message.message_class, message.transaction_id, plain, pad=b" ")
    assert add_fingerprint(add_integrity(built, KEY)) == data


def test_rfc5769_long_term_request_reads_and_rebuilds() -> None:
    message = decode(LONG_TERM)
    key = long_term_key(USER, REALM, PASSWORD, PasswordAlgorithm.MD5)
    assert message.first(T.USERNAME) == USER.encode()
    assert integrity_holds(message, key)
    plain = [(a.type, a.value) for a in message.attributes[:-1]]
    assert add_integrity(encode(BINDING, MessageClass.REQUEST, message.transaction_id, plain), key) == LONG_TERM


def test_rfc8489_sha256_request_reads_and_rebuilds() -> None:
    message = decode(SHA256)
    key = long_term_key(USER, REALM, PASSWORD, PasswordAlgorithm.SHA256)
    assert message.first(T.USERHASH) == userhash(USER, REALM)
    assert integrity_sha256_holds(message, key)
    assert not integrity_sha256_holds(message, key[:-1])
    assert not integrity_holds(message, key)
    plain = [(a.type, a.value) for a in message.attributes[:-1]]
    assert add_integrity_sha256(encode(BINDING, MessageClass.REQUEST, message.transaction_id, plain), key) == SHA256


def test_long_term_key_is_the_digest_of_user_realm_and_password() -> None:
    assert long_term_key("user", "realm", "pass", PasswordAlgorithm.MD5).hex() == "8493fbc53ba582fb4c044c456bdc40eb"
    expected = hashlib.sha256(b"user:realm:pass").digest()
    assert long_term_key("user", "realm", "pass", PasswordAlgorithm.SHA256) == expected


def test_classic_integrity_pads_its_input_to_64_bytes() -> None:
    built = encode(BINDING, MessageClass.REQUEST, bytes(range(16)), [(T.USERNAME, b"user")])
    closed = add_classic_integrity(built, b"pass")
    assert closed[-20:].hex() == "7c81a22fc5fa4c2982e9aedafaae5be2c05ebc8c"
    assert closed[2:4] == b"\0\x20"
    assert classic_integrity_holds(decode(closed), b"pass")
    assert not classic_integrity_holds(decode(closed), b"word")


@pytest.mark.parametrize("data", [REQUEST, REPLY_IPV4, REPLY_IPV6])
def test_a_single_flipped_bit_breaks_the_fingerprint(data: bytes) -> None:
    for position in range(20, len(data) - 8):
        broken = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        try:
            message = decode(broken)
        except MalformedMessage:
            continue
        assert not message.find(T.FINGERPRINT) or not fingerprint_holds(message)


def test_types_interleave_method_and_class_as_the_rfc_draws() -> None:
    assert message_type(BINDING, MessageClass.REQUEST) == 0x0001
    assert message_type(BINDING, MessageClass.INDICATION) == 0x0011
    assert message_type(BINDING, MessageClass.SUCCESS) == 0x0101
    assert message_type(BINDING, MessageClass.ERROR) == 0x0111
    assert message_type(2, MessageClass.ERROR) == 0x0112


@given(st.integers(0, 0xFFF), st.sampled_from(MessageClass))
def test_types_split_as_they_were_joined(method: int, message_class: MessageClass) -> None:
    assert split_type(message_type(method, message_class)) == (method, message_class)


def test_H1_fewer_than_20_bytes_is_not_stun() -> None:
    with pytest.raises(MalformedMessage) as caught:
        decode(REQUEST[:19])
    assert not caught.value.stun


def test_H2_first_two_bits_set_is_not_stun() -> None:
    with pytest.raises(MalformedMessage) as caught:
        decode(b"\x40" + REQUEST[1:])
    assert not caught.value.stun


@pytest.mark.parametrize("length", [87, 89, 84, 92])
def test_H3_H4_a_length_that_does_not_fit_is_malformed(length: int) -> None:
    with pytest.raises(MalformedMessage) as caught:
        decode(REQUEST[:2] + length.to_bytes(2, "big") + REQUEST[4:])
    assert caught.value.stun


def test_H10_an_attribute_past_the_end_is_malformed() -> None:
    data = encode(BINDING, MessageClass.REQUEST, bytes(12), [(T.SOFTWARE, b"abcd")])
    with pytest.raises(MalformedMessage):
        decode(data[:22] + b"\0\x05" + data[24:])


attributes = st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=40)), max_size=8)


@given(
    st.integers(0, 0xFFF),
    st.sampled_from(MessageClass),
    st.one_of(
        st.binary(min_size=12, max_size=12),
        st.binary(min_size=16, max_size=16).filter(lambda b: b[:4] != b"\x21\x12\xa4\x42"),
    ),
    attributes,
)
def test_what_is_encoded_decodes_to_the_same(
    method: int, message_class: MessageClass, tid: bytes, entries: list[tuple[int, bytes]]
) -> None:
    data = encode(method, message_class, tid, entries)
    message = decode(data)
    assert (message.method, message.message_class, message.transaction_id) == (method, message_class, tid)
    assert [(a.type, a.value) for a in message.attributes] == entries
    assert message.classic == (len(tid) == 16)


@given(st.binary(max_size=120))
def test_any_bytes_decode_or_raise_malformed(data: bytes) -> None:
    try:
        message = decode(data)
    except MalformedMessage:
        return
    assert message.raw == data


addresses = st.builds(
    TransportAddress,
    st.one_of(st.ip_addresses(v=4).map(str), st.just("2001:db8::1"), st.just("fe80::1:2")),
    st.integers(0, 65535),
)


@given(addresses, st.binary(min_size=12, max_size=12))
def test_addresses_round_trip_plain_and_xored(address: TransportAddress, tid: bytes) -> None:
    assert decode_address(encode_address(address)) == address
    assert decode_xor_address(encode_xor_address(address, tid), tid) == address


@pytest.mark.parametrize("value", [b"", b"\0\1\0", b"\0\3\0\1abcd", b"\0\1\0\1abc", b"\0\2\0\1abcd"])
def test_addresses_of_wrong_shape_are_malformed(value: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_address(value)
    with pytest.raises(MalformedMessage):
        decode_xor_address(value, bytes(12))


def test_error_codes_round_trip_and_classic_reasons_are_space_padded() -> None:
    assert decode_error(encode_error(420)) == (420, "Unknown Attribute")
    assert len(encode_error(420)) == 4 + 17
    assert encode_error(420, classic=True) == encode_error(420) + b"   "
    assert decode_error(encode_error(420, classic=True)) == (420, "Unknown Attribute")


@pytest.mark.parametrize("value", [b"\0\0\4", b"\0\0\0\x14", b"\0\0\7\0", b"\0\0\4\x64"])
def test_error_codes_out_of_range_are_malformed(value: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_error(value)


def test_E3_a_classic_list_of_odd_length_repeats_its_last_entry() -> None:
    assert decode_types(encode_types([3], classic=True)) == (3, 3)
    assert decode_types(encode_types([3, 7], classic=True)) == (3, 7)
    assert decode_types(encode_types([3])) == (3,)


def test_password_algorithms_round_trip_and_parameters_are_skipped() -> None:
    assert decode_algorithms(encode_algorithms([2, 1])) == (2, 1)
    assert decode_algorithms(bytes.fromhex("00050003aabbcc0000020000")) == (5, 2)
    for broken in (b"", b"\0\1\0"):
        with pytest.raises(MalformedMessage):
            decode_algorithms(broken)


def test_a_message_cannot_grow_beyond_its_length_field() -> None:
    with pytest.raises(ValueError, match="65532"):
        encode(BINDING, MessageClass.REQUEST, bytes(12), [(T.SOFTWARE, bytes(40000))] * 2)
    with pytest.raises(ValueError, match="65532"):
        append(encode(BINDING, MessageClass.REQUEST, bytes(12), [(T.SOFTWARE, bytes(65000))]), T.SOFTWARE, bytes(600))
