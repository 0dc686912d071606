"""Digest: the RFCs' own examples, and nonces that prove themselves."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nattrav.sip.digest import (
    Algorithm,
    Credentials,
    NonceCounts,
    Nonces,
    NonceState,
    challenges,
    credentials_for,
    ha1,
)
from nattrav.sip.errors import MalformedMessage
from nattrav.sip.grammar import quote

NOW = 1_790_000_000.0
RFC7616 = (
    'Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", algorithm={algorithm}, '
    'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001, '
    'cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop=auth, response="{response}", '
    'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)


def parsed(value: str) -> Credentials:
    credentials = Credentials.parse(value)
    assert credentials is not None
    return credentials


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        (Algorithm.MD5, "8ca523f5e9506fed4657c9700eebdbec"),
        (Algorithm.SHA_256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_examples_of_rfc_7616_match(algorithm: Algorithm, response: str) -> None:
    credentials = parsed(RFC7616.format(algorithm=algorithm, response=response))
    secret = ha1(algorithm, "Mufasa", "http-auth@example.org", "Circle of Life")
    assert credentials.match(secret, "GET")
    assert not credentials.match(secret, "POST")
    assert not credentials.match(ha1(algorithm, "Mufasa", "http-auth@example.org", "circle of life"), "GET")


def test_the_example_of_rfc_2617_matches_and_md5_is_the_default() -> None:
    credentials = parsed(
        'Digest username="Mufasa", realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", '
        'uri="/dir/index.html", qop=auth, nc=00000001, cnonce="0a4f113b", response="6629fae49393a05397450978507c4ef1"'
    )
    assert credentials.match(ha1(Algorithm.MD5, "Mufasa", "testrealm@host.com", "Circle Of Life"), "GET")


@pytest.mark.parametrize("algorithm", list(Algorithm))
@pytest.mark.parametrize("qop", [None, "auth", "auth-int"])
def test_what_expected_makes_matches(algorithm: Algorithm, qop: str | None) -> None:
    counted = f', qop={qop}, nc=0000000A, cnonce="c"' if qop else ""
    head = f'Digest username="a\\"b", realm="r", nonce="n", uri="sip:r", algorithm={algorithm.lower()}{counted}'
    secret = ha1(algorithm, 'a"b', "r", "p")
    response = parsed(f'{head}, response=""').expected(secret, "REGISTER", b"body")
    credentials = parsed(f'{head}, response="{response.upper()}"')
    assert credentials.username == 'a"b'
    assert credentials.match(secret, "REGISTER", b"body")
    assert credentials.match(secret, "REGISTER") == (qop != "auth-int")


def test_other_schemes_and_algorithms_are_ignored() -> None:
    assert Credentials.parse("NoOneKnowsThisScheme opaque-data=here") is None
    assert Credentials.parse("Basic abcd") is None
    assert Credentials.parse('Digest username="a", algorithm=AKAv1-MD5') is None


@pytest.mark.parametrize(
    "value",
    [
        "Digest",
        "Digest username",
        'Digest username="a',
        'Digest username="a", username="b", realm="r", nonce="n", uri="u", response="r"',
        'Digest username="a", realm="r", nonce="n", uri="u"',
        'Digest username="a", realm="r", nonce="n", uri="u", response="r", qop=auth',
        'Digest username="a", realm="r", nonce="n", uri="u", response="r", qop=auth, nc=1, cnonce="c"',
    ],
)
def test_broken_credentials_are_malformed(value: str) -> None:
    with pytest.raises(MalformedMessage):
        Credentials.parse(value)


@given(st.text(st.characters(max_codepoint=255)))
def test_no_text_raises_anything_else(text: str) -> None:
    with contextlib.suppress(MalformedMessage):
        Credentials.parse("Digest " + text)


def test_credentials_are_found_by_realm() -> None:
    values = [
        "Other x=y",
        'Digest username="a", realm="one", nonce="n", uri="u", response="r"',
        'Digest username="b", realm="two", nonce="n", uri="u", response="r"',
    ]
    found = credentials_for("two", values)
    assert found is not None
    assert found.username == "b"
    assert credentials_for("three", values) is None


def test_challenges_come_most_preferred_first() -> None:
    assert challenges('a"b', "nn", [Algorithm.SHA_256, Algorithm.MD5], stale=True) == [
        'Digest realm="a\\"b", nonce="nn", algorithm=SHA-256, qop="auth", stale=true',
        'Digest realm="a\\"b", nonce="nn", algorithm=MD5, qop="auth", stale=true',
    ]


def test_a_nonce_lives_for_its_time_in_its_realm_under_its_key() -> None:
    nonces = Nonces(b"k" * 32, "r", lifetime=300)
    nonce = nonces.make(NOW, 7)
    assert nonces.check(nonce, NOW + 299) == (NonceState.FRESH, 7)
    assert Nonces(b"k" * 32, "r").check(nonce, NOW) == (NonceState.FRESH, 7)
    assert nonces.check(nonce, NOW + 301) == (NonceState.STALE, 7)
    assert nonces.check(nonce, NOW - 60) == (NonceState.STALE, 7)
    assert Nonces(b"k" * 32, "other").check(nonce, NOW) == (NonceState.FORGED, 0)
    assert Nonces(b"l" * 32, "r").check(nonce, NOW) == (NonceState.FORGED, 0)
    assert nonces.make(NOW, 8) != nonce


@given(st.text(st.characters(max_codepoint=255)))
def test_an_invented_nonce_is_forged(nonce: str) -> None:
    assert Nonces(b"k" * 32, "r").check(nonce, NOW) == (NonceState.FORGED, 0)


@given(st.integers(0, 27), st.characters(min_codepoint=33, max_codepoint=126))
def test_a_changed_nonce_is_forged(position: int, put: str) -> None:
    nonces = Nonces(b"k" * 32, "r")
    nonce = nonces.make(NOW, 7)
    changed = nonce[:position] + put + nonce[position + 1 :]
    if changed.replace("+", "-").replace("/", "_") != nonce:
        assert nonces.check(changed, NOW) == (NonceState.FORGED, 0)
    assert nonces.check(nonce + put, NOW) == (NonceState.FORGED, 0)


def test_a_nonce_count_is_good_once_and_the_memory_is_bounded() -> None:
    counts = NonceCounts(size=2)
    a = counts.next()
    assert counts.accept(a, 1)
    assert not counts.accept(a, 1)
    assert counts.accept(a, 3)
    assert not counts.accept(a, 2)
    b = counts.next()
    assert counts.accept(b, 1)
    assert counts.accept(a, 0xFFFFFFFF)
    c = counts.next()
    assert not counts.accept(a, 4)
    assert counts.accept(c, 1)
    assert not counts.accept(b, 1)


def test_a_nonce_number_that_was_never_given_is_refused() -> None:
    assert not NonceCounts(size=2).accept(1, 1)


_VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=8)


@given(
    st.dictionaries(st.sampled_from(["username", "realm", "nonce", "uri", "response", "opaque"]), _VALUES, min_size=5),
    st.sampled_from([", ", ",", " ,\t"]),
)
def test_values_come_back_as_they_were_quoted_however_they_are_separated(params: dict[str, str], comma: str) -> None:
    text = "Digest " + comma.join(f"{name}={quote(value)}" for name, value in params.items())
    if {"username", "realm", "nonce", "uri", "response"} <= params.keys():
        credentials = parsed(text)
        assert credentials.username == params["username"]
        assert credentials.opaque == params.get("opaque", "")
        assert credentials.response == params["response"].lower()
    else:
        with pytest.raises(MalformedMessage):
            parsed(text)
