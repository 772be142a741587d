"""Cells for each stage in the differentiable search: the switch to kernels and exits, resumption, expected costs."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_chain
import torch
from safetensors.torch import load_file
from torch import Tensor

from imbnas.differentiable import zeroth
from imbnas.differentiable.bilevel_search import SearchTrainer
from imbnas.differentiable.descent import Descent
from imbnas.differentiable.zeroth import ZerothOrder
from imbnas.errors import UserError
from imbnas.params.config import parse
from imbnas.saved import load_subnet
from imbnas.training.state import ResumeState

SPACE = {
    "name": "nasbench201",
    "stem": {"channels": 4, "stride": 1},
    "stages": {"channels": [4, 8], "repeats": [2, 1], "strides": [1, 2]},
    "last_channels": None,
    "nasbench201": {"per_stage": True, "kernels": [3, 5], "exits": True},
}
CHAIN: dict[str, Any] = {
    **tiny_chain.CELLS,
    "space": SPACE,
    "retrain__init": "handed",
    "retrain__finetune": {"epochs": 0},
}
SEARCH: dict[str, Any] = {
    "epochs": 2,
    "switch": 1,
    "batch_size": 70,
    "order": "zeroth",
    "zeroth": {"period": 2},
    "relaxation": "sparsemax",
    "architecture": {"lr": 0.3},
}
WHOLE: dict[str, Any] = {
    "cost": {"name": "params", "upper": "0.2x", "start": 1},
    "zeroth": {"period": 2, "antithetic": True},
}
"""Changes to SEARCH of the search that is killed."""
SWITCH = 3
"""The first step behind the switch. A group of two begins ahead of it and would end behind it."""


@pytest.fixture(scope="module")
def stages(cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project that has run up to `adapt`."""
    root = tiny_chain.copy(cells, tmp_path_factory.mktemp("stages"))
    assert tiny_chain.run(root, "supernet", "adapt", **CHAIN) == 0
    return root


