"""MedMNIST by name: the published facts, the MD5 of a file, and its download from a server of the test's own."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from imbnas.data import medmnist_files
from imbnas.data.datasets import load_dataset
from imbnas.data.medmnist_files import read_medmnist
from imbnas.errors import UserError
from imbnas.params import medmnist
from imbnas.params.config import parse
from imbnas.params.medmnist import MEDMNIST, SIZES, file_of, stored_size

OWN = {"dataset": "medmnist", "root": "datasets/medmnist", "image_size": 28}


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a small file in MedMNIST's layout, which passes for the published RetinaMNIST."""
    root = tmp_path / "published"
    root.mkdir()
    rng = np.random.default_rng(0)
    arrays = {}
    for split, rows in (("train", 20), ("val", 5), ("test", 10)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (rows, 28, 28, 3), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(rows) % 5).astype(np.uint8)[:, None]
    np.savez(root / "retinamnist.npz", **arrays)
    md5 = hashlib.md5((root / "retinamnist.npz").read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setattr(medmnist_files, "file_of", lambda name, size: (f"{name}.npz", md5))
    return root


@pytest.fixture
def served(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Serve the small file; yield the paths that were asked for."""
    asked: list[str] = []

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tiny)))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setattr(medmnist_files, "RECORD", f"http://127.0.0.1:{server.server_port}/")
    yield asked
    server.shutdown()
    server.server_close()


def test_the_table_is_complete() -> None:
    assert len(MEDMNIST) == 11
    for name, found in MEDMNIST.items():
        assert len(set(found.classes)) == len(found.classes) >= 2, name
        assert [len(md5) for md5 in found.md5] == [32] * len(SIZES)
    checksums = [md5 for found in MEDMNIST.values() for md5 in found.md5]
    assert len(set(checksums)) == len(checksums)
    assert sum(MEDMNIST["bloodmnist"].rows) == 17_092
    assert sum(MEDMNIST["dermamnist"].rows) == 10_015
    assert MEDMNIST["dermamnist"].licence == "CC BY-NC 4.0"
    assert not MEDMNIST["organamnist"].mirrored
    assert file_of("bloodmnist", 28) == ("bloodmnist.npz", "7053d0359d879ad8a5505303e11de1dc")
    assert file_of("bloodmnist", 224)[0] == "bloodmnist_224.npz"


def test_no_file_is_blown_up_where_a_larger_one_is_published() -> None:
    assert [stored_size(None, side) for side in (14, 28, 32, 64, 224, 300)] == [28, 28, 64, 64, 224, 224]
    assert stored_size(28, 64) == 28


def test_the_published_file_is_read_with_its_class_names(tiny: Path) -> None:
    dataset = load_dataset("medmnist", tiny, medmnist=("retinamnist", 28))
    assert dataset.train.classes == list("01234")
    assert dataset.validation is not None
    assert dataset.test is not None
    assert [len(raw) for raw in (dataset.train, dataset.validation, dataset.test)] == [20, 5, 10]
    assert dataset.photographs


@pytest.mark.parametrize("download", [False, True])
def test_another_file_is_refused_and_never_replaced(tiny: Path, served: list[str], download: bool) -> None:
    file = tiny / "retinamnist.npz"
    wrong = file.read_bytes()[:-1] + b"x"
    file.write_bytes(wrong)
    with pytest.raises(UserError, match=r"^target\.root: .*retinamnist\.npz: has the MD5 [0-9a-f]{32}, expected "):
        read_medmnist("retinamnist", 28, tiny, download, "target")
    assert file.read_bytes() == wrong
    assert not served


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"bloodmnist_64\.npz: not found, .* source\.download to true, .*zenodo"):
        read_medmnist("bloodmnist", 64, tmp_path, False, "source")


def test_a_file_is_downloaded_once(tmp_path: Path, tiny: Path, served: list[str]) -> None:
    root = tmp_path / "datasets"
    for _ in range(2):
        found = read_medmnist("retinamnist", 28, root, True, "target")
        assert found["test"] is not None
        asked = list(served)
    assert asked == served
    assert [path.name for path in root.iterdir()] == ["retinamnist.npz"]
    assert (root / "retinamnist.npz").read_bytes() == (tiny / "retinamnist.npz").read_bytes()


def test_a_damaged_download_leaves_nothing(tmp_path: Path, tiny: Path, served: list[str]) -> None:
    (tiny / "retinamnist.npz").write_bytes(b"an error page")
    with pytest.raises(UserError, match=r"^target\.root: .* could not be downloaded from .*corrupted") as caught:
        read_medmnist("retinamnist", 28, tmp_path / "datasets", True, "target")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "datasets").iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "chestmnist"}, "target.name: found chestmnist, whose images have several labels each, expected one"),
        ({"name": "organmnist3d"}, "target.name: found organmnist3d, which holds volumes"),
        ({"name": "blood"}, "target.name: found text 'blood', expected one of pathmnist, dermamnist"),
        ({"name": 3}, "target.name: found 3"),
        ({}, "target.name is null for medmnist, expected one of pathmnist"),
        ({"name": "bloodmnist", "image_size": None}, "target.image_size is null for medmnist"),
        ({"name": "bloodmnist", "size": 32}, "target.size: found 32, expected 28, 64, 128 or 224"),
        ({"dataset": "npz", "name": "bloodmnist"}, "target.name is text 'bloodmnist' for npz, expected null"),
        ({"dataset": "npz", "size": 28}, "target.size is 28 for npz, expected null"),
        ({"name": "bloodmnist"}, "source.dataset is digits with target.dataset medmnist"),
    ],
)
def test_parameters_are_checked(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse({"target": {**OWN, **change}}, "params.yaml")
    assert str(caught.value).startswith(f"params.yaml: {message}")


def test_source_and_target_take_one_size() -> None:
    target = {**OWN, "name": "bloodmnist", "image_size": 64}
    source = {"dataset": "medmnist", "name": "bloodmnist", "root": "datasets/medmnist"}
    params = parse({"target": target, "source": source}, "params.yaml")
    assert params.target.classes == 8
    assert params.target.title == "bloodmnist"
    with pytest.raises(UserError, match=r"source\.size is 28 with target\.size 64 of bloodmnist, expected the same"):
        parse({"target": target, "source": {**source, "size": 28}}, "params.yaml")
    with pytest.raises(UserError, match=r"source\.share is 1\.0 and source and target are both"):
        parse({"target": target, "source": {**source, "share": 1.0}}, "params.yaml")
    parse({"target": target, "source": {**source, "name": "pathmnist", "size": 28, "share": 1.0}}, "params.yaml")


def test_names_are_those_that_the_parameters_take() -> None:
    assert {*medmnist.SEVERAL_LABELS, *medmnist.VOLUMES}.isdisjoint(MEDMNIST)
