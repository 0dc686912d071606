"""`nattrav sip register` against our registrar and `sip alg-check` against servers behind bad NATs."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from nattrav.cli import exit_codes
from nattrav.cli.app import run
from nattrav.config.schema import Configuration
from nattrav.daemon.proxy import serve
from nattrav.daemon.runtime import Runtime
from nattrav.net.address import TransportAddress
from tests.proxy.test_proxy_daemon import running

from .test_sip import Answering, Server


async def nattrav(*words: str) -> int:
    return await trio.to_thread.run_sync(partial(run, words))


@asynccontextmanager
async def registrar(directory: Path) -> AsyncGenerator[TransportAddress]:
    tables = {
        "sip": {"listen": ["udp:127.0.0.1:0"], "domains": ["voice.example.com"]},
        "user": [{"name": "alice", "password": "right"}],
    }
    runtime = Runtime("proxy", directory, directory)
    async with trio.open_nursery() as nursery:
        config = Configuration.model_validate(tables)
        listening = await nursery.start(lambda task_status: serve(config, runtime=runtime, task_status=task_status))
        yield TransportAddress.parse(listening[0].address)
        nursery.cancel_scope.cancel()


async def test_a_registration_is_granted_shown_and_taken_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "password").write_text("right\n")
    async with registrar(tmp_path) as server:
        words = ["sip", "register", "alice@voice.example.com", "--server", str(server), "--json"]
        password = ["--password-file", str(tmp_path / "password")]
        assert await nattrav(*words, *password) == exit_codes.OK
        told = json.loads(capsys.readouterr().out)
        assert (told["status"], told["authenticated"]) == (200, True)
        assert told["seen_as"].startswith("127.0.0.1:")
        assert told["contact"] in told["bindings"][0]
        place = ["--runtime-dir", str(tmp_path)]
        assert await nattrav("registrations", "show", "alice", *place) == exit_codes.NOT_FOUND
        assert await nattrav(*words, *password, "--keep") == exit_codes.OK
        assert await nattrav("registrations", "show", "alice", *place) == exit_codes.OK

        assert await nattrav(*words) == exit_codes.REFUSED
        assert "--password-file" in capsys.readouterr().err
        (tmp_path / "password").write_text("wrong")
        assert await nattrav(*words, *password) == exit_codes.REFUSED
        assert "password is wrong" in capsys.readouterr().err


class Alg(Server):
    """A server behind a NAT that rewrites Call-IDs."""

    def answer(self, data: bytes, peer: tuple[str, int]) -> bytes:
        return super().answer(data.replace(b"@127.0.0.1\r\n", b"@203.0.113.9\r\n"), peer)


@pytest.mark.parametrize(("kind", "code", "told"), [(Server, 0, "No sign of a SIP ALG"), (Alg, 1, "Call-ID")])
def test_an_alg_is_found_by_what_comes_back(
    kind: type[Answering], code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server = kind()
    try:
        assert (
            run(["sip", "alg-check", f"127.0.0.1:{server.port}", "--stun", "127.0.0.1:9", "--timeout", "0.4"]) == code
        )
    finally:
        server.stop()
    assert told in capsys.readouterr().out


async def test_our_own_proxy_shows_no_alg(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with running(tmp_path) as proxy:
        words = ["sip", "alg-check", str(proxy.sip), "--stun", "127.0.0.1:9", "--timeout", "1", "--json"]
        capsys.readouterr()
        assert await nattrav(*words) == exit_codes.OK
    rows = json.loads(capsys.readouterr().out)["items"]
    assert {row["altered"] for row in rows} == {None}
    assert len(rows) == 6


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["sip", "register", "alice"], exit_codes.USAGE),
        (["sip", "register", "alice@[::"], exit_codes.USAGE),
        (["sip", "register", "a@127.0.0.1:1", "--password-file", "/nonexistent"], exit_codes.USAGE),
        (["sip", "register", "a@x", "--server", "127.0.0.1:9", "--timeout", "0.2"], exit_codes.TIMEOUT),
        (["sip", "alg-check", "127.0.0.1:9", "--timeout", "0.2"], exit_codes.TIMEOUT),
        (["sip", "alg-check", "sip:127.0.0.1;transport=tcp"], exit_codes.USAGE),
        (["stun", "query", "127.0.0.1:9x"], exit_codes.USAGE),
        (["netcheck", "127.0.0.1:x"], exit_codes.USAGE),
        (["netcheck", "127.0.0.1", "--every", "soon"], exit_codes.USAGE),
    ],
)
def test_what_cannot_be_asked_ends_with_its_exit_code(words: list[str], code: int) -> None:
    assert run(words) == code
