"""`imbnas demo` in a real browser: an image is dropped, and its answer read."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import browser
import fake_project as fake
import pytest

from imbnas.run.graph import PATHS

DROP = """(() => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 8;
  canvas.toBlob(blob => {
    const data = new DataTransfer();
    data.items.add(new File([blob], "dropped.png", { type: "image/png" }));
    data.items.add(new File(["hello"], "<b>bad.png", { type: "image/png" }));
    document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: data, cancelable: true }));
  });
})()"""


@pytest.mark.pages
def test_dropped_images_are_answered(tmp_path: Path) -> None:
    chromium = browser.program()
    if chromium is None:
        pytest.skip(f"no browser to open the page with: none of {', '.join(browser.PROGRAMS)} found")
    fake.write_networks(tmp_path, fake.write_test_split(tmp_path, files=True))
    command = [sys.executable, "-m", "imbnas.cli", "demo", str(tmp_path / PATHS["final"]), "--port", "0", "--top", "2"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    found = re.match(r"(http://127\.0\.0\.1:\d+/): ", server.stdout.readline())
    assert found is not None

    async def visit(page: browser.Page) -> None:
        await page.open(found[1])
        await page.until("document.getElementById('about').textContent.includes('4 classes')")
        await page.run(DROP)
        rows = await page.until(
            "document.querySelector('.fault') && [...document.querySelectorAll('tbody tr')].map(e => e.innerText)"
        )
        assert len(rows) == 2
        assert all(re.fullmatch(r"[\w \[\]]+\t[\d.]+ %\t(many|medium|few)-shot \(\d+ rows\)", row) for row in rows), (
            rows
        )
        fault = await page.run("document.querySelector('.fault').innerText")
        assert fault.startswith("<b>bad.png: cannot be read as an image")
        for event in page.errors():
            # The bad image, and requests to the page's own server.
            told = event["params"].get("entry", {}).get("text", "")
            assert event["method"] == "Network.requestWillBeSent" or "422" in told, event
            if event["method"] == "Network.requestWillBeSent":
                assert event["params"]["request"]["url"].startswith(found[1])

    try:
        browser.browse(visit, chromium)
    finally:
        server.terminate()
        server.wait(timeout=30)
        server.stdout.close()
