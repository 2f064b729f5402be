"""Headless Chromium driven over its own debugging protocol; no driver program is needed."""

import asyncio
import base64
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page:
    """One tab. Whatever the page logs as an error or throws is collected in `faults`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._last = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self.faults: list[str] = []
        self.asked: list[str] = []

    async def listen(self) -> None:
        async for message in self._socket:
            found = json.loads(message.data)
            if "id" in found:
                self._answers.pop(found["id"]).set_result(found)
            elif found["method"] in ("Runtime.exceptionThrown", "Log.entryAdded"):
                if found["params"].get("entry", {}).get("level", "error") == "error":
                    self.faults.append(json.dumps(found["params"]))
            elif found["method"] == "Network.requestWillBeSent":
                self.asked.append(found["params"]["request"]["url"])

    async def call(self, method: str, **parameters: Any) -> Any:
        self._last += 1
        answer = self._answers[self._last] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._last, "method": method, "params": parameters})
        found = await asyncio.wait_for(answer, 30)
        assert "error" not in found, found
        return found["result"]

    async def run(self, script: str) -> Any:
        """The value of a JavaScript expression; promises are awaited."""
        found = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def until(self, script: str) -> None:
        """Wait for a JavaScript expression to become true; what it stumbles over is not there yet."""
        asking = f"(() => {{ try {{ return Boolean({script}); }} catch {{ return false; }} }})()"
        try:
            async with asyncio.timeout(60):
                while not await self.run(asking):  # noqa: ASYNC110 - it happens in another process
                    await asyncio.sleep(0.02)
        except TimeoutError:
            seen = await self.run("document.body.innerText.slice(0, 1500)")
            raise AssertionError(f"never true: {script}\n{seen}\n{self.faults}") from None

    async def press(self, key: str) -> None:
        code = {"Tab": 9, "Enter": 13}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        keys = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        await self.call("Input.dispatchKeyEvent", type="keyDown", **keys, **text)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **keys)

    async def picture(self, path: Path) -> None:
        size = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 4000), "scale": 1}
        shot = await self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        await asyncio.to_thread(path.write_bytes, base64.b64decode(shot["data"]))


@asynccontextmanager
async def opened(url: str, folder: Path) -> AsyncIterator[Page]:
    """A browser with `url` in its one tab; its profile lives in `folder`."""
    assert CHROMIUM is not None
    log = (folder / "chromium.log").open("wb")
    browser = subprocess.Popen(  # noqa: ASYNC220 - waited for in a thread
        [
            *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--remote-debugging-port=0", f"--user-data-dir={folder / 'profile'}", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--window-size=1400,1000"),
            "about:blank",
        ],
        stdout=log,
        stderr=log,
    )
    try:
        port_file = folder / "profile" / "DevToolsActivePort"
        async with asyncio.timeout(60):
            while not (port_file.exists() and port_file.read_text().strip()):
                assert browser.poll() is None, (folder / "chromium.log").read_text()
                await asyncio.sleep(0.05)
        port = port_file.read_text().split()[0]
        async with aiohttp.ClientSession() as client:
            async with client.get(f"http://127.0.0.1:{port}/json") as answer:
                tab = next(tab for tab in await answer.json() if tab["type"] == "page")
            async with client.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = Page(socket)
                listening = asyncio.create_task(page.listen())
                for room in ("Page", "Runtime", "Log", "Network"):
                    await page.call(f"{room}.enable")
                await page.call("Page.navigate", url=url)
                try:
                    yield page
                finally:
                    listening.cancel()
                    await asyncio.wait({listening})
    finally:
        browser.terminate()
        await asyncio.to_thread(browser.wait, 20)
        log.close()
