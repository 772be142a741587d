"""What a study runs: cells in the user's order, jobs named by what determines them, wrong cells in one line."""

from __future__ import annotations

from typing import Any

import pytest
from study_cells import planned, study

from imbnas.errors import UserError
from imbnas.run.graph import STEPS
from imbnas.study import plan
from imbnas.study.plan import cell, cells, label, levels


def jobs(axes: dict[str, list[Any]]) -> dict[str, int]:
    return {step: len(found) for step, found in planned(study(axes)).jobs.items()}


def test_the_last_axis_varies_fastest_in_the_order_of_the_file() -> None:
    found = levels(study({"seed": [3, 1], "adapt.strategy": ["scratch", "head"]}))
    assert [tuple(level.values()) for level in found] == [(3, "scratch"), (3, "head"), (1, "scratch"), (1, "head")]
    assert list(found[0]) == ["seed", "adapt.strategy"]


def test_the_default_study_trains_one_supernet_a_seed() -> None:
    default = {"imbalance.ratio": [10.0, 50.0], "adapt.strategy": ["head", "finetune", "scratch"], "seed": [0, 1]}
    shared = {"source": 1, "target": 1, "imbalance": 2, "supernet": 2}
    assert jobs(default) == {**shared, **dict.fromkeys(["adapt", "search", "retrain", "evaluate"], 12)}


@pytest.mark.parametrize(
    ("name", "values", "first"),
    [
        ("evaluate.bins", [10, 15], "evaluate"),
        ("retrain.epochs", [1, 2], "retrain"),
        ("retrain.finetune.epochs", [1, 2], "retrain"),
        ("retrain.init", ["scratch", "handed"], "search"),
        ("search.method", ["random", "tpe"], "search"),
        ("supernet.epochs", [1, 2], "supernet"),
        ("target.test_fraction", [0.2, 0.3], "target"),
        ("runtime.workers", [1, 2], None),
    ],
)
def test_an_axis_splits_its_step_and_what_needs_it(name: str, values: list[Any], first: str | None) -> None:
    affected = {first} if first else set()
    for step in STEPS:
        if any(name in STEPS[before].outputs for before in affected for name in STEPS[step].inputs):
            affected.add(step)
    assert jobs({name: values}) == {step: 2 if step in affected else 1 for step in STEPS}


def test_a_cell_has_the_parameters_of_its_level() -> None:
    params = study()
    found = cells(params, "params.yaml")
    for number, level in enumerate(levels(params)):
        assert cell(params, number, "params.yaml") == found[number]
        assert found[number].imbalance.ratio == level["imbalance.ratio"]
        assert found[number].adapt.strategy == level["adapt.strategy"]
        assert found[number].seed == level["seed"]
    assert len({one.retrain.model_dump_json() for one in found}) == 1


def test_a_section_s_values_are_merged_over_it() -> None:
    axis = {"target": [{"validation": {"per_class": 4}}, {"test_fraction": 0.5}]}
    first, second = cells(study(axis), "params.yaml")
    assert (first.target.validation.per_class, first.target.test_fraction) == (4, 0.25)
    assert (second.target.validation.per_class, second.target.test_fraction) == (10, 0.5)
    assert second.target.validation.from_ == "reserve"


def test_paths_are_moved_together() -> None:
    made = planned(study())
    digest = made.cells[3]["retrain"]
    moves = made.moves("retrain", digest)
    assert moves["final"] == f"study/retrain/{digest}/final.safetensors"
    assert moves["target_train"] == f"study/target/{made.cells[3]['target']}/train"
    assert moves["architecture"] == f"study/search/{made.cells[3]['search']}/architecture.json"
    assert set(moves) == {*STEPS["retrain"].inputs, *STEPS["retrain"].outputs, "cost"}
    assert len(set(moves.values())) == len(moves)


@pytest.mark.parametrize(
    ("axes", "line"),
    [
        ({}, "params.yaml: study.axes: found none, expected parameters with lists of values"),
        (
            {"imbalance.ratoi": [1]},
            "params.yaml: study.axes.imbalance.ratoi: unknown parameter, did you mean imbalance.ratio?",
        ),
        ({"seed.x": [1]}, "params.yaml: study.axes.seed.x: unknown parameter, did you mean"),
        ({"target": [3]}, "params.yaml: study.axes.target: found 3, expected a mapping of parameters"),
        (
            {"imbalance.ratio": [10.0, "many"], "seed": [1]},
            "params.yaml: study.axes: cell imbalance.ratio=many, seed=1: imbalance.ratio: found text 'many'",
        ),
        (
            {"source.share": [0.5, 1.0]},
            "params.yaml: study.axes: cell source.share=1.0: source.share is 1.0 and source and target are both digits",
        ),
        ({"target": [{"roof": "x"}]}, "params.yaml: study.axes: cell target=roof=x: target.roof: unknown parameter"),
    ],
)
def test_a_wrong_axis_is_one_line(axes: dict[str, list[Any]], line: str) -> None:
    with pytest.raises(UserError) as raised:
        cells(study(axes), "params.yaml")
    assert str(raised.value).startswith(line)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("number", [-1, 8])
def test_there_is_no_such_cell(number: int) -> None:
    with pytest.raises(UserError, match=rf"no cell {number}, expected one of 0 to 7"):
        cell(study(), number, "params.yaml")


def test_labels() -> None:
    assert [label(value) for value in (10.0, "head", None, True, [1, 2], {"root": "x", "n": 1})] == [
        *("10.0", "head", "null", "true", "[1,2]", "root=x n=1")
    ]


@pytest.mark.parametrize(
    ("axes", "line"),
    [
        ({"imbalance.ratio": [10, 20.0, 10.0]}, "imbalance.ratio=10.0 is the same as imbalance.ratio=10, expected"),
        ({"seed": [0, 1], "runtime.workers": [1, 2]}, "seed=0, runtime.workers=2 is the same as seed=0, runtime.work"),
    ],
)
def test_cells_that_cannot_differ_are_refused(axes: dict[str, list[Any]], line: str) -> None:
    with pytest.raises(UserError) as raised:
        plan.planned(study(axes), "params.yaml")
    assert str(raised.value).startswith(f"params.yaml: study.axes: {line}")


def test_true_and_false_stand_for_a_section_on_an_axis_as_they_do_in_the_file() -> None:
    axes = {"retrain.references": [True, False, {"random": 8}]}
    found = cells(study(axes), "params.yaml")
    counts = [(params.retrain.references.random, params.retrain.references.largest) for params in found]
    assert counts == [(1, True), (0, False), (8, True)]
    with pytest.raises(UserError, match=r"cell target=true: target: found true, expected a mapping of parameters"):
        cells(study({"target": [True]}), "params.yaml")
