"""Whose credentials they are, what they are good for, and how often."""

from __future__ import annotations

import re
from typing import Any

import pytest

from nattrav.config.sip import SipSection, User
from nattrav.sip.digest import Algorithm, Credentials, ha1
from nattrav.sip.grammar import quote
from tests.proxy.playbook import OTHER, PHONE, Arrival, Stage, request, sdp


def with_users(*users: dict[str, Any], domains: tuple[str, ...] = ("example.org",)) -> Stage:
    sip = SipSection.model_validate({"domains": list(domains), "registrar": {"authentication": "digest"}})
    return Stage(sip=sip, extra={"users": [User.model_validate(user) for user in users]})


def register(aor: str, *, credentials: str = "", cseq: int = 1, call_id: str = "reg1") -> str:
    return request(
        "REGISTER",
        f"sip:{aor.rpartition('@')[2]}",
        branch=f"z9hG4bK{call_id}{cseq}",
        from_=f"<{aor}>;tag=rt",
        to=f"<{aor}>",
        cseq=cseq,
        call_id=call_id,
        headers=f"Expires: 300\r\n{credentials}",
    )


def invite(number: str, *, credentials: str = "", branch: str = "z9hG4bKi1") -> str:
    return request(
        "INVITE",
        f"sip:{number}@example.org",
        branch=branch,
        call_id=branch,
        from_="<sip:alice@example.org>;tag=at",
        headers=credentials,
        body=sdp("10.0.0.5"),
    )


def credentials_for(
    challenge: Arrival,
    method: str,
    uri: str,
    user: str = "alice",
    password: str = "secret",
    *,
    realm: str = "example.org",
    qop: str | None = "auth",
) -> str:
    """Write the header field that answers a challenge with MD5."""
    asked = challenge.message.all("www-authenticate") or challenge.message.all("proxy-authenticate")
    name = "Authorization" if challenge.message.has("www-authenticate") else "Proxy-Authorization"
    nonce = re.search(r'nonce="([^"]+)"', asked[-1])
    assert nonce is not None
    sent = user.encode().decode("latin-1")
    count = None if qop is None else 1
    value = Credentials(sent, realm, nonce[1], uri, "", Algorithm.MD5, qop, count, "c0ffee", "")
    digest = value.expected(ha1(Algorithm.MD5, user, realm, password), method)
    tail = "" if qop is None else f', qop={qop}, nc=00000001, cnonce="c0ffee"'
    return (
        f'{name}: Digest username={quote(sent)}, realm="{realm}", nonce="{nonce[1]}", uri="{uri}", '
        f'response="{digest}", algorithm=MD5{tail}\r\n'
    )


def status(arrivals: list[Arrival]) -> str:
    return arrivals[-1].line.partition(" ")[2][:3]


def registers(stage: Stage, aor: str, user: str, password: str) -> str:
    """Register as `aor` with the credentials of `user`; give the final status."""
    realm = stage.proxy.parts.settings.realm
    uri = f"sip:{aor.rpartition('@')[2]}"
    call_id = f"{aor}{password}".encode().hex()
    (challenge,) = stage.send(PHONE, register(aor, call_id=call_id))
    answer = credentials_for(challenge, "REGISTER", uri, user, password, realm=realm)
    return status(stage.send(PHONE, register(aor, credentials=answer, cseq=2, call_id=call_id)))


def test_credentials_without_a_count_serve_once() -> None:
    stage = with_users({"name": "alice", "password": "secret"})
    (challenge,) = stage.send(PHONE, register("sip:alice@example.org"))
    old = credentials_for(challenge, "REGISTER", "sip:example.org", qop=None)
    assert status(stage.send(PHONE, register("sip:alice@example.org", credentials=old, cseq=2))) == "200"
    (again,) = stage.send(OTHER, register("sip:alice@example.org", credentials=old, cseq=3))
    assert again.line == "SIP/2.0 401 Unauthorized"
    assert "stale=true" in again.text


def test_users_of_one_name_in_two_domains_are_two_users() -> None:
    users = [
        {"name": "alice", "domain": "a.example", "password": "pa"},
        {"name": "alice", "domain": "b.example", "password": "pb"},
    ]
    stage = with_users(*users, domains=("a.example", "b.example"))
    assert registers(stage, "sip:alice@a.example", "alice", "pa") == "200"
    assert registers(stage, "sip:alice@b.example", "alice", "pb") == "200"
    assert registers(stage, "sip:alice@b.example", "alice", "pa") == "401"
    assert registers(stage, "sip:alice@a.example", "alice", "pb") == "401"


