from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from nattrav.config.admin import AdminSection
from nattrav.control.socket.messages import VerbError
from nattrav.daemon.admin_http import Door, open_listener, serve_admin
from nattrav.daemon.runtime import Runtime, StartRefused
from nattrav.metrics.samples import Samples
from nattrav.net.address import TransportAddress

TOKEN = "a-long-random-word"


class Parts:
    """A bundle that says what a test wants."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.asked = 0

    async def samples(self) -> Samples:
        self.asked += 1
        samples = Samples()
        samples.inc("nattrav_sip_requests_total", "rx", "INVITE", "udp", by=5)
        return samples

    async def status(self) -> dict[str, Any]:
        return {"services": []}

    async def ask(self, role: str, verb: str, args: dict[str, Any]) -> Any:
        if args.get("call_id") == "gone":
            raise VerbError("not_found", "no session gone")
        return [role, verb, args]

    async def stream(self, role: str, verb: str, args: dict[str, Any]) -> AsyncGenerator[Any, None]:
        for number in range(2):
            yield [verb, args, number]
        if args.get("what") == "refused":
            raise VerbError("busy", "too many")

    def not_ready(self) -> list[str]:
        return self.reasons

    async def gather(
        self, verb: str, args: dict[str, Any] | None = None, *, roles: Sequence[str] | None = None
    ) -> dict[str, Any]:
        return {}


@asynccontextmanager
async def served(tmp_path: Path, parts: Parts, token: str | None = None) -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        file = tmp_path / "token"
        file.write_text(token or "")
        admin = AdminSection(listen=["127.0.0.1:0"], token_file=str(file) if token else "", page=False)
        runtime = Runtime("supervisor", tmp_path, tmp_path)
        (listening,) = await nursery.start(serve_admin, admin, runtime, Door(parts))
        yield TransportAddress.parse(listening.address).port
        nursery.cancel_scope.cancel()


async def get(port: int, path: str, *, host: str = "127.0.0.1", headers: str = "") -> tuple[int, dict[str, str], str]:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n".encode())
        octets = bytearray()
        async for data in stream:
            octets += data
    head, _, body = octets.decode().partition("\r\n\r\n")
    status, *lines = head.split("\r\n")
    fields = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    return int(status.split()[1]), fields, body


async def test_metrics_health_and_readiness_are_served(tmp_path: Path) -> None:
    parts = Parts()
    async with served(tmp_path, parts) as port:
        status, headers, body = await get(port, "/metrics")
        assert status == 200
        assert headers["content-type"].startswith("text/plain")
        assert 'nattrav_sip_requests_total{direction="rx",method="INVITE",transport="udp"} 5.0' in body
        assert "process_start_time_seconds" in body
        assert (await get(port, "/healthz"))[::2] == (200, "ok\n")
        assert (await get(port, "/readyz"))[::2] == (200, "ok\n")
        parts.reasons = ["relay is down", "draining"]
        assert (await get(port, "/readyz"))[::2] == (503, "relay is down\ndraining\n")
        assert (await get(port, "/healthz"))[0] == 200
        assert json.loads((await get(port, "/api/v1/status"))[2]) == {"schema": 1, "services": []}
        assert (await get(port, "/nothing"))[0] == 404


async def test_scrapes_within_a_second_ask_the_services_once(tmp_path: Path) -> None:
    parts = Parts()
    async with served(tmp_path, parts) as port:
        for _ in range(3):
            await get(port, "/metrics")
    assert parts.asked <= 2


async def test_answers_carry_security_headers(tmp_path: Path) -> None:
    async with served(tmp_path, Parts()) as port:
        for path in ("/metrics", "/nothing"):
            _, headers, _ = await get(port, path)
            assert headers["content-security-policy"].startswith("default-src 'self'")
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"


async def test_a_foreign_host_name_is_refused_on_loopback(tmp_path: Path) -> None:
    async with served(tmp_path, Parts()) as port:
        assert (await get(port, "/metrics", host="evil.example"))[0] == 421
        assert (await get(port, "/metrics", host=f"localhost:{port}"))[0] == 200
        assert (await get(port, "/metrics", host=f"[::1]:{port}"))[0] == 200


async def test_a_token_is_wanted_where_one_is_set_except_for_health(tmp_path: Path) -> None:
    async with served(tmp_path, Parts(), TOKEN) as port:
        status, headers, _ = await get(port, "/metrics")
        assert (status, headers["www-authenticate"].split(",")[0]) == (401, "Bearer")
        basic = base64.b64encode(f"anyone:{TOKEN}".encode()).decode()
        assert (await get(port, "/metrics", headers=f"Authorization: Basic {basic}\r\n"))[0] == 200
        assert (await get(port, "/metrics", headers="Authorization: Basic !!\r\n"))[0] == 401
        assert (await get(port, "/metrics", headers="Authorization: Bearer wrong\r\n"))[0] == 401
        assert (await get(port, "/metrics", headers=f"Authorization: Bearer {TOKEN}\r\n"))[0] == 200
        assert (await get(port, "/healthz"))[0] == 200


async def test_verbs_that_read_are_answered_from_afar_with_a_token_only(tmp_path: Path) -> None:
    token = f"Authorization: Bearer {TOKEN}\r\n"
    async with served(tmp_path, Parts(), TOKEN) as port:
        path = "/api/v1/services/relay/sessions.show?args=%7B%22call_id%22%3A%22x%22%7D"
        assert (await get(port, path))[0] == 401
        status, _, body = await get(port, path, headers=token)
        assert (status, json.loads(body)["result"]) == (200, ["relay", "sessions.show", {"call_id": "x"}])
        assert (await get(port, path.replace("x", "gone"), headers=token))[0] == 404
        for refused in (
            "relay/sessions.kick",
            "supervisor/drain",
            "supervisor/config.reload",
            "proxy/bans.add",
            "x/status",
        ):
            assert (await get(port, f"/api/v1/services/{refused}", headers=token))[0] == 403
        for wrong in ("[]", "%7B", "%5B" * 2000, "1" * 9000):
            assert (await get(port, f"/api/v1/services/relay/ports.pools?args={wrong}", headers=token))[0] == 400


async def test_streaming_verbs_are_followed_from_afar_as_lines_of_json(tmp_path: Path) -> None:
    token = f"Authorization: Bearer {TOKEN}\r\n"
    async with served(tmp_path, Parts(), TOKEN) as port:
        path = "/api/v1/services/proxy/trace?args=%7B%22what%22%3A%22x%22%7D"
        assert (await get(port, path))[0] == 401
        for _ in range(20):
            status, headers, body = await get(port, path, headers=token)
            assert (status, headers["content-type"]) == (200, "application/x-ndjson")
            lines = [json.loads(line) for line in body.splitlines() if line.startswith("{")]
            assert lines == [{"item": ["trace", {"what": "x"}, number]} for number in range(2)] + [{"end": True}]
        _, _, body = await get(port, path.replace("%22x", "%22refused"), headers=token)
        assert '{"error":{"code":"busy","message":"too many"}}' in body
        assert (await get(port, "/api/v1/services/relay/trace", headers=token))[0] == 403


async def test_without_a_token_nothing_is_told_from_afar(tmp_path: Path) -> None:
    async with served(tmp_path, Parts()) as port:
        assert (await get(port, "/api/v1/services/relay/sessions.list"))[0] == 403


async def test_garbage_and_oversized_heads_do_not_end_the_listener(tmp_path: Path) -> None:
    async with served(tmp_path, Parts()) as port:
        for octets in (
            b"\0\xff" * 500,
            b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
            b"INVITE sip:x SIP/2.0\r\n\r\n",
        ):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                try:
                    await stream.send_all(octets)
                    with trio.fail_after(5):
                        while await stream.receive_some(65536):
                            pass
                except trio.BrokenResourceError:
                    pass
        assert (await get(port, "/healthz"))[0] == 200


def test_a_taken_port_is_refused_with_the_remedy() -> None:
    taken = open_listener(TransportAddress("127.0.0.1", 0))
    address = TransportAddress(*taken.getsockname()[:2])
    with pytest.raises(StartRefused, match=r"Address already in use; stop the program .* or change \[admin\] listen"):
        open_listener(address)
    taken.close()


async def test_a_missing_or_short_token_file_refuses_the_start(tmp_path: Path) -> None:
    runtime = Runtime("supervisor", tmp_path, tmp_path)
    missing = AdminSection(listen=["127.0.0.1:0"], token_file=str(tmp_path / "none"))
    with pytest.raises(StartRefused, match="cannot read"):
        await serve_admin(missing, runtime, Door(Parts()))
    (tmp_path / "short").write_text("abc\n")
    short = AdminSection(listen=["127.0.0.1:0"], token_file=str(tmp_path / "short"))
    with pytest.raises(StartRefused, match="less than 16"):
        await serve_admin(short, runtime, Door(Parts()))
