"""Step `retrain`: train the chosen subnet from scratch on the long tail, and two references with the same recipe."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from imbnas.data.samplers import Sampler
from imbnas.errors import UserError
from imbnas.files import read_json
from imbnas.longtail.heads import make_head
from imbnas.longtail.losses import repeats
from imbnas.longtail.schedules import bbn_alpha
from imbnas.params.retrain import RetrainView, SecondStageParams
from imbnas.run.context import Context
from imbnas.seeds import derive
from imbnas.spaces.bilateral import BilateralSubnet
from imbnas.spaces.chain import Architecture, Subnet
from imbnas.spaces.cost import Cost, count
from imbnas.spaces.darts import DartsSpace
from imbnas.spaces.registry import make_space
from imbnas.spaces.space import SearchSpace
from imbnas.steps.mixing import make_mix
from imbnas.steps.objective import bilateral_sampler, cumulative, describe_head, make_objective, make_sampler
from imbnas.steps.retrain_cells import pretraining, stop_dropping, with_cells
from imbnas.steps.retrain_head import SecondStage
from imbnas.steps.rows import Rows, image_meta, make_augment, make_store, read_tail, read_validation, validation_rows
from imbnas.steps.trained import Kept, Trained
from imbnas.training.history import write_losses_by_network
from imbnas.training.inputs import batches_of
from imbnas.training.loop import Job, train
from imbnas.training.runtime import Runtime
from imbnas.training.state import ResumeState
from imbnas.training.weights import save_weights


@dataclass
class Outcome:
    """The result of training: each network's state, cost, losses and kind of head, and training states on disk."""

    costs: dict[Architecture, Cost] = field(default_factory=dict)
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
    entries = _entries(found, space, context, view)
    tail, held_out = read_tail(context)
    rows = _training_rows(view, context, tail, held_out)
    judges = read_validation(context, held_out, "retrain.head.tau auto") if view.retrain.head.judged else None
    runtime = Runtime(view.runtime)
    context.device = runtime.device_name
    stage = SecondStage(view, context, runtime, rows, judges)
    outcome = Outcome()
    for name, entry in entries.items():
        architecture = tuple(entry["architecture"])
        if architecture in outcome.networks:
            context.log(f"{name} is the same architecture as an earlier one and is not trained twice")
            continue
        _network(view, context, runtime, space, rows, architecture, stage, outcome)
        context.log(f"{name} trained: {'-'.join(map(str, architecture))}")
    digests = {**found.get("digests", {}), "target_train": tail.split.info.digest}
    if not runtime.ranks.first:
        return
    _save(view, context, tail, rows, entries, outcome, digests)
    for state in outcome.states:
        state.finish()


def _entries(found: Any, space: SearchSpace, context: Context, view: RetrainView) -> dict[str, dict[str, Any]]:
    """Return the architectures to train by name, checked against the space; UserError names the file."""
    path = context.path("architecture")
    if not isinstance(found, dict) or not {"space", "chosen", "references"} <= set(found):
        raise UserError(f"{path}: not an architecture file, expected space, chosen and references; run search")
    if found["space"] != view.space.name:
        raise UserError(f"{path}: is of the space {found['space']}, expected {view.space.name}; run search")
    entries = {"chosen": found["chosen"], **(found["references"] if view.retrain.references else {})}
    for name, entry in entries.items():
        try:
            space.check(tuple(entry["architecture"]))
        except (UserError, KeyError, TypeError) as error:
            raise UserError(f"{path}: {name}: {error}; run search") from None
    return entries


def _training_rows(view: RetrainView, context: Context, tail: Rows, held_out: Rows) -> Rows:
    """Return the long-tailed training rows, with the validation rows behind them when `retrain.rows` says so."""
    if view.retrain.rows == "train":
        return tail
    validation = validation_rows(context, held_out)
    if not len(validation):
        raise UserError("retrain.rows: found train+validation, but target.validation reserves no rows; expected train")
    return tail.with_all(validation)


