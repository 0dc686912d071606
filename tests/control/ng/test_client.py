from __future__ import annotations

from collections import Counter

import pytest

from nattrav.control.ng.client import (
    Answered,
    Effect,
    RelayChanged,
    RelayChoice,
    RelayPool,
    SendControl,
    plain,
)
from nattrav.control.ng.codec_bencode import Encodable, decode, encode


def pool(*names: str, **settings: float) -> RelayPool:
    made = RelayPool([RelayChoice(name) for name in names or ("r1",)], prefix="p", **settings)  # type: ignore[arg-type]
    for effect in made.handle_timeout(0.0):
        assert isinstance(effect, SendControl)
        made.receive(effect.relay, answered(effect, {"result": "pong"}), 0.0)
    return made


def answered(sent: SendControl, reply: dict[str, Encodable]) -> bytes:
    return sent.payload.partition(b" ")[0] + b" " + encode(reply)


def asked(effects: list[Effect], command: str | None = None) -> SendControl:
    """The only request among effects, or the only one with this command."""
    (found,) = [e for e in effects if isinstance(e, SendControl) and (command is None or command_of(e) == command)]
    return found


def command_of(sent: SendControl) -> str:
    message = plain(decode(sent.payload.partition(b" ")[2]))
    return str(message["command"])


def settled(effects: list[Effect]) -> list[Answered]:
    return [effect for effect in effects if isinstance(effect, Answered)]


def run(made: RelayPool, until: float, start: float = 0.0) -> list[tuple[float, Effect]]:
    """Let time pass; pings are answered, nothing else."""
    found: list[tuple[float, Effect]] = []
    now = start
    while (due := made.next_timeout()) <= until:
        now = max(now, due)
        for effect in made.handle_timeout(now):
            if isinstance(effect, SendControl) and command_of(effect) == "ping":
                made.receive(effect.relay, answered(effect, {"result": "pong"}), now)
            else:
                found.append((now, effect))
    return found


SDP: dict[str, Encodable] = {"sdp": b"v=0\r\n", "from-tag": "a"}


def test_a_request_carries_command_and_call_id_and_is_answered() -> None:
    made = pool()
    number, effects = made.ask("offer", SDP, call_id="c1", now=1.0)
    sent = asked(effects)
    message = plain(decode(sent.payload.partition(b" ")[2]))
    assert message == {"sdp": b"v=0\r\n", "from-tag": "a", "call-id": "c1", "command": "offer"}
    reply: dict[str, Encodable] = {"sdp": b"v=0\r\n\xff", "warning": "\xe9", "result": "ok"}
    assert made.receive("r1", answered(sent, reply), 1.1) == [Answered(number, reply, "r1")]


def test_a_silent_relay_is_asked_again_with_the_same_cookie() -> None:
    made = pool()
    number, effects = made.ask("answer", SDP, call_id="c1", now=1.0)
    sent = asked(effects)
    later = run(made, 5.0, 1.0)
    assert later[:2] == [(1.25, sent), (1.75, sent)]
    assert later[2:] == [(2.75, RelayChanged("r1", up=False)), (2.75, Answered(number, None, "r1"))]


def test_a_late_or_foreign_reply_is_ignored() -> None:
    made = pool("r1", "r2")
    _, effects = made.ask("query", {}, call_id="c1", now=1.0)
    sent = asked(effects)
    other = "r2" if sent.relay == "r1" else "r1"
    reply = answered(sent, {"result": "ok"})
    assert made.receive(other, reply, 1.0) == []
    assert made.receive(sent.relay, b"p_999 d6:result2:oke", 1.0) == []
    assert made.receive(sent.relay, b"garbage", 1.0) == []
    assert made.receive(sent.relay, sent.payload, 1.0) == []
    assert len(settled(made.receive(sent.relay, reply, 1.0))) == 1
    assert made.receive(sent.relay, reply, 1.0) == []


