"""The page's server: what it answers to the page, and what it refuses to others."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import fake_project as fake
import pytest
from PIL import Image

from imbnas.data.verify import SizeLimit
from imbnas.deploy.classifier import open_classifier
from imbnas.deploy.demo import HEADER, LARGEST_BODY, Demo, make_server
from imbnas.errors import UserError
from imbnas.predict import predict
from imbnas.run.graph import PATHS

OWN = {HEADER: "1"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    fake.write_networks(root, fake.write_test_split(root, files=True))
    return root


@pytest.fixture(scope="module")
def port(project: Path) -> Iterator[int]:
    demo = Demo(open_classifier(project / PATHS["final"]), 3, "kang", SizeLimit(10_000, "--max-pixels"))
    with make_server(demo, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def request(port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    reply = connection.getresponse()
    content = reply.read()
    connection.close()
    return reply.status, json.loads(content) if path != "/" else content.decode()


def test_an_image_has_the_answer_of_predict_and_its_classes_their_groups(project: Path, port: int) -> None:
    photo = sorted((project / "photos").rglob("*.png"))[7]
    (expected,), _ = predict(project / PATHS["final"], [photo], 3)
    status, found = request(port, "POST", "/answer", photo.read_bytes(), **OWN)
    assert status == 200
    pairs = [(one["class"], one["probability"]) for one in found["classes"]]
    assert [name for name, _ in pairs] == [name for name, _ in expected.classes]
    assert [share for _, share in pairs] == pytest.approx([share for _, share in expected.classes], abs=1e-6)
    groups = dict(zip(fake.CLASSES, ("many", "medium", "few", "few"), strict=True))
    rows = dict(zip(fake.CLASSES, fake.COUNTS, strict=True))
    for one in found["classes"]:
        assert (one["group"], one["rows"]) == (groups[one["class"]], rows[one["class"]])


def test_the_page_loads_nothing_and_says_what_the_network_is(port: int) -> None:
    status, page = request(port, "GET", "/")
    assert status == 200
    assert "http" not in page
    status, about = request(port, "GET", "/about")
    assert status == 200
    assert "4 classes, probabilities as it was trained; many: more than 100 training rows" in about["text"]


def test_what_is_not_an_image_is_told_without_a_path(port: int) -> None:
    status, found = request(port, "POST", "/answer", b"hello", **OWN)
    assert status == 422
    assert found["error"].startswith("cannot be read as an image")
    stream = io.BytesIO()
    Image.new("L", (200, 200)).save(stream, "PNG")
    status, found = request(port, "POST", "/answer", stream.getvalue(), **OWN)
    assert status == 422
    assert found["error"] == "found 200 x 200 = 40,000 pixels, expected at most 10,000 (--max-pixels)"


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/answer", {}, 403),
        ("/answer", {**OWN, "Host": "elsewhere.example:80"}, 403),
        ("/other", OWN, 403),
        ("/answer", {**OWN, "Content-Length": str(LARGEST_BODY + 1)}, 413),
        ("/answer", {**OWN, "Content-Length": "-1"}, 413),
    ],
    ids=str,
)
def test_requests_that_are_not_the_pages(port: int, path: str, headers: dict[str, str], status: int) -> None:
    found, content = request(port, "POST", path, b"x", **headers)
    assert found == status
    assert set(content) == {"error"}


def test_another_host_may_not_read_the_page(port: int) -> None:
    assert request(port, "GET", "/about", Host="elsewhere.example")[0] == 403
    assert request(port, "GET", "/about", Host="elsewhere.example:127.0.0.1:80")[0] == 403
    assert request(port, "GET", "/about", Host="127.0.0.1")[0] == 200, "port 80 stands in no Host header"


def test_a_port_that_is_taken(project: Path, port: int) -> None:
    demo = Demo(open_classifier(project / PATHS["final"]), 3, "kang", SizeLimit(10_000, ""))
    with pytest.raises(UserError, match=rf"^--port {port}: .* in use, expected a free port, or 0 for any$"):
        make_server(demo, port)


def test_a_page_that_does_not_wait_leaves_no_traceback(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo = Demo(open_classifier(project / PATHS["final"]), 3, "kang", SizeLimit(10_000, "--max-pixels"))
    with make_server(demo, 0) as server:
        for error, told in ((BrokenPipeError(), False), (ConnectionResetError(), False), (KeyError("own"), True)):
            try:
                raise error
            except Exception:
                server.handle_error(None, ("127.0.0.1", 1))  # type: ignore[arg-type]
            assert ("Traceback" in capsys.readouterr().err) is told
