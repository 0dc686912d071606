"""`nattrav flows` against a running proxy."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import trio

from nattrav.cli.app import run
from tests.proxy.playbook import request
from tests.proxy.test_proxy_daemon import Party, running


async def nattrav(directory: Path, *words: str) -> int:
    return await trio.to_thread.run_sync(partial(run, [*words, "--runtime-dir", str(directory)]))


async def test_flows_are_listed_with_what_hangs_on_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with running(tmp_path) as proxy:
        phone = await Party().bind()
        register = request("REGISTER", f"sip:{proxy.sip}", to=f"<sip:alice@{proxy.sip}>", headers="Expires: 60\r\n")
        await phone.send(proxy.sip, register)
        assert (await phone.receive()).status == 200
        stream = await trio.open_tcp_stream("127.0.0.1", proxy.tcp.port)
        await stream.send_all(request("OPTIONS", f"sip:{proxy.tcp}", contact=None).replace("/UDP", "/TCP").encode())
        with trio.fail_after(10):
            await stream.receive_some()
        capsys.readouterr()

        assert await nattrav(tmp_path, "flows", "list", "--json") == 0
        rows = {row["transport"]: row for row in json.loads(capsys.readouterr().out)["items"]}
        (aor,) = rows["udp"]["registrations"]
        assert aor.startswith("alice@")
        assert (rows["udp"]["peer"], rows["udp"]["state"]) == (str(phone.address), "stateless")
        assert (rows["tcp"]["state"], rows["tcp"]["registrations"]) == ("open", [])

        assert await nattrav(tmp_path, "flows", "list", str(phone.address)) == 0
        table = capsys.readouterr().out.splitlines()
        assert len(table) == 2
        assert all(len(line) <= 80 for line in table)
        assert await nattrav(tmp_path, "flows", "show", str(phone.address)) == 0
        assert "alice@" in capsys.readouterr().out
        assert await nattrav(tmp_path, "flows", "show", "192.0.2.1") == 4

        assert await nattrav(tmp_path, "flows", "forget", "udp:192.0.2.1:5060", "--yes") == 4
        assert await nattrav(tmp_path, "flows", "forget", rows["udp"]["flow"]) == 2
        capsys.readouterr()
        assert await nattrav(tmp_path, "flows", "forget", rows["udp"]["flow"], "--dry-run", "--json") == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["registrations"], told["closed"]) == ([aor], 0)
        assert await nattrav(tmp_path, "flows", "forget", rows["udp"]["flow"], "--yes") == 0
        assert await nattrav(tmp_path, "registrations", "show", "alice") == 4
        assert await nattrav(tmp_path, "flows", "forget", rows["tcp"]["flow"], "--yes") == 0
        with trio.fail_after(5):
            assert await stream.receive_some() == b""
        assert await nattrav(tmp_path, "flows", "list", "--filter", "x") == 2
        await stream.aclose()
