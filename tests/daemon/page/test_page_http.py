from __future__ import annotations

import json
import re
from pathlib import Path

import trio

from nattrav.config.admin import AdminSection
from nattrav.daemon.admin_http import Door, serve_admin
from nattrav.daemon.page.feed import READERS, Feed
from nattrav.daemon.page.render import policy
from nattrav.daemon.runtime import Runtime
from nattrav.net.address import TransportAddress
from tests.daemon.page.fake_services import FakeServices


async def start(nursery: trio.Nursery, tmp_path: Path, services: FakeServices, port: int = 0) -> int:
    runtime = Runtime("supervisor", tmp_path, tmp_path)
    admin = AdminSection(listen=[f"127.0.0.1:{port}"])

    (listening,) = await nursery.start(serve_admin, admin, runtime, Door(services))
    return TransportAddress.parse(listening.address).port


async def ask(port: int, path: str, *, enough: bytes | None = None) -> str:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        octets = bytearray()
        while data := await stream.receive_some(65536):
            octets += data
            if enough is not None and enough in octets:
                break
    return octets.decode()


async def test_the_page_is_complete_without_a_script_and_escapes_what_came_from_the_wire(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        port = await start(nursery, tmp_path, FakeServices())
        head, _, body = (await ask(port, "/")).partition("\r\n\r\n")
        nursery.cancel_scope.cancel()
    assert " 200 " in head.splitlines()[0]
    assert f"content-security-policy: {policy()}" in head
    assert head.lower().count("content-security-policy") == 1
    assert "+••••••••••78" in body
    assert "<script>alert" not in body
    assert "&lt;script&gt;alert(1)" in body
    assert body.count("<script>") == 1
    assert not re.search(r'(src|href)="(https?:)?//', body)


async def test_the_event_stream_gives_a_snapshot_at_once(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        port = await start(nursery, tmp_path, FakeServices())
        text = await ask(port, "/api/v1/events", enough=b'"upstreams"')
        nursery.cancel_scope.cancel()
    assert "content-type: text/event-stream" in text
    (event,) = [line for line in text.splitlines() if line.startswith("data: ")]
    assert '"call_id":"call-1"' in event


async def test_lists_are_served_as_json_and_unknown_ones_are_not_found(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        port = await start(nursery, tmp_path, FakeServices())
        calls = json.loads((await ask(port, "/api/v1/calls")).partition("\r\n\r\n")[2])
        assert calls["items"][0]["call_id"] == "call-1"
        assert json.loads((await ask(port, "/api/v1/snapshot")).partition("\r\n\r\n")[2])["schema"] == 1
        assert " 404 " in (await ask(port, "/api/v1/secrets")).splitlines()[0]
        nursery.cancel_scope.cancel()


async def test_readers_beyond_the_limit_are_refused_and_places_are_given_back(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        port = await start(nursery, tmp_path, FakeServices())
        streams = []
        for _ in range(READERS):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b" 200 " in await stream.receive_some(100)
            streams.append(stream)
        assert " 503 " in (await ask(port, "/api/v1/events")).splitlines()[0]
        for stream in streams:
            await stream.aclose()
        with trio.fail_after(10):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                for _ in range(40):
                    await trio.sleep(0.2)
                    await stream.send_all(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    if b" 200 " in (await stream.receive_some(65536)).splitlines()[0]:
                        break
                else:
                    raise AssertionError("no place was given back")
        nursery.cancel_scope.cancel()


async def test_many_readers_cost_the_services_no_more_than_one() -> None:
    services = FakeServices()
    feed = Feed(services, mask=True)
    for _ in range(50):
        await feed.latest()
    assert services.asked == 1
