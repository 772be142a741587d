"""A headless Chromium, driven through its DevTools protocol: opens a page, clicks, reads, and listens for errors."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def program() -> str | None:
    """Return the path of a Chromium, None where there is none."""
    return next((path for path in map(shutil.which, PROGRAMS) if path), None)


class Page:
    """One page: `run` evaluates JavaScript in it, or in the frame that it shows."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._calls = 0
        self.events: list[dict[str, Any]] = []

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command of the protocol and return its result; what happens meanwhile goes to `events`."""
        self._calls += 1
        await self._socket.send_json({"id": self._calls, "method": method, "params": params})
        while True:
            message = json.loads((await self._socket.receive(timeout=60)).data)
            if message.get("id") == self._calls:
                assert "error" not in message, message
                found: dict[str, Any] = message["result"]
                return found
            self.events.append(message)

    async def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression."""
        done = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    async def until(self, script: str) -> Any:
        """Return the value of an expression as soon as it is true of the page."""
        for _ in range(300):
            if value := await self.run(script):
                return value
            await asyncio.sleep(0.1)
        raise AssertionError(f"never became true: {script}\n{await self.run('document.body.innerText')}")

    async def open(self, url: str) -> None:
        await self.call("Page.navigate", url=url)
        await self.until("document.readyState == 'complete'")

    async def picture(self, path: Path) -> None:
        """Write a screenshot as PNG."""
        path.write_bytes(base64.b64decode((await self.call("Page.captureScreenshot"))["data"]))

    def errors(self) -> list[dict[str, Any]]:
        """Return exceptions, console errors, and requests that left the page or failed."""
        return [event for event in self.events if _is_error(event)]


def _is_error(event: dict[str, Any]) -> bool:
    method, params = event.get("method"), event.get("params", {})
    if method == "Network.requestWillBeSent":
        return not params["request"]["url"].startswith(("file:", "data:", "blob:", "about:"))
    if method == "Runtime.consoleAPICalled":
        return params["type"] in ("error", "assert")
    if method == "Log.entryAdded":
        return params["entry"]["level"] == "error"
    return method in ("Runtime.exceptionThrown", "Network.loadingFailed")


def browse(visit: Callable[[Page], Awaitable[None]], chromium: str) -> None:
    """Start Chromium, let `visit` work on its empty page, and end it."""
    asyncio.run(_browse(visit, chromium))


async def _browse(visit: Callable[[Page], Awaitable[None]], chromium: str) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
        options += ["--disable-dev-shm-usage"]  # which is 64 MB in most containers
        options += [f"--user-data-dir={home}", "--window-size=1400,900", "--no-first-run", "about:blank"]
        process = subprocess.Popen([chromium, *options], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        try:
            assert process.stderr is not None
            address = next(
                (found[1] for line in process.stderr if (found := re.search(r"listening on ws://([^/]+)/", line))), None
            )
            assert address, "Chromium said nothing of its DevTools"
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://{address}/json") as answer:
                    target = next(each for each in await answer.json() if each["type"] == "page")
                async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    page = Page(socket)
                    for domain in ("Runtime", "Log", "Page", "Network"):
                        await page.call(f"{domain}.enable")
                    await visit(page)
        finally:
            process.terminate()
            process.wait(timeout=30)
            if process.stderr is not None:
                process.stderr.close()
