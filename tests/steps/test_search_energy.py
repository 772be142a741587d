"""Energy as a cost of a search under an approximate multiplier, against the layers of the networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fake_project as fake
import pandas as pd
import pyarrow.parquet as pq
import pytest
import tiny_chain

from imbnas.approximate.placement import Placement
from imbnas.energy import network_energy
from imbnas.files import write_json
from imbnas.params.config import parse
from imbnas.params.evaluate import EvaluateView
from imbnas.progress import Log
from imbnas.run.context import Context
from imbnas.run.graph import PATHS
from imbnas.spaces.registry import make_space
from imbnas.steps import evaluate

CELLS: dict[str, Any] = {
    "space": {
        "name": "nasbench201",
        "stem": {"channels": 4, "stride": 1},
        "stages": {"channels": [4], "repeats": [1], "strides": [1]},
        "last_channels": None,
    },
    "supernet__epochs": 0,
    "adapt__strategy": "scratch",
    "adapt__scratch": {"epochs": 0},
}
MULTIPLIER = {"approximate__multiplier": "truncated-3", "approximate__operations": ["nor_conv_3x3"]}


@pytest.fixture(scope="module")
def adapted(chain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project with an untrained supernet of cells."""
    root = tiny_chain.copy(chain, tmp_path_factory.mktemp("energy"))
    assert tiny_chain.run(root, "supernet", "adapt", **CELLS) == 0
    return root


def nanojoules(names: list[str], root: Path) -> list[float]:
    """Return the energy of architectures' layers."""
    params = parse(tiny_chain.changed(**CELLS, **MULTIPLIER), "p.yaml")
    placement, space = Placement.of(params.approximate, root), make_space(params.space)
    assert placement is not None
    found = []
    for name in names:
        network = space.build_subnet([int(one) for one in name.split("-")], 10, 1)
        placement.apply(network)
        layers = network_energy(network, (8, 8, 1), params.approximate.energy, placement.meta["relative_energy"])
        assert layers.total is not None
        found.append(layers.total / 1000)
    return found


@pytest.mark.parametrize("method", ["nsga2", "synflow", "macs"])
def test_whatever_scores_architectures_knows_their_energy(adapted: Path, tmp_path: Path, method: str) -> None:
    root = tiny_chain.copy(adapted, tmp_path / "p")
    search = {"method": method, "candidates": 8, "population": 4, "parents": 2, "generations": 2}
    assert tiny_chain.run(root, "search", **CELLS, **MULTIPLIER, search=search) == 0
    found, front = (pd.read_parquet(root / f"results/{name}.parquet") for name in ("search", "front"))
    assert found["energy_nj"].tolist() == pytest.approx(nanojoules(found["architecture"].tolist(), root), rel=1e-5)
    known = dict(zip(found["architecture"], found["energy_nj"], strict=True))
    assert front["energy_nj"].tolist() == [known[one] for one in front["architecture"]]
    told = json.loads((root / "results/search.json").read_text())
    assert told["chosen"]["energy_nj"] == known["-".join(map(str, told["chosen"]["architecture"]))]
    assert told["energy"]["float32_pj"] == pytest.approx(4.6)
    assert "tau_energy" in told
    # The final training depends on the choice alone.
    assert "energy" not in (root / "results/architecture.json").read_text().replace("relative_energy", "")


def test_the_cheapest_within_one_error_takes_the_least_energy(adapted: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(adapted, tmp_path / "p")
    # Without training some class is never answered right, so that the worst recall is 0 for all.
    search = {"method": "random", "candidates": 8, "choose": "cheapest-within-one-error", "objective": "worst_class"}
    assert tiny_chain.run(root, "search", **CELLS, **MULTIPLIER, search=search) == 0
    told, found = (
        json.loads((root / "results/search.json").read_text()),
        pd.read_parquet(root / "results/search.parquet"),
    )
    assert told["within_one_error"]["count"] == 8
    assert told["chosen"]["energy_nj"] == found["energy_nj"].min()
    assert told["chosen"]["macs"] > found["macs"].min(), "3x3 in 8 bits takes less than 1x1 in float32"


def test_without_a_known_energy_nothing_is_said_of_it(adapted: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(adapted, tmp_path / "p")
    assert tiny_chain.run(root, "search", **CELLS, search={"method": "macs"}) == 0
    assert "energy_nj" not in pq.read_schema(root / "results/search.parquet").names
    assert "energy" not in (root / "results/search.json").read_text()


def test_an_evaluation_repeats_every_cost_that_the_search_knew(tmp_path: Path) -> None:
    fake.write_project(tmp_path)
    for name in ("search", "front"):
        path = tmp_path / PATHS[name]
        table = pd.read_parquet(path)
        table.assign(latency_ms=0.5, energy_nj=range(1, len(table) + 1)).to_parquet(path, index=False)
    facts = fake.read(tmp_path, "search_facts")
    cheapest = {**facts["within_one_error"]["cheapest"], "latency_ms": 0.5, "energy_nj": 1.0}
    told = {"within_one_error": {"count": 2, "cheapest": cheapest}, "tau_latency": 0.375, "tau_energy": -0.625}
    write_json(tmp_path / PATHS["search_facts"], {**facts, **told})
    view = parse({"space": fake.SPACE.model_dump(), "evaluate": {"resamples": 20}}, "p.yaml").view("evaluate")
    assert isinstance(view, EvaluateView)
    evaluate.run(view, Context("evaluate", tmp_path, Log("evaluate")))
    found = fake.read(tmp_path, "details")["search"]
    assert (found["tau_latency"], found["tau_energy"]) == (0.375, -0.625)
    card = (tmp_path / PATHS["model_card"]).read_text()
    assert "0.38 with latency and -0.62 with energy" in card
    assert "MACs, 0.5 ms and 1 nJ" in card
    points = pd.read_csv(tmp_path / PATHS["plots"] / "search.csv")
    assert points["latency_ms"].tolist() == [0.5] * 3
    assert points["energy_nj"].tolist() == [1.0, 2.0, 3.0]