@pytest.mark.parametrize(
    "reply",
    [
        {"result": "load limit"},
        {"result": "error", "error-reason": "Parallel session limit reached"},
        {"result": "error", "error-reason": "Ran out of ports"},
    ],
)
def test_a_full_relay_sends_a_first_offer_to_the_next(reply: dict[str, Encodable]) -> None:
    made = pool("r1", "r2")
    number, effects = made.ask("offer", SDP, call_id="c1", now=1.0)
    first = asked(effects)
    second = asked(made.receive(first.relay, answered(first, reply), 1.1))
    assert second.relay != first.relay
    assert made.relay_of("c1") == second.relay
    done = settled(made.receive(second.relay, answered(second, {"result": "ok", "sdp": b"x"}), 1.2))
    assert done == [Answered(number, {"result": "ok", "sdp": b"x"}, second.relay)]


def test_when_every_relay_is_full_the_last_refusal_is_told() -> None:
    made = pool("r1", "r2")
    number, effects = made.ask("offer", SDP, call_id="c1", now=1.0)
    first = asked(effects)
    second = asked(made.receive(first.relay, answered(first, {"result": "load limit"}), 1.1))
    done = made.receive(second.relay, answered(second, {"result": "load limit", "message": "x"}), 1.2)
    assert done == [Answered(number, {"result": "load limit", "message": "x"}, second.relay)]
    assert made.relay_of("c1") is None


def test_other_errors_do_not_move_an_offer() -> None:
    made = pool("r1", "r2")
    number, effects = made.ask("offer", SDP, call_id="c1", now=1.0)
    first = asked(effects)
    reply: dict[str, Encodable] = {"result": "error", "error-reason": "Failed to parse SDP"}
    assert made.receive(first.relay, answered(first, reply), 1.1) == [Answered(number, reply, first.relay)]


def test_a_silent_relay_loses_a_first_offer_and_is_told_to_forget_it() -> None:
    made = pool("r1", "r2")
    _, effects = made.ask("offer", {**SDP, "to-tag": "t"}, call_id="c1", now=1.0)
    first = asked(effects)
    late = [effect for at, effect in run(made, 2.8, 1.0) if at == 2.75]
    assert RelayChanged(first.relay, up=False) in late
    farewell = asked(late, "delete")
    assert farewell.relay == first.relay
    assert plain(decode(farewell.payload.partition(b" ")[2]))["call-id"] == "c1"
    assert asked(late, "offer").relay != first.relay


def test_a_call_stays_on_its_relay() -> None:
    made = pool("r1", "r2", "r3")
    _, effects = made.ask("offer", SDP, call_id="c1", now=1.0)
    first = asked(effects)
    made.receive(first.relay, answered(first, {"result": "ok", "sdp": b"x"}), 1.0)
    for command in ("answer", "offer", "query", "delete"):
        _, effects = made.ask(command, SDP, call_id="c1", now=2.0)
        sent = asked(effects)
        assert sent.relay == first.relay
        refusal: dict[str, Encodable] = {"result": "error", "error-reason": "Ran out of ports"}
        assert settled(made.receive(sent.relay, answered(sent, refusal), 2.0))


def test_a_re_offer_is_not_moved_when_its_relay_is_silent() -> None:
    made = pool("r1", "r2")
    _, effects = made.ask("offer", SDP, call_id="c1", now=1.0)
    first = asked(effects)
    made.receive(first.relay, answered(first, {"result": "ok", "sdp": b"x"}), 1.0)
    number, _ = made.ask("offer", SDP, call_id="c1", now=2.0)
    assert settled([effect for _, effect in run(made, 6.0, 2.0)]) == [Answered(number, None, first.relay)]
    assert made.relay_of("c1") == first.relay


