"""Calls in progress that are written down: a restart forgets neither whom to hang up nor what to bill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nattrav.config.sip import SipSection
from nattrav.net.address import TransportAddress
from nattrav.proxy.io.call_store import CallStore, CallsUnreadable
from nattrav.proxy.listener import Listener
from nattrav.proxy.saved_calls import CSEQ_MARGIN, LARGEST
from nattrav.sip.transport.flow import listener_id
from tests.proxy.playbook import GATEWAY, PHONE, US, Arrival, Stage, register, request, response, sdp, udp_listener
from tests.proxy.test_restart import from_gateway, from_phone, set_up

AGAIN = TransportAddress(PHONE.host, 45555)


def lines(stage: Stage) -> list[str]:
    return list(stage.proxy.changed_calls()[0].values())


def restarted(saved: list[str], after: float = 30.0, **more: Any) -> Stage:
    """Another process some seconds later, on the same wall clock, with a monotonic clock of its own."""
    stage = Stage(sip=SipSection.model_validate({"registrar": {"authentication": "none"}}), **more)
    stage.proxy.parts.wall_offset -= 900.0
    stage.now = 1000.0 + after
    stage.proxy.restore(stage.now, saved)
    return stage


def media_died(stage: Stage) -> list[Arrival]:
    return stage._carry_out(stage.proxy.session_closed("call1@10.0.0.5", "timeout", stage.now))


def test_after_a_restart_both_sides_get_a_bye_when_media_dies() -> None:
    before = Stage()
    set_up(before)
    stage = restarted(lines(before))
    byes = {one.to: one for one in media_died(stage)}
    assert byes[PHONE].line == "BYE sip:alice@10.0.0.5:5060 SIP/2.0"
    assert byes[GATEWAY].line == "BYE sip:bob@203.0.113.80 SIP/2.0"
    assert byes[GATEWAY].message.cseq.number > 1 + CSEQ_MARGIN
    (record,) = stage.records
    assert (record["cause"], record["resumed"], record["duration"]) == ("media_timeout", True, 30.0)
    assert record["upstream"] == "gw"


def test_the_bye_of_a_party_ends_a_call_of_before_with_its_whole_length() -> None:
    before = Stage()
    routes = set_up(before)
    stage = restarted(lines(before), after=60.0)
    (bye,) = stage.send(PHONE, from_phone("BYE", routes))
    stage.send(GATEWAY, response(bye, 200, tag=None))
    (record,) = stage.records
    assert (record["cause"], record["duration"]) == ("bye", 60.0)
    assert stage.relay.commands == ["delete"]
    assert stage.proxy.changed_calls() == ({}, [("call1@10.0.0.5", "at")])


def test_a_session_that_is_not_refreshed_ends_also_in_the_next_process() -> None:
    before = Stage()
    sent = before.send(PHONE, request("INVITE", f"sip:+431@{US}", body=sdp("10.0.0.5")))[-1]
    timed = response(sent, 200, headers="Session-Expires: 90;refresher=uac\r\n", body=sdp("203.0.113.80"))
    before.send(GATEWAY, timed)
    stage = restarted(lines(before), after=30.0)
    assert not [one for one in stage.wait(85) if one.line.startswith("BYE")]
    assert {one.to for one in stage.wait(10) if one.line.startswith("BYE")} == {PHONE, GATEWAY}


def test_a_phone_whose_connection_did_not_survive_is_hung_up_over_its_next_one() -> None:
    bound = TransportAddress(US, 5060)
    both = [udp_listener(), Listener(listener_id("tcp", bound), "tcp", bound, US, 5060)]
    before = Stage(listeners=both)
    flow = before.flow(PHONE, "tcp", 1)
    before.proxy.flow_opened(flow)
    text = request("INVITE", f"sip:+431@{US}", body=sdp("10.0.0.5"), transport="TCP")
    before.send(GATEWAY, response(before.send(flow, text)[-1], 200, body=sdp("203.0.113.80")))
    saved = lines(before)
    alone = restarted(saved, listeners=both)
    assert [one.to for one in media_died(alone)] == [GATEWAY]
    stage = restarted(saved, listeners=both)
    other = stage.flow(AGAIN, "tcp", 1)
    stage.proxy.flow_opened(other)
    stage.send(other, register(branch="z9hG4bKagain").replace("SIP/2.0/UDP", "SIP/2.0/TCP"))
    assert {one.to for one in media_died(stage)} == {AGAIN, GATEWAY}


def test_only_changes_are_written_and_short_calls_never() -> None:
    stage = Stage()
    routes = set_up(stage)
    assert len(lines(stage)) == 1
    assert stage.proxy.changed_calls() == ({}, [])
    onward = stage.send(PHONE, from_phone("UPDATE", routes))[-1]
    stage.send(GATEWAY, response(onward, 200, tag=None))
    assert len(lines(stage)) == 1
    short = Stage()
    (bye,) = short.send(PHONE, from_phone("BYE", set_up(short)))
    short.send(GATEWAY, response(bye, 200, tag=None))
    assert short.proxy.changed_calls() == ({}, [])


def test_a_moved_phone_is_found_where_it_was_last() -> None:
    before = Stage()
    routes = set_up(before)
    moved = TransportAddress(PHONE.host, 47777)
    onward = before.send(moved, from_phone("UPDATE", routes))[-1]
    before.send(GATEWAY, response(onward, 200, tag=None))
    stage = restarted(lines(before))
    assert {one.to for one in media_died(stage)} == {moved, GATEWAY}


@pytest.mark.parametrize("broken", ["", "{}", "[]", "null", '{"key":["a"]}', '{"key":["a","b"],"parties":{}}'])
def test_a_line_that_cannot_be_read_is_left_out(broken: str) -> None:
    before = Stage()
    set_up(before)
    saved = lines(before)
    assert len(restarted([broken, *saved]).proxy.rooms.calls) == 1


@pytest.mark.parametrize("name", ["call_id", "parties", "start", "dialog", "until", "tags", "media"])
def test_a_field_of_a_wrong_kind_is_no_fault(name: str) -> None:
    before = Stage()
    set_up(before)
    fields = json.loads(lines(before)[0])
    fields[name] = {"parties": 7, "tags": 3}.get(name, "x")
    restarted([json.dumps(fields)])


def test_a_dialog_that_takes_too_much_room_is_not_written() -> None:
    stage = Stage()
    text = request("INVITE", f"sip:+431@{US}", body=sdp("10.0.0.5"), contact=f"<sip:alice@10.0.0.5;x={'y' * LARGEST}>")
    stage.send(GATEWAY, response(stage.send(PHONE, text)[-1], 200, body=sdp("203.0.113.80")))
    assert lines(stage) == []


def test_a_call_that_comes_round_is_two_also_after_the_restart() -> None:
    before = Stage()
    routes = set_up(before)
    stage = restarted([*lines(before)])
    (bye,) = stage.send(GATEWAY, from_gateway("BYE", routes))
    assert bye.to == PHONE


def test_the_store_gives_back_what_was_put_and_forgets_what_ended(tmp_path: Path) -> None:
    store = CallStore(tmp_path / "calls.sqlite")
    assert store.write({("a", "1"): "one", ("b", "1"): "two"}, []) is None
    assert store.write({("a", "1"): "newer"}, [("b", "1")]) is None
    assert CallStore(store.path).load() == ["newer"]


def test_a_file_that_is_none_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    path.write_text("this is no database, but long enough to look like one" * 20)
    with pytest.raises(CallsUnreadable, match="Move the file away"):
        CallStore(path)


def test_a_disk_that_takes_nothing_is_told(tmp_path: Path) -> None:
    store = CallStore(tmp_path / "calls.sqlite")
    store.path = tmp_path / "gone" / "calls.sqlite"
    assert store.write({("a", "1"): "one"}, []) == "unable to open database file"


def test_calls_are_written_when_they_have_lasted_and_so_many_at_once() -> None:
    stage = Stage()
    for number in range(3):
        text = request(
            "INVITE", f"sip:+431@{US}", call_id=f"c{number}", branch=f"z9hG4bK{number}", body=sdp("10.0.0.5")
        )
        stage.send(GATEWAY, response(stage.send(PHONE, text)[-1], 200, body=sdp("203.0.113.80")))
        stage.now += 1.0
    taken = [[key for key, _ in stage.proxy.changed_calls(until, 1)[0]] for until in (99.0, 101.0, 101.0, 101.0, 102.0)]
    assert taken == [[], ["c0"], ["c1"], [], ["c2"]]
