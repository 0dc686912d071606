from __future__ import annotations

import pytest

from nattrav.net.address import TransportAddress
from nattrav.sip.alg_probe import AlgProbe
from nattrav.sip.message import Request, Response
from nattrav.sip.parser import parse_datagram_untrusted
from nattrav.sip.response import respond
from nattrav.sip.uri import SipUri

PROBE = AlgProbe(SipUri.parse("sip:sip.example.net"), "udp", TransportAddress("10.0.0.5", 40_000), "0123abcd")
OUTSIDE = TransportAddress("198.51.100.7", 31_020)


def answer(*, out: tuple[str, str] = ("", ""), back: tuple[str, str] = ("", "")) -> Response:
    """What comes back through a NAT that replaces text on the way out and on the way back."""
    request = parse_datagram_untrusted(PROBE.request().replace(out[0].encode(), out[1].encode()))
    assert isinstance(request, Request)
    request.stamp(OUTSIDE)
    response = parse_datagram_untrusted(respond(request, 200, to_tag="t").replace(back[0].encode(), back[1].encode()))
    assert isinstance(response, Response)
    return response


def altered(response: Response, mapped: str | None = OUTSIDE.host) -> list[str]:
    return [check.name for check in PROBE.compare(response, mapped) if check.altered]


def test_a_plain_nat_alters_nothing_that_is_repeated() -> None:
    assert altered(answer()) == []


@pytest.mark.parametrize(
    ("text", "other", "names"),
    [
        ("UDP 10.0.0.5:40000", "UDP 198.51.100.7:31020", ["Via sent-by"]),
        ("z9hG4bK0123abcd", "z9hG4bK0123abcd.alg", ["Via branch"]),
        (";probe=0123abcd", "", ["Via parameter"]),
        ("0123abcd@10.0.0.5", "0123abcd@198.51.100.7", ["Call-ID"]),
        ("<sip:probe@10.0.0.5:40000>;tag", "<sip:probe@198.51.100.7:31020>;tag", ["From"]),
    ],
)
def test_each_field_an_alg_rewrites_is_named(text: str, other: str, names: list[str]) -> None:
    assert altered(answer(out=(text, other))) == names


def test_an_alg_that_mends_the_response_betrays_itself_by_our_inside_address() -> None:
    mended = answer(back=("received=198.51.100.7", "received=10.0.0.5"))
    assert altered(mended) == ["Via received"]
    assert altered(mended, mapped=None) == []
    assert altered(mended, mapped="10.0.0.5") == []


def test_the_probe_is_a_request_a_server_takes() -> None:
    six = AlgProbe(PROBE.target, "udp", TransportAddress("2001:db8::5", 5060), "ff")
    for probe in (PROBE, six):
        request = parse_datagram_untrusted(probe.request())
        assert isinstance(request, Request)
        assert request.via.branch == probe.branch
        assert int(request.first("content-length") or 0) == len(request.body)
    assert b"IN IP6 2001:db8::5" in six.request()
