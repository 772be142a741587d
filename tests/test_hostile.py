"""Hostile and odd files at every door: one line that names the file or parameter, exit code 2, and no hang."""

from __future__ import annotations

import json
import os
import pickle
import signal
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import fake_project as fake
import pandas as pd
import pytest
import tiny_chain
import torch
import yaml
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from imbnas import cli

Edit = Callable[[Path], None]
PATIENCE = 60
"""Seconds after which a command counts as hung; each takes a few, most of them for torch's import."""
FINAL, ADAPTED, SUPERNET = (fake.PATHS[name] for name in ("final", "adapted", "supernet"))


def give_up(number: int, frame: FrameType | None) -> None:
    raise TimeoutError("hung")


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def run(root: Path, capfd: pytest.CaptureFixture[str], words: str) -> tuple[int, str, str]:
    """Run a command line in `root` and return its exit code, standard output and standard error."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr("sys.argv", ["imbnas", *words.split()])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
    return code, *capfd.readouterr()


def refused(root: Path, capfd: pytest.CaptureFixture[str], words: str, named: str) -> None:
    """Expect exit code 2 and, besides what a step logs, one line, which holds `named`."""
    code, _, told = run(root, capfd, words)
    lines = told.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert (code, len(errors)) == (2, 1), told[-2000:]
    assert lines[-1] == errors[0]
    assert named in errors[0]
    assert "Traceback" not in told
    assert len(errors[0]) < 4000
    assert errors[0].isprintable()


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


def picture(path: Path, colour: int = 3, size: tuple[int, int] = (9, 9)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (colour, 2, 1)).save(path)


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


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def linked(target: str) -> Edit:
    def edit(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return edit


def sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(200 << 30)


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
    refused(tmp_path, capfd, f"predict {project / FINAL} odd.png good.png", "odd.png: ")


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


# Models


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hostile")
    fake.write_project(root)
    picture(root / "a.png")
    return root


def content(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    with safe_open(str(path), framework="pt") as stream:
        return {name: stream.get_tensor(name) for name in stream.keys()}, json.loads(stream.metadata()["imbnas"])  # noqa: SIM118


def meta(**changes: Any) -> Edit:
    """Change entries of a model's metadata."""

    def edit(path: Path) -> None:
        tensors, found = content(path)
        save_file(tensors, str(path), metadata={"imbnas": json.dumps({**found, **changes})})

    return edit


def without(key: str) -> Edit:
    def edit(path: Path) -> None:
        tensors, found = content(path)
        del found[key]
        save_file(tensors, str(path), metadata={"imbnas": json.dumps(found)})

    return edit


