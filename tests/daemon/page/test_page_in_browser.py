from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.daemon.page.browser import browse
from tests.daemon.page.fake_services import FakeServices
from tests.daemon.page.test_page_http import start

pytestmark = pytest.mark.interop

CONTRAST = """
(() => {
  const light = (c) => { const v = c.match(/[\\d.]+/g).slice(0, 3).map(x => { x /= 255;
    return x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
  const behind = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (!c.endsWith(", 0)")) return c; } return "rgb(255, 255, 255)"; };
  let worst = 21;
  for (const e of document.querySelectorAll("h1,h2,dt,dd,td,th,span,label")) {
    const a = light(getComputedStyle(e).color), b = light(behind(e));
    worst = Math.min(worst, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
  }
  return worst;
})()
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_stays_current_and_breaks_no_rule(tmp_path: Path, scheme: str) -> None:
    services = FakeServices()
    async with trio.open_nursery() as nursery:
        port = await start(nursery, tmp_path, services)
        async with browse(f"http://127.0.0.1:{port}/", tmp_path / "profile", scheme=scheme) as tab:
            await tab.wait("document.getElementById('live')?.textContent === 'live'")
            await tab.wait("document.querySelector('#calls tbody').innerText.includes('both ways')")
            services.condition = "one_way"
            await tab.wait("document.querySelector('#calls .bad')?.textContent === 'one_way'")
            assert await tab.value("document.querySelector('[data-tile=one_way]').textContent") == "1"
            assert await tab.value("document.querySelectorAll('script').length") == 1
            assert "<script>alert" in await tab.value("document.querySelector('#calls tbody').innerText")
            await tab.value(
                "(() => { const s = document.getElementById('search'); s.value = 'nobody';"
                " s.dispatchEvent(new Event('input')); })()"
            )
            assert await tab.value("document.querySelector('#calls .count').textContent") == "0 of 1"
            assert await tab.value(CONTRAST) >= 4.5
            names = "[...document.querySelectorAll('input,meter')].every(e => e.labels?.length || e.ariaLabel)"
            assert await tab.value(names)
            await tab.picture(tmp_path / "page.png")
            assert tab.complaints == []
        nursery.cancel_scope.cancel()
    assert (tmp_path / "page.png").stat().st_size > 10_000
