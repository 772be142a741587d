"""Step `retrain`: train the chosen subnet on the long tail, and its references with the same recipe."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from imbnas.errors import UserError
from imbnas.files import read_json
from imbnas.params.reference_options import ReferencesParams
from imbnas.params.retrain import RetrainView, SecondStageParams
from imbnas.run.context import Context
from imbnas.spaces.bilateral import BilateralSubnet
from imbnas.spaces.cost import Cost, count
from imbnas.spaces.networks import Architecture, Subnet
from imbnas.spaces.registry import make_space
from imbnas.steps.handed_mixture import HandedMixture
from imbnas.steps.inherit import Inheritance, recipe_meta
from imbnas.steps.retrain_entries import networks_to_train
from imbnas.steps.retrain_head import SECOND_STAGES, SecondStage
from imbnas.steps.retrain_network import new_network, train_network
from imbnas.steps.rows import Rows, image_meta, read_tail, read_validation, validation_rows
from imbnas.steps.trained import Kept, Trained
from imbnas.steps.workbench import TrainingStep
from imbnas.training.checkpoint import save_weights
from imbnas.training.history import write_losses_by_network
from imbnas.training.state import ResumeState


@dataclass
class Outcome:
    """The result of training: each network's state, cost, losses and kind of head, and training states on disk."""

    costs: dict[Architecture, Cost] = field(default_factory=dict)
    inherited: Inheritance | None = None
    """The weights with which the networks begin; None: new ones."""
    mixture: HandedMixture | None = None
    """The network that a single-stage search has trained, which is the chosen one; None: there is none."""
    networks: dict[Architecture, dict[str, Tensor]] = field(default_factory=dict)
    losses: dict[Architecture, list[float]] = field(default_factory=dict)
    """Of each epoch of the first stage."""
    head: dict[str, Any] = field(default_factory=lambda: {"name": "linear"})
    states: list[ResumeState] = field(default_factory=list)
    seconds: float = 0.0
    """That the networks so far have taken of the run's own cost."""


def run(view: RetrainView, context: Context) -> None:
    """Write the final network, and the references beside it."""
    found = read_json(context.path("architecture"), "the output of `imbnas search`")
    space = make_space(view.space)
    tail, held_out = read_tail(context)
    entries = networks_to_train(found, space, context, view, tail)
    rows = _training_rows(view, context, tail, held_out)
    judges = read_validation(context, held_out, "retrain.head.tau auto") if view.retrain.head.judged else None
    step = TrainingStep.start(context, view.runtime, space, rows, view.seed, view.approximate)
    mixture = HandedMixture.read(context, view, entries["chosen"], tail.split.info)
    inherited = Inheritance.read(step, view.space, view.retrain) if mixture is None else mixture.start
    outcome = Outcome(inherited=inherited, mixture=mixture)
    for name, entry in entries.items():
        architecture = tuple(entry["architecture"])
        if architecture in outcome.networks:
            context.log(f"{name} is the same architecture as an earlier one and is not trained twice")
            continue
        model, tag = _trained(step, view, architecture, outcome)
        if view.retrain.head.name != "none":
            assert isinstance(model, Subnet)  # the parameters refuse a second stage of two branches
            begin = time.monotonic()
            stage = SecondStage(step, view.retrain.acting, model, judges, tag)
            outcome.head = SECOND_STAGES[view.retrain.head.name](stage)
            outcome.seconds += time.monotonic() - begin
            outcome.states += stage.states
        outcome.costs[architecture] = count(model, step.shape)
        outcome.networks[architecture] = {key: value.detach().cpu() for key, value in model.state_dict().items()}
        done = "trained" if mixture is None else "taken as the search has trained it, a mixture that decodes to"
        context.log(f"{name} {done}: {'-'.join(map(str, architecture))}")
    digests = {**found.get("digests", {}), "target_train": tail.split.info.digest}
    if not step.runtime.ranks.first:
        return
    _save(step, view, tail, entries, outcome, digests)
    for state in outcome.states:
        state.finish()


def _training_rows(view: RetrainView, context: Context, tail: Rows, held_out: Rows) -> Rows:
    """Return the long-tailed training rows, with the validation rows behind them when `retrain.rows` says so."""
    if view.retrain.rows == "train":
        return tail
    validation = validation_rows(context, held_out)
    if not len(validation):
        raise UserError("retrain.rows: found train+validation, but target.validation reserves no rows; expected train")
    return tail.with_all(validation)


def _trained(
    step: TrainingStep, view: RetrainView, architecture: Architecture, outcome: Outcome
) -> tuple[Subnet | BilateralSubnet, str]:
    """Return a network after its first stage, and its tag; add to the outcome what that has brought.

    A mixture has its training behind it. A network whose first stage an earlier run has trained with the same
    parameters is taken from there: other heads then cost seconds, and another number of references those that are new.
    What this very run has trained is taken only where a second stage is to be done: to force a run is to train anew.
    States stay on disk until the step's outputs are written, so that a step that is killed during the next network
    repeats nothing.
    """
    context, recipe, tag = step.context, view.retrain.acting, "-".join(map(str, architecture))
    if outcome.mixture is not None:
        outcome.head, outcome.losses[architecture] = outcome.mixture.head, []
        return step.placed(outcome.mixture.network()), tag
    model, outcome.head = new_network(step, recipe, architecture)
    kept = _kept(step, view, tag)
    # One process looks for all: a file that the first is writing must not be there for some and absent for others.
    look, own = step.runtime.ranks.shared, context.state_path.name
    found = look(kept.load)
    if found is not None and (recipe.head.name != "none" or found.run != own):
        outcome.states.append(step.state(tag))
        model.load_state_dict(found.state)
        outcome.losses[architecture] = found.losses
        left = "; only the head stage is left" if recipe.head.name != "none" else ""
        context.log(f"{tag}: trained by an earlier run in {found.seconds:.0f} s{left}")
        # What an earlier attempt of this run has spent is in its cost already.
        if found.run == own and context.cost()["attempts"] > 1:
            outcome.seconds += found.seconds
        else:
            context.reused_seconds += found.seconds
    else:
        if outcome.inherited is not None:
            assert isinstance(model, Subnet)  # the parameters refuse to inherit two branches
            outcome.inherited.give(step, recipe, model, architecture)
        losses, states = train_network(step, recipe, model, tag)
        outcome.losses[architecture] = losses
        outcome.states += states
        if found is None:
            found = Kept(model.state_dict(), context.cost()["seconds"] - outcome.seconds, own, losses)
            if step.runtime.ranks.first:
                kept.save(found)
        outcome.seconds += found.seconds if found.run == own else context.cost()["seconds"] - outcome.seconds
    return model, tag


def _kept(step: TrainingStep, view: RetrainView, tag: str) -> Trained:
    """Return where the network is kept after its first stage, whatever the others are and what follows."""
    first = view.retrain.model_copy(
        update={"head": SecondStageParams(epochs=0), "references": ReferencesParams(random=0, largest=False)}
    )
    view_json = view.model_copy(update={"retrain": first}).model_dump_json(by_alias=True)
    return Trained(step.context.kept_path(view_json, apart=("architecture",)), tag)


def _save(
    step: TrainingStep,
    view: RetrainView,
    tail: Rows,
    entries: dict[str, dict[str, Any]],
    outcome: Outcome,
    digests: dict[str, str],
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
    final = outcome.networks[tuple(chosen["architecture"])]
    save_weights(context.path("final"), final | carried, {"kind": "subnet", **chosen, **common})
