"""The web page: its files as they are served, and what a browser makes of them with 5,000 sessions."""

import os
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from bgpd.telemetry import page as static
from bgpd.telemetry.http import HttpOptions, StatusServer
from tests.telemetry.big import Big
from tests.telemetry.browser import CHROMIUM, Page, opened

in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
ASKED = ("status", "peers", "graph", "routes", "samples", "events")
PICTURES = os.environ.get("CAIRN_PICTURES")  # a folder to keep screenshots in, for people to look at


@pytest.fixture
def source() -> Big:
    return Big(5000, 100_000, time.time())


@pytest.fixture
async def server(source: Big) -> AsyncIterator[StatusServer]:
    server = StatusServer(source, HttpOptions())
    await server.start()
    yield server
    await server.stop()


async def test_files_are_served_and_complete(server: StatusServer) -> None:
    async with aiohttp.ClientSession(server.url) as client:
        for path in static.FILES:
            async with client.get(path) as answer:
                text = await answer.text()
                assert answer.status == 200
                assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            for found in re.findall(r"(?:src|href)=\"([^\"#]+)\"|from \"\./([^\"]+)\"", text):
                link = found[0] or f"page/{found[1]}"
                async with client.get(f"/{link}") as answer:
                    assert answer.status in (200, 503), link
            outside = set(re.findall(r"https?://[^\s\"']+", text)) - {"http://www.w3.org/2000/svg"}
            assert not outside, path
            assert " style=" not in text, "the Content-Security-Policy would not let it count"


async def test_files_need_no_token_but_answers_do() -> None:
    server = StatusServer(Big(3, 1, time.time()), HttpOptions(token="s3cret"))
    await server.start()
    try:
        async with aiohttp.ClientSession(server.url) as client:
            for path, status in (
                ("/", 200),
                ("/page/page.js", 200),
                ("/api/v1/status", 401),
                ("/status", 401),
            ):
                async with client.get(path) as answer:
                    assert answer.status == status, path
    finally:
        await server.stop()


async def rows(page: Page, table: str) -> int:
    return int(await page.run(f"document.querySelectorAll('#{table} tbody tr').length"))


