"""SIP URIs: the grammar and the comparison of RFC 3261 §19.1."""

from __future__ import annotations

import pytest

from nattrav.sip.errors import MalformedMessage, UnsupportedScheme
from nattrav.sip.name_addr import NameAddr
from nattrav.sip.uri import SipUri, TelUri, parse_uri
from nattrav.sip.via import Via

# The pairs of RFC 3261 §19.1.4.
EQUAL = [
    ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
    ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
    ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
    (
        "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
        "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
    ),
    (
        "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
        "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
    ),
    ("sip:a@[2001:DB8::1]", "sip:a@[2001:db8:0::1]"),
    ("SIP:a@h", "sip:a@h"),
]
DIFFERENT = [
    ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
    ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
    ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
    ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
    ("sip:a@h", "sips:a@h"),
    ("sip:a@h", "sip:h"),
    ("sip:a@h;user=phone", "sip:a@h"),
    ("sip:a@h;maddr=1.2.3.4", "sip:a@h"),
    ("sip:a:x@h", "sip:a:y@h"),
    ("sip:%00@h", "sip:%00%00@h"),
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_equal_uris_are_equal_and_hash_alike(one: str, other: str) -> None:
    assert SipUri.parse(one) == SipUri.parse(other)
    assert SipUri.parse(other) == SipUri.parse(one)
    assert hash(SipUri.parse(one)) == hash(SipUri.parse(other))


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different_uris_differ(one: str, other: str) -> None:
    assert SipUri.parse(one) != SipUri.parse(other)
    assert SipUri.parse(other) != SipUri.parse(one)


def test_the_parts_of_a_uri_are_found() -> None:
    uri = SipUri.parse("sips:alice:secret@[2001:db8::1]:5062;transport=TCP;lr?subject=x&a=b")
    assert (uri.scheme, uri.user, uri.password, uri.host, uri.port) == ("sips", "alice", "secret", "2001:db8::1", 5062)
    assert (uri.transport, uri.loose, uri.secure, uri.numeric) == ("tcp", True, True, True)
    assert uri.headers == "subject=x&a=b"
    assert uri.hostport == "[2001:db8::1]:5062"


@pytest.mark.parametrize(
    "text",
    ["", "sip:", "sip:@h", "sip:a@", "sip:a@h:x", "sip:a b@h", "sip:a@h;", "sip:a@h;;x", "sip:2001:db8::1", "sip:[::1"]
    + ["sip:[1.2.3.4]", "sip:a@b@c", "sip:a@h:65536", "sip:a@-h", "sip:a@h?", "no colon"],
)
def test_what_is_no_sip_uri_is_malformed(text: str) -> None:
    with pytest.raises(MalformedMessage):
        SipUri.parse(text)


def test_other_schemes_are_unsupported_and_tel_is_read() -> None:
    with pytest.raises(UnsupportedScheme) as caught:
        parse_uri("mailto:a@h")
    assert (caught.value.scheme, caught.value.status) == ("mailto", 416)
    tel = parse_uri("tel:+1-(201).555-0123;phone-context=x;ext")
    assert isinstance(tel, TelUri)
    assert (tel.number, tel.params) == ("+12015550123", {"phone-context": "x", "ext": None})
    with pytest.raises(MalformedMessage):
        parse_uri("tel:nobody")


def test_copies_change_what_is_asked_for_and_nothing_else() -> None:
    uri = SipUri.parse("sip:a@h:5070;x=y;transport=tcp?q=r")
    assert str(uri.without("transport")) == "sip:a@h:5070;x=y?q=r"
    assert str(uri.with_param("lr")) == "sip:a@h:5070;x=y;transport=tcp;lr?q=r"
    assert str(uri.replace(host="2001:db8::1")) == "sip:a@[2001:db8::1];x=y;transport=tcp?q=r"
    assert str(uri.replace(user="b", port=1)) == "sip:b@h:1;x=y;transport=tcp?q=r"
    assert str(uri) == "sip:a@h:5070;x=y;transport=tcp?q=r"


def test_the_address_of_record_has_no_parameters_and_no_escapes_that_say_nothing() -> None:
    assert SipUri.parse("sip:%61lice@Example.COM;transport=tcp?x=y").address_of_record == "sip:alice@example.com"
    assert SipUri.parse("sip:a%40b@h").address_of_record == "sip:a%40b@h"


@pytest.mark.parametrize(
    ("text", "display", "uri", "params"),
    [
        ('"A \\"B\\"" <sip:a@h;x>;tag=1', 'A "B"', "sip:a@h;x", {"tag": "1"}),
        ("Anne Bell<sip:a@h>", "Anne Bell", "sip:a@h", {}),
        ("sip:a@h;tag=1", "", "sip:a@h", {"tag": "1"}),
        ("<sip:a@h;tag=2>", "", "sip:a@h;tag=2", {}),
        ("J\xc3\xbcrgen <sip:a@h>", "Jürgen", "sip:a@h", {}),
        (
            '<sip:a@h>;+sip.instance="<urn:uuid:1>";q=0.1',
            "",
            "sip:a@h",
            {"+sip.instance": '"<urn:uuid:1>"', "q": "0.1"},
        ),
        ("<tel:+1>", "", "tel:+1", {}),
    ],
)
def test_name_addr_forms(text: str, display: str, uri: str, params: dict[str, str]) -> None:
    value = NameAddr.parse(text)
    assert (value.display_name, value.uri, value.params, str(value)) == (display, uri, params, text)


@pytest.mark.parametrize(
    "text",
    ["", "<>", "<sip:a@h", "sip:a@h>", '"open <sip:a@h>', "A, B <sip:a@h>", "< sip:a@h>", "<sip:a@h> x", "<sip:a@h>;;"]
    + ["<sip:a@h>;a=b=c d", "sip:a@h?x=y", "a@h", "<sip:a@h>;=x"],
)
def test_what_is_no_name_addr_is_malformed(text: str) -> None:
    with pytest.raises(MalformedMessage):
        NameAddr.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SIP/2.0/UDP",
        "SIP/2.0 UDP h",
        "SIP/2.0/UDP h;;",
        "SIP/2.0/UDP h:99999",
        "SIP/2.0/UDP [h]",
        "SIP/2.0/UDP h x",
    ],
)
def test_what_is_no_via_is_malformed(text: str) -> None:
    with pytest.raises(MalformedMessage):
        Via.parse(text)


def test_the_cookie_counts_in_any_case_and_not_alone() -> None:
    assert Via.parse("SIP/2.0/UDP h;branch=Z9HG4BKx").has_cookie
    assert not Via.parse("SIP/2.0/UDP h;branch=z9hG4bK").has_cookie
    assert not Via.parse("SIP/2.0/UDP h;branch=1").has_cookie
    assert not Via.parse("SIP/2.0/UDP h").has_cookie


def test_sent_by_has_the_default_port_of_its_transport() -> None:
    ports = {t: Via.parse(f"SIP/2.0/{t} h").sent_by[1] for t in ("UDP", "TCP", "TLS", "WS", "WSS", "NEW")}
    assert ports == {"UDP": 5060, "TCP": 5060, "TLS": 5061, "WS": 80, "WSS": 443, "NEW": 5060}
