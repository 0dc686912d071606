"""`nattrav status --nagios`: what is fine, what is a warning, what is critical."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nattrav.cli.app import run
from nattrav.cli.nagios import judge

STATE: dict[str, Any] = {"not_ready": [], "draining": False, "waiting_for_restart": [], "uptime": 61.4}
TILES: dict[str, Any] = {"calls": 12.0, "registrations": 340.0, "one_way": 0.0, "no_media": 0.0, "ports_share": 0.1234}


def test_a_bundle_that_is_well_tells_its_figures() -> None:
    line, code = judge(STATE, TILES)
    assert code == 0
    assert line == (
        "NATTRAV OK - 12 calls, 340 registrations | calls=12 registrations=340 one_way=0;1 no_media=0 "
        "ports=12.34%;80;95 uptime=61s"
    )


@pytest.mark.parametrize(
    ("state", "tiles", "code", "told"),
    [
        ({"not_ready": ["relay is down"]}, {}, 2, "CRITICAL - relay is down"),
        ({"not_ready": ["draining"], "draining": True}, {}, 1, "WARNING - draining"),
        ({"waiting_for_restart": ["sip.listen"]}, {}, 1, "wait for a restart: sip.listen"),
        ({}, {"one_way": 2.0}, 1, "2 calls are one-way"),
        ({}, {"ports_share": 0.85}, 1, "85% of the relay's ports"),
        ({}, {"ports_share": 0.96}, 2, "96% of the relay's ports"),
        ({}, {"ports_share": None}, 0, "ports=0.00%"),
        ({"not_ready": ["relay is down", "draining"], "draining": True}, {}, 2, "relay is down; draining"),
    ],
)
def test_each_trouble_has_its_severity(state: dict[str, Any], tiles: dict[str, Any], code: int, told: str) -> None:
    line, found = judge(STATE | state, TILES | tiles)
    assert found == code
    assert told in line


def test_no_daemon_is_critical_and_a_socket_that_may_not_be_used_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["status", "--nagios", "--runtime-dir", str(tmp_path)]
    assert run(words) == 2
    assert capsys.readouterr().out.startswith("NATTRAV CRITICAL - no running supervisor found")
    (tmp_path / "supervisor.sock").touch()
    monkeypatch.setattr("os.access", lambda *_: False)
    assert run(words) == 3
    assert capsys.readouterr().out.startswith("NATTRAV UNKNOWN - not allowed to use")
