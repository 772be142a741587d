"""The benchmarks' own arithmetic: fixtures, the share that a trie saves, the page of results."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from imbnas.params.shared import SpaceParams
from imbnas.spaces.registry import make_space

ROOT = Path(__file__).resolve().parents[1]


def load(name: str) -> ModuleType:
    """Import a script of benchmarks/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", ROOT / f"benchmarks/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def fixture() -> dict[str, Any]:
    return json.loads((ROOT / "benchmarks/generations.json").read_text())


def test_the_generations_are_fifty_different_paths_of_the_published_space() -> None:
    found = fixture()
    space = make_space(SpaceParams.model_validate(found["space"]))
    assert space.size == 4**20
    saved = {}
    for name in ("early", "converged"):
        paths = [space.check(path) for path in found[name]]
        assert len(set(paths)) == len(paths) == 50
        nodes = sum(len({path[:k] for path in paths}) for k in range(1, 21))
        saved[name] = 1 - nodes / (20 * 50)
    assert 0.15 < saved["early"] < saved["converged"] < 0.8


def test_repeated_seconds_are_those_of_nodes_that_were_run_before() -> None:
    measures = load("measures")
    paths = [(0, 1), (0, 2), (1, 2), (0, 1)]
    # One pass over the paths, in which block 0 takes 3 s, block 1 takes 5 s plus its choice, and the stem 2 s.
    seconds: dict[tuple[int, int], list[float]] = {(-1, 0): [2.0] * 4}
    for path in paths:
        seconds.setdefault((0, path[0]), []).append(3.0)
        seconds.setdefault((1, path[1]), []).append(5.0 + path[1])
    seen: Counter[tuple[int, ...]] = Counter()
    expected = 2.0 * 3
    for path in paths:
        for depth, cost in ((1, 3.0), (2, 5.0 + path[1])):
            expected += cost if seen[path[:depth]] else 0.0
            seen[path[:depth]] += 1
    assert measures.repeated(paths, seconds) == pytest.approx(expected)


def test_the_page_holds_ratios_of_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = load("report")
    monkeypatch.setattr(report, "PAGE", tmp_path / "speed.md")
    machine = {
        **{"processor": "P", "cores": 2, "threads": 2, "device": "cpu", "versions": {"torch": "1"}},
        **{"clock": "wall", "rounds": 3, "load_at_start": 0.1},
    }
    rates = {"xautodl": 50.0, "nni": 40.0, "imbnas": 100.0, "subnet": 80.0, "imbnas-bf16": 160.0, "subnet-bf16": 200.0}
    speed = {"batch": 64, "images_per_second": rates}
    report.write({"cpu": {"peers": {"machine": machine, "train": speed, "evaluate": {**speed, "batch": 500}}}})
    page = (tmp_path / "speed.md").read_text()
    assert "| imbnas | 100 | 2 | 2.5 | 1.25 |" in page
    assert "| imbnas-bf16 | 160 | 3.2 | 4 | 0.8 |" in page
    assert "training, batch 64" in page
    assert "evaluation, batch 500" in page


def test_every_measurement_has_a_section_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    run, report = load("run"), load("report")
    assert set(report.SECTIONS) == {"peers", *run.MEASURES, *run.COMMANDS}
