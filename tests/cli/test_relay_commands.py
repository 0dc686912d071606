"""`nattrav sessions`, `ports` and `relay` against a running relay."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import trio

from nattrav.cli.app import run
from nattrav.cli.relay_tables import bar, duration, rate
from tests.daemon.test_relay import configuration, phones, place_call, running


@pytest.fixture
def seen(capsys: pytest.CaptureFixture[str]) -> pytest.CaptureFixture[str]:
    return capsys


async def nattrav(directory: Path, *words: str) -> int:
    return await trio.to_thread.run_sync(partial(run, [*words, "--runtime-dir", str(directory)]))


async def test_sessions_and_ports_are_shown_and_ended(tmp_path: Path, seen: pytest.CaptureFixture[str]) -> None:
    async with running(configuration(), tmp_path), phones(2) as (alice, bob):
        for_bob, for_alice = await place_call("call-\x1b[31m1", alice, bob)
        await alice.send(for_alice, b"1")
        await bob.send(for_bob, b"2")
        assert await bob.receive() == b"1"
        await trio.sleep(0.1)
        seen.readouterr()

        assert await nattrav(tmp_path, "sessions", "list") == 0
        table = seen.readouterr().out
        assert "\x1b" not in table
        assert "answered" in table

        assert await nattrav(tmp_path, "sessions", "list", "--json") == 0
        (row,) = json.loads(seen.readouterr().out)["items"]
        assert row["packets"] == 2
        call_id = row["call_id"]

        assert await nattrav(tmp_path, "sessions", "show", call_id) == 0
        text = seen.readouterr().out
        assert "\x1b" not in text
        assert f"learned 127.0.0.1:{alice.port} latched (exact)" in text
        assert "a -> b: flows, 1 received, 1 passed on" in text

        assert await nattrav(tmp_path, "ports", "pools") == 0
        assert "[#" in seen.readouterr().out
        assert await nattrav(tmp_path, "ports", "list", "--state", "used", "--json") == 0
        held_ports = json.loads(seen.readouterr().out)["items"]
        assert {row["call_id"] for row in held_ports} == {call_id}
        assert len(held_ports) == 4
        assert await nattrav(tmp_path, "ports", "list", "--state", "odd") == 2
        assert await nattrav(tmp_path, "ports", "quarantine") == 0
        assert "no port rests" in seen.readouterr().err
        assert await nattrav(tmp_path, "ports", "show", str(for_alice), "--json") == 0
        (held,) = json.loads(seen.readouterr().out)["items"]
        assert (held["state"], held["component"], held["tag"]) == ("used", "rtp", "a")
        assert await nattrav(tmp_path, "ports", "show", "99") == 4

        assert await nattrav(tmp_path, "ports", "free", "--json") == 0
        (room,) = json.loads(seen.readouterr().out)["items"]
        assert (room["free"], room["pairs"]) == (396, 198)
        assert await nattrav(tmp_path, "ports", "leaks") == 0
        assert "no port leaks" in seen.readouterr().err

        assert await nattrav(tmp_path, "relay", "top", "--once", "--interval", "0.2") == 0
        assert "sessions 1" in seen.readouterr().out
        assert await nattrav(tmp_path, "sessions", "stats", "--json") == 0
        assert json.loads(seen.readouterr().out)["answered"] == 1

        assert await nattrav(tmp_path, "sessions", "kill", call_id) == 2
        assert await nattrav(tmp_path, "sessions", "kill", "--all", "--yes") == 2
        seen.readouterr()
        assert await nattrav(tmp_path, "sessions", "kill", "--all", "--dry-run", "--json") == 0
        assert json.loads(seen.readouterr().out) == {"schema": 1, "ended": 1, "dry_run": True}
        assert await nattrav(tmp_path, "sessions", "kill", "none-like-this", "--yes") == 4
        assert await nattrav(tmp_path, "sessions", "kill", call_id, "--yes") == 0
        assert await nattrav(tmp_path, "sessions", "show", call_id) == 4
        seen.readouterr()
        assert await nattrav(tmp_path, "ports", "quarantine", "--json") == 0
        resting = json.loads(seen.readouterr().out)["items"]
        assert len(resting) == 4
        assert all(row["state"] == "quarantined" and row["free_in"] > 0 for row in resting)
        assert await nattrav(tmp_path, "relay", "drain") == 0
        assert await nattrav(tmp_path, "relay", "undrain") == 0


async def test_sessions_are_chosen_by_conditions_and_pools(tmp_path: Path, seen: pytest.CaptureFixture[str]) -> None:
    async with running(configuration(), tmp_path), phones(4) as (alice, bob, carol, dave):
        for_bob, _ = await place_call("heard", alice, bob)
        await place_call("silent", carol, dave)
        await alice.send(for_bob, b"1")
        await trio.sleep(0.1)

        async def listed(*words: str) -> list[str]:
            seen.readouterr()
            assert await nattrav(tmp_path, "sessions", "list", "--json", *words) == 0
            return [row["call_id"] for row in json.loads(seen.readouterr().out)["items"]]

        assert await listed() == ["silent", "heard"]
        assert await listed("--filter", "packets>0") == ["heard"]
        assert await listed("--filter", "packets=0 and age<1h") == ["silent"]
        assert await listed("--filter", "interfaces=public", "--limit", "1") == ["silent"]
        assert await listed("--pool", "public") == ["silent", "heard"]
        assert await listed("--pool", "127.0.0.1", "--match", "hea") == ["heard"]
        assert await nattrav(tmp_path, "sessions", "list", "--pool", "moon") == 4
        assert "known are 127.0.0.1, public" in seen.readouterr().err
        assert await nattrav(tmp_path, "sessions", "list", "--filter", "mos<<3") == 2
        assert "found '<', at character 5: mos< <-- HERE <3" in seen.readouterr().err
        assert await nattrav(tmp_path, "sessions", "list", "--filter", "mos>5") == 0
        assert "no session is like that" in seen.readouterr().err


async def test_without_a_relay_the_places_tried_are_named(tmp_path: Path, seen: pytest.CaptureFixture[str]) -> None:
    assert await nattrav(tmp_path, "sessions", "list") == 3
    assert "relay.sock" in seen.readouterr().err


def test_a_bar_shows_use_rest_and_room() -> None:
    assert bar({"total": 100, "used": 50, "quarantined": 20}, 10) == "[#####~~...]"
    assert bar({"total": 10000, "used": 1, "quarantined": 0}, 10) == "[#.........]"
    assert bar({"total": 0, "used": 0, "quarantined": 0}, 4) == "[....]"


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (0.25, "0.2s"), (59.9, "59.9s"), (61, "1m01s"), (3725, "1h02m")]
)
def test_spans_are_written_the_short_way(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(7, "7"), (12345, "12.3k"), (2.5e6, "2.5M"), (3e9, "3.0G")])
def test_rates_are_written_the_short_way(value: float, text: str) -> None:
    assert rate(value) == text