def tensor(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Edit:
    def edit(path: Path) -> None:
        tensors, found = content(path)
        tensors[name] = change(tensors[name]).contiguous()
        save_file(tensors, str(path), metadata={"imbnas": json.dumps(found)})

    return edit


def raw(data: Callable[[bytes], bytes]) -> Edit:
    return lambda path: path.write_bytes(data(path.read_bytes())) and None


def text(value: str) -> Edit:
    def edit(path: Path) -> None:
        save_file(content(path)[0], str(path), metadata={"imbnas": value})

    return edit


def space(**changes: Any) -> dict[str, Any]:
    return {**fake.SPACE.model_dump(mode="json"), **changes}


DEEP = {"channels": [64] * 2, "repeats": [10**8] * 2, "strides": [1, 1]}
MODELS: list[tuple[str, Edit]] = [
    ("a header longer than the file", raw(lambda data: struct.pack("<Q", 2**60) + data[8:])),
    ("a header of no bytes", raw(lambda data: bytes(8) + data[8:])),
    ("a pickle", raw(lambda data: pickle.dumps({"a": [1] * 10_000}))),
    ("sparse zeros", sparse),
    ("format true", meta(format=True)),
    ("no kind", without("kind")),
    ("a kind that is a list", meta(kind=["subnet"])),
    ("no blocks", without("blocks")),
    ("classes that are numbers", meta(classes=[1, 2, 3, 4])),
    ("classes that are a text", meta(classes="abcd")),
    (
        "half a surrogate in a class",
        text("{}".replace("{}", '{"format": 1, "kind": "subnet", "classes": ["\\ud800"]}')),
    ),
    ("a class of a megabyte", meta(classes=["x" * 2**20, "b", "c", "d"])),
    ("a mean that is null", meta(mean=None)),
    ("a mean for each of three channels", meta(mean=[0.1, 0.2, 0.3])),
    ("a deviation of zero", meta(std=[0.0])),
    ("a mean of 10^400", text('{"format": 1, "kind": "subnet", "mean": [1e400]}')),
    ("NaN in the recipe", meta(recipe={"lr": float("nan")})),
    ("a side of a billion", meta(load_side=10**9)),
    ("a side of zero", meta(load_side=0)),
    ("a shape below zero", meta(shape=[-8, 8, 1])),
    ("a shape of four numbers", meta(shape=[8, 8, 1, 1])),
    ("two channels", meta(shape=[8, 8, 2])),
    ("a hundred million blocks", meta(space=space(stages=DEEP))),
    ("wide beyond memory", meta(space=space(stem={"channels": 2**30, "stride": 1}))),
    ("a space of another kind", meta(space=space(name="darts"))),
    ("a head with code in it", meta(head={"name": "linear", "__class__": "os.system"})),
    (
        "a cosine head of scale infinity",
        text('{"format": 1, "kind": "subnet", "head": {"name": "cosine", "scale": 1e999}}'),
    ),
    ("an architecture of booleans", meta(architecture=[True, False])),
    ("a choice below zero", meta(architecture=[-1, 0])),
    ("fewer operations than none", meta(macs=-5)),
    ("metadata of lists in lists", text("[" * 100_000)),
    ("metadata that are null", text("null")),
    ("one weight infinite", tensor("head.weight", lambda t: t.index_fill(0, torch.tensor([1]), float("inf")))),
    ("a running variance that is no number", tensor("stem.1.running_var", lambda t: t * float("nan"))),
    ("weights of half precision", tensor("head.weight", lambda t: t.half())),
    ("a weight turned round", tensor("stem.0.weight", lambda t: t.flatten())),
    ("weights so large that answers overflow", tensor("last.1.weight", lambda t: torch.full_like(t, 3e38))),
    ("variances below zero", tensor("last.1.running_var", lambda t: -torch.ones_like(t))),
]


@pytest.mark.parametrize("edit", [c[1] for c in MODELS], ids=[c[0] for c in MODELS])
def test_models(project: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], edit: Edit) -> None:
    (tmp_path / "m.safetensors").write_bytes((project / FINAL).read_bytes())
    edit(tmp_path / "m.safetensors")
    refused(tmp_path, capfd, f"predict --json m.safetensors {project / 'a.png'}", "m.safetensors: ")


SUPERNETS: list[tuple[str, str, str, Edit]] = [
    ("a supernet without a dataset", "adapt", SUPERNET, without("digests")),
    ("a supernet with one weight infinite", "adapt", SUPERNET, tensor("head.bias", lambda t: t * float("inf") + 1)),
    ("a supernet with a weight turned round", "adapt", SUPERNET, tensor("stem.0.weight", lambda t: t.flatten())),
    ("a supernet of a cosine head", "adapt", SUPERNET, meta(head={"name": "cosine", "scale": 2.0})),
    ("a supernet in the place of an adapted one", "search", ADAPTED, meta(recipe={"epochs": 1})),
    ("an adapted one without a recipe", "search", ADAPTED, without("recipe")),
    ("an adapted one whose classes are a number", "search", ADAPTED, meta(classes=10)),
    ("an adapted one with NaN", "search", ADAPTED, tensor("head.bias", lambda t: t * float("nan"))),
]


@pytest.mark.parametrize(("step", "name", "edit"), [c[1:] for c in SUPERNETS], ids=[c[0] for c in SUPERNETS])
def test_supernets(
    chain: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], step: str, name: str, edit: Edit
) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    (root / "params.yaml").write_text(yaml.safe_dump(tiny_chain.changed()))
    edit(root / name)
    refused(root, capfd, step, f"{name}: ")


# Tables


def parquet(**columns: Any) -> Edit:
    """Write a table of these columns instead."""
    return lambda path: pd.DataFrame(columns).to_parquet(path)


