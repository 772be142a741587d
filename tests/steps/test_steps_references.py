"""References: which they are, whatever their number, and where a space has too few."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_chain
import torch

from imbnas.network_names import by_place, is_random, kind, title
from imbnas.params.reference_options import ReferencesParams
from imbnas.params.space_options import SpaceParams, Stages, Stem
from imbnas.spaces.constraints import largest
from imbnas.spaces.equal_cost import WINDOW
from imbnas.spaces.limits import Limits
from imbnas.spaces.registry import make_space
from imbnas.steps.references import draw_references
from imbnas.training.checkpoint import load_meta, load_weights
from imbnas.training.loop import Trainer

REFERENCES = "models/references.safetensors"
SPACE = make_space(
    SpaceParams(
        stem=Stem(channels=16),
        stages=Stages(channels=[16, 32, 64], repeats=[4, 4, 4], strides=[1, 2, 2]),
        last_channels=64,
    )
)
TABLE = SPACE.cost_table((16, 16, 3), 10)
TINY = make_space(
    SpaceParams(stem=Stem(channels=4), stages=Stages(channels=[8, 8], repeats=[1, 1], strides=[1, 2]), last_channels=8)
)
TINY_TABLE = TINY.cost_table((8, 8, 1), 4)
CHOSEN = (0, 1, 2, 3) * 3


def drawn(number: int, seed: int = 0, chosen: tuple[int, ...] = CHOSEN, limits: Limits | None = None) -> dict:
    params = ReferencesParams(random=number)
    return draw_references(params, SPACE, TABLE, limits or Limits(), chosen, seed, lambda line: None)


def test_a_reference_does_not_depend_on_how_many_there_are() -> None:
    many = drawn(9)
    assert list(many) == [*(f"random-{place}" for place in range(1, 10)), "largest"]
    for number in (0, 1, 4):
        few = drawn(number)
        assert list(few) == [*(f"random-{place}" for place in range(1, number + 1)), "largest"]
        assert few.items() <= many.items()
    only = draw_references(ReferencesParams(random=9, largest=False), SPACE, TABLE, Limits(), CHOSEN, 0, print)
    assert only == {name: entry for name, entry in many.items() if name != "largest"}
    assert drawn(9, seed=1)["random-1"] != many["random-1"]


def test_references_are_distinct_and_of_equal_cost() -> None:
    limits = Limits(max_macs=TABLE.cost(CHOSEN).macs)
    found = drawn(40, limits=limits)
    architectures = [CHOSEN, *(tuple(entry["architecture"]) for entry in found.values())]
    assert len(set(architectures)) == 42
    assert architectures[-1] == largest(TABLE, limits)
    macs = TABLE.cost(CHOSEN).macs
    for name, entry in found.items():
        cost = TABLE.cost(tuple(entry["architecture"]))
        assert (entry["macs"], entry["params"]) == (cost.macs, cost.params)
        assert entry["gap"] == pytest.approx(cost.macs / macs - 1.0, abs=1e-6)
        assert cost.macs <= limits.max_macs
        assert abs(entry["gap"]) <= WINDOW or name == "largest"


def test_a_space_with_too_few_says_so_and_says_which_are_far() -> None:
    lines: list[str] = []
    found = draw_references(ReferencesParams(random=100), TINY, TINY_TABLE, Limits(), (0, 1), 0, lines.append)
    assert len(found) == TINY.size - 1
    assert {tuple(entry["architecture"]) for entry in found.values()} == {*TINY.enumerate()} - {(0, 1)}
    assert lines[-1] == "references: found 14 other architectures within the limits, 100 were asked for"
    far = [name for name, entry in found.items() if abs(entry["gap"]) > WINDOW and name != "largest"]
    assert far
    assert [line.partition(":")[0] for line in lines[:-1]] == far


def test_another_reference_trains_one_network(chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    before, meta = load_weights(root / REFERENCES)
    trained, real = [], Trainer.turns
    monkeypatch.setattr(Trainer, "turns", lambda self: (trained.append(self.training), real(self))[1])
    assert tiny_chain.run(root, "retrain", retrain__references={"random": 3}) == 0
    assert len(trained) == 1
    after, more = load_weights(root / REFERENCES)
    assert sorted(more["networks"], key=by_place) == ["random-1", "random-2", "random-3", "largest"]
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert meta["networks"].items() <= more["networks"].items()
    # Fewer train none, and what a forced run has trained itself it trains anew.
    assert tiny_chain.run(root, "retrain", retrain__references=True) == 0
    assert len(trained) == 1
    assert sorted(load_meta(root / REFERENCES)["networks"], key=by_place) == ["random-1", "largest"]
    assert tiny_chain.run(root, "retrain") == 0
    assert len(trained) == 5
    assert tiny_chain.digests(root, "retrain") == tiny_chain.digests(chain, "retrain")


def test_the_search_knows_nothing_of_references(chain: Path) -> None:
    record = json.loads((chain / "results/architecture.json").read_text())
    assert set(record) >= {"chosen", "limits", "space"}
    assert "references" not in record


@pytest.mark.parametrize(
    "limits", [None, {}, {"max_macs": 1}, {"max_macs": "1", "max_params": None}, {"max_macs": True, "max_params": 3}]
)
def test_limits_that_are_none_are_refused(
    chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], limits: object
) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    file = root / "results/architecture.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "limits": limits}))
    assert tiny_chain.run(root, "retrain") == 2
    assert "architecture.json: limits: found" in capsys.readouterr().err


def test_names_sort_and_read_well() -> None:
    names = ["largest", "random-10", "final", "random-2"]
    assert sorted(names, key=by_place) == ["final", "random-2", "random-10", "largest"]
    assert [title(name) for name in names] == ["largest", "random 10", "chosen", "random 2"]
    assert [kind(name) for name in names] == ["largest", "random", "final", "random"]
    assert is_random("random")
    assert not is_random("largest")
