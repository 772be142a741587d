"""Hostile and odd models, tables and states of the chain: one line that names the file, exit code 2, and no hang."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_project as fake
import hostile
import pandas as pd
import pytest
import tiny_chain
import torch
import yaml
from hostile import Edit, fifo, folder_instead, picture, raw, refused, run, sparse
from safetensors import safe_open
from safetensors.torch import save_file

FINAL, ADAPTED, SUPERNET = (fake.PATHS[name] for name in ("final", "adapted", "supernet"))
patience = pytest.fixture(autouse=True)(hostile.patience)


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
