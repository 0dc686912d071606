from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio

from tests.daemon.page.browser import browse
from tests.free_port import free_port

pytestmark = [pytest.mark.interop, pytest.mark.slow]

NATTRAV = [sys.executable, "-m", "nattrav.cli"]


def wait_ready(run: list[str], log: Path) -> None:
    deadline = time.monotonic() + 30
    while subprocess.run([*run, "status", "--check"], capture_output=True, check=False).returncode:
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


async def test_the_page_shows_a_call_while_it_is_up(tmp_path: Path) -> None:
    admin, sip = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
    file, log = tmp_path / "nattrav.toml", tmp_path / "log"
    file.write_text(
        f'[node]\nname = "edge-1"\n[admin]\nlisten = ["127.0.0.1:{admin}"]\n[control]\nlisten = ["unix:auto"]\n'
        f'[stun]\nlisten = ["127.0.0.1"]\nport = {free_port(socket.SOCK_DGRAM)}\n'
        f'[sip]\nlisten = ["udp:127.0.0.1:{sip}"]\ndomains = ["voice.example"]\n'
        '[[user]]\nname = "+4989123456"\npassword = "horse-battery"\n'
        '[[user]]\nname = "+4989654321"\npassword = "staple-correct"\n'
        '[relay]\ninterfaces = ["default/127.0.0.1"]\nports = "27000-27999"\n'
    )
    run = [*NATTRAV, "--runtime-dir", str(tmp_path / "run")]
    call = [*run, "selftest", "--domain", "voice.example", "--seconds", "8"]
    call += ["--caller", "+4989123456:horse-battery", "--callee", "+4989654321:staple-correct"]
    with contextlib.ExitStack() as stack:
        for command, output in (([*run, "run", "--config", str(file)], log), (call, tmp_path / "call")):
            text = stack.enter_context(output.open("w"))
            process = subprocess.Popen(command, stdout=text, stderr=text)  # noqa: ASYNC220
            stack.callback(process.wait)
            stack.callback(process.terminate)
            if command is not call:
                await trio.to_thread.run_sync(wait_ready, run, log)
        async with browse(f"http://127.0.0.1:{admin}/", tmp_path / "profile") as tab:
            await tab.wait("document.querySelector('#calls tbody')?.innerText.includes('both ways')")
            await tab.wait("parseInt(document.querySelector('[data-tile=packets_per_second]').textContent) > 50")
            calls = await tab.value("document.querySelector('#calls tbody').innerText")
            assert "••••••56" in calls
            assert await tab.value("document.querySelector('[data-tile=registrations]').textContent") == "2"
            await tab.picture(tmp_path / "page.png")
            assert tab.complaints == []
        assert process.wait(30) == 0, (tmp_path / "call").read_text()
        with trio.fail_after(10):
            # The relay is told of ends a moment later, several at a time.
            while "session closed" not in log.read_text():  # noqa: ASYNC110
                await trio.sleep(0.1)
    written = log.read_text()
    secrets = ("4989123456", "4989654321", "horse-battery", "staple-correct", "response=", "nonce=")
    assert [secret for secret in secrets if secret in written] == []
