"""A proxy with calls and phones is given other settings: the next message is handled by them."""

from __future__ import annotations

from typing import Any

from nattrav.config.sip import Quirk, SipSection, Upstream, User
from nattrav.proxy.effects import DropReason
from nattrav.proxy.parts import Settings
from nattrav.sip.uri import SipUri
from tests.proxy.playbook import GATEWAY, OTHER, PHONE, US, Stage, register, request, sdp

OPEN = {"registrar": {"authentication": "none"}}


def follow(stage: Stage, *, upstreams: list[Upstream] | None = None, **changes: Any) -> None:
    sip = SipSection.model_validate({**OPEN, **changes.pop("sip", {})})
    stage.proxy.follow(Settings(sip, stage.upstreams if upstreams is None else upstreams, **changes), stage.now)


def gateway(name: str, target: str, **more: Any) -> Upstream:
    return Upstream.model_validate({"name": name, "target": target, **more})


def invite(number: str = "4989", call_id: str = "c1") -> str:
    return request("INVITE", f"sip:{number}@{US}", call_id=call_id, body=sdp("10.0.0.5"))


def lines(arrivals: list[Any]) -> list[str]:
    return [arrival.line.split(" SIP")[0] for arrival in arrivals]


def test_calls_go_to_the_new_upstream_and_what_is_known_of_the_old_one_stays() -> None:
    stage = Stage()
    known = stage.proxy.rooms.upstreams.all[0]
    known.round_trip = 0.25
    follow(stage, upstreams=[gateway("gw", str(GATEWAY), prefixes=["1"]), gateway("other", "203.0.113.99")])
    assert stage.proxy.rooms.upstreams.all[0] is known
    assert known.settings.prefixes == ["1"]
    sent = stage.send(PHONE, invite())
    assert [arrival.to.host for arrival in sent if arrival.line.startswith("INVITE")] == ["203.0.113.99"]


def test_an_upstream_that_is_gone_is_no_longer_trusted() -> None:
    stage = Stage()
    follow(stage, upstreams=[])
    assert stage.proxy.rooms.upstreams.by_source(GATEWAY) is None
    assert stage.proxy.rooms.upstreams.hosts == frozenset()


def test_limits_count_from_the_next_message_on() -> None:
    stage = Stage()
    stage.send(PHONE, register("alice"))
    follow(stage, sip={"limits": {"burst": 1, "requests_per_source": 0.001}})
    stage.send(OTHER, register("alice", cseq=2))
    stage.send(OTHER, register("alice", cseq=3))
    assert stage.drops == [DropReason.RATE_LIMITED]


def test_scanners_are_those_of_the_new_list_and_bans_stay_in_force() -> None:
    stage = Stage()
    stage.proxy.admission.ban(OTHER.host, "admin", stage.now, 60.0)
    follow(stage, sip={"limits": {"scanners": ["evil"], "ban": "1s"}})
    assert stage.proxy.admission.is_scanner("Evil/1.0")
    assert not stage.proxy.admission.is_scanner("friendly-scanner")
    assert [ban.host for ban in stage.proxy.admission.bans(stage.now + 30)] == [OTHER.host]


def test_digest_is_asked_for_as_soon_as_the_policy_says_so() -> None:
    stage = Stage()
    assert stage.send(PHONE, register("alice"))[-1].line.startswith("SIP/2.0 200")
    users = [User.model_validate({"name": "alice", "password": "x"})]
    follow(stage, sip={"registrar": {"authentication": "digest"}}, users=users)
    assert stage.send(PHONE, register("alice", cseq=2, branch="z9hG4bKreg2"))[-1].line.startswith("SIP/2.0 401")


def test_quirks_timers_keepalives_and_registration_times_follow() -> None:
    stage = Stage()
    follow(
        stage,
        sip={
            "timers": {"t1": "1s"},
            "keepalive": {"interval": "11s", "longest": "55s"},
            "registrar": {"authentication": "none", "max_expires": "100s", "default_expires": "60s"},
            "limits": {"contacts_per_user": 3},
            "local_nets": ["10.9.0.0/16"],
            "domains": ["voice.example.com"],
        },
        quirks=[Quirk.model_validate({"user_agent": "Acme", "ping": "crlf"})],
    )
    core = stage.proxy
    assert core.parts.transactions.durations.t1 == 1.0
    assert (core.keepalive.lifetimes.start, core.keepalive.lifetimes.longest) == (11.0, 55.0)
    assert (core.rooms.location.limits.max_expires, core.rooms.location.limits.per_aor) == (100, 3)
    assert core.parts.quirks.treatment("Acme Phone", PHONE, None).ping == "crlf"
    assert core.parts.names_us(SipUri.parse("sip:voice.example.com"))


def test_a_call_that_is_up_goes_on_under_the_new_settings() -> None:
    stage = Stage()
    stage.send(PHONE, invite())
    calls = len(stage.proxy.rooms.calls)
    follow(stage, sip={"relay": "never"}, upstreams=[])
    assert len(stage.proxy.rooms.calls) == calls == 1
