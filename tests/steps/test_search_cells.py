"""The step `search` in the space nasbench201: each function once, none disconnected, and operations that act alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import tiny_chain
from torch import Tensor

from imbnas.cell_graph import is_connected, live_cell
from imbnas.data.stored import read_split
from imbnas.params.config import parse
from imbnas.params.reference_options import ReferencesParams
from imbnas.spaces.cells import CellSupernet
from imbnas.spaces.limits import Limits
from imbnas.spaces.networks import Architecture
from imbnas.spaces.registry import make_space
from imbnas.steps.references import draw_references

SPACE = {
    "name": "nasbench201",
    "stem": {"channels": 4, "stride": 1},
    "stages": {"channels": [4, 8], "repeats": [1, 1], "strides": [1, 2]},
    "last_channels": None,
}
CHAIN: dict[str, Any] = {
    "space": SPACE,
    "supernet__epochs": 1,
    "adapt__strategy": "none",
    "retrain__epochs": 1,
    "retrain__references": False,
}


@pytest.fixture(scope="module")
def adapted(chain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tiny_chain.copy(chain, tmp_path_factory.mktemp("cells"))
    assert tiny_chain.run(root, "supernet", "adapt", **CHAIN) == 0
    return root


def described(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "results/architecture.json").read_text())
    return found


def test_what_a_search_leaves_behind_is_canonical_and_connected(adapted: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(adapted, tmp_path)
    evolution = {"search__method": "evolution", "search__population": 12, "search__parents": 3, "search__mutation": 0.3}
    assert tiny_chain.run(root, "search", **CHAIN, **evolution, search__generations=4) == 0
    table = pq.read_table(root / "results/search.parquet").to_pandas()
    scored = [tuple(map(int, text.split("-"))) for text in table["architecture"]]
    assert len(set(scored)) == 48
    found = described(root)
    info = read_split(root / "data/target/train", root).info
    space = make_space(parse(tiny_chain.changed(**CHAIN), "params").space)
    costs = space.cost_table(info.shape, len(info.classes))
    chosen = tuple(found["chosen"]["architecture"])
    references = draw_references(ReferencesParams(random=6), space, costs, Limits(), chosen, 0, print)
    assert len(references) == 7
    assert min(table["macs"]) <= found["chosen"]["macs"] <= references["largest"]["macs"]
    for cell in [*scored, chosen, *(tuple(entry["architecture"]) for entry in references.values())]:
        assert is_connected(cell)
        assert live_cell(cell) == cell


def test_a_given_cell_is_taken_in_canonical_form_and_says_so(
    adapted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tiny_chain.copy(adapted, tmp_path)
    fixed = {**CHAIN, "search__method": "fixed"}
    assert tiny_chain.run(root, "search", **fixed, search__architecture=[3, 0, 0, 4, 0, 3]) == 0
    line = "search.architecture 3-0-0-4-0-3 names operations that do not act, taken as 0-0-0-4-0-0"
    assert line in (root / "logs/search.log").read_text()
    chosen = described(root)["chosen"]
    assert chosen["architecture"] == [0, 0, 0, 4, 0, 0]
    first = (root / "results/architecture.json").read_bytes()
    assert tiny_chain.run(root, "search", **fixed, search__architecture=[0, 0, 0, 4, 0, 0]) == 0
    assert (root / "results/architecture.json").read_bytes() == first
    assert "names operations" not in (root / "logs/search.log").read_text().rpartition(line)[2]
    # A file of an earlier version, or edited by hand, that names another form.
    chosen["architecture"] = [3, 0, 0, 4, 0, 3]
    (root / "results/architecture.json").write_text(json.dumps({**described(root), "chosen": chosen}))
    capsys.readouterr()
    assert tiny_chain.run(root, "retrain", **fixed, search__architecture=[0, 0, 0, 4, 0, 0]) == 2
    assert "chosen: architecture: 3-0-0-4-0-3 names operations that do not act" in capsys.readouterr().err


@pytest.mark.parametrize("sampling", ["uniform", "fair", "sandwich"])
def test_a_supernet_trains_no_cell_without_a_way(
    adapted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampling: str
) -> None:
    trained: set[Architecture] = set()
    original = CellSupernet.forward

    def forward(self: CellSupernet, x: Tensor, architecture: Architecture) -> Tensor:
        trained.add(architecture)
        return original(self, x, architecture)

    monkeypatch.setattr(CellSupernet, "forward", forward)
    root = tiny_chain.copy(adapted, tmp_path)
    assert tiny_chain.run(root, "supernet", **{**CHAIN, "supernet__sampling": sampling}) == 0
    assert all(is_connected(cell) and live_cell(cell) == cell for cell in trained)
    assert len(trained) > 4
    assert {"sandwich": {(0, 0, 0, 1, 0, 0), (3,) * 6}}.get(sampling, set()) <= trained
