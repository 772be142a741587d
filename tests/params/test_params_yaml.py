"""params.yaml: short, commented, and the same data to every reader."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from params_trees import DEFAULT, PRESETS, comments, default_tree, leaves, written
from pydantic import BaseModel
from ruamel.yaml import YAML

from imbnas.params.config import Params, defaults, load


def model_leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the annotation of every leaf of a model."""
    for name, field in model.model_fields.items():
        dotted = f"{prefix}{field.alias or name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from model_leaves(field.annotation, f"{dotted}.")
        else:
            yield dotted, field.annotation


def options(annotation: Any) -> list[str]:
    """Return the words and numbers that a Literal anywhere in an annotation allows."""
    if get_origin(annotation) is Literal:
        return [str(option) for option in get_args(annotation)]
    return [word for part in get_args(annotation) for word in options(part)]


def same(first: Any, second: Any) -> bool:
    """Compare values and types alike: True is not 1, and 1 is not 1.0."""
    if isinstance(first, dict):
        return (
            isinstance(second, dict)
            and list(first) == list(second)
            and all(same(first[key], second[key]) for key in first)
        )
    if isinstance(first, list):
        return isinstance(second, list) and len(first) == len(second) and all(map(same, first, second))
    kinds = (bool, int, float, str, NoneType)
    return next(k for k in kinds if isinstance(first, k)) is next(k for k in kinds if isinstance(second, k)) and (
        first == second
    )


def test_the_file_fits_on_two_screens() -> None:
    assert len(DEFAULT.read_text(encoding="utf-8").splitlines()) <= 100


def test_the_tree_is_that_of_the_model() -> None:
    assert sorted(name for name, _ in leaves(default_tree())) == sorted(name for name, _ in model_leaves(Params))


def test_a_comment_names_every_allowed_word() -> None:
    said, own = comments(DEFAULT), dict(leaves(written(DEFAULT)))
    elsewhere = {"adapt.loss", "retrain.loss", "target.dataset"}  # docs/long-tail.md, source.dataset
    missing = {
        f"{name}: {option}"
        for name, annotation in model_leaves(Params)
        for option in options(annotation)
        if name in own.keys() - elsewhere and not re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", said[name])
    }
    assert missing == set()


@pytest.mark.parametrize("file", [DEFAULT, *PRESETS], ids=lambda file: f"{file.parent.name}/{file.name}")
def test_dvc_writes_the_file_as_it_stands(file: Path, tmp_path: Path) -> None:
    # Otherwise `dvc exp run -S` of one parameter would change other lines.
    copied = tmp_path / "params.yaml"
    copied.write_bytes(file.read_bytes())
    apply_overrides(copied, [f"seed={written(file)['seed']}"])
    assert copied.read_text(encoding="utf-8") == file.read_text(encoding="utf-8")


def test_the_schema_line_comes_first_and_names_a_file_that_exists() -> None:
    for file in [DEFAULT, *PRESETS]:
        first = file.read_text(encoding="utf-8").splitlines()[0]
        match = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
        assert match, file
        assert (file.parent / match[1]).is_file()


@pytest.mark.parametrize("file", [DEFAULT, *PRESETS], ids=lambda file: f"{file.parent.name}/{file.name}")
def test_yaml_1_1_and_1_2_read_the_same_tree(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    newer = YAML(typ="safe", pure=True)
    newer.version = (1, 2)
    assert same(yaml.safe_load(text), newer.load(text))
    # DVC reads with ruamel.yaml's round-trip loader.
    assert same(yaml.safe_load(text), {**YAML(typ="rt").load(text)})


def test_reading_gives_the_file_s_values_and_defaults_for_the_others() -> None:
    read, own = dict(leaves(load(DEFAULT).tree())), dict(leaves(written(DEFAULT)))
    assert {name: value for name, value in own.items() if not same(read[name], value)} == {}
    default = dict(leaves(defaults()))
    assert {name for name in read.keys() - own.keys() if not same(read[name], default[name])} == set()


def test_the_default_run_is_the_embedded_one() -> None:
    params = load(DEFAULT)
    assert (params.source.dataset, params.target.dataset) == ("digits", "digits")
    assert (params.imbalance.profile, params.imbalance.ratio) == ("exponential", 20.0)
    # Eight by eight pixels leave no room for more than two halvings.
    assert params.space.stem.stride * 2 ** (params.space.stages.strides.count(2)) <= 4
    assert params.target.validation.per_class > 0, "the search needs validation rows"
