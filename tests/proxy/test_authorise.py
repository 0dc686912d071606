"""Digest: who may register and who may call."""

from __future__ import annotations

import re
from typing import Any

from nattrav.config.sip import SipSection, User
from nattrav.net.address import TransportAddress
from nattrav.sip.digest import Algorithm, ha1
from tests.proxy.playbook import GATEWAY, PHONE, US, Arrival, Stage, readable, register, request, sdp

STRANGER = TransportAddress("192.0.2.66", 5060)


def with_users(**sip: Any) -> Stage:
    users = [
        User.model_validate({"name": "alice", "password": "secret"}),
        User.model_validate({"name": "bob", "ha1": ha1(Algorithm.MD5, "bob", "nattrav", "pw")}),
    ]
    return Stage(sip=SipSection.model_validate(sip), extra={"users": users})


def only(arrivals: list[Arrival]) -> Arrival:
    assert len(arrivals) == 1, [a.line for a in arrivals]
    return arrivals[0]


def answer(
    challenge: Arrival,
    text: str,
    user: str = "alice",
    password: str = "secret",
    algorithm: Algorithm = Algorithm.MD5,
    nc: int = 1,
) -> str:
    """Write the request again with credentials for the challenge and a new branch."""
    import hashlib

    header = "www-authenticate" if "401" in challenge.line else "proxy-authenticate"
    name = "Authorization" if "401" in challenge.line else "Proxy-Authorization"
    (value,) = [v for v in challenge.message.all(header) if f"algorithm={algorithm.value}," in v]
    nonce = re.search(r'nonce="([^"]+)"', value)
    assert nonce is not None
    method, uri, _ = text.split("\r\n")[0].split(" ")
    hashed = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}[algorithm.value]
    a1 = ha1(algorithm, user, "nattrav", password)
    a2 = hashed(f"{method}:{uri}".encode()).hexdigest()
    final = hashed(f"{a1}:{nonce[1]}:{nc:08x}:c0ffee:auth:{a2}".encode()).hexdigest()
    credentials = (
        f'{name}: Digest username="{user}", realm="nattrav", nonce="{nonce[1]}", uri="{uri}", response="{final}", '
        f'algorithm={algorithm.value}, qop=auth, nc={nc:08x}, cnonce="c0ffee"\r\n'
    )
    text = text.replace(";branch=", f";branch=z9hG4bK{nc}{algorithm.name}{user}").replace("CSeq: 1 ", "CSeq: 2 ")
    return text.replace("Call-ID:", credentials + "Call-ID:")


def test_a_registration_without_credentials_is_challenged_with_both_algorithms_best_first() -> None:
    stage = with_users()
    challenge = only(stage.send(PHONE, register()))
    assert challenge.line == "SIP/2.0 401 Unauthorized"
    values = challenge.message.all("www-authenticate")
    assert ["SHA-256" in value for value in values] == [True, False]


def test_the_right_password_registers_with_md5_and_with_sha_256() -> None:
    for algorithm in (Algorithm.MD5, Algorithm.SHA_256):
        stage = with_users()
        challenge = only(stage.send(PHONE, register()))
        ok = only(stage.send(PHONE, answer(challenge, register(), algorithm=algorithm)))
        assert ok.line == "SIP/2.0 200 OK"
        assert len(stage.proxy.rooms.location) == 1


def test_a_stored_hash_serves_as_well_as_a_password() -> None:
    stage = with_users()
    text = register("bob")
    assert only(stage.send(PHONE, answer(only(stage.send(PHONE, text)), text, "bob", "pw"))).line == "SIP/2.0 200 OK"


def test_a_wrong_password_is_challenged_again_and_leaves_no_binding() -> None:
    stage = with_users()
    challenge = only(stage.send(PHONE, register()))
    again = only(stage.send(PHONE, answer(challenge, register(), password="wrong")))
    assert again.line == "SIP/2.0 401 Unauthorized"
    assert len(stage.proxy.rooms.location) == 0


def test_a_user_cannot_register_another_ones_address() -> None:
    stage = with_users()
    text = register("bob")
    assert only(stage.send(PHONE, answer(only(stage.send(PHONE, text)), text))).line == "SIP/2.0 403 Forbidden"


def test_a_replayed_nonce_count_is_stale() -> None:
    stage = with_users()
    challenge = only(stage.send(PHONE, register()))
    stage.send(PHONE, answer(challenge, register()))
    replayed = answer(challenge, register()).replace("branch=z9", "branch=z9hG4bKother").replace("CSeq: 2", "CSeq: 3")
    again = only(stage.send(PHONE, replayed))
    assert again.line == "SIP/2.0 401 Unauthorized"
    assert "stale=true" in again.text


