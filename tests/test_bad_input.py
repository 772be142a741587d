"""Bad input of every kind: one line that names the cause, exit code 2, before the step's work begins."""

from __future__ import annotations

import json
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_chain
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from imbnas import cli

Edit = Callable[[Path], None]


def dotted(**changes: Any) -> Edit:
    """Change parameters of the project."""
    return lambda root: (root / "params.yaml").write_text(yaml.safe_dump(tiny_chain.changed(**changes)))


def text(old: str, new: str) -> Edit:
    """Change the text of params.yaml itself."""

    def edit(root: Path) -> None:
        file = root / "params.yaml"
        before = file.read_text()
        assert old in before
        file.write_text(before.replace(old, new, 1))

    return edit


def content(name: str, data: bytes) -> Edit:
    return lambda root: (root / name).write_bytes(data) and None


def cut(name: str, keep: float = 0.6) -> Edit:
    def edit(root: Path) -> None:
        data = (root / name).read_bytes()
        (root / name).write_bytes(data[: int(len(data) * keep)])

    return edit


def folder(bad: Callable[[Path], None], **extra: Any) -> Edit:
    """Make the target a folder dataset of two classes with one fault."""

    def edit(root: Path) -> None:
        photos = root / "photos"
        for label in ("cat", "dog"):
            (photos / label).mkdir(parents=True)
            for k in range(30):
                pixels = np.full((9, 9, 3), k * 8, dtype=np.uint8)
                pixels[0, 0] = (len(label), k, ord(label[0]))
                Image.fromarray(pixels).save(photos / label / f"{k}.png")
        bad(photos)
        change = {"target": {"dataset": "folder", "root": "photos", "image_size": 8, **extra}}
        dotted(**change, supernet__epochs=0)(root)

    return edit


def listing(lines: str) -> Edit:
    """Make the target a list dataset whose training list ends in `lines`."""

    def bad(photos: Path) -> None:
        rows = [f"{c}/{k}.png {label}" for label, c in enumerate(("cat", "dog")) for k in range(30)]
        (photos / "train.txt").write_text("\n".join([*rows, lines]) + "\n")

    def edit(root: Path) -> None:
        folder(bad)(root)
        target = {"dataset": "list", "root": "photos", "image_size": 8, "splits": {"train": "train.txt"}}
        dotted(target=target, supernet__epochs=0)(root)

    return edit


def truncate_png(photos: Path) -> None:
    file = photos / "cat" / "7.png"
    file.write_bytes(file.read_bytes()[:60])


def odd_name(name: bytes) -> Callable[[Path], None]:
    """Give a damaged image a name of these bytes."""

    def bad(photos: Path) -> None:
        truncate_png(photos)
        (photos / "cat/7.png").rename(photos / "cat" / os.fsdecode(name))

    return bad


def empty_class(photos: Path) -> None:
    (photos / "eel").mkdir()


