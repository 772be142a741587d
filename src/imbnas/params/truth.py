"""A truth table's own file: which architectures are trained, under which conditions, by which recipe, how often."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from imbnas.params.checked_tree import checked
from imbnas.params.config import Params, defaults, parse
from imbnas.params.evaluate import EvaluateParams
from imbnas.params.imbalance import ImbalanceParams
from imbnas.params.reading import read
from imbnas.params.retrain import RetrainParams, RetrainView
from imbnas.params.section import Section, short
from imbnas.params.shared import RuntimeParams, Some
from imbnas.params.source import SourceParams
from imbnas.params.space_options import SpaceParams
from imbnas.params.target import TargetParams

SECTIONS = ("space", "runtime", "source", "target", "retrain", "evaluate")
"""The sections that mean here what they mean in params.yaml, with the same defaults."""
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
"""A condition's name, which becomes a directory's."""


class TruthParams(Section):
    """The description of a table: cells x conditions x seeds, each one training."""

    about: Annotated[str, Field(max_length=2000)] = ""
    """What the table is for, in a sentence or two; its card repeats it."""
    drawn: Annotated[str, Field(max_length=2000)] = ""
    """How `cells` were chosen; the card repeats it."""
    space: SpaceParams = SpaceParams()
    """The search space of the cells."""
    runtime: RuntimeParams = RuntimeParams()
    """Device, precision, threads."""
    source: SourceParams = SourceParams()
    """A source that shares its dataset with the target, so that a supernet may be judged by the table."""
    target: TargetParams = TargetParams()
    """The dataset and its validation rows."""
    retrain: RetrainParams = RetrainParams()
    """The recipe of every training."""
    evaluate: EvaluateParams = EvaluateParams()
    """The rule of many-, medium- and few-shot classes, which follow the most imbalanced condition."""
    conditions: Annotated[dict[str, ImbalanceParams], Field(min_length=1, max_length=16)]
    """The training rows, by a name of one's own: each a section `imbalance`."""
    seeds: Some = 3
    """Trainings of each cell under each condition."""
    cells: Annotated[list[str], Field(min_length=1, max_length=100_000)]
    """Architectures, as results/search.parquet writes them: 3-0-3-1-4-2."""

    @model_validator(mode="after")
    def _names(self) -> Self:
        for name in self.conditions:
            if not NAME.fullmatch(name):
                raise ValueError(f"conditions has {short(name)}, expected names of small letters, digits and hyphens")
        return self

    @model_validator(mode="after")
    def _architectures(self) -> Self:
        choices, seen = self.space.choices, set()
        for number, text in enumerate(self.cells):
            found = architecture_of(text)
            if found is None or len(found) != len(choices) or any(c >= n for c, n in zip(found, choices, strict=True)):
                limits = ", ".join(str(count - 1) for count in choices)
                raise ValueError(
                    f"cells[{number}] is {short(text)}, expected {len(choices)} choices joined by hyphens, at most "
                    f"{limits}"
                )
            if found in seen:
                raise ValueError(f"cells[{number}] is {short(text)}, which an earlier entry is too, expected each once")
            seen.add(found)
        return self

    @model_validator(mode="after")
    def _first_stage(self) -> Self:
        if self.retrain.head.name != "none":
            raise ValueError(f"retrain.head.name is {self.retrain.head.name}, expected none: one training for each row")
        if self.retrain.branches != "one" or self.retrain.rows != "train":
            raise ValueError(
                f"retrain.branches is {self.retrain.branches} and retrain.rows is {self.retrain.rows}, expected one "
                "and train: validation rows judge here"
            )
        if self.retrain.init != "scratch":
            raise ValueError(f"retrain.init is {self.retrain.init}, expected scratch: each cell is trained alone")
        if self.retrain.distilled:
            raise ValueError(
                f"retrain.distill.teacher is {self.retrain.distill.teacher}, expected none: each cell is trained alone"
            )
        if self.evaluate.int8:
            raise ValueError("evaluate.int8 is true, expected false: a table holds networks in float alone")
        if self.evaluate.logit_adjustment:
            raise ValueError(
                f"evaluate.logit_adjustment is {self.evaluate.logit_adjustment}, expected 0.0: a table holds its own "
                "adjusted columns beside the plain ones"
            )
        if self.target.validation.from_ != "reserve" or not self.target.validation.per_class:
            raise ValueError("target.validation reserves no rows, expected some: a table holds both rows' accuracies")
        return self

    def params(self, condition: str, seed: int, file: str = "table") -> Params:
        """Return the parameters of the chain under a condition; UserError where they do not belong together."""
        tree: dict[str, Any] = {name: _plain(getattr(self, name)) for name in SECTIONS}
        return parse({**tree, "seed": seed, "imbalance": _plain(self.conditions[condition])}, file)

    def view(self, condition: str, seed: int) -> RetrainView:
        """Return what a training may see."""
        view = self.params(condition, seed).view("retrain")
        assert isinstance(view, RetrainView)
        return view

    @property
    def architectures(self) -> list[tuple[int, ...]]:
        """The cells as tuples."""
        return [found for text in self.cells if (found := architecture_of(text)) is not None]


def architecture_of(text: str) -> tuple[int, ...] | None:
    """Return the architecture that `3-0-3-1-4-2` names; None for another text."""
    if not re.fullmatch(r"[0-9]{1,9}(-[0-9]{1,9})*", text):
        return None
    return tuple(int(part) for part in text.split("-"))


def text_of(architecture: tuple[int, ...]) -> str:
    """Return an architecture as the tables write it."""
    return "-".join(map(str, architecture))


def load_truth(path: Path) -> TruthParams:
    """Return the table that a YAML file describes, or raise UserError with one line."""
    tree: dict[str, Any] = {name: defaults()[name] for name in SECTIONS}
    spec = checked(TruthParams, tree, read(path), str(path))
    for condition in spec.conditions:
        spec.params(condition, 0, str(path))
    return spec


def _plain(section: Section) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads(section.model_dump_json(by_alias=True))
    return tree