def test_an_old_nonce_is_stale_and_not_a_wrong_password() -> None:
    stage = with_users()
    challenge = only(stage.send(PHONE, register()))
    stage.wait(400)
    assert "stale=true" in only(stage.send(PHONE, answer(challenge, register()))).text


def test_a_first_challenge_costs_no_memory() -> None:
    stage = with_users()
    for number in range(100):
        stage.send(PHONE, register(branch=f"z9hG4bK{number}", call_id=f"c{number}"))
    assert len(stage.proxy.parts.transactions) == 0
    assert len(stage.proxy.parts.timers) == 0


def test_a_first_challenge_repeats_its_to_tag_when_the_request_is_repeated() -> None:
    stage = with_users()
    tags = {only(stage.send(PHONE, register())).message.to.tag for _ in range(3)}
    assert len(tags) == 1


def test_a_registration_is_forgotten_after_timer_j() -> None:
    stage = with_users()
    stage.send(PHONE, answer(only(stage.send(PHONE, register())), register()))
    assert (len(stage.proxy.parts.transactions), len(stage.proxy.parts.timers)) == (1, 3)
    stage.wait(33)
    assert (len(stage.proxy.parts.transactions), len(stage.proxy.parts.timers)) == (0, 2)


def test_the_right_password_on_a_nonce_of_before_a_restart_is_stale_and_no_fault() -> None:
    stage = with_users()
    challenge = only(stage.send(PHONE, register()))
    for number in range(2, 40):
        old = challenge.text.replace('nonce="', f'nonce="{number:02}')
        arrival = Arrival(challenge.flow, readable(old.encode()), old.encode())
        again = only(stage.send(PHONE, answer(arrival, register(branch=f"z9hG4bKb{number}"), nc=number)))
        assert "stale=true" in again.text
    assert stage.proxy.admission.bans(stage.now) == []
    assert len(stage.proxy.rooms.location) == 0


def test_calls_need_credentials_too_and_ours_do_not_reach_the_gateway() -> None:
    stage = with_users()
    text = request("INVITE", f"sip:+431@{US}", body=sdp("10.0.0.5"))
    challenge = only(stage.send(PHONE, text))
    assert challenge.line == "SIP/2.0 407 Proxy Authentication Required"
    _, invite = stage.send(PHONE, answer(challenge, text))
    assert invite.to == GATEWAY
    assert "Proxy-Authorization" not in invite.text


def test_nobody_calls_in_another_users_name() -> None:
    stage = with_users()
    text = request("INVITE", f"sip:+431@{US}", from_=f"<sip:bob@{US}>;tag=at")
    refused = only(stage.send(PHONE, answer(only(stage.send(PHONE, text)), text)))
    assert refused.line == "SIP/2.0 403 From is another user"


def test_the_gateway_is_trusted_and_not_challenged() -> None:
    stage = with_users()
    text = request("INVITE", f"sip:alice@{US}", via="203.0.113.80")
    assert [a.line for a in stage.send(GATEWAY, text)] == ["SIP/2.0 100 Trying", "SIP/2.0 480 Temporarily Unavailable"]


def test_without_users_only_private_sources_may_register() -> None:
    stage = Stage(sip=SipSection())
    assert only(stage.send(STRANGER, register())).line == "SIP/2.0 403 Forbidden"
    assert only(stage.send(TransportAddress("192.168.1.5", 5060), register(branch="z9hG4bKx"))).line == "SIP/2.0 200 OK"


def test_a_broken_authorization_header_is_400_and_a_strange_scheme_a_challenge() -> None:
    stage = with_users()
    broken = register(headers='Authorization: Digest username="a", username="b"\r\n')
    assert only(stage.send(PHONE, broken)).line.startswith("SIP/2.0 400")
    strange = register(branch="z9hG4bKs", headers="Authorization: NoOneKnowsThisScheme opaque-data=here\r\n")
    assert only(stage.send(PHONE, strange)).line == "SIP/2.0 401 Unauthorized"


def test_a_device_that_stumbles_over_sha_256_is_asked_for_md5_alone() -> None:
    stage = with_users()
    asked = only(stage.send(PHONE, register("alice")))
    assert "algorithm=SHA-256" in asked.text
    asked = only(
        stage.send(PHONE, register("bob", branch="z9hG4bKreg2", headers="User-Agent: baresip v1.0.0 (x86)\r\n"))
    )
    assert "algorithm=MD5" in asked.text
    assert "SHA-256" not in asked.text
