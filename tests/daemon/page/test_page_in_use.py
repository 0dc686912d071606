"""The page as people use it: over a restart of what it shows, by keyboard, with many calls."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import trio

from nattrav.daemon.page import feed
from tests.daemon.page.browser import browse
from tests.daemon.page.fake_services import FakeServices
from tests.daemon.page.test_page_http import start

pytestmark = pytest.mark.interop

LIVE = "document.getElementById('live')?.textContent === 'live'"
INTERRUPTED = "document.getElementById('live').textContent.startsWith('interrupted')"


async def test_the_page_comes_back_by_itself_when_the_supervisor_does(tmp_path: Path) -> None:
    services = FakeServices()
    async with contextlib.AsyncExitStack() as stack, trio.open_nursery() as outer:
        async with trio.open_nursery() as first:
            port = await start(first, tmp_path, services)
            tab = await stack.enter_async_context(browse(f"http://127.0.0.1:{port}/", tmp_path / "profile"))
            await tab.wait(LIVE)
            first.cancel_scope.cancel()
        await tab.wait(INTERRUPTED)
        services.calls = 3
        await start(outer, tmp_path, services, port)
        await tab.wait(LIVE)
        await tab.wait("document.querySelector('[data-tile=calls]').textContent === '3'")
        outer.cancel_scope.cancel()


async def test_a_page_that_found_no_place_gets_one_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "READERS", 0)
    async with trio.open_nursery() as nursery:
        port = await start(nursery, tmp_path, FakeServices())
        async with browse(f"http://127.0.0.1:{port}/", tmp_path / "profile") as tab:
            await tab.wait("!!document.getElementById('live') && " + INTERRUPTED)
            monkeypatch.setattr(feed, "READERS", 1)
            await tab.wait(LIVE)
        nursery.cancel_scope.cancel()


async def test_the_keyboard_reaches_everything_and_two_hundred_calls_are_counted_rightly(tmp_path: Path) -> None:
    services = FakeServices()
    services.calls = 5000
    async with trio.open_nursery() as nursery:
        port = await start(nursery, tmp_path, services)
        async with browse(f"http://127.0.0.1:{port}/", tmp_path / "profile") as tab:
            await tab.wait(LIVE)
            assert await tab.value("document.querySelectorAll('#calls tbody tr').length") == 200
            assert await tab.value("document.querySelector('#calls .count').textContent") == "200 of 5000"
            assert await tab.value("document.querySelector('[data-tile=calls]').textContent") == "5,000"
            # Beyond the newest sessions nothing is claimed of a call's media.
            assert await tab.value("document.querySelectorAll('#calls .bad').length") == 0
            assert await tab.press("Tab") == "skip"
            assert await tab.value("document.activeElement.getBoundingClientRect().left >= 0")
            reached = [await tab.press("Tab") for _ in range(6)]
            tables = ("calls", "registrations", "pools", "upstreams", "services")
            assert reached == ["search", *(f"{table}-title" for table in tables)]
            assert await tab.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
            levels = await tab.value("[...document.querySelectorAll('h1,h2')].map(e => e.tagName).join()")
            assert levels == "H1,H2,H2,H2,H2,H2"
            unscoped = "document.querySelectorAll('th:not([scope])').length"
            assert await tab.value(unscoped) == 0
            assert await tab.value("document.documentElement.lang + document.querySelectorAll('main').length") == "en1"
            assert tab.complaints == []
        nursery.cancel_scope.cancel()