def test_a_deleted_call_is_forgotten_but_not_for_one_branch() -> None:
    made = pool("r1", "r2")
    made.bind("c1", "r2")
    for arguments, left in (({"via-branch": "b"}, "r2"), ({}, None)):
        _, effects = made.ask("delete", arguments, call_id="c1", now=1.0)
        sent = asked(effects)
        made.receive(sent.relay, answered(sent, {"result": "ok"}), 1.0)
        assert made.relay_of("c1") == left


def test_offers_and_answers_are_awaited_until_they_are_settled_and_ends_never() -> None:
    made = pool()
    _, offer = made.ask("offer", SDP, call_id="c1", now=0.0)
    made.ask("answer", SDP, call_id="c2", now=0.0)
    made.ask("delete", {"from-tag": "a"}, call_id="c3", now=0.0)
    assert made.awaited == 2
    made.receive("r1", answered(asked(offer), {"result": "ok", "sdp": b""}), 0.1)
    assert made.awaited == 1
    run(made, 5.0)
    assert made.awaited == 0


def test_calls_spread_by_weight_and_zero_takes_none() -> None:
    made = RelayPool([RelayChoice("a", 1), RelayChoice("b", 3), RelayChoice("c", 0)], prefix="p")
    chosen = Counter(asked(made.ask("offer", SDP, call_id=f"c{n}", now=0.0)[1]).relay for n in range(2000))
    assert chosen["c"] == 0
    assert 2.3 < chosen["b"] / chosen["a"] < 3.9


def test_a_relay_that_is_down_gets_pings_but_no_calls_until_it_answers() -> None:
    made = RelayPool([RelayChoice("r1"), RelayChoice("r2")], prefix="p")
    silent = [effect for effect in made.handle_timeout(0.0) if isinstance(effect, SendControl)]
    assert sorted(effect.relay for effect in silent) == ["r1", "r2"]
    made.receive("r2", answered(next(e for e in silent if e.relay == "r2"), {"result": "pong"}), 0.0)
    down = [effect for now in (0.25, 0.75, 1.75) for effect in made.handle_timeout(now)]
    assert RelayChanged("r1", up=False) in down
    assert made.states() == {"r1": False, "r2": True}
    assert {asked(made.ask("offer", SDP, call_id=f"c{n}", now=2.0)[1]).relay for n in range(50)} == {"r2"}
    for effect in made.handle_timeout(20.0):
        if isinstance(effect, SendControl) and effect.relay == "r1" and command_of(effect) == "ping":
            assert made.receive("r1", answered(effect, {"result": "pong"}), 20.0) == [RelayChanged("r1", up=True)]
    assert made.states()["r1"]


def test_the_only_relay_is_tried_even_when_it_is_down() -> None:
    made = RelayPool([RelayChoice("r1")], prefix="p")
    made.handle_timeout(0.0)
    run_down = made.handle_timeout(0.25) + made.handle_timeout(0.75) + made.handle_timeout(1.75)
    assert RelayChanged("r1", up=False) in run_down
    number, effects = made.ask("offer", SDP, call_id="c1", now=2.0)
    assert asked(effects).relay == "r1"
    found: list[Answered] = []
    now = 2.0
    while not found:
        now = made.next_timeout()
        found = settled(made.handle_timeout(now))
    assert found == [Answered(number, None, "r1")]
    assert now < 4.0


def test_a_pool_needs_a_relay() -> None:
    with pytest.raises(ValueError, match="at least one"):
        RelayPool([], prefix="p")


def test_a_pool_that_is_given_other_relays_uses_them_for_new_calls_and_keeps_the_old_for_theirs() -> None:
    made = pool("r1")
    _, effects = made.ask("offer", {}, call_id="old", now=0.0)
    assert asked(effects).relay == "r1"
    made.follow([RelayChoice("r2")], (0.1, 0.2, 0.4))
    _, effects = made.ask("offer", {}, call_id="new", now=1.0)
    assert asked(effects).relay == "r2"
    _, effects = made.ask("answer", {}, call_id="old", now=1.0)
    assert asked(effects).relay == "r1"
    assert set(made.states()) == {"r1", "r2"}
