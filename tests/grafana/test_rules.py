"""Recording rules and alerts: promtool accepts them, each alert fires when it should and stays quiet when not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))

from dashboards import GRAFANA, SERIES, selectors

RULES = sorted((GRAFANA / "rules").glob("*.yml"))
RUNBOOKS = GRAFANA.parent / "docs" / "operations" / "runbooks.md"


def rules() -> list[dict[str, Any]]:
    return [rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


ALERTS = [rule for rule in rules() if "alert" in rule]


def promtool(*arguments: object) -> subprocess.CompletedProcess[str]:
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool: apt install prometheus")
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.mark.interop
def test_promtool_finds_nothing_to_complain_of() -> None:
    done = promtool("check", "rules", "--lint=all", *RULES)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.interop
def test_every_alert_fires_and_stays_quiet_as_its_cases_say() -> None:
    done = promtool("test", "rules", GRAFANA / "tests" / "alerts.test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.interop
def test_recorded_ratios_are_what_their_names_say() -> None:
    done = promtool("test", "rules", GRAFANA / "tests" / "rules.test.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    asked = {one["expr"] for case in yaml.safe_load((GRAFANA / "tests" / "rules.test.yml").read_text())["tests"]
             for one in case["promql_expr_test"]}  # fmt: skip
    assert asked == {rule["record"] for rule in rules() if "record" in rule}


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    cases = {case["name"] for case in yaml.safe_load((GRAFANA / "tests" / "alerts.test.yml").read_text())["tests"]}
    wanted = {f"{rule['alert']} {what}" for rule in ALERTS for what in ("fires", "stays quiet")}
    assert wanted == cases


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule.get("record"))
def test_rules_ask_for_metrics_that_exist(rule: dict[str, Any]) -> None:
    recorded = {other["record"] for other in rules() if "record" in other}
    for name, labels in selectors(rule["expr"]):
        assert name in SERIES, name
        assert labels <= SERIES[name] | {"job", "instance"}, (name, labels)
    for word in rule["expr"].replace("(", " ").split():
        if word.startswith(("job:", "instance:")):
            assert word in recorded, f"{word} is not recorded"


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["description"].endswith(".")
    anchor = rule["annotations"]["runbook_url"].rpartition("#")[2]
    assert anchor == rule["alert"].lower()
    assert f"### {rule['alert']}" in RUNBOOKS.read_text()
