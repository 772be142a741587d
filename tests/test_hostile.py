"""Hostile and odd parameters, lists and images: one line that names the file or parameter, exit code 2, and no hang."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import fake_project as fake
import hostile
import pytest
import tiny_chain
import yaml
from hostile import Edit, fifo, folder_instead, picture, refused, run, sparse
from PIL import Image

patience = pytest.fixture(autouse=True)(hostile.patience)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hostile")
    fake.write_project(root)
    return root


# Parameters


def params(**dotted: Any) -> str:
    return json.dumps(tiny_chain.changed(**dotted))


def yaml_with(line: str) -> str:
    return yaml.safe_dump(tiny_chain.changed()) + line


NAMES = [f"k{place}" for place in range(9)]
BOMB = "\n".join(["x0: &x0 {a: 1}", *(f"x{k}: &x{k} [{', '.join([f'*x{k - 1}'] * 20)}]" for k in range(1, 9))])
PARAMETERS: list[tuple[str, str, str, str]] = [
    ("aliases of mappings in each other", "p.yaml", BOMB, "p.yaml: line"),
    ("a list that holds itself in a mapping", "p.yaml", "a: &a {b: [*a]}", "p.yaml: line 1"),
    ("aliases of one long text", "p.yaml", f"a: &a {'y' * 200_000}\nb: [{', '.join(['*a'] * 9)}]", "p.yaml: line 2"),
    ("a mapping merged into itself", "p.yaml", "a: &a\n  <<: *a\n  b: 1", "p.yaml: line 1"),
    ("two hundred levels of mappings", "p.yaml", "".join(f"{' ' * k}a:\n" for k in range(200)), "p.yaml: line"),
    ("octal in a list", "p.yaml", yaml_with("study: {axes: {seed: [0, 007]}}"), "007 is 7 to YAML 1.1"),
    ("octal below zero", "p.yaml", "seed: -017", "line 1: -017 is -15"),
    ("base 60 as a duration", "p.yaml", "runtime: {state_interval: 5:00}", "line 1: 5:00 is 300"),
    ("base 60 with a point", "p.yaml", "imbalance: {ratio: 1:40.5}", "line 1: 1:40.5 is 100.5"),
    ("an octal key", "p.yaml", "0777: 1", "line 1: 0777 is 511"),
    ("a number of a million digits", "p.yaml", f"seed: {'7' * 1_000_000}", "p.yaml: "),
    ("nothing but NUL", "p.yaml", "\0" * 100, "p.yaml: not valid YAML"),
    ("nothing but tabs", "p.yaml", "\t\t\t", "p.yaml: "),
    (
        "a billion stage",
        "p.json",
        params(space__stages={"channels": [8], "repeats": [10**9], "strides": [1]}),
        "repeats",
    ),
    ("layers without end", "p.json", params(space__darts={"derived_layers": 10**9}), "space.darts.derived_layers"),
    ("a stem of 2^40 channels", "p.json", params(space__stem={"channels": 2**40}), "space.stem.channels"),
    (
        "a projector of 2^31 outputs",
        "p.json",
        params(retrain__pretrain={"outputs": 2**31 - 1}),
        "retrain.pretrain.outputs",
    ),
    ("a million threads", "p.json", params(runtime={"threads": 10**6}), "runtime.threads"),
    ("a million workers", "p.json", params(runtime={"workers": 10**6}), "runtime.workers"),
    (
        "ten million pixels of padding",
        "p.json",
        params(retrain__augment={"crop": "pad", "pad": 10**7}),
        "retrain.augment.pad",
    ),
    ("a billion epochs", "p.json", params(retrain__epochs=10**9), "retrain.epochs"),
    ("a population of a billion", "p.json", params(search__population=10**9), "search.population"),
    (
        "wide and deep, each within its limit",
        "p.json",
        params(space__stages={"channels": [60_000] * 3, "repeats": [300] * 3, "strides": [1, 1, 1]}),
        "space ",
    ),
    (
        "a batch of ten terabytes",
        "p.json",
        params(
            retrain__batch_size=2**20,
            supernet__epochs=0,
            target={"dataset": "folder", "root": "a", "image_size": 2048, "channels": 3},
        ),
        "retrain.batch_size",
    ),
    ("a study of 10^18 cells", "p.json", params(study={"axes": {k: list(range(100)) for k in NAMES}}), "study.axes"),
    ("NUL in a name below the root", "p.json", params(target__splits={"test": "a\0b"}), "target.splits.test"),
    ("a root of a million letters", "p.json", params(source={"root": "x" * 10**6}), "source.root"),
    ("half a surrogate", "p.json", params(source={"root": "x"}).replace('"x"', '"\\ud800"'), "p.json: "),
    ("lists in lists", "p.json", params(seed="@").replace('"@"', "[" * 800 + "]" * 800), "p.json: "),
    ("infinity by overflow", "p.json", params(imbalance={"ratio": "@"}).replace('"@"', "1e999"), "imbalance.ratio"),
]


@pytest.mark.parametrize(("name", "text", "named"), [c[1:] for c in PARAMETERS], ids=[c[0] for c in PARAMETERS])
def test_parameters(tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, text: str, named: str) -> None:
    (tmp_path / name).write_text(text)
    refused(tmp_path, capfd, f"check --config {name}", named)


# Lists and images


def photos(root: Path) -> Path:
    """Write a folder dataset of two classes."""
    for label, name in enumerate(("cat", "dog")):
        for k in range(30):
            picture(root / "photos" / name / f"{k}.png", 8 * k + label)
    return root / "photos"


def listed(root: Path, lines: bytes) -> None:
    """Make the target a list dataset whose training list ends in `lines`."""
    folder = photos(root)
    rows = [f"{name}/{k}.png {label}\n" for label, name in enumerate(("cat", "dog")) for k in range(30)]
    (folder / "train.txt").write_bytes("".join(rows).encode() + lines)
    given = {"dataset": "list", "root": "photos", "image_size": 8, "splits": {"train": "train.txt"}}
    (root / "params.yaml").write_text(yaml.safe_dump(tiny_chain.changed(target=given, supernet__epochs=0)))


LISTS: list[tuple[str, bytes, str]] = [
    ("a line of ten megabytes", b"a" * 10_000_000, "train.txt:61"),
    ("a label of a thousand digits", b"cat/x.png " + b"1" * 1000, "train.txt:61"),
    ("a label in other digits", "cat/x.png \u0663".encode(), "train.txt:61"),
    ("NUL within a path", b"cat/\0.png 0", "train.txt:61"),
    ("a path of ten thousand letters", b"x" * 10_000 + b".png 0", "train.txt:61"),
    ("escapes for a terminal", b"cat/\x1b[2J\x9b.png 0", "train.txt"),
    ("text that turns round", "cat/\u202egnp.png 0".encode(), "train.txt:61"),
    ("up and down again", b"cat/../../photos/cat/1.png 0", "train.txt:61"),
    ("UTF-16", "cat/1.png 0\n".encode("utf-16"), "train.txt"),
    ("a label of 2^30", b"cat/x.png 999999999", "train.txt"),
]


@pytest.mark.parametrize(("lines", "named"), [c[1:] for c in LISTS], ids=[c[0] for c in LISTS])
def test_lists(chain: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], lines: bytes, named: str) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    listed(root, lines)
    refused(root, capfd, "target", named)


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """Return a PNG whose header says this size, whatever its data hold."""
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(data)),
        (b"IEND", b""),
    ]
    chunks = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def linked(target: str) -> Edit:
    def edit(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return edit


IMAGES: list[tuple[str, Edit]] = [
    ("a header of 60,000 by 60,000 pixels", lambda p: p.write_bytes(png(60_000, 60_000)) and None),
    ("a header of 2^31 - 1 by 1", lambda p: p.write_bytes(png(2**31 - 1, 1)) and None),
    ("a header of no pixels", lambda p: p.write_bytes(png(0, 0)) and None),
    ("a header without data", lambda p: p.write_bytes(png(9, 9)) and None),
    ("two hundred sparse gigabytes", sparse),
    ("a pipe", fifo),
    ("a link to a terminal", linked("/dev/tty0")),
    ("a link to zeros without end", linked("/dev/zero")),
    ("a link into nothing", linked("nothing.png")),
    ("a picture that nobody asked for (GIF)", lambda p: Image.new("L", (4, 4)).save(p, "GIF")),
    ("a JPEG of a header alone", lambda p: p.write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF\x00") and None),
    ("a directory by an image's name", folder_instead),
]


@pytest.mark.parametrize("edit", [c[1] for c in IMAGES], ids=[c[0] for c in IMAGES])
def test_images_that_predict_is_given(
    project: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], edit: Edit
) -> None:
    picture(tmp_path / "good.png")
    picture(tmp_path / "odd.png")
    edit(tmp_path / "odd.png")
    refused(tmp_path, capfd, f"predict {project / fake.PATHS['final']} odd.png good.png", "odd.png: ")


@pytest.mark.parametrize("edit", [c[1] for c in IMAGES[:-1]], ids=[c[0] for c in IMAGES[:-1]])
def test_images_of_a_dataset(chain: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], edit: Edit) -> None:
    tiny_chain.copy(chain, tmp_path)
    folder = photos(tmp_path)
    edit(folder / "cat/7.png")
    given = {"dataset": "folder", "root": "photos", "image_size": 8}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tiny_chain.changed(target=given, supernet__epochs=0)))
    refused(tmp_path, capfd, "target", "cat/7.png: ")


def test_a_limit_on_pixels_is_raised_by_its_parameter(
    chain: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tiny_chain.copy(chain, tmp_path)
    picture(photos(tmp_path) / "cat/7.png", size=(200, 100))
    given = {"dataset": "folder", "root": "photos", "image_size": 8, "max_pixels": 19_999}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tiny_chain.changed(target=given, supernet__epochs=0)))
    refused(tmp_path, capfd, "target", "200 x 100 = 20,000 pixels, expected at most 19,999 (target.max_pixels)")
    (tmp_path / "params.yaml").write_text(
        yaml.safe_dump(tiny_chain.changed(target={**given, "max_pixels": 20_000}, supernet__epochs=0))
    )
    assert run(tmp_path, capfd, "target")[0] == 0
