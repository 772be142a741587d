"""Step `search`: rank subnets of the adapted supernet on the validation rows under a cost constraint."""

from __future__ import annotations

from typing import Any

from imbnas.approximate.chosen_table import described
from imbnas.errors import UserError
from imbnas.files import write_json
from imbnas.params.search import SearchView
from imbnas.run.context import Context
from imbnas.search.archive import Archive
from imbnas.search.findings import choose
from imbnas.spaces.limits import milliseconds
from imbnas.spaces.networks import Architecture
from imbnas.steps.described import describe
from imbnas.steps.handed import hand_on
from imbnas.steps.limits_record import limits_record
from imbnas.steps.rows import Rows, read_tail
from imbnas.steps.search_account import write_account, write_descended, write_given
from imbnas.steps.search_darts import DartsSearch
from imbnas.steps.search_mixture import Mixture
from imbnas.steps.search_scoring import Scoring, make_scoring
from imbnas.steps.search_setting import Setting, explore, make_setting
from imbnas.steps.supernets import adapted_digests
from imbnas.steps.workbench import TrainingStep


def run(view: SearchView, context: Context) -> None:
    """Write all candidates with their scores, the chosen architecture, and what is handed on."""
    tail, held_out = read_tail(context)
    setting = make_setting(view, context, tail)
    if view.search.method == "fixed":
        _fixed(view, context, setting)
        return
    if view.search.method == "darts":
        _darts(view, context, setting, tail, held_out)
        return
    step = TrainingStep.start(context, view.runtime, setting.space, tail, view.seed, view.approximate)
    state = step.state("scores")
    with state.held():
        scoring = make_scoring(step, view, setting.table, held_out, state.pause, setting.given)
        archive, shifted = _explored(view, setting, scoring)
        choice = choose(archive, view.search.choose, scoring.marking)
        chosen = choice.chosen
        for line in write_account(context, setting, view, scoring, archive, choice, shifted):
            context.log(line)
        outcome = {"score": chosen.score.value, "standard_error": chosen.score.standard_error}
        _write_architecture(view, context, setting, chosen.architecture, outcome, scoring.validation, scoring.objective)
        moved = None if scoring.shifting is None or view.retrain.init == "scratch" else scoring.shifting.weights()
        hand_on(context, view.retrain.init, view.space, view.search.method, moved)
        if scoring.shifting is not None:
            scoring.shifting.finish()
        state.finish()


def _explored(view: SearchView, setting: Setting, scoring: Scoring) -> tuple[Archive, dict[str, Any] | None]:
    """Return what the method has scored, and what is known of a supernet that has moved meanwhile.

    Then each score is of another supernet: all are taken anew with the last one, so that they can be compared.
    """
    shifting = scoring.shifting
    if shifting is None:
        archive = Archive(scoring.score, setting.table.cost)
        explore(view, setting, archive)
        return archive, None
    taken = Archive(scoring.score, setting.table.cost, shifting.shift)
    explore(view, setting, taken)
    anew = taken.anew()
    return anew, shifting.described(taken, anew)


def _write_architecture(
    view: SearchView,
    context: Context,
    setting: Setting,
    best: Architecture,
    outcome: dict[str, Any],
    validation: Rows | None = None,
    objective: str | None = None,
    mixture: Mixture | None = None,
) -> None:
    """Write the chosen architecture and the limits; nothing of how it was found but the method.

    Another budget that ends in the same choice so gives the same bytes, and `retrain` stays as it is. `retrain` draws
    the networks that it compares with from this file.
    """
    digests = adapted_digests(context.path("adapted"))
    if validation is not None:
        digests["validation"] = validation.split.info.digest
    record = {
        "space": view.space.name,
        "method": view.search.method,
        "objective": objective or view.search.objective,
        "validation_rows": len(validation) if validation is not None else 0,
        "chosen": {
            **outcome,
            **describe(setting.space, setting.table, best),
            **({} if mixture is None else mixture.described),
        },
        **limits_record(setting.limits, setting.latencies),
        "digests": digests,
        **({"approximate": described(view.approximate)} if view.approximate.acts else {}),
        **({} if setting.given is None else {"table": setting.given.described()}),
    }
    write_json(context.path("architecture"), record)


def _darts(view: SearchView, context: Context, setting: Setting, tail: Rows, held_out: Rows) -> None:
    """Descend on a continuous architecture and take the cells derived after the last epoch."""
    step = TrainingStep.start(context, view.runtime, setting.space, tail, view.seed, view.approximate)
    search = DartsSearch(step, view, held_out)
    found = search.run()
    for line in write_descended(context, setting, view, found.gap):
        context.log(line)
    mixture = found.mixture
    _write_architecture(view, context, setting, found.architecture, found.outcome, found.validation, mixture=mixture)
    if mixture is None:
        hand_on(context, view.retrain.init, view.space, view.search.method, found.weights)
        lines = setting.space.describe(found.architecture)
    else:
        mixture.hand_on(context, view)
        lines = mixture.described["blocks"]
    for line in lines:
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
        allowed = " and ".join(f"{name} ({words})" for name, words, *_ in limits.named)
        taken = "" if setting.latencies is None else f" and takes {milliseconds(cost.latency)} ms"
        raise UserError(
            f"search.architecture: has {cost.macs} MACs and {cost.params} parameters{taken}, expected at most {allowed}"
        )
    write_given(context, setting, view, architecture, cost)
    _write_architecture(view, context, setting, architecture, {"score": None, "standard_error": None})
    hand_on(context, view.retrain.init, view.space, view.search.method)
