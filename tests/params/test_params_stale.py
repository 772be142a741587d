"""A default that changes in the code makes the steps stale that see it: both tools compare the file it is in."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from params_trees import FREE, ROOT
from pydantic import BaseModel

from imbnas.closure import step_files
from imbnas.params.config import Params, uses
from imbnas.params.section import is_model
from imbnas.run.graph import STEPS

SHARED = {
    "approximate",
    "barlow_options",
    "cell_options",
    "dataset",
    "head_options",
    "inheritance",
    "longtail",
    "loss_options",
    "medmnist",
    "ofa_options",
    "origins",
    "recipe",
    "reuse_options",
    "section",
    "shared",
    "space_options",
    "torchvision_options",
}
"""Modules of params that serve several sections."""


def declared(model: type[BaseModel], given: Any = None, owner: str = "", prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each leaf and the file in which its default is written: a section's default may set it for its place."""
    for name, field in model.model_fields.items():
        base = next(each for each in model.__mro__ if name in inspect.get_annotations(each))
        said = given is not None and name in given.model_fields_set
        place = owner if said else Path(inspect.getfile(base)).relative_to(ROOT).as_posix()
        default = getattr(given, name) if said else field.default
        key = f"{prefix}{field.alias or name}"
        if is_model(field.annotation):
            yield from declared(field.annotation, default, place, f"{key}.")
        else:
            yield key, place


def sees(step: str, name: str) -> bool:
    return any(f"{name}.".startswith(f"{seen}.") for seen in uses(step))


def named_by_dvc(step: str) -> set[str]:
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"][step]
    return {name for name in stage["params"] if isinstance(name, str)}


DECLARED = dict(declared(Params))


def test_the_places_are_those_where_one_would_look() -> None:
    assert DECLARED["adapt.finetune.optimizer.lr"] == "src/imbnas/params/adapt.py"
    assert DECLARED["adapt.finetune.optimizer.momentum"] == "src/imbnas/params/recipe.py"
    assert DECLARED["search.darts.optimizer.lr"] == "src/imbnas/params/differentiable.py"
    assert DECLARED["retrain.head.sampler.name"] == "src/imbnas/params/retrain.py"
    assert DECLARED["retrain.losses.vs.gamma"] == "src/imbnas/params/loss_options.py"


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_sees_a_parameter_depends_on_the_file_of_its_default(step: str) -> None:
    # What DVC is told by a whole name stands in params.yaml, whatever the code's default is.
    written = named_by_dvc(step)
    files = set(step_files(step))
    seen = [name for name in DECLARED if sees(step, name) and name not in written and name not in FREE]
    assert [name for name in seen if DECLARED[name] not in files] == []
    assert seen


@pytest.mark.parametrize("step", STEPS)
def test_a_step_depends_on_no_other_step_s_defaults(step: str) -> None:
    # The target depends on the source and all that it is made by.
    more = {
        "search": {
            "cost_options",
            "descent_options",
            "differentiable",
            "protocol_options",
            "shifting_options",
            "zeroth_options",
        },
        "target": {"source"},
        "retrain": {"distill_options", "reference_options", "synthesis_options"},
    }
    own = {step, *more.get(step, ())}
    modules = {Path(file).stem for file in step_files(step) if file.startswith("src/imbnas/params/")} - {"__init__"}
    assert modules - SHARED == own
    for name, file in DECLARED.items():
        if Path(file).stem in own:
            owners = ["source", "target"] if Path(file).stem == "source" else [step]
            assert [other for other in STEPS if sees(other, name) and name not in named_by_dvc(other)] == owners
