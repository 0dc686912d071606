from __future__ import annotations

import pytest

from nattrav.control.ng.codec_bencode import Encodable, decode, encode
from nattrav.control.ng.messages import Request, read, received_from, side_options
from relay.session import Learning, RtcpMux, SideOptions


def request(**keys: Encodable) -> Request:
    raw = decode(encode({name.replace("_", " "): value for name, value in keys.items()}))
    assert isinstance(raw, dict)
    return read("offer", raw)


def options(**keys: Encodable) -> SideOptions:
    return side_options(request(**keys), source=None)


def test_nothing_asked_leaves_the_relays_defaults() -> None:
    assert options() == SideOptions()


def test_every_flag_reaches_its_option() -> None:
    found = options(
        flags=[
            "strict source",
            "media-handover",
            "asymmetric",
            "port latching",
            "no-port-latching",
            "NAT-wait",
            "pierce NAT",
            "unidirectional",
            "SIP source address",
            "new branch",
            "provisional",
        ]
    )
    assert found == SideOptions(
        strict_source=True,
        media_handover=True,
        asymmetric=True,
        port_latching=True,
        no_port_latching=True,
        nat_wait=True,
        pierce_nat=True,
        unidirectional=True,
        sip_source_address=True,
        new_branch=True,
        provisional=True,
    )


def test_every_key_reaches_its_option() -> None:
    found = options(
        received_from=["IP6", "2001:DB8::1"],
        direction=["pub", "priv"],
        address_family="IP6",
        rtcp_mux=["demux", "accept"],
        endpoint_learning="delayed",
        TOS=184,
        label="caller",
        to_label="callee",
        metadata="x:y",
        delete_delay="30",
        supports=["load limit"],
        sip_message_type="sip_reply",
        sip_code="200",
    )
    assert found == SideOptions(
        learning=Learning.DELAYED,
        signalling_source="2001:db8::1",
        from_interface="pub",
        to_interface="priv",
        address_family=6,
        rtcp_mux=frozenset({RtcpMux.DEMUX, RtcpMux.ACCEPT}),
        tos=184,
        label="caller",
        to_label="callee",
        metadata="x:y",
        delete_delay=30.0,
        supports_load_limit=True,
        final_response=True,
    )


def test_lists_may_come_as_one_string() -> None:
    assert request(flags="strict source", replace="origin").policy.flags == {"strict-source"}
    assert options(rtcp_mux="require").rtcp_mux == {RtcpMux.REQUIRE}


def test_prefixed_flags_and_learning_words_are_spread() -> None:
    found = request(flags=["replace-origin", "rtcp-mux-demux", "endpoint-learning-off", "internal", "external"])
    assert found.policy.replace == {"origin"}
    assert found.policy.learning is Learning.OFF
    assert found.policy.direction == ("internal", "external")


def test_interfaces_have_single_valued_forms() -> None:
    assert options(from_interface="a", to_interface="b").to_interface == "b"
    assert options(interface="a").from_interface == "a"
    assert options(to_interface="b").from_interface is None


def test_unknown_words_are_named_and_otherwise_ignored() -> None:
    found = request(flags=["what ever"], replace=["the lot"], frobnicate="x", codec={"strip": ["a"]}).policy
    assert found.unknown == ("frobnicate", "codec", "what-ever", "the-lot")
    assert found.flags == frozenset()


def test_one_string_of_flags_fills_and_overrides_keys() -> None:
    found = request(
        rtpp_flags="trust-address replace-origin ICE=remove from-tag=z direction=a direction=b", flags=["fast"]
    )
    assert found.policy.flags == {"trust-address", "directional", "fast"}
    assert found.policy.replace == {"origin"}
    assert found.policy.ice == "remove"
    assert found.policy.direction == ("a", "b")
    assert found.from_tag == "z"


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ([b"IP4", b"192.0.2.1"], "192.0.2.1"),
        (b"192.0.2.1", "192.0.2.1"),
        ([b"IP6", b"2001:db8::1"], "2001:db8::1"),
        ([b"IP6", b"[2001:db8::1]"], "2001:db8::1"),
        ([], None),
        (b"nonsense", None),
        (5, None),
        (None, None),
    ],
)
def test_the_source_of_the_sip_message_is_read(value: bytes | list[bytes] | int | None, address: str | None) -> None:
    assert received_from(value) == address  # type: ignore[arg-type]


def test_an_sdp_with_ice_is_trusted() -> None:
    asked = request(flags=["SIP source address"])
    assert not side_options(asked, source=None, has_ice=True).sip_source_address


@pytest.mark.parametrize(
    ("kind", "code", "final"), [("sip_reply", 183, False), ("SIP response", 200, True), ("sip_request", 200, False)]
)
def test_only_a_final_response_is_final(kind: str, code: int, final: bool) -> None:
    assert options(sip_message_type=kind, sip_code=code).final_response is final


@pytest.mark.parametrize(("value", "tos"), [(184, 184), ("46", 46), (-1, -1), (256, None), ("x", None), ([], None)])
def test_tos_has_bounds(value: Encodable, tos: int | None) -> None:
    assert options(TOS=value).tos == tos


def test_strange_types_are_no_errors() -> None:
    found = request(call_id=5, from_tag=["x"], to_tag={}, flags=5, replace={"a": 1}, direction=[], TOS={}, sdp=3)
    assert found.call_id == "5"
    assert found.from_tag is None
    assert found.sdp is None