ADAPTED, SUPERNET = "models/adapted.safetensors", "models/supernet.safetensors"
CASES: list[tuple[str, str, Edit, str]] = [
    ("unknown key", "adapt", dotted(adapt__strategie="head"), r"params\.yaml: adapt\.strategie: unknown parameter"),
    ("unknown section", "adapt", dotted(adaptation={}), r"params\.yaml: adaptation: unknown"),
    ("wrong type", "adapt", dotted(supernet__epochs="many"), r"supernet\.epochs: .*'many'"),
    ("float for int", "adapt", dotted(supernet__epochs=2.5), r"supernet\.epochs: .*2\.5"),
    (
        "1e-3 as text",
        "adapt",
        dotted(supernet__optimizer={"lr": "1e-3"}),
        r"supernet\.optimizer\.lr: .*'1e-3', expected a number.*0\.001",
    ),
    ("ratio 0", "imbalance", dotted(imbalance__ratio=0), r"imbalance\.ratio: "),
    ("negative ratio", "imbalance", dotted(imbalance__ratio=-5), r"imbalance\.ratio: "),
    ("nan", "imbalance", text("ratio: 20.0", "ratio: .nan"), r"imbalance\.ratio: "),
    ("unknown choice", "adapt", dotted(adapt__strategy="heads"), r"adapt\.strategy: .*'heads'"),
    ("key twice", "adapt", text("seed: 0", "seed: 0\nseed: 1"), r"params\.yaml: .*seed.*twice"),
    ("not YAML", "adapt", content("params.yaml", b"seed: [0"), r"params\.yaml: not valid YAML"),
    ("empty params", "adapt", content("params.yaml", b""), r"params\.yaml: "),
    (
        "missing input",
        "adapt",
        lambda root: (root / SUPERNET).unlink(),
        r"supernet\.safetensors: not found.*imbnas supernet",
    ),
    ("ratio too large", "imbalance", dotted(imbalance__ratio=5000.0), r"imbalance\.ratio"),
    ("n_max too large", "imbalance", dotted(imbalance__n_max=5000), r"imbalance\.n_max"),
    ("missing dataset", "target", dotted(target={"dataset": "cifar10", "root": "nowhere"}), r"cifar10.*nowhere"),
    ("missing folder", "target", folder(lambda photos: photos.rename(photos.with_name("moved"))), r"photos"),
    ("corrupt image", "target", folder(truncate_png), r"cat/7\.png"),
    (
        "corrupt image, headers only still reads headers",
        "target",
        folder(lambda p: (p / "cat/7.png").write_bytes(b"GIF") and None, verify="headers"),
        r"cat/7\.png",
    ),
    (
        "image name not UTF-8",
        "target",
        folder(odd_name(b"\xff\xfe.png")),
        r"cat/\\xff\\xfe\.png: the name is not valid",
    ),
    ("newline in an image's name", "target", folder(odd_name(b"7\n8.png")), r"cat/7\\n8\.png: cannot be read as an"),
    ("link to itself", "target", folder(lambda p: (p / "cat/x.png").symlink_to("x.png")), r"cat/x\.png: Too many lev"),
    ("empty class", "target", folder(empty_class), r"eel"),
    ("label not a number", "target", listing("cat/1.png dog"), r"train\.txt:61: "),
    ("label out of range", "target", listing("cat/x.png -1"), r"train\.txt:61: "),
    ("class without rows", "target", listing("cat/x.png 9"), r"train\.txt"),
    ("missing image", "target", listing("cat/none.png 0"), r"train\.txt:61: .*none\.png"),
    ("path leaves the root", "target", listing("../params.yaml 0"), r"train\.txt:61: "),
    ("absolute path", "target", listing("/etc/hosts 0"), r"train\.txt:61: "),
    ("path twice", "target", listing("cat/1.png 0"), r"train\.txt:61: "),
    ("truncated supernet", "adapt", cut(SUPERNET), r"supernet\.safetensors: not a whole safetensors file"),
    (
        "foreign safetensors",
        "search",
        lambda root: save_file({"w": torch.ones(1)}, str(root / ADAPTED)),
        r"adapted\.safetensors: a safetensors file without imbnas metadata",
    ),
    (
        "pickle for safetensors",
        "adapt",
        content(SUPERNET, pickle.dumps({"a": 1})),
        r"supernet\.safetensors: not a whole safetensors",
    ),
    ("truncated images", "adapt", cut("data/target/train/images.npy"), r"images\.npy: "),
    ("truncated index", "adapt", cut("data/target/train/index.parquet"), r"index\.parquet: "),
    ("truncated long tail", "adapt", cut("data/longtail.parquet"), r"longtail\.parquet: "),
    ("broken info", "adapt", content("data/target/train/info.json", b"{"), r"info\.json: not valid JSON"),
    ("no subnet meets it", "search", dotted(search__max_macs=10), r"search\.max_macs"),
    (
        "wrong architecture",
        "search",
        dotted(search__method="fixed", search__architecture=[0]),
        r"search\.architecture|architecture",
    ),
    ("truncated architecture", "retrain", cut("results/architecture.json"), r"architecture\.json: not valid JSON"),
    ("odd widths", "supernet", dotted(space__stem={"channels": 7}), r"space"),
    ("CUDA without a GPU", "supernet", dotted(runtime__device="cuda"), r"runtime\.device"),
    (
        "rounded without CUDA",
        "supernet",
        dotted(runtime__precision="tf32", runtime__device="cpu"),
        r"runtime\.precision",
    ),
    (
        "references of a supernet",
        "evaluate",
        lambda root: (root / "models/final.safetensors").write_bytes((root / SUPERNET).read_bytes()) and None,
        r"final\.safetensors: holds a supernet",
    ),
]


@pytest.mark.parametrize(("step", "edit", "message"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_one_line_and_exit_code_2(
    chain: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    edit: Edit,
    message: str,
) -> None:
    if step != "target" and message == r"runtime\.device" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    root = tiny_chain.copy(chain, tmp_path)
    dotted()(root)
    edit(root)
    before = {file: file.stat().st_mtime_ns for file in (root / "models").iterdir()}
    monkeypatch.chdir(root)
    monkeypatch.setattr("sys.argv", ["imbnas", step, "--log", "step.log"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert stop.value.code == 2, captured.err
    assert len(errors) == 1
    assert captured.err.splitlines()[-1] == errors[0]
    assert "Traceback" not in captured.err
    assert re.search(message, errors[0]), errors[0]
    assert {file: file.stat().st_mtime_ns for file in (root / "models").iterdir()} == before


def test_a_broken_state_is_named_and_not_used(chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    (root / SUPERNET).unlink()
    short: dict[str, Any] = {"supernet__epochs": 1, "runtime__state_interval": 0.0}
    assert tiny_chain.run(root, "supernet", **short) == 0
    capsys.readouterr()
    from imbnas.training.loop import Trainer

    real, steps = Trainer.step, []

    def stop(*arguments: Any) -> torch.Tensor:
        steps.append(1)
        if len(steps) == 3:
            raise MemoryError
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", stop)
        with pytest.raises(MemoryError):
            tiny_chain.run(root, "supernet", **short)
    state = next((root / ".imbnas/resume/supernet").glob("*.pt"))
    state.write_bytes(state.read_bytes()[:-100])
    assert tiny_chain.run(root, "supernet", **short) == 0
    assert f"{state.name}: not a whole training state" in capsys.readouterr().err


def test_json_files_are_checked_as_yaml_files_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "params.json"
    file.write_text(json.dumps(tiny_chain.changed(imbalance__ratio=0)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["imbnas", "check", "--config", str(file)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
    assert stop.value.code == 2
    assert "params.json: imbalance.ratio: " in capsys.readouterr().err