@in_a_browser
async def test_five_thousand_sessions_in_a_browser(source: Big, server: StatusServer, tmp_path: Path) -> None:
    async with opened(server.url + "/#theme=light", tmp_path) as page:
        await page.until("document.querySelectorAll('#peers tbody tr').length === 50")
        verdict = await page.run("document.getElementById('verdict').textContent")
        down = sum(not peer.established for peer in source.peer_list)
        assert verdict == f"Degraded: {5000 - down:,} of 5,000 sessions are Established"
        await page.until("document.querySelectorAll('#picture circle').length > 50")
        assert await page.run("document.querySelectorAll('#picture circle').length") <= 3 * 48
        assert "Nodes: 4,9" in await page.run("document.querySelector('#picture title').textContent")

        # Filtered, sorted and paged by the service: the browser never holds more than a page.
        await page.run("document.querySelector('th[data-sort=flaps] button').click()")
        await page.until("document.querySelector('th[data-sort=flaps]').ariaSort === 'descending'")
        await page.until("document.querySelector('#peers tbody tr td:nth-child(10)').textContent === '2'")
        await page.run(
            "(() => { const box = document.getElementById('peer-search'); box.value = 'node-4321';"
            " box.dispatchEvent(new Event('input')); })()"
        )
        await page.until("document.querySelectorAll('#peers tbody tr').length === 1")
        await page.run("document.querySelector('#peers button.plain').click()")
        await page.until("document.querySelector('tr.more').textContent.includes('received 20, accepted 19')")
        await page.run(
            "(() => { document.getElementById('peer-search').value = '';"
            " const box = document.getElementById('peer-state'); box.value = 'down';"
            " box.dispatchEvent(new Event('change')); })()"
        )
        await page.until(f"document.getElementById('peer-count').textContent.startsWith('{down} sessions')")

        # A prefix with every candidate and the reason.
        await page.run(
            "(() => { document.getElementById('route-prefix').value = '100.64.0.10';"
            " document.getElementById('route-query').requestSubmit(); })()"
        )
        await page.until("document.getElementById('route-count').textContent === '1 found'")
        text = await page.run("document.querySelector('#routes tbody').innerText")
        assert "100.64.0.10/32" in text
        assert "longer AS_PATH" in text
        assert "may not compete: our CLUSTER_ID is in CLUSTER_LIST" in text
        assert await rows(page, "routes") == 3

        # The feed is live, and what it says is text, whatever a peer put into it.
        source.ring.add(time.time(), "session.down", "<img src=x onerror=alert(1)> is down", peer="x")
        await page.until("document.querySelector('#events li .kind').textContent === 'session.down'")
        assert await page.run("document.querySelectorAll('#events img').length") == 0
        await page.until("document.querySelectorAll('#charts figure').length > 5")

        if PICTURES:
            await page.run("document.getElementById('peer-state').value = ''")
            await page.run("document.getElementById('route-prefix').value = ''")
            await page.run("document.getElementById('route-query').requestSubmit()")
            await page.until("document.querySelector('#charts path').getAttribute('d').split('L').length > 4")
            await page.picture(Path(PICTURES) / "page-5000-light.png")
            await page.run("document.getElementById('theme').click()")
            await page.picture(Path(PICTURES) / "page-5000-dark.png")
        assert page.faults == []
        asked = {urlsplit(url).path for url in page.asked if not url.startswith("about:")}
        assert asked <= {*static.FILES, *(f"/api/v1/{name}" for name in ASKED)}
        assert all(url.startswith((server.url, "about:")) for url in page.asked)


@in_a_browser
async def test_by_keyboard_and_for_screen_readers(tmp_path: Path) -> None:
    server = StatusServer(Big(6, 20, time.time()), HttpOptions())
    await server.start()
    try:
        async with opened(server.url + "/#theme=dark", tmp_path) as page:
            await page.until("document.querySelectorAll('#peers tbody tr').length === 6")
            await page.press("Tab")
            assert await page.run("document.activeElement.className") == "skip"
            await page.press("Enter")
            assert await page.run("document.activeElement.id") == "sessions"
            for _ in range(40):  # every control is reached by Tab alone
                await page.press("Tab")
                if await page.run("document.activeElement.closest('th')?.dataset.sort === 'asn'"):
                    break
            await page.press("Enter")
            await page.until("document.querySelector('th[data-sort=asn]').ariaSort === 'ascending'")
            tree = (await page.call("Accessibility.getFullAXTree"))["nodes"]
            named = {
                (node["role"]["value"], node.get("name", {}).get("value", ""))
                for node in tree
                if not node["ignored"]
            }
            controls = ("button", "textbox", "combobox", "image")
            nameless = [role for role, name in named if role in controls and not name]
            assert nameless == []
            assert ("table", "Sessions of this service. The column headers sort.") in named
            assert any(role == "image" and name.startswith("reflector rr-1.") for role, name in named)
            if PICTURES:
                await page.picture(Path(PICTURES) / "page-6-dark.png")
            assert page.faults == []
    finally:
        await server.stop()


@in_a_browser
async def test_a_token_is_asked_for(tmp_path: Path) -> None:
    server = StatusServer(Big(6, 20, time.time()), HttpOptions(token="s3cret"))
    await server.start()
    try:
        async with opened(server.url, tmp_path) as page:
            await page.until("!document.getElementById('ask').hidden")
            await page.run(
                "(() => { document.getElementById('token').value = 's3cret';"
                " document.getElementById('ask').requestSubmit(); })()"
            )
            await page.until("document.querySelectorAll('#peers tbody tr').length === 6")
    finally:
        await server.stop()
