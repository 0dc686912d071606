"""NAT-PMP and PCP messages, and what router and STUN server say together."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stun.attributes import MalformedMessage
from stun.gateway import Cascade, GatewayRefused, GatewayReport, nat_pmp_address, pcp_address, pcp_map

NONCE = bytes(range(12))
MAPPED = bytes(10) + b"\xff\xff"


def pcp_response(result: int = 0, nonce: bytes = NONCE, host: bytes = b"\xc6\x33\x64\x07") -> bytes:
    header = struct.pack("!BBBBII12x", 2, 0x81, 0, result, 30, 1000)
    return header + nonce + struct.pack("!B3xHH", 17, 5000, 40000) + MAPPED + host


def test_nat_pmp_names_the_external_address() -> None:
    assert nat_pmp_address(bytes.fromhex("00800000000003e8c6336407")) == "198.51.100.7"


@pytest.mark.parametrize("data", [b"", b"\0\x80\0", bytes(12), b"\0\x81" + bytes(10), b"\0\x80\0\0" + bytes(4)])
def test_what_is_no_nat_pmp_response_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        nat_pmp_address(data)


def test_nat_pmp_refusals_are_told_in_words() -> None:
    with pytest.raises(GatewayRefused, match="not authorized"):
        nat_pmp_address(b"\0\x80\0\2" + bytes(4))
    with pytest.raises(GatewayRefused, match="result 99"):
        nat_pmp_address(b"\0\x80\0\x63" + bytes(4))


def test_pcp_map_request_is_that_of_the_rfc() -> None:
    request = pcp_map("10.0.0.5", NONCE, 5000, 30)
    assert len(request) == 60
    assert request[:8] == bytes.fromhex("020100000000001e")
    assert request[8:24] == MAPPED + bytes([10, 0, 0, 5])
    assert request[24:36] == NONCE
    assert request[36:44] == bytes.fromhex("1100000013880000")
    assert request[44:] == MAPPED + bytes(4)
    assert pcp_map("2001:db8::5", NONCE, 5000, 0)[44:] == bytes(16)


def test_pcp_names_the_external_address() -> None:
    assert pcp_address(pcp_response(), NONCE) == "198.51.100.7"


@pytest.mark.parametrize(
    "data", [b"", bytes(60), pcp_response()[:40], pcp_response(nonce=bytes(12)), b"\2\1" + pcp_response()[2:]]
)
def test_what_is_no_answer_to_our_pcp_request_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        pcp_address(data, NONCE)


def test_pcp_refusals_are_told_in_words() -> None:
    with pytest.raises(GatewayRefused, match="not authorized"):
        pcp_address(pcp_response(result=2), NONCE)
    with pytest.raises(GatewayRefused, match="unsupported version"):
        pcp_address(b"\0\x81\0\1" + bytes(4), NONCE)


@given(st.binary(max_size=80))
def test_any_bytes_are_an_address_malformed_or_a_refusal(data: bytes) -> None:
    for read in (nat_pmp_address, lambda d: pcp_address(d, NONCE)):
        try:
            assert read(data)
        except (MalformedMessage, GatewayRefused):
            continue


@pytest.mark.parametrize(
    ("external", "local", "mapped", "verdict"),
    [
        ("198.51.100.7", "10.0.0.5", "198.51.100.7", Cascade.SINGLE),
        ("100.64.3.2", "10.0.0.5", "198.51.100.7", Cascade.CARRIER_GRADE),
        ("192.168.1.2", "10.0.0.5", "198.51.100.7", Cascade.PRIVATE),
        ("203.0.113.9", "10.0.0.5", "198.51.100.7", Cascade.DIFFERENT),
        (None, "10.0.0.5", "198.51.100.7", Cascade.UNKNOWN),
        ("203.0.113.9", "10.0.0.5", None, Cascade.UNKNOWN),
        (None, "198.51.100.7", "198.51.100.7", Cascade.NONE),
    ],
)
def test_cascades_are_named(external: str | None, local: str, mapped: str | None, verdict: Cascade) -> None:
    assert GatewayReport("10.0.0.1", nat_pmp=external).cascade(local, mapped) is verdict


def test_any_protocol_may_give_the_external_address() -> None:
    assert GatewayReport("10.0.0.1", upnp="1.1.1.1", pcp="2.2.2.2").external == "1.1.1.1"
    assert GatewayReport("10.0.0.1", pcp="2.2.2.2").external == "2.2.2.2"
