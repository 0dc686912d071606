"""`nattrav netcheck`: from a report to rows and lines, and once against a running STUN server."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import trio

from nattrav.cli import exit_codes
from nattrav.cli.app import run
from nattrav.cli.netcheck import as_row, block, exit_code, failed, line
from nattrav.config.schema import Configuration
from nattrav.daemon import stun
from nattrav.daemon.runtime import Runtime
from stun.discovery import Dependence
from tests.free_port import free_port

from .test_stun_commands import report

D = Dependence


def test_a_symmetric_nat_and_an_alg_are_shown_in_80_columns() -> None:
    row = as_row("edge.example.net", report(D.ADDRESS_AND_PORT, D.ADDRESS_AND_PORT), "Via sent-by")
    assert (row["udp"], row["ok"], row["mapping"], row["nat"]) == (
        True,
        False,
        "address-and-port-dependent",
        "symmetric",
    )
    text = block(row)
    assert "SIP ALG       Via sent-by" in text
    assert "not measured (--lifetime)" in text
    assert len(line(row)) <= 80
    assert " ALG " in line(row)


def test_a_silent_server_is_said_to_be_silent() -> None:
    row = as_row("a", report(D.INDEPENDENT, None), None)
    assert (row["udp"], row["advice"].split(":")[0]) == (False, "Nothing answers")


def test_the_exit_code_tells_well_ill_and_silent() -> None:
    good = as_row("a", report(D.INDEPENDENT, D.INDEPENDENT), "")
    assert exit_code([good]) == exit_codes.OK
    assert exit_code([good, failed("b", "cannot be reached")]) == exit_codes.FAILED
    assert exit_code([failed("b", "cannot be reached")]) == exit_codes.TIMEOUT
    assert set(failed("b", "x")) == set(good)


async def test_a_running_server_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port, other = free_port(), free_port()
    config = Configuration.model_validate({"stun": {"listen": ["127.0.0.1"], "port": port, "alternate_port": other}})
    async with trio.open_nursery() as nursery:
        runtime = Runtime("stun", tmp_path, tmp_path)
        await nursery.start(partial(stun.serve, config, runtime=runtime))
        words = ["netcheck", f"127.0.0.1:{port}", "--sip", "127.0.0.1:9", "--json"]
        assert await trio.to_thread.run_sync(partial(run, words)) == exit_codes.OK
        (row,) = json.loads(capsys.readouterr().out)["items"]
        assert (row["udp"], row["alg"], row["mapping"]) == (True, None, "endpoint-independent")
        assert await trio.to_thread.run_sync(partial(run, ["stun", "query", f"127.0.0.1:{port}", "--json"])) == 0
        (asked,) = json.loads(capsys.readouterr().out)["items"]
        assert (asked["result"], asked["requests"]) == ("answered", 1)
        nursery.cancel_scope.cancel()