@pytest.fixture(scope="module")
def whole(stages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project that was never killed, and has run up to `retrain`."""
    root = tiny_chain.copy(stages, tmp_path_factory.mktemp("whole"))
    assert searched(root, "search", "retrain", **WHOLE) == 0
    return root


def searched(root: Path, *steps: str, **options: Any) -> int:
    return tiny_chain.run(root, *(steps or ("search",)), **{**CHAIN, "search__darts": {**SEARCH, **options}})


def table(root: Path) -> pd.DataFrame:
    return pd.read_parquet(root / "results/search.parquet")


def test_kernels_and_exits_are_searched_from_the_switch_on(whole: Path) -> None:
    found = table(whole)
    assert {name for name in found.columns if name.startswith(("alpha_", "skips_"))} == {
        f"{what}_stage_{stage}" for what in ("alpha", "skips") for stage in (1, 2)
    }
    for name, width in {"kernels_stage_1": 12, "exits_stage_1": 2, "exits_stage_2": 1}.items():
        assert found[name].isna().tolist() == [True, False]
        assert len(found[name].iloc[-1]) == width
    first, last = ([int(choice) for choice in found["architecture"].iloc[row].split("-")] for row in (0, -1))
    assert (first[6], first[13]) == (1, 0)
    assert 3 not in {*first[:6], *first[7:13]}, "until the switch the kernel is the largest"
    assert last[6] == int(np.argmax(found["exits_stage_1"].iloc[-1]))
    for stage, cell in ((1, last[:6]), (2, last[7:13])):
        sizes = found[f"kernels_stage_{stage}"].iloc[-1].reshape(6, 2).argmax(axis=1)
        convs = [(choice, (3, 5)[size]) for choice, size in zip(cell, sizes, strict=True) if choice in (3, 5)]
        assert all(choice == expected for choice, expected in convs)


def test_what_is_found_is_trained_from_the_weights_of_the_search(whole: Path) -> None:
    record = json.loads((whole / "results/architecture.json").read_text())["chosen"]
    network, handed = load_subnet(whole / "models/final.safetensors"), load_file(whole / "models/handed.safetensors")
    assert list(network.meta["architecture"]) == record["architecture"] == searched_last(whole)
    assert sum(values.numel() for values in network.model.parameters()) == record["params"]
    kept = network.model.state_dict()
    convolutions = [values for name, values in kept.items() if name.endswith("conv.weight") and ".edges." in name]
    assert convolutions
    assert all(any(torch.equal(values, other) for other in handed.values()) for values in convolutions)


def searched_last(root: Path) -> list[int]:
    return [int(choice) for choice in table(root)["architecture"].iloc[-1].split("-")]


def test_a_search_killed_on_both_sides_of_the_switch_ends_with_the_same_bytes(
    stages: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = tiny_chain.copy(stages, tmp_path)
    # At the switch with a group in progress that it leaves, and within a group behind it.
    pending = {SWITCH, SWITCH + 2}
    tick = ResumeState.tick

    def interrupted(self: ResumeState, state: Any) -> None:
        step = state()["step"]
        if step in pending:
            pending.remove(step)
            self._note(signal.SIGTERM, None)
        tick(self, state)

    monkeypatch.setattr(ResumeState, "tick", interrupted)
    codes = [searched(cut, **WHOLE) for _ in range(3)]
    assert not pending
    assert all(codes[:-1])
    assert codes[-1] == 0
    for name in ("results/search.parquet", "results/architecture.json", "results/search.json"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()


def kernels(descent: Descent) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the convolutions that begin at the switch, each with the largest one of its edge."""
    named = {name: values for name, values in descent.learner.named_parameters() if ".edges." in name}
    largest = {name: name.replace(".3.conv", ".5.conv") for name in named if ".3.conv" in name}
    return {name: (named[name], named[large]) for name, large in largest.items()}


def values_of(descent: Descent) -> list[Tensor]:
    return [small.detach().clone() for small, _ in kernels(descent).values()]


def same(first: list[Tensor], second: list[Tensor]) -> list[bool]:
    return [torch.equal(a, b) for a, b in zip(first, second, strict=True)]


def test_what_begins_at_the_switch_joins_the_optimisers_without_momentum(
    stages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ZO-DARTS++' published code never trains these weights in the network, and does in the twin alone.

    With directions of zeros the twin stands at the network's own architecture: after a group it must have the same
    weights, so that nothing but the architecture is in their difference.
    """
    root = tiny_chain.copy(stages, tmp_path)
    before: list[list[Tensor]] = []
    adams: list[Any] = []
    groups: list[tuple[int, bool]] = []
    step, estimate, fit = Descent.step, ZerothOrder.estimate, SearchTrainer.fit

    def stepped(self: Descent, *arguments: Any, **options: Any) -> None:
        before.append(values_of(self))
        adams.append(self.adam)
        optimizer = self.optimizer
        assert optimizer is not None
        assert {*map(id, optimizer.parameters)} == {id(one) for one in self.learner.parameters() if one.requires_grad}
        if self.done == SWITCH:
            for small, large in kernels(self).values():
                border = (large.shape[-1] - small.shape[-1]) // 2
                assert torch.equal(small, large[:, :, border:-border, border:-border])
                assert not optimizer.state[small]["momentum_buffer"].any()
                assert optimizer.state[large]["momentum_buffer"].any()
        step(self, *arguments, **options)

    def estimated(self: ZerothOrder, number: int, valid: Any) -> Any:
        if self.began is not None and self.closes(number):
            pairs = zip(self.twins()[0].optimizer.parameters, self._optimizer.parameters, strict=True)
            groups.append((number, all(torch.allclose(a, b, rtol=0.0, atol=1e-7) for a, b in pairs)))
        return estimate(self, number, valid)

    def fitted(self: SearchTrainer) -> Any:
        found = fit(self)
        before.append(values_of(self.descent))
        return found

    monkeypatch.setattr(zeroth, "direction", lambda parameters, seed: [torch.zeros_like(v) for v in parameters])
    monkeypatch.setattr(Descent, "step", stepped)
    monkeypatch.setattr(ZerothOrder, "estimate", estimated)
    monkeypatch.setattr(SearchTrainer, "fit", fitted)
    assert searched(root) == 0
    assert all(same(before[0], before[SWITCH - 1])), "at rest until the switch, decay included"
    assert not any(same(before[0], before[SWITCH]))
    assert not any(same(before[SWITCH], before[-1])), "they learn in the network"
    assert [adam is adams[0] for adam in adams] == [True] * SWITCH + [False] * (len(adams) - SWITCH)
    assert len(set(map(id, adams))) == 2
    # The group that would pass over the switch is left.
    assert groups == [(1, True), (5, True)]


def test_expected_costs_follow_their_bounds(stages: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(stages, tmp_path)
    found = []
    for bound in ({"upper": "0.1x"}, {"lower": "0.9x"}):
        fast = {"architecture": {"lr": 0.3, "weight_decay": 0.0}, "order": "first", "switch": 0, "epochs": 1}
        assert searched(root, **fast, cost={"name": "params", "scale": 1e4, **bound}) == 0
        found.append(table(root).iloc[-1])
    low, high = found
    assert low["expected_cost"] < high["expected_cost"]
    assert low["params"] < high["params"]
    # Exits are a part of it, and not the operations alone.
    assert low["exits_stage_1"].argmax() < high["exits_stage_1"].argmax()


@pytest.mark.parametrize(
    ("options", "space", "said"),
    [
        ({"relaxation": "sigmoid"}, {}, "search.darts.relaxation is sigmoid with space.nasbench201.per_stage true"),
        ({"branches": "bilateral"}, {}, "search.darts.branches is bilateral with space.nasbench201.per_stage true"),
        ({"outcome": "mixture"}, {}, "search.darts.outcome is mixture with space.nasbench201.per_stage true"),
        ({"stability": {"divergence": 0.1}}, {}, "search.darts.stability.divergence is 0.1 with space.nasbench201"),
        ({"switch": 1}, {"exits": False}, "search.darts.switch is 1 in a space without searched kernels and exits"),
        ({"switch": 50}, {}, "switch is 50, expected less than epochs"),
        (
            {"switch": 2, "collapse": {"stop_ratio": 1.3, "eigenvalue_rows": 32}},
            {},
            r"search.darts.collapse.stop_ratio is 1.3 with search.darts.switch 2, expected 0",
        ),
    ],
)
def test_what_knows_one_cell_for_all_stages_is_refused(
    options: dict[str, Any], space: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        parse(tree("scratch", options, space), "p.yaml")


def test_weights_at_rest_have_no_kernel_to_begin() -> None:
    with pytest.raises(UserError, match=r"search\.darts\.switch is 2 with adapt\.strategy head"):
        parse(tree("head", {"switch": 2}, {}), "p.yaml")


def tree(strategy: str, options: dict[str, Any], space: dict[str, Any]) -> dict[str, Any]:
    """Return parameters of a search in a space with exits."""
    cells = {"per_stage": True, "exits": True, **space}
    return {
        "space": {"name": "nasbench201", "last_channels": None, "nasbench201": cells},
        "supernet": {"sampling": "uniform"},
        "adapt": {"strategy": strategy, "sampling": "uniform"},
        "search": {"method": "darts", "max_macs": None, "darts": options},
    }
