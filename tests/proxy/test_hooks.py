"""Decisions in an operator's Python file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nattrav.config.sip import SipSection, Upstream
from nattrav.proxy.hooks import FAULTS_ALLOWED, Hooks, NoBudget, Refuse, Route
from nattrav.proxy.io.hooks_file import HooksUnusable, ProcessorTime, load
from tests.proxy.playbook import GATEWAY, PHONE, US, Stage, register, request, response

EXAMPLES = Path(__file__).parent.parent.parent / "deploy" / "hooks"


def staged(functions: dict[str, Any], **more: Any) -> tuple[Stage, list[str]]:
    problems: list[str] = []
    stage = Stage(**more)
    stage.proxy.parts.hooks = Hooks(functions, NoBudget(), lambda name, problem: problems.append(f"{name}: {problem}"))
    return stage, problems


def upstream(name: str, target: str) -> Upstream:
    return Upstream.model_validate({"name": name, "target": target})


def test_a_hook_refuses_a_registration() -> None:
    stage, _ = staged({"on_register": lambda view: Refuse(403, "Not you") if view.user == "alice" else None})
    assert stage.send(PHONE, register())[0].line == "SIP/2.0 403 Not you"
    assert stage.send(PHONE, register("bob", branch="z9hG4bK2"))[0].line == "SIP/2.0 200 OK"


def test_a_hook_refuses_and_reroutes_requests() -> None:
    def on_request(view: Any) -> Any:
        if view.number == "666":
            return Refuse(603)
        return Route(upstreams=["second"], number="9" + view.number) if view.number == "1" else None

    two = [upstream("gw", str(GATEWAY)), upstream("second", "203.0.113.81")]
    stage, _ = staged({"on_request": on_request}, upstreams=two)
    assert stage.send(PHONE, request("INVITE", f"sip:666@{US}"))[-1].line == "SIP/2.0 603 Decline"
    invite = stage.send(PHONE, request("INVITE", f"sip:1@{US}", branch="z9hG4bK2", call_id="c2"))[-1]
    assert (invite.to.host, invite.line) == ("203.0.113.81", "INVITE sip:91@203.0.113.81 SIP/2.0")


def test_a_broken_hook_never_stops_a_call_and_is_switched_off_in_the_end() -> None:
    def on_request(view: Any) -> Any:
        raise KeyError("oops")

    stage, problems = staged({"on_request": on_request})
    for number in range(FAULTS_ALLOWED + 3):
        arrivals = stage.send(
            PHONE, request("INVITE", f"sip:+431@{US}", branch=f"z9hG4bK{number}", call_id=f"c{number}")
        )
        assert arrivals[-1].to == GATEWAY
    assert len(problems) == FAULTS_ALLOWED
    assert problems[-1].endswith("switched off")


def test_a_hook_that_returns_nonsense_decides_nothing() -> None:
    stage, problems = staged({"on_request": lambda view: "gw2"})
    assert stage.send(PHONE, request("INVITE", f"sip:+431@{US}"))[-1].to == GATEWAY
    assert problems == ["on_request: returned str instead of Refuse, Route or None"]


def test_a_hook_sees_responses_and_the_end_of_calls() -> None:
    seen: list[Any] = []
    stage, _ = staged({"on_response": seen.append, "on_call_end": seen.append})
    _, invite = stage.send(PHONE, request("INVITE", f"sip:+431@{US}"))
    stage.send(GATEWAY, response(invite, 486, "Busy Here"))
    assert (seen[0].method, seen[0].status, seen[0].upstream) == ("INVITE", 486, "gw")
    assert seen[1]["code"] == 486


def test_a_hook_that_loops_is_stopped() -> None:
    def endless(argument: object) -> None:
        while True:
            pass

    problems: list[str] = []
    hooks = Hooks({"on_request": endless}, ProcessorTime(0.02), lambda name, problem: problems.append(problem))
    assert hooks.call("on_request", None) is None
    assert problems == ["took too long"]


def test_a_file_that_cannot_be_executed_is_named(tmp_path: Path) -> None:
    (tmp_path / "hooks.py").write_text("def on_request(:\n")
    with pytest.raises(HooksUnusable, match=r"hooks\.py: SyntaxError"):
        load(tmp_path / "hooks.py")


def test_the_least_cost_example_takes_the_cheapest_for_the_longest_prefix() -> None:
    two = [upstream("berlin", "203.0.113.81"), upstream("global", "203.0.113.82")]
    stage, _ = staged(load(EXAMPLES / "least_cost.py"), upstreams=two)
    for number, (called, host) in enumerate(
        (("+4930", "203.0.113.81"), ("+49151", "203.0.113.82"), ("+1", "203.0.113.82"))
    ):
        text = request("INVITE", f"sip:{called}@{US}", branch=f"z9hG4bK{number}", call_id=f"c{number}")
        assert stage.send(PHONE, text)[-1].to.host == host


def test_the_office_hours_example_follows_its_table() -> None:
    stage, problems = staged(load(EXAMPLES / "office_hours.py"))
    stage.send(PHONE, register("on-call"))
    # The stage's clock begins on a Tuesday at 22:15 UTC.
    invite = stage.send(GATEWAY, request("INVITE", f"sip:support@{US}", via="203.0.113.80"))[-1]
    assert invite.line == "INVITE sip:on-call@10.0.0.5:5060 SIP/2.0"
    assert problems == []


def test_redirect_mode_answers_with_the_destinations() -> None:
    stage = Stage(sip=SipSection.model_validate({"mode": "redirect", "registrar": {"authentication": "none"}}))
    stage.send(PHONE, register("bob"))
    answer = stage.send(PHONE, request("INVITE", f"sip:bob@{US}"))[-1]
    assert answer.line == "SIP/2.0 302 Moved Temporarily"
    assert answer.message.contacts[0].uri == "sip:bob@10.0.0.5:5060"


def test_a_3xx_is_returned_unless_recursion_is_wanted_and_then_only_inside_our_domains() -> None:
    for recurse, expected in ((False, "SIP/2.0 302"), (True, "INVITE sip:bob@10.0.0.5:5060")):
        sip = SipSection.model_validate({"recurse": recurse, "registrar": {"authentication": "none"}})
        stage = Stage(sip=sip)
        stage.send(PHONE, register("bob"))
        _, invite = stage.send(PHONE, request("INVITE", f"sip:+431@{US}"))
        moved = response(invite, 302, headers=f"Contact: <sip:evil@192.0.2.1>, <sip:bob@{US}>\r\n")
        lines = [arrival.line for arrival in stage.send(GATEWAY, moved)]
        assert any(line.startswith(expected) for line in lines), lines
        assert not any("evil" in line for line in lines)
