from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nattrav.control.ng.flags import Words, parse_rtpp_flags, prefixed, spelling, to_value


@pytest.mark.parametrize(
    "name",
    ["SIP source address", "sip-source-address", "SIP_source_address", "SIP-source-address", "sip source-address"],
)
def test_every_spelling_of_a_flag_is_one(name: str) -> None:
    assert spelling(name) == "sip-source-address"


def test_t38_is_known_with_and_without_dot() -> None:
    assert spelling("T.38") == spelling("T38") == "t.38"


@pytest.mark.parametrize(
    ("word", "entry"),
    [
        ("replace-origin", ("replace", "origin", True)),
        ("replace-session-connection", ("replace", "session-connection", True)),
        ("rtcp-mux-demux", ("rtcp-mux", "demux", True)),
        ("SDES-off", ("sdes", "off", True)),
        ("T38-decode", ("t.38", "decode", True)),
        ("endpoint-learning-heuristic", ("endpoint-learning", "heuristic", False)),
        ("codec-strip-x--1..2", ("codec", "strip-x=1 2", True)),
        ("replace-", None),
        ("trust-address", None),
    ],
)
def test_prefixed_flags_stand_for_entries_of_keys(word: str, entry: tuple[str, str, bool] | None) -> None:
    assert prefixed(word) == entry


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("trust-address strict-source", {"flags": ["trust-address", "strict-source"]}),
        ("ICE=remove TOS=184", {"ice": "remove", "tos": "184"}),
        ("direction=pub direction=priv", {"direction": ["pub", "priv"]}),
        ("internal external", {"direction": ["internal", "external"]}),
        ("replace-origin replace=[username session-name]", {"replace": ["origin", "username", "session-name"]}),
        ("RTP/AVP", {"transport-protocol": "RTP/AVP"}),
        ("RTP AVPF", {"transport-protocol": "RTP/AVPF"}),
        ("SRTP AVP", {"transport-protocol": "RTP/SAVP"}),
        ("DTLS AVPF", {"transport-protocol": "UDP/TLS/RTP/SAVPF"}),
        ("from-tag=x", {"from-tag": "x", "flags": ["directional"]}),
        ("to-tag=y all", {"to-tag": "y", "flags": ["to-tag", "all"]}),
        ("codec=[strip=[a b] except=c]", {"codec": {"strip": ["a", "b"], "except": "c"}}),
        ("a=[b c", {"a": ["b", "c"]}),
        ("] x [ y z ] =w", {"flags": ["x", "=w"]}),
        ("empty=", {"empty": ""}),
        ("rtcp-mux=[demux accept]", {"rtcp-mux": ["demux", "accept"]}),
    ],
)
def test_one_string_spreads_over_the_keys(text: str, found: dict[str, Words]) -> None:
    assert parse_rtpp_flags(text) == found


@given(st.text(alphabet="ab=[] -./R", max_size=200))
def test_any_string_gives_keys_that_encode(text: str) -> None:
    for words in parse_rtpp_flags(text).values():
        assert to_value(words) is not None


def test_deep_nesting_is_cut_off() -> None:
    assert parse_rtpp_flags("a=[" * 3000)
