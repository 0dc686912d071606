"""`nattrav selftest` against the real bundle, as anybody may run it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIGURATION = """
[node]
state_directory = "{directory}/state"
[admin]
listen = []
[stun]
listen = ["127.0.0.1"]
port = 19462
[sip]
listen = ["udp:127.0.0.1:19460"]
{registrar}
[relay]
interfaces = ["default/127.0.0.1"]
ports = "19900-19959"
[control]
listen = ["unix:auto"]
"""
USERS = """
[[user]]
name = "alice"
password = "secret"
"""


@pytest.mark.parametrize("registrar", ["", '[sip.registrar]\nauthentication = "digest"\n' + USERS])
def test_two_built_in_phones_hear_each_other_through_the_bundle(tmp_path: Path, registrar: str) -> None:
    (tmp_path / "n.toml").write_text(CONFIGURATION.format(directory=tmp_path, registrar=registrar))
    nattrav = [sys.executable, "-m", "nattrav.cli", "--runtime-dir", str(tmp_path / "run")]
    with (tmp_path / "log").open("w") as log:
        bundle = subprocess.Popen([*nattrav, "run", "--config", tmp_path / "n.toml"], cwd=ROOT, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while subprocess.run([*nattrav, "status", "--check"], capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
        done = subprocess.run([*nattrav, "selftest", "--seconds", "1", "--json"], capture_output=True, check=False)
        report = json.loads(done.stdout)
        assert [step for step in report["steps"] if not step["ok"]] == []
        assert len(report["steps"]) == 12
        assert report["verdict"] == "both"
        assert done.returncode == 0
        left = subprocess.run([*nattrav, "registrations", "list", "--json"], capture_output=True, check=True)
        assert json.loads(left.stdout)["items"] == []
        wrong = [*nattrav, "selftest", "--caller", "nobody:x", "--callee", "alice:y", "--json"]
        refused = subprocess.run(wrong, capture_output=True, check=False)
        if registrar:
            assert refused.returncode == 1
            assert json.loads(refused.stdout)["steps"][0]["ok"] is False
    finally:
        bundle.send_signal(signal.SIGTERM)
        bundle.wait(10)