def _network(
    view: RetrainView,
    context: Context,
    runtime: Runtime,
    space: SearchSpace,
    rows: Rows,
    architecture: Architecture,
    stage: SecondStage,
    outcome: Outcome,
) -> None:
    """Train one network, both stages, and add it to the outcome.

    A network whose first stage an earlier run has trained with the same parameters is taken from there when there is a
    second stage to do: other heads then cost seconds. States stay on disk until the step's outputs are written, so that
    a step that is killed during the next network repeats nothing.
    """
    recipe, info, tag = view.retrain, rows.split.info, "-".join(map(str, architecture))
    model, outcome.head = _new_network(view, space, architecture, len(info.classes), info.shape[2])
    only_first = view.model_copy(update={"retrain": recipe.model_copy(update={"head": SecondStageParams(epochs=0)})})
    kept = Trained(context.kept_path(only_first.model_dump_json(by_alias=True)), tag)
    # One process looks for all: a file that the first is writing must not be there for some and absent for others.
    look, own = runtime.ranks.shared, context.state_path.name
    found = look(kept.load) if recipe.head.name != "none" else None
    state = ResumeState(context.state_path, tag, context.state_interval, context.note_cost, runtime.ranks)
    outcome.states.append(state)
    if found is not None:
        model.load_state_dict(found.state)
        outcome.losses[architecture] = found.losses
        context.log(f"{tag}: trained by an earlier run in {found.seconds:.0f} s; only the head stage is left")
        # What an earlier attempt of this run has spent is in its cost already.
        if found.run == own and context.cost()["attempts"] > 1:
            outcome.seconds += found.seconds
        else:
            context.reused_seconds += found.seconds
    else:
        losses, states = _train(view, context, runtime, space, rows, model, state)
        outcome.losses[architecture] = losses
        outcome.states += states
        found = look(kept.load)
        if found is None:
            found = Kept(model.state_dict(), context.cost()["seconds"] - outcome.seconds, own, losses)
            if runtime.ranks.first:
                kept.save(found)
        outcome.seconds += found.seconds if found.run == own else context.cost()["seconds"] - outcome.seconds
    if recipe.head.name != "none":
        assert isinstance(model, Subnet)  # the parameters refuse a second stage of two branches
        begin = time.monotonic()
        outcome.head, states = stage(model, tag)
        outcome.seconds += time.monotonic() - begin
        outcome.states += states
    outcome.costs[architecture] = count(model, (info.shape[0], info.shape[1], info.shape[2]))
    outcome.networks[architecture] = {name: value.detach().cpu() for name, value in model.state_dict().items()}


def _new_network(
    view: RetrainView, space: SearchSpace, architecture: Architecture, classes: int, channels: int
) -> tuple[Subnet | BilateralSubnet, dict[str, Any]]:
    """Return a network with seeded weights, and the description of its head."""
    recipe = view.retrain
    torch.manual_seed(derive(view.seed, "retrain", "weights"))
    head = describe_head(recipe.classifier.chosen(recipe.loss), recipe.classifier.scale)
    if recipe.branches == "bilateral":
        return space.build_bilateral(architecture, classes, channels), head
    model = space.build_subnet(architecture, classes, channels)
    if head["name"] != "linear":
        model.head = make_head(head, space.subnet_features, classes)
    return model, head


