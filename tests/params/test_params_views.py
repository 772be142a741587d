"""What each step may see of the parameters, and that nothing gets lost or changed on the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from params_trees import DEFAULT, OTHERS, altered, default_tree, leaves
from pydantic import ValidationError

from imbnas.params.config import VIEWS, Params, load, parse, uses
from imbnas.run.graph import STEPS

NUMERICS = [f"runtime.{name}" for name in ("channels_last", "deterministic", "device", "precision", "threads")]
TRAINING = sorted([*NUMERICS, "runtime.processes"])
GOLDEN = {
    "source": ["source", "supernet.reuse", "target.channels", "target.dataset", "target.image_size"],
    # Of the source all: its rows are an input.
    "target": ["source", "target"],
    "imbalance": ["imbalance", "target.root", "target.validation"],
    "supernet": [*TRAINING, "seed", "space", "supernet"],
    "adapt": ["adapt", *TRAINING, "seed", "space"],
    "search": ["approximate", "retrain.init", *NUMERICS, "search", "seed", "space"],
    "retrain": ["approximate", "retrain", *TRAINING, "seed", "space"],
    "evaluate": ["approximate", "evaluate", *NUMERICS, "seed", "space"],
}


def test_every_step_has_a_view() -> None:
    assert list(VIEWS) == list(STEPS) == list(GOLDEN)


@pytest.mark.parametrize("step", GOLDEN)
def test_a_step_depends_on_these_parameters(step: str) -> None:
    assert uses(step) == GOLDEN[step]


def test_no_step_but_its_own_sees_a_section() -> None:
    for section in set(STEPS) - {"source", "target"}:
        assert [step for step in STEPS if section in uses(step)] == [section]


@pytest.mark.parametrize("dotted", OTHERS)
def test_a_view_changes_exactly_when_one_of_its_parameters_does(dotted: str) -> None:
    base, other = load(DEFAULT), parse(altered(dotted, OTHERS[dotted]), "p.yaml")
    assert base != other
    for step in STEPS:
        seen = any(dotted == name or dotted.startswith(f"{name}.") for name in uses(step))
        assert (base.view(step) != other.view(step)) == seen, step
        assert (base.view(step).model_dump_json() != other.view(step).model_dump_json()) == seen, step


def test_the_parameters_that_never_change_a_result_are_in_no_view() -> None:
    named = {name for step in STEPS for name in uses(step)}
    apart = {f"runtime.{name}" for name in ("workers", "state_interval", "memory", "gpu_share", "together")}
    assert not named & {"runtime", *apart}
    everything = {f"{top}.{name}" for top in ("runtime",) for name in default_tree()[top]}
    assert everything - named == apart


def test_the_tables_other_values_are_other_values() -> None:
    default = dict(leaves(default_tree()))
    assert [name for name, value in OTHERS.items() if default[name] == value] == []


def test_parameters_and_views_are_frozen() -> None:
    params = load(DEFAULT)
    for model, name in ((params, "seed"), (params.retrain.optimizer, "lr"), (params.view("adapt"), "seed")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(model, name, 1)


ALONE = {"runtime.gpu_share", "runtime.together", "supernet.passes", "adapt.passes"}
TREES = st.sets(st.sampled_from(sorted(OTHERS))).map(
    # They do not go with any value of others.
    lambda names: names - (ALONE if len(names) > 1 else set())
)
FLOATS = {
    "imbalance.ratio": st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    "retrain.optimizer.lr": st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    "retrain.weighting.beta": st.floats(min_value=0, max_value=1, exclude_max=True),
    "evaluate.confidence": st.floats(min_value=0.5, max_value=1, exclude_min=True, exclude_max=True),
    "seed": st.integers(min_value=0, max_value=2**31 - 1),
    "target.image_size": st.none() | st.integers(min_value=1, max_value=2048),
    "retrain.augment.pad": st.just("auto") | st.integers(min_value=0, max_value=2**13),
    "retrain.augment.flip": st.just("auto") | st.booleans(),
}


@settings(deadline=None, max_examples=60)
@given(names=TREES, values=st.fixed_dictionaries({}, optional=FLOATS))
def test_tree_and_parameters_are_the_same_thing(names: set[str], values: dict[str, object]) -> None:
    tree = default_tree()
    for name, value in ({name: OTHERS[name] for name in names} | values).items():
        tree = altered(name, value, tree)
    params = parse(tree, "p.yaml")
    assert params.tree() == tree
    assert parse(params.tree(), "p.yaml") == params
    # The two forms in which the parameters travel: a user's or a tool's YAML, and JSON.
    assert parse(yaml.safe_load(yaml.safe_dump(tree)), "p.yaml") == params
    assert parse(json.loads(params.model_dump_json(by_alias=True)), "p.yaml") == params
    for step in STEPS:
        view = params.view(step)
        assert type(view).model_validate_json(view.model_dump_json(by_alias=True)) == view


def test_a_file_reads_alike_as_yaml_and_json(tmp_path: Path) -> None:
    params = load(DEFAULT)
    for name, text in (("p.json", params.model_dump_json(by_alias=True)), ("p.yml", yaml.safe_dump(params.tree()))):
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert load(tmp_path / name) == params
    assert isinstance(params, Params)
