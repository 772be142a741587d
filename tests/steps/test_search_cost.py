"""A penalty on expected costs in the chain: bounds are resolved and refused, and the architecture follows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_chain
import yaml

from imbnas.cli import main
from imbnas.errors import UserError
from imbnas.params.cost_options import CostParams
from imbnas.params.space_options import SpaceParams
from imbnas.spaces.cost import CostTable
from imbnas.spaces.registry import make_space
from imbnas.steps.search_cost import bounds

ROOT = Path(__file__).resolve().parents[2]
SPACE = {
    "name": "nasbench201",
    "stem": {"channels": 4, "stride": 1},
    "stages": {"channels": [4, 8], "repeats": [1, 1], "strides": [1, 2]},
    "last_channels": None,
}
NODES = {"name": "darts", "darts": {"channels": 2, "layers": 4, "derived_channels": 4, "derived_layers": 3}}
CHAIN: dict[str, Any] = {
    "space": SPACE,
    "supernet__epochs": 0,
    "adapt__strategy": "scratch",
    "adapt__scratch": {"epochs": 0},
    "search__method": "darts",
    "search__calibration": {"rows": 64},
}
ZEROTH = {"order": "zeroth", "zeroth": {"period": 3}, "relaxation": "sparsemax"}


@pytest.fixture(scope="module")
def edges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project that has run up to `adapt` in the space nasbench201."""
    root = tmp_path_factory.mktemp("edges")
    assert tiny_chain.run(root, "source", "target", "imbalance", "supernet", "adapt", **CHAIN) == 0
    return root


def searched(root: Path, options: dict[str, Any], cost: dict[str, Any]) -> pd.DataFrame:
    fast = {"epochs": 3, "batch_size": 70, "architecture": {"lr": 0.3, "weight_decay": 0.0}}
    assert tiny_chain.run(root, "search", **{**CHAIN, "search__darts": {**fast, **options, "cost": cost}}) == 0
    return pd.read_parquet(root / "results/search.parquet")


UPPER = {"name": "params", "upper": "0.25x", "scale": 1e4}
LOWER = {"name": "params", "lower": "0.9x", "scale": 1e4}


def test_the_cost_follows_the_bounds_from_the_penalty_s_first_epoch(edges: Path, tmp_path: Path) -> None:
    """Nothing else changes between the runs, so that the bound alone moves the expected cost."""
    root = tiny_chain.copy(edges, tmp_path)
    low, high = searched(root, {}, {**UPPER, "start": 1}), searched(root, {}, LOWER)
    within = searched(root, {}, {"name": "params", "lower": 1, "upper": 10**9, "scale": 1e4})
    free = searched(root, {}, {})
    assert low["expected_cost"].iloc[-1] < within["expected_cost"].iloc[-1] < high["expected_cost"].iloc[-1]
    assert low["params"].iloc[-1] < high["params"].iloc[-1]
    same = [np.array_equal(a, b) for a, b in zip(low["alpha_cell"], free["alpha_cell"], strict=True)]
    assert same == [True, False, False]
    # A penalty that is 0 has no gradient either.
    assert np.array_equal(np.stack(list(within["alpha_cell"])), np.stack(list(free["alpha_cell"])))
    assert within["search_loss"].equals(free["search_loss"])
    assert "expected_cost" not in free


def test_the_zeroth_order_feels_it_too(edges: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(edges, tmp_path)
    low, high = searched(root, ZEROTH, UPPER), searched(root, ZEROTH, LOWER)
    assert low["expected_cost"].iloc[-1] < high["expected_cost"].iloc[-1]


def test_nodes_of_derived_cells_follow_the_bounds(edges: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tiny_chain.copy(edges, tmp_path)
    sizes = {"channels": 2, "layers": 3, "derived_channels": 4, "derived_layers": 3}
    space = {"name": "darts", "darts": {**sizes, "operations": ["none", "skip_connect", "sep_conv_3x3"]}}
    for key, value in {"space": space, "supernet__sampling": "mixture", "adapt__sampling": "mixture"}.items():
        monkeypatch.setitem(CHAIN, key, value)
    assert tiny_chain.run(root, "supernet", "adapt", **CHAIN) == 0
    options = {"epochs": 2, "edge_weights": True}
    low = searched(root, options, {"name": "macs", "upper": "0.3x", "scale": 1e4})
    high = searched(root, options, {"name": "macs", "lower": "0.9x", "scale": 1e4})
    assert low["expected_cost"].iloc[-1] < high["expected_cost"].iloc[-1]
    assert low["macs"].iloc[-1] < high["macs"].iloc[-1]


def table(space: dict[str, Any]) -> CostTable:
    return make_space(SpaceParams.model_validate(space)).cost_table((8, 8, 1), 10)


def test_bounds_are_shares_of_the_largest_architecture() -> None:
    found = table(SPACE)
    most = found.cost((3,) * 6)
    params = CostParams(name="macs", lower="0.25x", upper="1x")
    assert bounds(params, found) == (most.macs // 4, most.macs, most.macs)
    assert bounds(CostParams(name="params", upper=most.params), found) == (None, most.params, most.params)


@pytest.mark.parametrize("space", [SPACE, NODES], ids=["edges", "nodes"])
def test_bounds_that_no_architecture_meets_are_refused(space: dict[str, Any]) -> None:
    found = table(space)
    with pytest.raises(UserError, match=r"search\.darts\.cost\.upper: 5 is below every architecture's macs, expected"):
        bounds(CostParams(name="macs", upper=5), found)
    with pytest.raises(UserError, match=r"search\.darts\.cost\.lower: 1000000000 is above every architecture's params"):
        bounds(CostParams(name="params", lower=10**9), found)
    with pytest.raises(UserError, match=r"lower is 0\.9x \(\d+ params\) and upper is \d+"):
        bounds(CostParams(name="params", lower="0.9x", upper=found.fixed.params * 2), found)


@pytest.mark.parametrize(("upper", "code"), [(5, 2), ("0.5x", 0)])
def test_the_check_of_a_parameter_file_refuses_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], upper: Any, code: int
) -> None:
    tree = yaml.safe_load((ROOT / "presets/zo-darts-digits.yaml").read_text())
    tree["search"]["darts"]["cost"] = {"name": "params", "upper": upper}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    monkeypatch.setattr("sys.argv", ["imbnas", "check", "--config", str(tmp_path / "params.yaml")])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert (stopped.value.code or 0) == code
    assert ("search.darts.cost.upper: 5 is below every architecture's params" in capsys.readouterr().err) == bool(code)


def test_the_step_refuses_them_before_it_trains(
    edges: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tiny_chain.copy(edges, tmp_path)
    change = {**CHAIN, "search__darts": {"epochs": 1, "cost": {"name": "macs", "upper": 5}}}
    assert tiny_chain.run(root, "search", **change) == 2
    assert "search.darts.cost.upper: 5 is below every architecture's macs" in capsys.readouterr().err
    assert not (root / "results/search.parquet").exists()
