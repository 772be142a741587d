"""Approximate multipliers on the chain: in search and retraining, in the saved network, refused where they are bad."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_chain
import torch
from torch import nn

from imbnas.approximate.convolution import ApproximateConv2d
from imbnas.approximate.families import FAMILIES
from imbnas.approximate.placement import Placement
from imbnas.approximate.product_tables import ProductTable, codes
from imbnas.cli import app
from imbnas.errors import UserError
from imbnas.export import EXTRA, export
from imbnas.params.approximate import OPERATIONS, ApproximateParams, MultiplierName
from imbnas.params.config import parse
from imbnas.params.evaluate import EvaluateView
from imbnas.params.space_options import SpaceParams
from imbnas.progress import Log
from imbnas.run.context import Context
from imbnas.saved import load_references, load_subnet
from imbnas.spaces.cost import count
from imbnas.spaces.registry import make_space
from imbnas.steps.evaluate_inputs import read_inputs
from imbnas.training.checkpoint import load_meta, load_weights, save_weights

TABLE = {
    "approximate__multiplier": "table",
    "approximate__file": "tables/own.npy",
    "approximate__library": "own 1.0",
    "approximate__name": "noisy",
}
CELLS: dict[str, Any] = {
    **tiny_chain.CELLS,
    "search__darts": {"epochs": 1, "batch_size": 70},
    "retrain__epochs": 1,
    "retrain__references": {"random": 1, "largest": False},
}


def approximate_convs(network: nn.Module) -> list[str]:
    return [name for name, part in network.named_modules() if isinstance(part, ApproximateConv2d)]


def noisy(root: Path) -> ProductTable:
    """Write a table with errors of rank 1, and return it."""
    values = codes(signed=True)
    table = ProductTable(
        np.multiply.outer(values, values) + 90 * np.multiply.outer(values % 3, values % 2), True, "", ""
    )
    (root / "tables").mkdir(exist_ok=True)
    np.save(root / "tables/own.npy", table.values)
    return table


def logits(path: Path) -> torch.Tensor:
    network = load_subnet(path)
    images = torch.randint(0, 256, (5, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.inference_mode():
        found: torch.Tensor = network.model(network.preprocess()(images))
    return found


def test_every_name_has_a_definition() -> None:
    assert set(MultiplierName.__args__) == {*FAMILIES, "table"}  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def searched(cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project whose cell was searched and trained under a multiplier of a file, which is gone."""
    root = tiny_chain.copy(cells, tmp_path_factory.mktemp("approximate"))
    digest = noisy(root).sha256
    assert tiny_chain.run(root, "search", "retrain", **CELLS, **TABLE, approximate__sha256=digest) == 0
    (root / "tables/own.npy").unlink()
    return root


