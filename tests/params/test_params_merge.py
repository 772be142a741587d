"""A file that names little: what it does not name keeps its default, within a section too."""

from __future__ import annotations

from typing import Any

import pytest
from params_trees import FREE, OTHERS, leaves

from imbnas.errors import UserError
from imbnas.params.config import Params, defaults, parse
from imbnas.params.origins import Origins
from imbnas.params.section import merged

LEAVES = dict(leaves(defaults()))


def nested(dotted: str, value: Any) -> dict[str, Any]:
    for name in reversed(dotted.split(".")):
        value = {name: value}
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize("dotted", [name for name in LEAVES if name not in FREE])
def test_naming_a_parameter_changes_no_other(dotted: str) -> None:
    assert parse(nested(dotted, LEAVES[dotted]), "p.yaml").tree() == defaults()


@pytest.mark.parametrize("dotted", OTHERS)
def test_setting_a_parameter_changes_no_other(dotted: str) -> None:
    tree = dict(leaves(parse(nested(dotted, OTHERS[dotted]), "p.yaml").tree()))
    assert {name for name in tree if tree[name] != LEAVES[name]} <= {dotted}


@pytest.mark.parametrize(
    ("section", "kept"),
    [
        ("adapt.finetune", {"adapt.finetune.optimizer.lr": 0.02}),
        ("adapt.head", {"adapt.head.optimizer.weight_decay": 0.0}),
        ("retrain.head", {"retrain.head.sampler.name": "class-aware", "retrain.head.optimizer.weight_decay": 0.0}),
        ("search.darts", {"search.darts.optimizer.lr": 0.025, "search.darts.optimizer.decay_norms": True}),
    ],
)
def test_a_section_keeps_the_defaults_of_its_place(section: str, kept: dict[str, Any]) -> None:
    tree = dict(leaves(parse(nested(f"{section}.epochs", 30), "p.yaml").tree()))
    assert tree[f"{section}.epochs"] == 30
    assert {name: tree[name] for name in kept} == kept
    inner = dict(leaves(parse(nested(f"{section}.optimizer.momentum", 0.5), "p.yaml").tree()))
    assert {name: inner[name] for name in kept} == kept


def test_a_file_may_name_nothing_at_all() -> None:
    assert parse({}, "p.yaml") == Params()


def test_free_mappings_are_replaced_and_sections_merged() -> None:
    first = {"study": {"axes": {"seed": [0, 1]}}, "supernet": {"epochs": 3}, "search": {"architecture": [1, 2]}}
    second = {
        "study": {"axes": {"imbalance.ratio": [5.0]}},
        "supernet": {"batch_size": 8},
        "search": {"architecture": [3]},
    }
    assert merged(Params, first, second) == {
        "study": {"axes": {"imbalance.ratio": [5.0]}},
        "supernet": {"epochs": 3, "batch_size": 8},
        "search": {"architecture": [3]},
    }
    assert first["supernet"] == {"epochs": 3}, "neither tree is changed"


def test_an_unknown_name_and_a_section_that_is_no_mapping_stay_to_be_refused() -> None:
    assert merged(Params, {"supernet": {"epochs": 3}}, {"supernet": None, "x": {"y": 1}}) == {
        "supernet": None,
        "x": {"y": 1},
    }


def test_a_complaint_names_those_that_gave_the_parameters() -> None:
    given: list[tuple[str, dict[str, Any]]] = [
        ("params.yaml", {"seed": 1, "target": {"dataset": "digits"}, "study": {"axes": {"imbalance.ratio": [5.0]}}}),
        ("--configfile one.yaml", {"source": {"share": 1.0}, "target": {"image_size": 8}}),
        ("--config", {"target": {"dataset": "mnist"}}),
    ]
    origins = Origins(given)
    for sentence, names in {
        "seed: found 1, expected 2": "params.yaml",
        "target.image_size: found 8, expected 9": "--configfile one.yaml",
        "target.dataset: found 'x', expected 'y'": "--config",
        "source.share is 1.0 and target.dataset is mnist": "--configfile one.yaml + --config",
        "source.share is 1.0 and source.dataset is digits": "--configfile one.yaml",
        "study.axes.imbalance.ratio[0]: found 5.0": "params.yaml",
        "source.name: missing, expected a value": "--configfile one.yaml",
        "evaluate.bins is 0.5, expected 1.5": "params.yaml + --configfile one.yaml + --config",
    }.items():
        assert origins.of(sentence) == names


def test_a_name_with_a_dot_is_answered_with_the_nested_form() -> None:
    for tree, wanted in {
        "supernet.epochs": "params.yaml: supernet.epochs: a name with a dot, expected supernet: {epochs: 3}",
        "adapt.head.epochs": "params.yaml: adapt.head.epochs: a name with a dot, expected adapt: {head: {epochs: 3}}",
    }.items():
        with pytest.raises(UserError) as caught:
            parse({tree: 3}, "params.yaml")
        assert str(caught.value) == wanted
