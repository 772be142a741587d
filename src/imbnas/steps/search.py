"""Step `search`: rank subnets of the adapted supernet on the validation rows under a cost constraint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from imbnas.data.stored import write_table
from imbnas.errors import UserError
from imbnas.files import write_json
from imbnas.params.search import SearchView
from imbnas.run.context import Context
from imbnas.search.archive import Archive
from imbnas.search.methods import METHODS, Field
from imbnas.search.table import candidate_table, given_table
from imbnas.seeds import stream
from imbnas.spaces.constraints import Limits, feasible, largest, sample_feasible
from imbnas.spaces.cost import CostTable
from imbnas.spaces.networks import Architecture
from imbnas.spaces.registry import make_space
from imbnas.spaces.space import SearchSpace
from imbnas.steps.path_scorer import calibration_rows, path_scorer, score_of
from imbnas.steps.rows import Rows, read_tail, read_validation
from imbnas.steps.search_darts import DartsSearch
from imbnas.steps.supernets import adapted_digests
from imbnas.steps.workbench import TrainingStep


@dataclass(frozen=True)
class Setting:
    """The setting of the search: the space, the costs of its architectures, and their limits."""

    space: SearchSpace
    table: CostTable
    limits: Limits


def run(view: SearchView, context: Context) -> None:
    """Write all candidates with their scores, and the chosen architecture beside two references."""
    tail, held_out = read_tail(context)
    info = tail.split.info
    space = make_space(view.space)
    setting = Setting(
        space, space.cost_table(info.shape, len(info.classes)), Limits(view.search.max_macs, view.search.max_params)
    )
    feasible(setting.table, setting.limits)
    if view.search.method == "fixed":
        _fixed(view, context, setting)
        return
    if view.search.method == "darts":
        _darts(view, context, setting, tail, held_out)
        return
    validation = read_validation(context, held_out, f"search.method {view.search.method}")
    step = TrainingStep.start(context, view.runtime, space, tail, view.seed)
    scorer = path_scorer(step, view, validation)
    state = step.state("scores")
    with state.held():
        archive = Archive(
            state.path.with_suffix(".jsonl"),
            lambda architectures: (
                (architecture, score_of(tally, view.search.objective)) for architecture, tally in scorer(architectures)
            ),
            setting.table.cost,
            view.search.objective,
            pause=state.pause,
            tell=context.log,
        )
        _search(view, setting, archive)
        write_table(context.path("search"), candidate_table(archive))
        best = archive.ranked()[0]
        outcome = {"score": archive.value(best.architecture), "standard_error": best.score.standard_error}
        _write_architecture(view, context, setting, best.architecture, outcome, validation)
        context.log(
            f"evaluated {len(archive.entries)} architectures, chose {'-'.join(map(str, best.architecture))} "
            f"with {view.search.objective} {outcome['score']:.4f} (standard error {outcome['standard_error']:.4f})"
        )
        archive.finish()
        state.finish()


def _search(view: SearchView, setting: Setting, archive: Archive) -> None:
    """Let the chosen method fill the archive."""
    space, table, limits = setting.space, setting.table, setting.limits
    field = Field(
        space,
        lambda architecture: limits.allow(table.cost(architecture)),
        lambda rng: sample_feasible(space, table, rng, limits),
        lambda architecture: limits.excess(table.cost(architecture)),
    )
    METHODS[view.search.method](field, archive, view.search, view.seed)


def _describe(setting: Setting, architecture: Architecture) -> dict[str, Any]:
    cost = setting.table.cost(architecture)
    return {
        "architecture": list(architecture),
        "blocks": setting.space.describe(architecture),
        "macs": cost.macs,
        "params": cost.params,
    }


def _write_architecture(
    view: SearchView,
    context: Context,
    setting: Setting,
    best: Architecture,
    outcome: dict[str, Any],
    validation: Rows | None = None,
) -> None:
    """Write the chosen architecture and the two that it is compared with; nothing of how it was found but the method.

    Another budget that ends in the same choice so gives the same bytes, and `retrain` stays as it is.
    """
    space, table, limits = setting.space, setting.table, setting.limits
    rng = stream(view.seed, "search", "reference")
    references = {"random": sample_feasible(space, table, rng, limits), "largest": largest(table, limits)}
    digests = adapted_digests(context.path("adapted"))
    if validation is not None:
        digests["validation"] = validation.split.info.digest
    record = {
        "space": view.space.name,
        "method": view.search.method,
        "objective": view.search.objective,
        "validation_rows": len(validation) if validation is not None else 0,
        "chosen": {**outcome, **_describe(setting, best)},
        "references": {name: _describe(setting, found) for name, found in references.items()},
        "limits": {"max_macs": limits.max_macs, "max_params": limits.max_params},
        "digests": digests,
    }
    write_json(context.path("architecture"), record)


def _darts(view: SearchView, context: Context, setting: Setting, tail: Rows, held_out: Rows) -> None:
    """Descend on a continuous architecture and take the cells derived after the last epoch."""
    step = TrainingStep.start(context, view.runtime, setting.space, tail, view.seed)
    search = DartsSearch(step, view, held_out, calibration_rows(step, view.search.calibration))
    found = search.run()
    _write_architecture(view, context, setting, found.architecture, found.outcome, found.validation)
    for line in setting.space.describe(found.architecture):
        context.log(line)
    search.state.finish()


def _fixed(view: SearchView, context: Context, setting: Setting) -> None:
    """Take the architecture that the parameters give, without validation rows or weights."""
    given = view.search.architecture
    # Without choices there is one architecture, all zeros: the parameters refuse null in any other space.
    architecture = setting.space.accept([0] * len(setting.space.blocks) if given is None else given)
    if given is not None and list(architecture) != given:
        context.log(
            f"search.architecture {'-'.join(map(str, given))} names operations that do not act, taken as "
            f"{'-'.join(map(str, architecture))}"
        )
    cost, limits = setting.table.cost(architecture), setting.limits
    if not limits.allow(cost):
        raise UserError(
            f"search.architecture: has {cost.macs} MACs and {cost.params} parameters, expected at most "
            f"search.max_macs ({limits.max_macs}) and search.max_params ({limits.max_params})"
        )
    write_table(context.path("search"), given_table(architecture, cost))
    _write_architecture(view, context, setting, architecture, {"score": None, "standard_error": None})
