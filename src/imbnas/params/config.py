"""The whole of params.yaml: loading, checking, and its JSON schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from imbnas.params import across, across_space, memory
from imbnas.params.adapt import AdaptParams, AdaptView
from imbnas.params.approximate import ApproximateParams, check_energy, check_operations
from imbnas.params.checked_tree import checked
from imbnas.params.dataset import same_images
from imbnas.params.evaluate import EvaluateParams, EvaluateView
from imbnas.params.imbalance import ImbalanceParams, ImbalanceView
from imbnas.params.origins import Origins
from imbnas.params.reading import read
from imbnas.params.retrain import RetrainParams, RetrainView
from imbnas.params.search import SearchParams, SearchView
from imbnas.params.section import Section, View
from imbnas.params.shared import RuntimeParams
from imbnas.params.source import SourceParams, SourceView
from imbnas.params.space_options import SpaceParams
from imbnas.params.study import StudyParams
from imbnas.params.supernet import SupernetParams, SupernetView
from imbnas.params.target import TargetParams, TargetView

VIEWS: dict[str, type[View]] = {
    "source": SourceView,
    "target": TargetView,
    "imbalance": ImbalanceView,
    "supernet": SupernetView,
    "adapt": AdaptView,
    "search": SearchView,
    "retrain": RetrainView,
    "evaluate": EvaluateView,
}


class Params(Section):
    """Parameters of imbnas: every knob of the workflow."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seeds all that is random but the splits, which `source.seed` and `target.seed` draw, and the long tail's rows,
    which `imbalance.seed` chooses."""
    space: SpaceParams = SpaceParams()
    """The search space."""
    runtime: RuntimeParams = RuntimeParams()
    """Device, precision, threads."""
    source: SourceParams = SourceParams()
    """The balanced source dataset."""
    target: TargetParams = TargetParams()
    """The target dataset."""
    imbalance: ImbalanceParams = ImbalanceParams()
    """The long tail."""
    supernet: SupernetParams = SupernetParams()
    """The supernet's training on the source."""
    adapt: AdaptParams = AdaptParams()
    """Its adaptation to the long tail."""
    search: SearchParams = SearchParams()
    """The search over subnets."""
    retrain: RetrainParams = RetrainParams()
    """The final training."""
    evaluate: EvaluateParams = EvaluateParams()
    """The evaluation."""
    approximate: ApproximateParams = ApproximateParams()
    """Convolutions under an approximate multiplier, in `search` and `retrain`."""
    study: StudyParams = StudyParams()
    """The grid of `snakemake study`; no step sees it."""

    @model_validator(mode="after")
    def _across(self) -> Self:
        trained = self.supernet.reuse is None
        if trained and same_images(self.source, self.target) and self.source.share >= 1.0:
            raise ValueError(
                f"source.share is {self.source.share} and source and target are both {self.target.dataset}, "
                "expected a share below 1 that leaves rows for the target"
            )
        across.check_groups(self.source, self.target)
        across.check_sizes(self.source, self.target)
        across.check_source(self.source, self.target, self.supernet)
        across_space.check_space(self.space, self.supernet, self.adapt, self.search, self.runtime.processes)
        across.check_precision(self.runtime, self.search)
        across_space.check_cells(self.space, self.retrain, self.target.shape[2])
        across.check_validation(self.target, self.adapt, self.search, self.retrain)
        across.check_rows(self.source, self.target, self.imbalance, self.supernet, self.retrain.rows)
        across.check_padding(
            self.source.dataset, self.target.dataset, self.supernet, self.adapt, self.search, self.retrain
        )
        across.check_inheritance(self.space, self.supernet, self.adapt, self.search, self.retrain)
        check_operations(self.space, self.approximate)
        across_space.check_frozen(self.space, self.adapt, self.retrain)
        check_energy(self.search.max_energy, self.approximate)
        across.check_int8(self.evaluate, self.approximate)
        across.check_corrections(self.search, self.retrain, self.evaluate)
        memory.refuse(self.needs(), memory.MOST, "")
        return self

    def needs(self) -> Iterator[memory.Need]:
        """Yield what the steps take of memory at the least."""
        side = self.target.shape[0]
        return memory.needs(
            self.space,
            self.source.dataset,
            self.target.dataset,
            side,
            self.supernet,
            self.adapt,
            self.search,
            self.retrain,
            self.evaluate,
        )

    def tree(self) -> dict[str, Any]:
        """Return the parameters as JSON values."""
        tree: dict[str, Any] = json.loads(self.model_dump_json(by_alias=True))
        return tree

    def view(self, step: str) -> View:
        """Return the part that `step` may see."""
        return VIEWS[step].of(self.tree())


@cache
def defaults() -> dict[str, Any]:
    """Return the tree of a file that names nothing; not to be changed."""
    return Params().tree()


def parse(tree: Any, file: str | Origins) -> Params:
    """Return the parameters in `tree` (JSON values), or raise UserError with one line that names `file`.

    A tree that several files and options have given names those that gave the value.

    What the tree does not name has its default, within a section too.
    """
    return checked(Params, defaults(), tree, file)


def load(path: Path) -> Params:
    """Return the parameters in a JSON file (by its suffix) or a YAML file, or raise UserError with one line."""
    return parse(read(path), str(path))


def uses(step: str) -> list[str]:
    """Return the dotted names of the parameters on which `step` depends."""
    return VIEWS[step].uses(Params)