def test_a_saved_network_carries_its_multiplier(searched: Path, tmp_path: Path) -> None:
    path = searched / "models/final.safetensors"
    weights, meta = load_weights(path)
    assert (
        meta["approximate"]["sha256"]
        == json.loads((searched / "results/architecture.json").read_text())["approximate"]["sha256"]
    )
    assert weights["multiplier"].shape == (256, 256)
    network = load_subnet(path)
    assert all(".conv" in name and name.startswith("blocks.") for name in approximate_convs(network.model))
    references = load_references(searched / "models/references.safetensors")
    assert all(approximate_convs(one.model) for one in references.values())
    approximate = logits(path)
    exported = export(path, tmp_path / "final.pt2").path
    extra = {EXTRA: ""}
    program = torch.export.load(exported, extra_files=extra).module()
    images = torch.randint(0, 256, (5, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert torch.equal(program(images), approximate)
    assert json.loads(extra[EXTRA])["approximate"]["name"] == "noisy"
    # The same weights answer otherwise without it.
    del weights["multiplier"], meta["approximate"]
    save_weights(tmp_path / "exact.safetensors", weights, meta)
    assert not torch.allclose(logits(tmp_path / "exact.safetensors"), approximate, atol=1e-3)


def test_a_file_whose_table_is_another_one_is_refused(searched: Path, tmp_path: Path) -> None:
    weights, meta = load_weights(searched / "models/final.safetensors")
    weights["multiplier"][3, 4] += 1
    save_weights(tmp_path / "other.safetensors", weights, meta)
    with pytest.raises(UserError, match=r"approximate\.sha256: found .*, expected .*, the digest of its multiplier"):
        load_subnet(tmp_path / "other.safetensors")
    del weights["multiplier"]
    save_weights(tmp_path / "without.safetensors", weights, meta)
    with pytest.raises(UserError, match=r"has no tensor multiplier, expected I32 \[256, 256\]"):
        load_subnet(tmp_path / "without.safetensors")


def test_scores_of_a_supernet_are_those_of_approximate_paths(chain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    exact = pd.read_parquet(root / "results/search.parquet")
    coarse = {"approximate__multiplier": "first-truncated-6", "approximate__skeleton": True}
    assert tiny_chain.run(root, "search", **coarse) == 0
    found = pd.read_parquet(root / "results/search.parquet")
    assert found["architecture"].tolist() == exact["architecture"].tolist()
    assert found["macs"].tolist() == exact["macs"].tolist()
    # Two levels of activations are left: nearer to chance on ten classes.
    assert found["score"].mean() < exact["score"].mean() - 0.03


def test_an_evaluation_belongs_to_the_multiplier_of_the_training(searched: Path) -> None:
    def read(**approximate: Any) -> dict[str, Any]:
        view = parse(tiny_chain.changed(**CELLS, **approximate), "params.yaml").view("evaluate")
        assert isinstance(view, EvaluateView)
        return read_inputs(view, Context("evaluate", searched, Log("evaluate"))).networks["final"].meta

    digest = load_meta(searched / "models/final.safetensors")["approximate"]["sha256"]
    # The file with the table is gone, and not needed any more.
    found = read(**TABLE, approximate__sha256=digest)
    architecture = json.loads((searched / "results/architecture.json").read_text())
    assert found["approximate"] == architecture["approximate"]
    assert found["macs"] == architecture["chosen"]["macs"], "what is emulated is not counted"
    for other in ({}, {"approximate__multiplier": "truncated-2"}):
        with pytest.raises(
            UserError, match="its approximate are not those of the parameters and the target, run retrain"
        ):
            read(**other)


@pytest.mark.parametrize(
    ("operations", "skeleton", "expected"),
    [
        (None, False, {"sep_conv_3x3", "dil_conv_5x5", "skip_connect"}),
        (["dil_conv_5x5"], False, {"dil_conv_5x5"}),
        (["sep_conv_3x3"], True, {"sep_conv_3x3", "skeleton"}),
    ],
)
def test_the_chosen_operations_are_approximate(operations: Any, skeleton: bool, expected: set[str]) -> None:
    options = {"channels": 2, "layers": 3, "derived_channels": 2, "derived_layers": 3}
    options["operations"] = ["none", "max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_5x5"]
    space = make_space(SpaceParams.model_validate({"name": "darts", "darts": options}))
    network = space.build_supernet(4, 1)
    before, cost = list(network.state_dict()), count(network, (8, 8, 1))
    Placement(FAMILIES["truncated-1"].table("t"), operations, skeleton, {}).apply(network)
    assert list(network.state_dict()) == before
    assert count(network, (8, 8, 1)) == cost, "what is emulated is not counted"
    found = set()
    for name in approximate_convs(network):
        parts = name.split(".")
        found.add(parts[4] if "edges" in parts else "skeleton")
    names = {name if name in OPERATIONS["darts"] else "skeleton" for name in found}
    assert names == expected


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"multiplier": "table"}, "approximate.file is null with multiplier table, expected it"),
    (
        {"multiplier": "exact", "name": "x"},
        "approximate.name is text 'x' with multiplier text 'exact', expected null, or table",
    ),
    ({"skeleton": True}, "approximate.skeleton is true with multiplier null, expected a multiplier"),
    ({"multiplier": "exact", "operations": ["sep_conv_3x3"]}, "in the space shufflenet, expected null, or the space"),
    ({"multiplier": "truncated-9"}, "approximate.multiplier: found text 'truncated-9', expected"),
    ({"multiplier": "table", "file": "elsewhere.npy"}, "expected a file below tables/"),
    (
        {"multiplier": "table", "file": "tables/a.npy", "library": "imbnas", "name": "a"},
        "its multipliers need no table",
    ),
]


@pytest.mark.parametrize(("section", "message"), REFUSED)
def test_contradictions_are_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse({"approximate": section}, "params.yaml")
    assert message in str(caught.value)


def test_a_bad_table_is_told_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    monkeypatch.chdir(tmp_path)
    tree = {"approximate": {"multiplier": "table", "file": "tables/own.npy", "library": "own 1.0", "name": "noisy"}}
    (tmp_path / "params.json").write_text(json.dumps(tree))

    def checked() -> str:
        # The first step, which has nothing to do with multipliers, refuses too.
        assert tiny_chain.run(tmp_path, "source", **TABLE) == 2
        logged = (tmp_path / "logs/source.log").read_text().splitlines()[-1]
        result = CliRunner().invoke(app, ["check", "--config", "params.json"])
        assert isinstance(result.exception, UserError)
        assert str(result.exception).replace("tables/", "") in logged.replace(f"{tmp_path}/", "").replace("tables/", "")
        return str(result.exception)

    assert "approximate.file: tables/own.npy: No such file or directory" in checked()
    (tmp_path / "tables").mkdir()
    np.save(tmp_path / "tables/own.npy", np.zeros((256, 4), int))
    assert "found numbers of the shape [256, 4]" in checked()
    digest = noisy(tmp_path).sha256
    assert f"approximate.sha256: found null, expected {digest}, the digest of tables/own.npy" in checked()


def test_a_multiplier_comes_with_the_digest_that_the_parameters_say(tmp_path: Path) -> None:
    digest = noisy(tmp_path).sha256
    params = ApproximateParams(multiplier="table", file="tables/own.npy", library="a", name="b", sha256=digest)
    found = Placement.of(params, tmp_path)
    assert found is not None
    assert (found.table.sha256, found.meta["sha256"]) == (digest, digest)
    assert Placement.of(ApproximateParams(), tmp_path) is None
