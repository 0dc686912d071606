"""The relay's sessions on disk: what a restart finds, and what a bad disk costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nattrav.control.ng.memory import CallMemory
from nattrav.daemon.relay_keeper import GENERATION, PATIENCE, RETRY, SessionKeeper, Writing
from nattrav.net import clock
from nattrav.net.address import TransportAddress
from relay.plane import FlowEvent, FlowEventKind, FlowFigures, Learned, Rank
from tests.control.ng.requests import Driver, lines
from tests.relay.calls import opener_of, plane_of
from tests.sdp.samples import PHONE, sdp

OFFER = sdp(*PHONE)
ANSWER = sdp(
    "v=0", "o=bob 1 1 IN IP4 198.51.100.20", "s=-", "c=IN IP4 198.51.100.20", "t=0 0", "m=audio 6000 RTP/AVP 0"
)
BEHIND_NAT = TransportAddress("198.51.100.200", 54321)


class Log:
    """Collects what is logged."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def warning(self, text: str, **_: Any) -> None:
        self.said.append(text)

    info = warning


def kept(directory: Path, driver: Driver | None = None) -> tuple[Driver, SessionKeeper]:
    """A relay whose sessions are kept in a directory, with what another one left there."""
    driver = driver or Driver()
    keeper = SessionKeeper(driver.engine, driver.handler.memory, directory, Log())
    keeper.restore()
    return driver, keeper


def flush(keeper: SessionKeeper, now: float) -> None:
    work = keeper.collect(now)
    if work is not None:
        keeper.done(keeper.write(work), now)


def killed(keeper: SessionKeeper) -> None:
    """What the kernel does to a process that is killed: descriptors close, nothing more is written."""
    keeper._files.close()


def test_a_relay_killed_between_offer_and_answer_goes_on_with_what_was_offered(tmp_path: Path) -> None:
    driver, keeper = kept(tmp_path)
    driver.offer(OFFER, replace=["origin", "sdp-version"])
    flush(keeper, 1.0)
    killed(keeper)
    fresh, _ = kept(tmp_path)
    shown = lines(fresh.answer(ANSWER, replace=["origin", "sdp-version"]))
    assert "m=audio" in shown[4]
    assert fresh.handler.memory.offered("c1", "a") == driver.handler.memory.offered("c1", "a")


def test_the_origin_a_party_was_shown_stays_over_a_restart(tmp_path: Path) -> None:
    driver, keeper = kept(tmp_path)
    first = lines(driver.offer(OFFER, replace=["origin", "sdp-version"]))
    driver.answer(ANSWER)
    flush(keeper, 1.0)
    killed(keeper)
    fresh, _ = kept(tmp_path)
    same = lines(fresh.offer(OFFER, to_tag="b", replace=["origin", "sdp-version"]))
    assert same == first
    changed = lines(fresh.offer(OFFER + b"a=x-more\r\n", to_tag="b", replace=["origin", "sdp-version"]))
    assert changed[1] == first[1].replace(" 22 ", " 23 ")


def test_what_a_port_learned_is_added_without_writing_the_session_again(tmp_path: Path) -> None:
    driver, keeper = kept(tmp_path)
    driver.offer(OFFER)
    driver.answer(ANSWER)
    flush(keeper, 1.0)
    plane = plane_of(driver.engine)
    flow = min(plane.settings)
    learned = Learned(BEHIND_NAT, BEHIND_NAT, True, Rank.NEITHER, 3.5)
    plane.counted[flow] = FlowFigures(learned=learned)
    plane.waiting.append(FlowEvent(flow, FlowEventKind.LATCHED, BEHIND_NAT, Rank.NEITHER, 3.5))
    work = keeper.collect(2.0)
    assert work is not None
    assert [list(json.loads(line)) for line in work.data.splitlines()] == [["learned"]]
    keeper.done(keeper.write(work), 2.0)
    killed(keeper)
    local = plane.locals[flow]
    fresh, _ = kept(tmp_path)
    assert plane_of(fresh.engine).figures(plane_of(fresh.engine).flow(local)).learned == learned


def test_refused_sources_are_nothing_to_write(tmp_path: Path) -> None:
    driver, keeper = kept(tmp_path)
    driver.offer(OFFER)
    flush(keeper, 1.0)
    plane = plane_of(driver.engine)
    plane.waiting.append(FlowEvent(min(plane.settings), FlowEventKind.REJECTED, BEHIND_NAT, Rank.NEITHER, 3.5))
    assert keeper.collect(2.0) is None