def _train(
    view: RetrainView,
    context: Context,
    runtime: Runtime,
    space: SearchSpace,
    rows: Rows,
    model: Subnet | BilateralSubnet,
    state: ResumeState,
) -> tuple[list[float], list[ResumeState]]:
    """Train a network in place; `state` is where the training's state lies.

    Returns the loss of each epoch, and the states of earlier trainings.
    """
    recipe, seed = view.retrain, derive(view.seed, "retrain", "rows")
    objective = make_objective(
        recipe.loss,
        recipe.weighting,
        recipe.losses,
        scale=recipe.classifier.scale,
        label_smoothing=recipe.label_smoothing,
        epochs=recipe.epochs,
        counts=rows.counts,
        device=runtime.device,
    )
    job = Job(
        name="retrain",
        model=model,
        recipe=recipe,
        store=make_store(rows, runtime, context),
        augment=make_augment(rows.split, recipe.augment),
        sampler=make_sampler(recipe.sampler, rows.labels, seed, recipe.epochs),
        objective=objective,
        mix=make_mix(recipe, rows.counts),
        seed=view.seed,
        repeats=repeats(recipe.loss) and not recipe.drop_path,
    )
    if recipe.branches == "bilateral":
        job = _bilateral(job, bilateral_sampler(recipe.sampler, rows.labels, seed, recipe.epochs, recipe.batch_size))
    if isinstance(model, Subnet) and isinstance(space, DartsSpace):
        side = -(-rows.split.info.shape[0] // space.stem_stride)
        trained = with_cells(job, model, recipe, space.derived.specs, side, len(rows.counts))
    else:
        trained = job
    jobs = [(trained, state)]
    if isinstance(model, Subnet) and recipe.pretrain.epochs:
        tag = "-".join(["pretrain", state.path.name.split(".")[1]])
        first = ResumeState(context.state_path, tag, context.state_interval, context.note_cost, runtime.ranks)
        jobs.insert(0, (pretraining(job, model, recipe, space, rows), first))
    losses: list[float] = []
    for one, place in jobs:
        with place.held():
            losses = train(one, runtime, place, context.log) if one.recipe.epochs else []
            if one.recipe.epochs:
                place.pause()
    stop_dropping(model)
    return losses, [place for _, place in jobs[:-1]]


def _bilateral(job: Job, sampler: Sampler) -> Job:
    """Return the training with BBN's pairs of batches, its mixed loss, and the mixing factor as a forward argument."""
    epochs, batch_size = job.recipe.epochs, 2 * job.recipe.batch_size
    per_epoch = len(batches_of(sampler.epoch(0), batch_size))
    return replace(
        job,
        recipe=job.recipe.model_copy(update={"batch_size": batch_size}),
        sampler=sampler,
        objective=cumulative(job.objective, epochs),
        passes=lambda step: [(bbn_alpha(step // per_epoch, epochs),)],
        parts=(2, 1),
    )


def _save(
    view: RetrainView,
    context: Context,
    tail: Rows,
    rows: Rows,
    entries: dict[str, dict[str, Any]],
    outcome: Outcome,
    digests: dict[str, str],
) -> None:
    common = {
        "step": "retrain",
        "space": view.space.model_dump(mode="json"),
        "seed": view.seed,
        "recipe": view.retrain.model_dump(mode="json"),
        "head": outcome.head,
        "branches": 1 if view.retrain.branches == "one" else 2,
        "epoch_rule": "last",
        "digests": digests,
        "counts": tail.counts,
        "trained_counts": rows.counts,
        **image_meta(tail.split),
    }
    described = {
        name: {key: entry[key] for key in ("architecture", "blocks", "macs", "params")}
        for name, entry in entries.items()
    }
    for entry in described.values():
        # The search counts one branch and a linear head; this is what was trained.
        cost = outcome.costs[tuple(entry["architecture"])]
        entry.update(macs=cost.macs, params=cost.params)
    losses = {name: outcome.losses[tuple(entry["architecture"])] for name, entry in described.items()}
    write_losses_by_network(context.path("retrain_losses"), losses)
    references = {name: entry for name, entry in described.items() if name != "chosen"}
    tensors = {
        f"{name}.{key}": value
        for name, entry in references.items()
        for key, value in outcome.networks[tuple(entry["architecture"])].items()
    }
    save_weights(context.path("references"), tensors, {"kind": "references", "networks": references, **common})
    chosen = described["chosen"]
    final = outcome.networks[tuple(chosen["architecture"])]
    save_weights(context.path("final"), final, {"kind": "subnet", **chosen, **common})
