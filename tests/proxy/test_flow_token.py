"""Signed tokens that name the way back to a phone."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nattrav.net.address import TransportAddress
from nattrav.proxy.flow_token import FlowToken, ForgedToken, TokenKind, TokenSigner, looks_like_token

OLD, NEW = b"o" * 32, b"n" * 32

tokens = st.builds(
    FlowToken,
    kind=st.sampled_from(TokenKind),
    listener=st.integers(0, 0xFFFF),
    remote=st.builds(
        TransportAddress,
        st.ip_addresses().map(str).filter(lambda host: not host.startswith("::ffff:")),
        st.integers(0, 65535),
    ),
    serial=st.integers(0, 2**32 - 1),
    hours=st.integers(0, 2**24 - 1),
    outbound=st.booleans(),
    asymmetric=st.booleans(),
)
TOKEN = FlowToken(TokenKind.DIALOG, 0xBEEF, TransportAddress("198.51.100.7", 40001), serial=7, hours=499_000)


@given(tokens, st.booleans())
def test_what_was_written_is_read_back(token: FlowToken, base32: bool) -> None:
    text = TokenSigner([NEW], "nattrav").write(token, base32=base32)
    assert looks_like_token(text)
    assert text.replace("-", "").replace("_", "").isalnum()
    assert TokenSigner([NEW], "nattrav").read(text) == token


def test_an_ipv4_token_is_39_characters_and_an_ipv6_one_55() -> None:
    signer = TokenSigner([NEW], "nattrav")
    assert len(signer.write(TOKEN)) == 39
    six = FlowToken(TokenKind.EDGE, 1, TransportAddress("2001:db8::7", 5060))
    assert len(signer.write(six)) == 55


@given(st.integers(0, 28), st.integers(1, 255))
def test_a_token_with_one_changed_octet_is_forged(position: int, change: int) -> None:
    signer = TokenSigner([NEW], "nattrav")
    raw = bytearray(base64.urlsafe_b64decode(signer.write(TOKEN) + "="))
    raw[position] ^= change
    with pytest.raises(ForgedToken):
        signer.read(base64.urlsafe_b64encode(raw).decode().rstrip("="))


def test_a_replaced_key_still_verifies_what_it_signed() -> None:
    text = TokenSigner([OLD], "nattrav").write(TOKEN)
    assert TokenSigner([NEW, OLD], "nattrav").read(text) == TOKEN
    with pytest.raises(ForgedToken):
        TokenSigner([NEW], "nattrav").read(text)


def test_a_token_of_another_realm_is_forged() -> None:
    text = TokenSigner([NEW], "elsewhere").write(TOKEN)
    with pytest.raises(ForgedToken):
        TokenSigner([NEW], "nattrav").read(text)


@given(st.text(max_size=80))
def test_any_other_text_is_forged_and_nothing_worse(text: str) -> None:
    with pytest.raises(ForgedToken):
        TokenSigner([NEW], "nattrav").read(text)


def test_base32_survives_a_device_that_changes_letter_case() -> None:
    signer = TokenSigner([NEW], "nattrav")
    text = signer.write(TOKEN, base32=True)
    assert text == text.lower()
    assert signer.read(text.upper()) == TOKEN


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="16 octets"):
        TokenSigner([b"short"], "nattrav")
