"""The running bundle, a real Prometheus and a real call: every panel's query and every rule must find its series."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.grafana.dashboards import GRAFANA, expressions

pytestmark = [pytest.mark.interop, pytest.mark.slow]

# Panels that show something only when something is wrong, or that need more than one short call can give.
QUIET = {
    ("capacity", "Kernel overflow"),
    ("media", "Round trip"),
    ("overview", "Alerts firing"),
    ("overview", "Drops"),
    ("sip", "Round trip"),
}
LAST_WEEK = "offset 1w"
CALL_SECONDS = 14
NATTRAV = [sys.executable, "-m", "nattrav.cli"]


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)


def wait(found: Any, *, within: float = 30) -> None:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if found():
                return
        time.sleep(0.2)
    raise AssertionError("waited in vain")


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Prometheus that has watched one call and some STUN."""
    if shutil.which("prometheus") is None:
        pytest.skip("needs prometheus: apt install prometheus")
    place = tmp_path_factory.mktemp("watched")
    admin, sip, web, stun = free_port(), free_port(), free_port(), free_port(socket.SOCK_DGRAM)
    (place / "nattrav.toml").write_text(
        f'[admin]\nlisten = ["127.0.0.1:{admin}"]\n[stun]\nlisten = ["127.0.0.1"]\nport = {stun}\n'
        f'[sip]\nlisten = ["127.0.0.1:{sip}"]\ndomains = ["test.example"]\n'
        '[sip.registrar]\nauthentication = "none"\n'
        '[relay]\ninterfaces = ["default/127.0.0.1"]\nports = "40000-40999"\n[control]\nlisten = ["unix:auto"]\n'
        f'[[upstream]]\nname = "gateway"\ntarget = "127.0.0.1:{free_port(socket.SOCK_DGRAM)}"\nprefixes = ["00"]\n'
    )
    (place / "prometheus.yml").write_text(
        f"global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{GRAFANA}/rules/*.yml]\n"
        f"scrape_configs: [{{job_name: nattrav, static_configs: [{{targets: ['127.0.0.1:{admin}']}}]}}]\n"
    )
    run = [*NATTRAV, "--runtime-dir", str(place / "run")]
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((place / "log").open("w"))
        for command in (
            [*run, "run", "--config", str(place / "nattrav.toml")],
            [
                "prometheus",
                f"--config.file={place}/prometheus.yml",
                f"--storage.tsdb.path={place}/tsdb",
                f"--web.listen-address=127.0.0.1:{web}",
            ],
        ):
            process = subprocess.Popen(command, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        url = f"http://127.0.0.1:{web}"
        wait(lambda: subprocess.run([*run, "status", "--check"], capture_output=True, check=False).returncode == 0)
        wait(lambda: get(f"{url}/api/v1/query?query=nattrav_ready")["data"]["result"])
        call = subprocess.Popen(
            [*run, "selftest", "--domain", "test.example", "--seconds", str(CALL_SECONDS)],
            stdout=subprocess.PIPE,
            text=True,
        )
        while call.poll() is None:
            subprocess.run([*NATTRAV, "stun", "probe", f"127.0.0.1:{stun}"], capture_output=True, check=False)
            time.sleep(1)
        assert call.returncode == 0, call.communicate()[0]
        call.communicate()
        time.sleep(3)
        yield url


def query(prometheus: str, expression: str) -> dict[str, Any]:
    answer: dict[str, Any] = get(f"{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
    return answer


def test_no_panel_is_empty(prometheus: str) -> None:
    empty = []
    for dashboard, panel, expression in expressions():
        if LAST_WEEK in expression:
            continue
        answer = query(prometheus, expression)
        assert answer["status"] == "success", expression
        if not answer["data"]["result"] and (dashboard, panel) not in QUIET:
            empty.append(f"{dashboard} / {panel}: {expression}")
    assert not empty, "\n".join(empty)


def test_dashboards_can_be_drawn_from_real_data(prometheus: str, tmp_path: Path) -> None:
    drawn = subprocess.run(
        [sys.executable, str(GRAFANA / "pictures.py"), prometheus, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert drawn.returncode == 0, drawn.stderr
    assert {path.stem for path in tmp_path.glob("*.png")} == {path.stem for path in GRAFANA.glob("dashboards/*.json")}


def test_every_rule_is_evaluated_without_errors(prometheus: str) -> None:
    groups = get(f"{prometheus}/api/v1/rules")["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 20
    assert [(rule["name"], rule["lastError"]) for rule in rules if rule["health"] == "err"] == []


def test_a_healthy_bundle_raises_no_alarm_but_that_it_was_started(prometheus: str) -> None:
    firing = {
        one["labels"]["alertname"]
        for one in get(f"{prometheus}/api/v1/alerts")["data"]["alerts"]
        if one["state"] == "firing"
    }
    assert firing <= {"NattravRestarted"}


def test_the_live_scrape_has_nothing_for_promtool_to_complain_about(prometheus: str) -> None:
    (target,) = get(f"{prometheus}/api/v1/targets")["data"]["activeTargets"]
    with urllib.request.urlopen(target["scrapeUrl"]) as answer:
        text = answer.read()
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout) == (0, b"")


def test_series_stay_within_their_budget(prometheus: str) -> None:
    (result,) = query(prometheus, 'count({__name__=~"nattrav_.+"})')["data"]["result"]
    assert int(result["value"][1]) < 1500
