from __future__ import annotations

import io
import json
from typing import Any

import pytest

from nattrav.config.log import LogSection
from nattrav.daemon.log_masks import mask
from nattrav.daemon.logs import Log
from nattrav.metrics.samples import Samples


class Clock:
    """A clock that stands until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def make(**settings: Any) -> tuple[Any, Log, io.StringIO, Clock]:
    stream, clock = io.StringIO(), Clock()
    log = Log("proxy", LogSection(**{"format": "json"} | settings), node="edge-1", stream=stream, now=clock)
    return log.logger(), log, stream, clock


def test_a_line_has_time_level_node_role_event_and_its_keys() -> None:
    logger, _, stream, _ = make()
    logger.warning("call refused", call_id="abc", reason="no_relay")
    (line,) = lines(stream)
    assert {key: line[key] for key in ("level", "node", "role", "event", "call_id", "reason")} == {
        "level": "warning",
        "node": "edge-1",
        "role": "proxy",
        "event": "call refused",
        "call_id": "abc",
        "reason": "no_relay",
    }
    assert line["time"].endswith("+00:00")


def test_levels_change_at_run_time() -> None:
    logger, log, stream, _ = make()
    logger.debug("unseen")
    assert log.set_level("debug") == {"role": "proxy", "level": "debug"}
    logger.debug("seen")
    assert log.set_level("") == {"role": "proxy", "level": "debug"}
    with pytest.raises(ValueError, match="choose one of debug"):
        log.set_level("loud")
    assert [line["event"] for line in lines(stream)] == ["seen"]


def test_a_level_of_its_own_beats_the_general_one() -> None:
    logger, _, stream, _ = make(level="error", levels={"proxy": "info"})
    logger.info("seen")
    assert len(lines(stream)) == 1


def test_repeats_from_one_source_are_left_out_and_told_when_the_minute_is_over() -> None:
    logger, log, stream, clock = make(repeats_per_minute=3)
    for _ in range(1000):
        logger.warning("scanner banned", src="192.0.2.66")
    logger.warning("scanner banned", src="192.0.2.67")
    log.settle()
    assert len(lines(stream)) == 4
    clock.now = 61
    log.settle()
    told = lines(stream)[-1]
    assert (told["event"], told["of"], told["count"]) == ("repeats left out", "scanner banned", 997)
    assert (told["level"], told["role"], told["node"]) == ("warning", "proxy", "edge-1")
    log.settle()
    logger.warning("scanner banned", src="192.0.2.66")
    assert len(lines(stream)) == 6


def test_an_attack_from_many_sources_fills_no_disk() -> None:
    logger, _, stream, clock = make(repeats_per_minute=10)
    for number in range(100_000):
        clock.now = number * 0.01
        logger.warning("source_banned", src=f"198.51.{number % 256}.{number % 251}", reason="malformed")
    # A thousand seconds: 17 minutes of at most a hundred lines and one that counts the rest.
    assert len(lines(stream)) <= 17 * 101
    assert sum(line.get("count", 1) for line in lines(stream)) > 90_000


def test_an_attack_does_not_hide_other_events() -> None:
    logger, _, stream, _ = make(repeats_per_minute=10)
    for number in range(10_000):
        logger.warning("source_banned", src=str(number))
    logger.error("relay_answer_failed", call_id="a")
    assert lines(stream)[-1]["event"] == "relay_answer_failed"


def test_debug_lines_are_never_left_out() -> None:
    logger, _, stream, _ = make(level="debug", repeats_per_minute=1)
    for _ in range(50):
        logger.debug("a service did not answer")
    assert len(lines(stream)) == 50


def test_numbers_and_credentials_are_masked_above_debug() -> None:
    logger, _, stream, _ = make(level="debug")
    logger.info("registered", aor="sip:+498912345678@example.com", header='Digest response="deadbeef", qop=auth')
    logger.debug("registered", aor="sip:+498912345678@example.com")
    first, second = lines(stream)
    assert first["aor"] == "sip:***********78@example.com"
    assert "deadbeef" not in first["header"]
    assert second["aor"] == "sip:+498912345678@example.com"


def test_addresses_and_short_numbers_are_not_masked() -> None:
    text = "192.168.100.200:5060 [2001:db8::1234]:30000 user=1234 port 30000"
    assert mask(text) == text


@pytest.mark.parametrize(
    ("key", "text", "shown"),
    [
        ("aor", "sip:alice@example.com", "sip:***ce@example.com"),
        ("aor", "al@example.com", "**@example.com"),
        ("uri", "<sips:+4989123@[2001:db8::1]:5061>", "<sips:******23@[2001:db8::1]:5061>"),
        ("flow", "udp:192.0.2.1:5060<>203.0.113.77:61234", "udp:192.0.2.*:5060<>203.0.113.*:61234"),
        ("next_hop", "[2001:db8:5:6::77]:5060", "[2001:db8:5:*]:5060"),
        ("src", "203.0.113.77", "203.0.113.77"),
        ("reason", 'Digest nonce="abc", response="deadbeef"', 'Digest nonce="***", response="***"'),
    ],
)
def test_subscribers_and_their_places_are_masked_and_attackers_shown(key: str, text: str, shown: str) -> None:
    assert mask(text, key) == shown


def test_call_ids_stay_whole_so_that_a_call_can_be_looked_up() -> None:
    logger, _, stream, _ = make()
    logger.warning("relay_offer_failed", call_id="1234567890@192.0.2.7", reason="all [sip:1234567890@x]")
    (line,) = lines(stream)
    assert line["call_id"] == "1234567890@192.0.2.7"
    assert "1234567890" not in line["reason"]


def test_numbers_in_lists_are_masked_too() -> None:
    logger, _, stream, _ = make()
    logger.error("configuration refused", reason=["user +498912345678 is listed 2 times"])
    assert "+498912345678" not in stream.getvalue()


def test_human_lines_are_one_line_and_show_control_characters() -> None:
    logger, _, stream, _ = make(format="human")
    logger.info("phone\nregistered", user_agent="evil\x1b[2J\nx y")
    (line,) = stream.getvalue().splitlines()
    assert 'phone\\nregistered  user_agent="evil\\x1b[2J\\nx y"' in line


def test_exceptions_carry_their_traceback_and_records_are_counted() -> None:
    stream, samples = io.StringIO(), Samples()
    logger = Log("relay", LogSection(format="json"), samples=samples, stream=stream).logger()
    try:
        raise KeyError("x")
    except KeyError:
        logger.exception("broken")
    (line,) = lines(stream)
    assert "KeyError" in line["exception"]
    assert samples.value("nattrav_log_records_total", "error") == 1


def test_journal_lines_carry_their_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    logger, _, stream, _ = make(format="auto")
    logger.error("x")
    assert stream.getvalue().startswith("<3>{")


def test_a_level_set_at_run_time_holds_until_the_configured_one_changes() -> None:
    logger, log, stream, _ = make(level="info")
    log.set_level("debug")
    log.take(LogSection(format="json", level="info", repeats_per_minute=99))
    logger.debug("still told")
    log.take(LogSection(format="json", level="warning"))
    logger.info("no longer told")
    logger.warning("told")
    assert [line["event"] for line in lines(stream)] == ["still told", "told"]


def test_the_format_and_the_limit_of_repeats_follow() -> None:
    logger, log, stream, _ = make()
    log.take(LogSection(format="human", repeats_per_minute=1))
    for _ in range(3):
        logger.info("hello")
    assert len(stream.getvalue().splitlines()) == 1
    assert not stream.getvalue().startswith("{")
