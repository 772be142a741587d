"""Step `retrain`: train the chosen subnet on the long tail, and its references with the same recipe."""

from __future__ import annotations

from typing import Any

from imbnas.errors import UserError
from imbnas.files import read_json
from imbnas.params.retrain import RetrainView
from imbnas.run.context import Context
from imbnas.spaces.registry import make_space
from imbnas.steps.first_stage import Outcome, make_teacher
from imbnas.steps.fitted_temperature import network_temperature
from imbnas.steps.handed_mixture import HandedMixture
from imbnas.steps.inherit import Inheritance, recipe_meta
from imbnas.steps.overlap import SOURCE
from imbnas.steps.retrain_entries import networks_to_train
from imbnas.steps.retrain_together import train_all
from imbnas.steps.rows import Rows, all_rows, image_meta, read_tail, read_validation, validation_rows
from imbnas.steps.workbench import TrainingStep
from imbnas.training.checkpoint import save_weights
from imbnas.training.history import write_losses_by_network


def run(view: RetrainView, context: Context) -> None:
    """Write the final network, and the references beside it."""
    found = read_json(context.path("architecture"), "the output of `imbnas search`")
    space = make_space(view.space)
    tail, held_out = read_tail(context)
    networks = networks_to_train(found, space, context, view, tail)
    entries = networks.entries
    rows = _training_rows(view, context, tail, held_out)
    judges = read_validation(context, held_out, "retrain.head.tau auto") if view.retrain.head.judged else None
    step = TrainingStep.start(context, view.runtime, space, rows, view.seed, view.approximate)
    mixture = HandedMixture.read(context, view, entries["chosen"], tail.split.info)
    inherited = Inheritance.read(step, view.space, view.retrain) if mixture is None else mixture.start
    outcome = Outcome(inherited=inherited, mixture=mixture)
    teacher = make_teacher(step, view, networks.teacher, outcome)
    train_all(step, view, entries, outcome, teacher, judges)
    digests = {**found.get("digests", {}), "target_train": tail.split.info.digest}
    if not step.runtime.ranks.first:
        return
    assert outcome.final is not None
    outcome.temperature = network_temperature(step, view.retrain, outcome.final, validation_rows(context, held_out))
    _save(step, view, tail, entries, outcome, digests, {} if teacher is None else {"teacher": teacher.described})
    for state in outcome.states:
        state.finish()


def _training_rows(view: RetrainView, context: Context, tail: Rows, held_out: Rows) -> Rows:
    """Return the long-tailed training rows, with the others behind them that `retrain.rows` names."""
    chosen = view.retrain.rows
    if chosen == "train":
        return tail
    validation = validation_rows(context, held_out)
    if not len(validation):
        raise UserError(f"retrain.rows: found {chosen}, but target.validation reserves no rows; expected train")
    rows = tail.with_all(validation)
    if chosen == "all":
        for name in SOURCE:
            source = all_rows(context, name)
            # The supernet of another project has taken none, and its classes are its own.
            rows = rows.with_all(source) if len(source) else rows
        context.log(f"{len(rows) - len(tail)} rows besides the {len(tail)} of the long tail")
    return rows


def _save(
    step: TrainingStep,
    view: RetrainView,
    tail: Rows,
    entries: dict[str, dict[str, Any]],
    outcome: Outcome,
    digests: dict[str, str],
    taught: dict[str, Any],
) -> None:
    context = step.context
    common = {
        "step": "retrain",
        "space": view.space.described,
        "seed": view.seed,
        "recipe": recipe_meta(view.retrain) if outcome.mixture is None else outcome.mixture.recipe(view),
        "head": outcome.head,
        "branches": 1 if view.retrain.branches == "one" else 2,
        "epoch_rule": "last",
        "digests": digests,
        "counts": tail.counts,
        "trained_counts": step.rows.counts,
        **step.multiplier_meta,
        **({} if outcome.inherited is None else {"init": outcome.inherited.described}),
        **taught,
        **image_meta(tail.split),
    }
    entries_meta: dict[str, dict[str, Any]] = {
        name: {key: entry[key] for key in ("architecture", "blocks", "macs", "params", "gap") if key in entry}
        for name, entry in entries.items()
    }
    for entry in entries_meta.values():
        # The search counts one branch and a linear head; this is what was trained.
        cost = outcome.costs[tuple(entry["architecture"])]
        entry.update(macs=cost.macs, params=cost.params)
    losses = {name: outcome.losses[tuple(entry["architecture"])] for name, entry in entries_meta.items()}
    write_losses_by_network(context.path("retrain_losses"), losses)
    references = {name: entry for name, entry in entries_meta.items() if name != "chosen"}
    tensors = {
        f"{name}.{key}": value
        for name, entry in references.items()
        for key, value in outcome.networks[tuple(entry["architecture"])].items()
    }
    carried = step.multiplier_tensor
    save_weights(
        context.path("references"), tensors | carried, {"kind": "references", "networks": references, **common}
    )
    chosen = entries_meta["chosen"]
    if outcome.mixture is not None:
        chosen["mixture"] = outcome.mixture.meta["mixture"]
    chosen["temperature"] = outcome.temperature
    final = outcome.networks[tuple(chosen["architecture"])]
    save_weights(context.path("final"), final | carried, {"kind": "subnet", **chosen, **common})