def table(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Edit:
    return lambda path: change(pd.read_parquet(path)).to_parquet(path)


INDEX, TAIL = "data/target/train/index.parquet", fake.PATHS["longtail"]
TABLES: list[tuple[str, str, str, Edit]] = [
    ("an index of text labels", "imbalance", INDEX, table(lambda t: t.assign(label=t["label"].map(str)))),
    ("an index of labels below zero", "imbalance", INDEX, table(lambda t: t.assign(label=t["label"] - 5))),
    ("an index of one row too few", "imbalance", INDEX, table(lambda t: t.iloc[1:])),
    ("an index of zeros", "imbalance", INDEX, raw(lambda data: bytes(len(data)))),
    ("an index cut in its footer", "imbalance", INDEX, raw(lambda data: data[:-6])),
    ("an index that is a directory", "imbalance", INDEX, folder_instead),
    ("an index that is a pipe", "imbalance", INDEX, fifo),
    ("a long tail of rows that are not there", "adapt", TAIL, table(lambda t: t.assign(row=t["row"] + 10**6))),
    ("a long tail of rows below zero", "adapt", TAIL, table(lambda t: t.assign(row=-1 - t["row"]))),
    ("a long tail of one row twice", "adapt", TAIL, table(lambda t: pd.concat([t, t.iloc[:1]]))),
    ("a long tail of other labels", "adapt", TAIL, table(lambda t: t.assign(label=9 - t["label"]))),
    ("a long tail of splits without a name", "adapt", TAIL, table(lambda t: t.assign(split=None))),
    ("a long tail without rows", "adapt", TAIL, table(lambda t: t.iloc[:0])),
    ("a long tail in CSV", "adapt", TAIL, raw(lambda data: b"row,label,split\n0,0,train\n")),
]


@pytest.mark.parametrize(("step", "name", "edit"), [c[1:] for c in TABLES], ids=[c[0] for c in TABLES])
def test_tables(
    chain: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], step: str, name: str, edit: Edit
) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    (root / "params.yaml").write_text(yaml.safe_dump(tiny_chain.changed()))
    edit(root / name)
    refused(root, capfd, step, f"{name}: ")


# States: a damaged one is told in the log and begun anew, never used, never waited for


class Trap:
    """Leaves a file behind where a pickle of it is loaded without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(bytes(data))


STATES: list[tuple[str, Edit]] = [
    ("one bit flipped", flipped),
    ("zeros of the same length", raw(lambda data: bytes(len(data)))),
    ("a pickle that runs a program", lambda path: path.write_bytes(pickle.dumps(Trap(path.parent / "ran"))) and None),
    ("a state of torch without a digest", lambda path: torch.save({"step": 10**9, "model": {}}, path)),
    ("cut after a byte", raw(lambda data: data[:1])),
    ("two hundred sparse gigabytes", sparse),
]


@pytest.fixture(scope="module")
def stopped(chain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project whose supernet's training was cut off after three steps, its state saved."""
    from imbnas.training.loop import Trainer

    root = tiny_chain.copy(chain, tmp_path_factory.mktemp("stopped"))
    (root / SUPERNET).unlink()
    (root / "params.yaml").write_text(yaml.safe_dump(tiny_chain.changed(runtime__state_interval=0.0)))
    real, steps = Trainer.step, []

    def stop(*arguments: Any) -> torch.Tensor:
        steps.append(1)
        if len(steps) == 3:
            raise MemoryError
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", stop)
        with pytest.raises(MemoryError):
            tiny_chain.run(root, "supernet", runtime__state_interval=0.0)
    return root


@pytest.mark.parametrize("edit", [c[1] for c in STATES], ids=[c[0] for c in STATES])
def test_states(chain: Path, stopped: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], edit: Edit) -> None:
    root = tiny_chain.copy(stopped, tmp_path)
    (state,) = (root / ".imbnas/resume/supernet").glob("*.pt")
    edit(state)
    code, _, told = run(root, capfd, "supernet --log step.log")
    assert code == 0, told[-2000:]
    assert "Traceback" not in told
    assert [line for line in (root / "step.log").read_text().splitlines() if state.name in line]
    assert (root / SUPERNET).read_bytes() == (chain / SUPERNET).read_bytes()
    assert not (state.parent / "ran").exists()
