"""The recipes of docs/extending.md, each typed to the letter into a copy of the repository of its own."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from workflow_docs import equip
from workflow_project import ROOT, TINY, Project, _merge

# Each recipe ends with a run of all steps.
pytestmark = [pytest.mark.workflow, pytest.mark.pages, pytest.mark.timeout(1500)]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PLACE = re.compile(r"(New file|In) `([^`\n]+)`:\s*\Z")


@dataclass(frozen=True)
class Block:
    """A block of a recipe: a whole file, an edit of one, or commands."""

    kind: str
    file: str
    text: str


def recipe(title: str) -> list[Block]:
    """Return the blocks below a heading of the page."""
    text = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
    section = text.split(f"\n## {title}\n")[1].split("\n## ")[0]
    return list(_blocks(section))


def _blocks(section: str) -> Iterator[Block]:
    for found in BLOCK.finditer(section):
        place = PLACE.search(section[: found.start()].replace("\n", " "))
        kind = found[1]
        assert (place is None) == (kind == "sh"), section[: found.start()][-200:]
        assert place is None or (place[1] == "New file") == (kind == "python")
        yield Block(kind, place[2] if place else "", found[2])


def applied(text: str, edit: str) -> str:
    """Return a file's text after an edit; each of its places must be there once, below the one before."""
    lines, begin = text.split("\n"), 0
    for place in edit.rstrip("\n").split("\n@@\n"):
        marked = [(line[:1] or " ", line[1:]) for line in place.split("\n")]
        old = [line for mark, line in marked if mark != "+"]
        new = [line for mark, line in marked if mark != "-"]
        assert {mark for mark, _ in marked} <= set(" +-"), place
        # A place that begins with added lines is above the first line that is there.
        starts = [k for k in range(begin, len(lines) - len(old) + 1) if lines[k : k + len(old)] == old]
        assert len(starts) == 1, f"{len(starts)} places for:\n{place}"
        lines[starts[0] : starts[0] + len(old)] = new
        begin = starts[0] + len(new)
    return "\n".join(lines)


@pytest.fixture
def copy(fresh: Project, tmp_path: Path) -> Project:
    """Return a copy of what git tracks, its own package first on the path, with tiny parameters."""
    root = tmp_path / "copy"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, tracked.stdout.split("\0")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, root / name, follow_symlinks=False)
    tree = yaml.safe_load((root / "params.yaml").read_text())
    _merge(tree, TINY)
    (root / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    project = Project(
        root, {**fresh.env, "PYTHONPATH": str(root / "src"), "PYTHONDONTWRITEBYTECODE": "1"}, fresh.server
    )
    equip(project)
    return project


def follow(project: Project, title: str) -> tuple[set[str], int]:
    """Do what the recipe says; return the files of the package that it touches and the lines that it adds."""
    touched, added = set(), 0
    for block in recipe(title):
        file = project.path / block.file
        if block.kind == "python":
            assert not file.exists()
            file.write_text(block.text)
        elif block.kind == "diff":
            file.write_text(applied(file.read_text(), block.text))
        else:
            names = [str(project.path / each.file) for each in recipe(title) if each.file]
            project.shell("ruff", "check", *names)
            project.shell("ruff", "format", "--check", *names)
            for line in block.text.strip().splitlines():
                done = project.shell(*shlex.split(line))
                assert not re.search(r"\b0 passed", done.output)
            continue
        if not block.file.startswith("tests/"):
            touched.add(block.file)
            lines = block.text.splitlines()
            added += len(lines) if block.kind == "python" else sum(line.startswith("+") for line in lines)
    print(f"{title}: {len(touched)} files, {added} lines")
    return touched, added


def recipe_of(project: Project, name: str) -> dict[str, Any]:
    """Return the parameters with which a network was trained."""
    data = project.bytes(f"models/{name}.safetensors")
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    found: dict[str, Any] = json.loads(header["__metadata__"]["imbnas"])["recipe"]
    return found


def test_a_loss(copy: Project) -> None:
    assert len(follow(copy, "How to add a loss")[0]) <= 3
    trained = recipe_of(copy, "final")
    assert trained["loss"] == "poly1"
    assert trained["losses"]["poly1"] == {"epsilon": 2.0}


def test_a_search_space(copy: Project) -> None:
    assert len(follow(copy, "How to add a search space")[0]) <= 3
    assert json.loads(copy.bytes("results/architecture.json"))["space"] == "plain"
    said = copy.shell("imbnas", "params", "set", "search.method=fixed", "search.architecture=[0,3]", expect=2).output
    assert "choice 2 is 3, expected at most 2" in said


def test_a_search_method(copy: Project) -> None:
    assert len(follow(copy, "How to add a search method")[0]) <= 2
    found = json.loads(copy.bytes("results/architecture.json"))
    assert found["method"] == "local"


def write_idx(file: Path, values: np.ndarray) -> None:
    """Write uint8 values in the format of MNIST."""
    header = bytes([0, 0, 8, values.ndim]) + b"".join(int(size).to_bytes(4, "big") for size in values.shape)
    file.write_bytes(header + values.tobytes())


def test_a_dataset(copy: Project) -> None:
    # What torchvision would download, drawn: a class is a brightness.
    rng = np.random.default_rng(0)
    raw = copy.path / "datasets/kmnist/KMNIST/raw"
    raw.mkdir(parents=True)
    for stem, count in (("train", 500), ("t10k", 100)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = rng.integers(0, 60, (count, 28, 28)) + 20 * labels[:, None, None]
        write_idx(raw / f"{stem}-images-idx3-ubyte", images.astype(np.uint8))
        write_idx(raw / f"{stem}-labels-idx1-ubyte", labels)
    assert len(follow(copy, "How to add a dataset")[0]) <= 2
    info = json.loads(copy.bytes("data/target/test/info.json"))
    assert info["dataset"] == "kmnist"
    assert json.loads(copy.bytes("results/details.json"))["test_rows"] == 100
