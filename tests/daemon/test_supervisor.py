"""The supervisor as a process with small test roles: start, table, restart, refusal, and an end without remains."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from nattrav.control.socket.io.client import Unreachable, ask
from nattrav.control.socket.messages import VerbError

ROOT = Path(__file__).parents[2]
ROLES = dict.fromkeys(("stun", "relay", "proxy"), "tests.daemon.roles.serving")


class Bundle:
    """A bundle started in a directory of its own."""

    def __init__(self, directory: Path, modules: dict[str, str], text: str = "") -> None:
        self.directory = directory
        (directory / "n.toml").write_text(
            f'[admin]\nlisten = ["127.0.0.1:0"]\n[node]\nstate_directory = "{directory}/state"\n{text}'
        )
        code = (
            "import sys; from pathlib import Path; from nattrav.daemon.bundle import run_bundle\n"
            "from nattrav.daemon.runtime import StartRefused\n"
            f"try: run_bundle(Path('{directory}/n.toml'), Path('{directory}/run'), modules={modules!r})\n"
            "except StartRefused as refused: sys.exit(f'nattrav: {refused}')\n"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def ask(self, role: str, verb: str = "status", /, **args: Any) -> Any:
        return trio.run(ask, self.directory / "run" / f"{role}.sock", verb, args)

    def wait_ready(self, *, within: float = 15) -> dict[str, Any]:
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            with contextlib.suppress(Unreachable):
                status: dict[str, Any] = self.ask("supervisor")
                if status["ready"]:
                    return status
            assert self.process.poll() is None, self.process.communicate()[1]
            time.sleep(0.05)
        raise AssertionError("not ready")

    def pids(self) -> dict[str, int]:
        return {service["role"]: service["pid"] for service in self.wait_ready()["services"]}

    def end(self) -> str:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        return self.process.communicate(timeout=10)[1]


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: list[int], within: float = 6) -> bool:
    deadline = time.monotonic() + within
    while any(map(lives, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(lives, pids))


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Bundle]:
    started = Bundle(tmp_path, ROLES, 'name = "edge-1"')
    yield started
    with contextlib.suppress(ProcessLookupError):
        os.killpg(started.process.pid, signal.SIGKILL)
    started.process.communicate()


def test_the_start_prints_what_listens_where_and_warns_of_a_private_address(bundle: Bundle) -> None:
    pids = bundle.pids()
    assert set(pids) == {"stun", "relay", "proxy"}
    told = bundle.end()
    assert bundle.process.returncode == 0
    heading, _, first = told.splitlines()[:3]
    assert heading.split() == ["service", "what", "transport", "listens", "on", "advertised", "as"]
    assert first.split()[:3] == ["relay", "echo", "udp"]
    assert (
        "warning: 192.168.1.5 is advertised for echo, and nobody beyond your own network (private) can reach it" in told
    )
    assert gone(list(pids.values()), 0.1)
    assert not list((bundle.directory / "run").iterdir())
    assert (bundle.directory / "state" / "relay").read_text() == "edge-1"


def test_one_scrape_merges_all_services_and_the_command_line_shows_them(bundle: Bundle) -> None:
    status = bundle.wait_ready()
    (admin,) = [one for one in status["listening"] if one["role"] == "supervisor"]
    with urllib.request.urlopen(f"http://{admin['address']}/metrics") as answer:
        text = answer.read().decode()
    assert "nattrav_stun_response_bytes_total 300.0" in text
    assert 'nattrav_worker_up{role="proxy",worker="process"} 1.0' in text
    assert 'node="edge-1"' in text
    with urllib.request.urlopen(f"http://{admin['address']}/readyz") as answer:
        assert answer.status == 200
    command = [sys.executable, "-m", "nattrav.cli", "--runtime-dir", str(bundle.directory / "run"), "status"]
    shown = subprocess.run([*command, "--check"], capture_output=True, text=True, check=True).stdout
    assert "nattrav 0.1.0 on edge-1: ready" in shown
    assert "192.168.1.5" in shown
    rows = subprocess.run([*command, "-o", "csv", "--fields", "role,up"], capture_output=True, text=True, check=True)
    assert rows.stdout == "role,up\nrelay,yes\nstun,yes\nproxy,yes\n"
    bundle.ask("supervisor", "drain")
    assert subprocess.run([*command, "--check"], capture_output=True, text=True, check=False).returncode == 7


def test_a_killed_service_is_started_again_and_counted(bundle: Bundle) -> None:
    before = bundle.pids()
    os.kill(before["relay"], signal.SIGKILL)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        status = bundle.ask("supervisor")
        after = {service["role"]: service for service in status["services"]}
        if status["ready"] and after["relay"]["up"] and after["relay"]["pid"] != before["relay"]:
            break
        time.sleep(0.05)
    assert after["relay"]["up"]
    assert after["relay"]["restarts"] == 1
    assert after["stun"]["pid"] == before["stun"]
    metrics = bundle.ask("supervisor", "metrics")
    assert [["relay"], 1] in metrics["nattrav_worker_restarts_total"]
    assert [["relay", "process"], 1.0] in metrics["nattrav_worker_up"]
    assert metrics["nattrav_stun_response_bytes_total"] == [[[], 300]]
    assert "killed by SIGKILL" in bundle.end()


def test_services_end_with_a_supervisor_that_was_killed(bundle: Bundle) -> None:
    pids = list(bundle.pids().values())
    bundle.process.kill()
    assert gone(pids)


def test_a_service_that_hangs_is_killed_and_all_is_over_within_five_seconds(bundle: Bundle) -> None:
    pids = bundle.pids()
    path = bundle.directory / "run" / "stun.sock"
    with contextlib.suppress(trio.TooSlowError):
        trio.run(lambda: ask(path, "block", {"seconds": 60}, limit=0.3))
    began = time.monotonic()
    bundle.end()
    assert time.monotonic() - began < 5
    assert gone(list(pids.values()), 0.1)


@pytest.mark.slow
def test_a_service_that_no_longer_answers_is_killed_and_started_again(bundle: Bundle) -> None:
    before = bundle.pids()
    path = bundle.directory / "run" / "stun.sock"
    with contextlib.suppress(trio.TooSlowError):
        trio.run(lambda: ask(path, "block", {"seconds": 60}, limit=0.3))
    assert wait_for(lambda: bundle.ask("supervisor")["services"][1]["pid"] != before["stun"], within=30)
    assert bundle.pids()["relay"] == before["relay"]


def test_ctrl_c_in_the_terminal_ends_everything_cleanly(bundle: Bundle) -> None:
    pids = bundle.pids()
    os.killpg(bundle.process.pid, signal.SIGINT)
    told = bundle.process.communicate(timeout=10)[1]
    assert bundle.process.returncode == 0
    assert "Traceback" not in told
    assert gone(list(pids.values()), 0.1)


def test_a_second_bundle_in_the_same_place_is_refused(bundle: Bundle) -> None:
    bundle.wait_ready()
    second = Bundle(bundle.directory, ROLES)
    told = second.process.communicate(timeout=10)[1]
    assert second.process.returncode == 1
    assert "a nattrav supervisor is running already" in told
    assert "Traceback" not in told
    bundle.wait_ready()


def test_log_levels_change_at_run_time_in_one_service_or_all(bundle: Bundle) -> None:
    bundle.wait_ready()
    assert bundle.ask("supervisor", "log.level", level="debug", logger="relay") == {"relay": "debug"}
    assert bundle.ask("stun", "log.level") == {"role": "stun", "level": "info"}
    assert bundle.ask("supervisor", "log.level", level="error")["proxy"] == "error"


def test_a_taken_port_gives_one_line_and_leaves_nothing_running(tmp_path: Path) -> None:
    failed = Bundle(tmp_path, {**ROLES, "proxy": "tests.daemon.roles.refusing"})
    told = failed.process.communicate(timeout=15)[1]
    assert failed.process.returncode == 1
    assert told == ("nattrav: SIP port 5060/udp on 192.0.2.1 is taken: stop what uses it, or change [sip] listen\n")
    assert not list((tmp_path / "run").iterdir())


def test_a_service_that_breaks_at_start_fails_the_start(tmp_path: Path) -> None:
    failed = Bundle(tmp_path, {**ROLES, "stun": "tests.daemon.roles.broken"})
    told = failed.process.communicate(timeout=15)[1]
    assert failed.process.returncode == 1
    assert "nattrav: the stun ended while it started (exit code 1); its own messages above say why" in told


def wait_for(found: Callable[[], Any], within: float = 10) -> Any:
    deadline = time.monotonic() + within
    while not (value := found()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return value


def test_a_changed_file_is_taken_over_and_a_wrong_one_refused(bundle: Bundle) -> None:
    before = bundle.pids()
    file = bundle.directory / "n.toml"
    good = file.read_text()
    file.write_text(good + '\n[log]\nlevel = "loud"\n')
    told = bundle.ask("supervisor", "config.reload")
    assert not told["accepted"]
    assert "log.level" in told["problems"][0]
    file.write_text(good.replace("edge-1", "edge-2") + '\n[log]\nlevel = "debug"\n')
    told = bundle.ask("supervisor", "config.reload", dry_run=True)
    assert [(one["key"], one["effect"]) for one in told["changes"]] == [
        ("node.name", "after a restart of the bundle"),
        ("log.level", "at once"),
    ]
    assert bundle.ask("stun", "log.level")["level"] == "info"
    bundle.process.send_signal(signal.SIGHUP)
    assert wait_for(lambda: bundle.ask("stun", "log.level")["level"] == "debug")
    assert bundle.pids() == before
    assert bundle.ask("supervisor", "config.show")["log"]["level"] == "debug"
    metrics = bundle.ask("supervisor", "metrics")
    assert metrics["nattrav_config_last_reload_successful"] == [[[], 1]]


def test_a_service_that_cannot_follow_refuses_for_all_and_nothing_is_changed(bundle: Bundle) -> None:
    bundle.wait_ready()
    file = bundle.directory / "n.toml"
    good = file.read_text()
    file.write_text(good + '\n[log]\nlevel = "debug"\n[sip]\nhistory = 13\n')
    told = bundle.ask("supervisor", "config.reload")
    assert not told["accepted"]
    assert "proxy: not with thirteen; choose another number" in told["problems"]
    assert bundle.ask("stun", "log.level")["level"] == "info"
    assert bundle.ask("supervisor", "config.show")["sip"]["history"] == 200
    assert bundle.ask("proxy", "told") == []


def test_what_counts_at_once_is_told_apart_from_what_needs_a_restart(bundle: Bundle) -> None:
    bundle.wait_ready()
    file = bundle.directory / "n.toml"
    file.write_text(
        file.read_text() + '\n[sip]\nhistory = 7\nmode = "redirect"\n[relay]\nports = "40000-40003"\ntimeout = "30s"\n'
        '[[user]]\nname = "alice"\npassword = "secret"\n'
    )
    told = bundle.ask("supervisor", "config.reload")
    assert {one["key"]: one["effect"] for one in told["changes"]} == {
        "sip.history": "at once",
        "sip.mode": "after a restart of the service",
        "relay.ports": "after a restart of the service",
        "relay.timeout": "at once",
        "user[alice]": "at once",
    }
    assert "secret" not in str(told)
    assert told["notes"][0].startswith(
        "needs restart of relay, proxy: nattrav reload --restart (relay: sessions and sockets are kept"
    )
    assert bundle.ask("proxy", "told") == ["history 7"]
    assert bundle.ask("supervisor")["waiting_for_restart"] == ["sip.mode", "relay.ports"]
    again = bundle.ask("supervisor", "config.reload", dry_run=True)
    assert [one["key"] for one in again["changes"]] == ["sip.mode", "relay.ports"]
    before = bundle.pids()
    bundle.ask("supervisor", "config.reload", restart=True)
    after = bundle.pids()
    assert {role for role in after if after[role] != before[role]} == {"relay", "proxy"}
    assert bundle.ask("supervisor")["waiting_for_restart"] == []
    assert bundle.ask("supervisor", "config.reload")["changes"] == []


def test_a_service_restarted_on_purpose_gets_the_new_configuration_and_is_no_crash(bundle: Bundle) -> None:
    before = bundle.pids()
    file = bundle.directory / "n.toml"
    file.write_text(file.read_text().replace("edge-1", "edge-2"))
    assert bundle.ask("supervisor", "config.reload")["accepted"]
    after = bundle.ask("supervisor", "service.restart", role="relay")
    assert after["pid"] != before["relay"]
    assert (bundle.directory / "state" / "relay").read_text() == "edge-2"
    assert (bundle.directory / "state" / "stun").read_text() == "edge-1"
    assert all(service["restarts"] == 0 for service in bundle.wait_ready()["services"])
    with pytest.raises(VerbError, match="choose one of relay"):
        bundle.ask("supervisor", "service.restart", role="turn")


def test_a_service_that_would_refuse_new_calls_turns_readiness_red(bundle: Bundle) -> None:
    (admin,) = [one["address"] for one in bundle.wait_ready()["listening"] if one["role"] == "supervisor"]

    def becomes(status: int) -> str:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"http://{admin}/readyz") as answer:
                    found, text = answer.status, answer.read().decode()
            except urllib.error.HTTPError as refused:
                found, text = refused.code, refused.read().decode()
            if found == status:
                return str(text)
            time.sleep(0.1)
        raise AssertionError(f"{admin} does not say {status}")

    bundle.ask("relay", "refuse", reasons=["no port is free"])
    assert becomes(503) == "no port is free\n"
    with urllib.request.urlopen(f"http://{admin}/healthz") as alive:
        assert alive.status == 200
    bundle.ask("relay", "refuse", reasons=[])
    becomes(200)


def test_draining_turns_readiness_red_reaches_the_services_and_survives_their_restart(bundle: Bundle) -> None:
    status = bundle.wait_ready()
    (admin,) = [one for one in status["listening"] if one["role"] == "supervisor"]
    state = bundle.ask("supervisor", "drain")
    assert state == {"draining": True, "calls": 0, "sessions": 0, "not_told": []}
    assert bundle.ask("relay", "told") == ["relay.drain"]
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://{admin['address']}/readyz")
    assert (refused.value.code, refused.value.read()) == (503, b"draining\n")
    refused.value.close()
    with urllib.request.urlopen(f"http://{admin['address']}/healthz") as answer:
        assert answer.status == 200
    bundle.ask("supervisor", "service.restart", role="relay")
    assert bundle.ask("relay", "told") == ["relay.drain"]
    assert bundle.ask("supervisor", "undrain")["draining"] is False
    assert bundle.ask("proxy", "told") == ["proxy.drain", "proxy.undrain"]
