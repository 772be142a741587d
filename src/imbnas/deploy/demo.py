"""A local page on which images are dropped and a network's answers shown, by Python's own web server.

Nothing leaves the machine, and no image is kept. A page of another site can neither ask nor read: requests must name
this machine as their host and carry a header that browsers let no other site send.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch

from imbnas.data.decode import decode_file
from imbnas.data.verify import SizeLimit
from imbnas.deploy.classifier import Classifier
from imbnas.deploy.demo_page import PAGE
from imbnas.errors import UserError, visible
from imbnas.longtail.shots import Rule, rule_text, shot_groups

HEADER = "X-Imbnas-Demo"
LARGEST_BODY = 64 << 20
"""Bytes of an image file."""
LOCAL = "127.0.0.1"


class Demo:
    """A network that answers one image at a time, with the shot group of each class."""

    def __init__(self, network: Classifier, top: int, rule: Rule, limit: SizeLimit) -> None:
        """Take the network, how many classes to name, and the rule that groups them by training rows."""
        self._network, self._top, self._rule, self._limit = network, top, rule, limit
        given = network.temperature
        self._temperature = float(given["value"]) if given is not None and given["value"] is not None else None
        self._groups = None if network.counts is None else shot_groups(network.counts, rule)
        self._busy = threading.Lock()

    @property
    def about(self) -> dict[str, str]:
        """Return what the page says of the network."""
        network = self._network
        sure = "as it was trained" if self._temperature is None else f"calibrated (temperature {self._temperature:g})"
        groups = "its training rows are not known" if self._groups is None else rule_text(self._rule)
        text = f"{visible(network.path)}: {len(network.classes)} classes, probabilities {sure}; {groups}."
        return {"model": visible(network.path.name), "text": text}

    def answer(self, content: bytes) -> dict[str, Any]:
        """Return the likeliest classes of an image file's bytes; UserError in words that name no file."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "image"
            file.write_bytes(content)
            try:
                pixels = decode_file(file, self._network.reading, self._limit)
            except UserError as error:
                raise UserError(str(error).removeprefix(f"{file}: ")) from None
        images = torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy())
        with self._busy, torch.inference_mode():
            logits = self._network.answer(images).double()[0] / (self._temperature or 1.0)
        shares, labels = logits.softmax(dim=0).sort(descending=True, stable=True)
        pairs = zip(shares[: self._top].tolist(), labels[: self._top].tolist(), strict=True)
        return {"classes": [self._entry(share, label) for share, label in pairs]}

    def _entry(self, share: float, label: int) -> dict[str, Any]:
        counts = self._network.counts
        known = counts is not None and self._groups is not None
        return {
            "class": visible(self._network.classes[label]),
            "probability": share,
            "group": self._groups[label] if known and self._groups else None,
            "rows": counts[label] if known and counts else None,
        }


class _Handler(BaseHTTPRequestHandler):
    """Answers the page's three requests."""

    timeout = 60

    def __init__(self, demo: Demo, *given: Any) -> None:
        self._demo = demo
        super().__init__(*given)

    def do_GET(self) -> None:
        """Send the page, or what it says of the network."""
        if not self._from_here():
            return
        if self.path == "/":
            self._send(HTTPStatus.OK, "text/html; charset=utf-8", PAGE.encode())
        elif self.path == "/about":
            self._json(HTTPStatus.OK, self._demo.about)
        else:
            self._json(HTTPStatus.NOT_FOUND, {"error": "nothing here, expected / or /about"})

    def do_POST(self) -> None:
        """Send the answer to an image."""
        if not self._from_here():
            return
        if self.path != "/answer" or self.headers.get(HEADER) is None:
            self._json(HTTPStatus.FORBIDDEN, {"error": f"found no {HEADER}, expected the page's own request"})
            return
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or not 0 < int(length) <= LARGEST_BODY:
            self.close_connection = True
            expected = f"expected an image file of at most {LARGEST_BODY >> 20} MiB"
            self._json(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": f"found {length[:20] or 'no'} bytes, {expected}"})
            return
        try:
            self._json(HTTPStatus.OK, self._demo.answer(self.rfile.read(int(length))))
        except UserError as error:
            self._json(HTTPStatus.UNPROCESSABLE_ENTITY, {"error": str(error)})

    def _from_here(self) -> bool:
        """Return whether the request names this machine; another name may be a foreign site's that leads here."""
        # Browsers leave out port 80.
        host = self.headers.get("Host", "").partition(":")[0]
        if host in (LOCAL, "localhost"):
            return True
        self._json(HTTPStatus.FORBIDDEN, {"error": f"found another host, expected {LOCAL}"})
        return False

    def _json(self, status: HTTPStatus, value: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(value, allow_nan=False).encode())

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(content))),
            ("Content-Security-Policy", f"{policy}; img-src blob:; frame-ancestors 'none'"),
            ("X-Content-Type-Options", "nosniff"),
            ("Cache-Control", "no-store"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *given: Any) -> None:
        """Keep requests from the terminal."""


class _Server(ThreadingHTTPServer):
    """A thread per request."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print the traceback of an error, but for a page that was closed or loaded anew before it had its answer."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def check_port(port: int) -> None:
    """Raise UserError where a server could not have the port, before a network is read for it."""
    with _bound(port, BaseHTTPRequestHandler):
        pass


def make_server(demo: Demo, port: int) -> ThreadingHTTPServer:
    """Return a server on this machine alone; port 0 is a free one. UserError where the port is taken."""
    return _bound(port, partial(_Handler, demo))


def _bound(port: int, handler: Callable[..., BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    try:
        return _Server((LOCAL, port), handler)
    except OSError as error:
        raise UserError(f"--port {port}: {error.strerror}, expected a free port, or 0 for any") from None
