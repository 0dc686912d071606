"""The rules that hold for every verb, asked of every verb: exit codes, JSON, fields, width, and who is asked before."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from nattrav.cli import connect, exit_codes
from nattrav.cli.app import run
from nattrav.cli.bench_bundle import bundle
from nattrav.cli.bench_load import closing, rtp_sources
from nattrav.cli.completion_scripts import places
from nattrav.cli.output import Output
from nattrav.net.address import TransportAddress
from tests.proxy.playbook import request, sdp

CALL, SESSION = "early-call@10.0.0.5", "bench-0"

NEEDS_DAEMON: dict[str, list[str]] = {
    "status": [],
    "top": ["--once"],
    "reload": [],
    "drain": [],
    "undrain": [],
    "restart": ["relay"],
    "explain": ["x"],
    "trace": [],
    "metrics": [],
    "log level": [],
    "config diff": [],
    "config reload": [],
    "sessions list": [],
    "sessions show": ["x"],
    "sessions kill": ["x"],
    "sessions watch": [],
    "sessions stats": [],
    "ports list": [],
    "ports quarantine": [],
    "ports pools": [],
    "ports show": ["1"],
    "ports free": [],
    "ports leaks": [],
    "registrations list": [],
    "registrations show": ["x"],
    "registrations watch": [],
    "registrations remove": ["x"],
    "calls list": [],
    "calls kill": ["x"],
    "calls ladder": ["x"],
    "calls show": ["x"],
    "flows list": [],
    "flows show": ["x"],
    "flows forget": ["x"],
    "transactions list": [],
    "upstreams list": [],
    "upstreams disable": ["x"],
    "upstreams enable": ["x"],
    "bans list": [],
    "bans add": ["192.0.2.1"],
    "bans remove": ["192.0.2.1"],
    "stun stats": [],
    "nat list": [],
    "nat show": ["192.0.2.1"],
    "nat forget": ["192.0.2.1"],
    "relay top": ["--once"],
    "relay drain": [],
    "relay undrain": [],
    "proxy drain": [],
    "proxy undrain": [],
    "control ping": [],
    "control send": ['{"command": "list"}'],
    "selftest": [],
}

ALONE = {
    *("run", "check", "doctor", "netcheck", "version", "completion", "config check", "config show", "config schema"),
    *("config init", "users add", "users passwd", "users remove", "users list", "stun query", "stun lifetime"),
    *("stun serve", "stun probe", "relay serve", "proxy serve", "sip register", "sip alg-check", "sip dns", "sip ping"),
    *("bench stun", "bench relay", "bench sip"),
}
"""Verbs that need no running bundle."""

NOT_FOUND = [
    ["sessions", "show", "nobody"],
    ["sessions", "kill", "nobody", "--yes"],
    ["sessions", "list", "--pool", "nobody"],
    ["ports", "show", "1"],
    ["registrations", "show", "nobody"],
    ["registrations", "remove", "nobody", "--yes"],
    ["calls", "show", "nobody"],
    ["calls", "kill", "nobody", "--yes"],
    ["calls", "ladder", "nobody"],
    ["explain", "nobody"],
    ["trace", "nobody", "--for", "0.1"],
    ["flows", "show", "nobody"],
    ["flows", "forget", "nobody", "--yes"],
    ["upstreams", "disable", "nobody"],
    ["upstreams", "enable", "nobody"],
    ["bans", "remove", "192.0.2.99"],
    ["nat", "show", "192.0.2.99"],
    ["nat", "forget", "192.0.2.99", "--yes"],
    ["restart", "nobody"],
    ["log", "level", "nobody", "debug"],
    ["log", "level", "loud"],
]

USAGE = [
    ["sessions", "kill"],
    ["sessions", "kill", SESSION],
    ["sessions", "kill", "--all", "--yes"],
    ["sessions", "list", "--filter", "beauty>1"],
    ["sessions", "list", "--limit", "none"],
    ["sessions", "list", "--fields", "beauty"],
    ["ports", "list", "--state", "beauty"],
    ["ports", "show", "beauty"],
    ["calls", "kill"],
    ["calls", "kill", CALL],
    ["calls", "kill", "--all"],
    ["calls", "list", "--filter", "age>"],
    ["registrations", "remove", "alice"],
    ["registrations", "list", "--filter", "("],
    ["bans", "add", "beauty"],
    ["bans", "add", "192.0.2.1", "--time", "beauty"],
    ["nat", "show", "beauty"],
    ["log", "level", "proxy", "loud"],
    ["log", "level", "proxy", "very", "loud"],
    ["metrics", "--match", "("],
    ["drain", "--max", "beauty", "--dry-run"],
    ["top", "--once", "--sort", "beauty"],
    ["status", "--watch", "0"],
    ["drain", "--watch", "2"],
    ["status", "-o", "beauty"],
    ["control", "send", "beauty"],
    ["control", "ping", "--to", "beauty"],
    ["selftest", "--caller", "a"],
    ["trace", "--for", "-1"],
]

SHOWING = [
    ["status"],
    ["top", "--once"],
    ["sessions", "list"],
    ["sessions", "show", SESSION],
    ["sessions", "stats"],
    ["ports", "list"],
    ["ports", "pools"],
    ["ports", "free"],
    ["ports", "leaks"],
    ["ports", "quarantine"],
    ["registrations", "list"],
    ["registrations", "show", "alice"],
    ["calls", "list"],
    ["calls"],
    ["calls", "--missed"],
    ["calls", "show", CALL],
    ["calls", "ladder", CALL],
    ["explain", "alice"],
    ["flows", "list"],
    ["flows", "show", "127.0.0.1"],
    ["transactions", "list"],
    ["upstreams", "list"],
    ["bans", "list"],
    ["nat", "list"],
    ["stun", "stats"],
    ["metrics", "--match", "sip_calls"],
    ["log", "level"],
    ["config", "show"],
    ["config", "show", "--changed"],
    ["config", "show", "--running"],
    ["config", "diff"],
    ["reload", "--dry-run"],
    ["drain", "--dry-run"],
    ["calls", "kill", "--all", "--dry-run"],
    ["sessions", "kill", SESSION, "--dry-run"],
    ["registrations", "remove", "alice", "--dry-run"],
    ["control", "ping"],
    ["control", "send", '{"command": "list"}'],
    ["version"],
    ["doctor"],
]


@pytest.mark.parametrize("path", sorted(NEEDS_DAEMON))
def test_without_a_daemon_the_places_tried_are_told(
    path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*path.split(), *NEEDS_DAEMON[path], "--runtime-dir", str(tmp_path)]) == exit_codes.UNREACHABLE
    told = capsys.readouterr()
    assert told.out == ""
    assert f"{tmp_path}/" in told.err
    assert len(told.err.splitlines()) == 1


def test_every_verb_of_the_tree_is_looked_at_here() -> None:
    leaves = {place.path for place in places() if not place.commands and place.path}
    assert leaves == NEEDS_DAEMON.keys() | ALONE


@pytest.mark.parametrize("path", sorted(NEEDS_DAEMON.keys() | ALONE))
def test_an_unknown_option_is_a_usage_error(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*path.split(), "--no-such-option"]) == exit_codes.USAGE
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("path", sorted((NEEDS_DAEMON.keys() | ALONE) - {"control ping", "control send"}))
def test_every_help_has_80_columns(
    path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run([*path.split(), "--help"]) == exit_codes.OK
    text = capsys.readouterr().out
    assert "xample" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("path", ["status", "sessions list", "trace", "explain"])
def test_a_socket_that_may_not_be_used_is_a_refusal(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for role in ("supervisor", "relay", "proxy"):
        (tmp_path / f"{role}.sock").touch()
    monkeypatch.setattr("os.access", lambda *_: False)
    code = run([*path.split(), *NEEDS_DAEMON[path], "--runtime-dir", str(tmp_path)])
    assert code == exit_codes.REFUSED
    assert "not allowed to use" in capsys.readouterr().err


def test_a_daemon_that_says_nothing_is_a_time_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATTRAV_RUNTIME_DIR", str(tmp_path))
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "relay.sock"))
        silent.listen()
        with pytest.raises(SystemExit) as ended:
            connect.call("relay", "sessions.list", answer_within=0.1)
    assert ended.value.code == exit_codes.TIMEOUT


@dataclass
class Live:
    """A bundle with a registration, an early call and a relay session."""

    directory: Path

    def run(self, *words: str) -> int:
        return run([*words, "--runtime-dir", str(self.directory)])


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gateway,
        bundle(["stun", "relay", "proxy"], _bound(gateway)) as bench,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone,
    ):
        phone.bind(("127.0.0.1", 0))
        phone.settimeout(10)
        to = f"<sip:alice@{bench.sip}>"
        phone.sendto(request("REGISTER", f"sip:{bench.sip}", to=to, headers="Expires: 60\r\n").encode(), bench.sip)
        assert phone.recv(9999).startswith(b"SIP/2.0 200")
        invite = request(
            "INVITE", f"sip:1234@{bench.sip}", call_id=CALL, branch="z9hG4bKearly", cseq=2, body=sdp("10.0.0.5")
        )
        phone.sendto(invite.encode(), bench.sip)
        assert phone.recv(9999).startswith(b"SIP/2.0 100")
        with closing(trio.run(rtp_sources, bench.directory, 1, 1)):
            yield Live(bench.directory)


def _bound(sock: socket.socket) -> TransportAddress:
    sock.bind(("127.0.0.1", 0))
    return TransportAddress(*sock.getsockname())


@pytest.mark.parametrize("words", NOT_FOUND, ids=" ".join)
def test_what_is_not_there_is_told_with_a_hint(
    live: Live, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert live.run(*words) == exit_codes.NOT_FOUND
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("nattrav: ")
    assert len(told.err.splitlines()) == 1


@pytest.mark.parametrize("words", USAGE, ids=" ".join)
def test_bad_input_is_a_usage_error_and_changes_nothing(
    live: Live, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert live.run(*words) == exit_codes.USAGE
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err


@pytest.mark.parametrize("words", SHOWING, ids=" ".join)
def test_what_is_shown_is_json_jsonl_csv_and_a_table_of_80_columns(
    live: Live, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # As on a terminal of that width.
    monkeypatch.setattr(Output, "width", property(lambda out: 80 if out.format == "table" else None))
    fine = (exit_codes.OK, exit_codes.FAILED, exit_codes.DEGRADED) if words == ["doctor"] else (exit_codes.OK,)
    assert live.run(*words, "--json") in fine
    data = json.loads(capsys.readouterr().out)
    assert data["schema"] == 1
    assert live.run(*words, "-o", "jsonl") in fine
    assert all(isinstance(json.loads(line), dict) for line in capsys.readouterr().out.splitlines())
    assert live.run(*words, "-o", "csv") in fine
    assert capsys.readouterr().out
    assert live.run(*words, "-o", "wide") in fine
    capsys.readouterr()
    assert live.run(*words) in fine
    told = capsys.readouterr()
    assert told.out + told.err
    if words not in NOT_FOR_A_SCREEN:
        assert [line for line in told.out.splitlines() if len(line) > 80] == []
    row = data["items"][0] if data.get("items") else data
    key = next((key for key in row if key not in ("schema", "items")), None)
    if key is not None and words[0] != "doctor" and data.get("changes") != []:
        assert live.run(*words, "--fields", key) in fine
        assert live.run(*words, "--fields", "beauty") == exit_codes.USAGE
        assert "known are" in capsys.readouterr().err


def test_a_selftest_of_a_bundle_that_drains_tells_so_at_once(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    assert live.run("drain") == exit_codes.OK
    try:
        assert live.run("status", "--check") == exit_codes.DEGRADED
        assert live.run("selftest", "--seconds", "1") == exit_codes.FAILED
        assert "503 Service Unavailable" in capsys.readouterr().out
    finally:
        assert live.run("undrain") == exit_codes.OK


NOT_FOR_A_SCREEN = [
    # Written as the file they are.
    ["config", "show"],
    ["config", "show", "--changed"],
    ["config", "show", "--running"],
]