def test_a_call_that_ended_does_not_come_back(tmp_path: Path) -> None:
    driver, keeper = kept(tmp_path)
    driver.offer(OFFER)
    flush(keeper, 1.0)
    driver.ask("delete", call_id="c1", from_tag="a")
    flush(keeper, 2.0)
    killed(keeper)
    assert kept(tmp_path)[0].engine.sessions == {}


def test_after_a_fault_of_the_disk_everything_is_written_anew(tmp_path: Path) -> None:
    driver, keeper = kept(tmp_path)
    driver.offer(OFFER)
    work = keeper.collect(1.0)
    assert work is not None
    keeper.done(OSError(28, "No space left on device"), 1.0)
    again = keeper.collect(1.0 + RETRY)
    assert again is not None
    assert again.begin
    keeper.done(keeper.write(again), 1.0 + RETRY)
    # The sweep goes over half a generation.
    for tick in range(int(GENERATION)):
        flush(keeper, 10.0 + tick / 10)
    killed(keeper)
    assert list(kept(tmp_path)[0].engine.sessions) == ["c1"]


def test_a_session_whose_ports_are_not_free_yet_is_tried_again_and_kept_meanwhile(tmp_path: Path) -> None:
    driver, keeper = kept(tmp_path)
    driver.offer(OFFER)
    flush(keeper, 1.0)
    killed(keeper)
    fresh = Driver()
    ports = {local.port for local in plane_of(driver.engine).locals.values()}
    opener_of(fresh.engine).foreign = ports
    _, keeper = kept(tmp_path, fresh)
    assert fresh.engine.sessions == {}
    soon = clock.monotonic() + 1.0
    flush(keeper, soon)
    killed(keeper)
    again, keeper = kept(tmp_path)
    assert list(again.engine.sessions) == ["c1"]
    killed(keeper)
    _, keeper = kept(tmp_path, fresh)
    opener_of(fresh.engine).foreign = set()
    flush(keeper, soon + 1.0)
    assert list(fresh.engine.sessions) == ["c1"]
    assert fresh.handler.memory.offered("c1", "a")


def test_a_session_that_cannot_be_had_is_given_up_in_the_end(tmp_path: Path) -> None:
    driver, keeper = kept(tmp_path)
    driver.offer(OFFER)
    flush(keeper, 1.0)
    killed(keeper)
    fresh = Driver()
    opener_of(fresh.engine).foreign = {local.port for local in plane_of(driver.engine).locals.values()}
    _, keeper = kept(tmp_path, fresh)
    flush(keeper, clock.monotonic() + PATIENCE + 1.0)
    assert keeper._log.said == ["session not restored"]
    assert list(tmp_path.glob("*.jsonl"))
    flush(keeper, clock.monotonic() + PATIENCE + 2.0)
    killed(keeper)
    assert kept(tmp_path)[0].engine.sessions == {}


def test_many_changes_are_written_bit_by_bit(tmp_path: Path) -> None:
    driver, _ = kept(tmp_path)
    calls = 40
    for number in range(calls):
        driver.offer(OFFER, call_id=f"c{number}")
    changes = driver.engine.take_changes(15)
    assert len(changes.records) == 15
    rest = driver.engine.take_changes(None)
    assert {record["call_id"] for record in (*changes.records, *rest.records)} == {f"c{n}" for n in range(calls)}


def test_a_fault_is_told_once(tmp_path: Path) -> None:
    _, keeper = kept(tmp_path)
    fault = OSError(28, "No space left on device")
    for tick in range(5):
        keeper.done(fault, float(tick))
    assert keeper._log.said == ["sessions cannot be kept over a restart"]


def test_a_second_relay_keeps_nothing_and_says_so(tmp_path: Path) -> None:
    kept(tmp_path)
    driver, second = kept(tmp_path)
    driver.offer(OFFER)
    assert second._log.said == ["another relay keeps its sessions here: ours will not survive a restart"]
    assert second.collect(1.0) is None
    assert driver.engine.changed == set()


def test_work_that_writes_nothing_touches_no_file(tmp_path: Path) -> None:
    _, keeper = kept(tmp_path)
    assert keeper.write(Writing(begin=False, data=b"", forget=False)) is None
    assert list(tmp_path.glob("*.jsonl")) == []


def test_a_memory_that_makes_no_sense_is_left_alone() -> None:
    memory = CallMemory()
    for data in ({"offers": 7}, {"offers": {"a": [1]}}, {"shown": {"a": [1, 2]}}, {"shown": {"a": 5}}):
        memory.thaw("c", data)
    assert len(memory) == 0