def test_our_own_address_stands_for_the_first_domain() -> None:
    users = [
        {"name": "alice", "domain": "a.example", "password": "pa"},
        {"name": "alice", "domain": "b.example", "password": "pb"},
    ]
    stage = with_users(*users, domains=("a.example", "b.example"))
    assert registers(stage, "sip:alice@203.0.113.10", "alice", "pb") == "401"
    assert registers(stage, "sip:alice@203.0.113.10", "alice", "pa") == "200"
    assert [one.aor for one in stage.proxy.rooms.location] == ["alice@a.example"]


@pytest.mark.parametrize(
    ("name", "written"),
    [("jürgen", "j%C3%BCrgen"), ('o"hara', "o%22hara"), ("two words", "two%20words"), ("alice", "%61lice")],
)
def test_a_name_that_a_uri_must_escape_is_still_the_users(name: str, written: str) -> None:
    stage = with_users({"name": name, "password": "secret"})
    assert registers(stage, f"sip:{written}@example.org", name, "secret") == "200"


def test_a_user_part_is_one_address_however_it_is_escaped() -> None:
    stage = with_users({"name": "alice", "password": "secret"})
    assert registers(stage, "sip:%61lice@example.org", "alice", "secret") == "200"
    (challenge,) = stage.send(OTHER, invite("alice"))
    answer = credentials_for(challenge, "INVITE", "sip:alice@example.org")
    arrivals = stage.send(OTHER, invite("alice", credentials=answer, branch="z9hG4bKi2"))
    assert arrivals[-1].to == PHONE


def test_credentials_made_for_one_number_do_not_call_another() -> None:
    stage = with_users({"name": "alice", "password": "secret"})
    (challenge,) = stage.send(PHONE, invite("+431"))
    answer = credentials_for(challenge, "INVITE", "sip:+431@example.org")
    (refused,) = stage.send(OTHER, invite("+900666", credentials=answer, branch="z9hG4bKi2"))
    assert refused.line == "SIP/2.0 400 Digest of another Request-URI"
    assert status(stage.send(PHONE, invite("+431", credentials=answer, branch="z9hG4bKi3"))) != "400"


def test_devices_write_host_and_parameters_of_the_digest_uri_as_they_like() -> None:
    stage = with_users({"name": "alice", "password": "secret"})
    (challenge,) = stage.send(PHONE, invite("+431"))
    answer = credentials_for(challenge, "INVITE", "sip:%2B431@203.0.113.10:5060;user=phone")
    assert stage.send(PHONE, invite("+431", credentials=answer, branch="z9hG4bKi2"))[-1].line.startswith("INVITE")


@pytest.mark.parametrize(("number", "code"), [("+43-222", "403"), ("+43999", "INV"), ("+43111", "INV")])
def test_nobody_calls_by_the_number_that_is_another_users_name(number: str, code: str) -> None:
    stage = with_users({"name": "+43111", "password": "secret"}, {"name": "+43222", "password": "other"})
    text = invite("+431").replace("<sip:alice@example.org>", f"<tel:{number}>")
    (challenge,) = stage.send(PHONE, text)
    answer = credentials_for(challenge, "INVITE", "sip:+431@example.org", "+43111")
    again = invite("+431", credentials=answer, branch="z9hG4bKi2").replace("<sip:alice@example.org>", f"<tel:{number}>")
    line = stage.send(PHONE, again)[-1].line
    assert code in (line[:3], line.partition(" ")[2][:3])


@pytest.mark.parametrize("written", ['realm="example.org"', 'REALM = "example.org"', 'realm="example\\.org"'])
def test_our_credentials_end_here_however_they_are_written(written: str) -> None:
    stage = with_users({"name": "alice", "password": "secret"})
    (challenge,) = stage.send(PHONE, invite("+431"))
    answer = credentials_for(challenge, "INVITE", "sip:+431@example.org").replace('realm="example.org"', written)
    other = 'Proxy-Authorization: Digest username="x", realm="elsewhere", nonce="n", uri="u", response="r"\r\n'
    onward = stage.send(PHONE, invite("+431", credentials=other + answer, branch="z9hG4bKi2"))[-1]
    assert onward.line.startswith("INVITE")
    assert [value for value in onward.message.all("proxy-authorization") if "elsewhere" not in value] == []
    assert onward.message.count("proxy-authorization") == 1
