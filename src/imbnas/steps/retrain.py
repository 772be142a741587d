"""Step `retrain`: train the chosen subnet from scratch on the long tail, and two references with the same recipe."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from imbnas.data.samplers import InstanceSampler
from imbnas.errors import UserError
from imbnas.files import read_json
from imbnas.params.retrain import RetrainView
from imbnas.seeds import derive
from imbnas.spaces.chain import Architecture
from imbnas.spaces.registry import make_space
from imbnas.spaces.space import SearchSpace
from imbnas.steps.context import Context
from imbnas.steps.objective import make_objective
from imbnas.steps.rows import Rows, image_meta, make_augment, make_store, read_tail, validation_rows
from imbnas.training.loop import Job, train
from imbnas.training.runtime import Runtime
from imbnas.training.state import ResumeState
from imbnas.training.weights import save_weights


def run(view: RetrainView, context: Context) -> None:
    """Write the final network, and the references beside it."""
    found = read_json(context.path("architecture"), "the output of `imbnas search`")
    space = make_space(view.space)
    entries = _entries(found, space, context, view)
    tail, held_out = read_tail(context)
    rows = _training_rows(view, context, tail, held_out)
    runtime = Runtime(view.runtime)
    context.device = runtime.device_name
    trained: dict[Architecture, dict[str, Tensor]] = {}
    states: list[ResumeState] = []
    for name, entry in entries.items():
        architecture = tuple(entry["architecture"])
        if architecture in trained:
            context.log(f"{name} is the same architecture as an earlier one and is not trained twice")
            continue
        state = ResumeState(
            context.state_path, "-".join(map(str, architecture)), context.state_interval, context.note_cost
        )
        trained[architecture] = _train(view, context, runtime, space, rows, architecture, state)
        states.append(state)
        context.log(f"{name} trained: {'-'.join(map(str, architecture))}")
    digests = {**found.get("digests", {}), "target_train": tail.split.info.digest}
    _save(view, context, tail, rows, entries, trained, digests)
    for state in states:
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


def _train(
    view: RetrainView,
    context: Context,
    runtime: Runtime,
    space: SearchSpace,
    rows: Rows,
    architecture: Architecture,
    state: ResumeState,
) -> dict[str, Tensor]:
    """Train one subnet from seeded weights and return its state on the CPU.

    The state stays on disk until the step's outputs are written, so that a network whose training is over is restored,
    not trained again, when the step is killed during the next one.
    """
    recipe, info = view.retrain, rows.split.info
    torch.manual_seed(derive(view.seed, "retrain", "weights"))
    model = space.build_subnet(architecture, len(info.classes), info.shape[2])
    job = Job(
        name="retrain",
        model=model,
        recipe=recipe,
        store=make_store(rows, runtime, context),
        augment=make_augment(rows.split, recipe.augment),
        sampler=InstanceSampler(rows.labels, derive(view.seed, "retrain", "rows")),
        objective=make_objective(recipe.loss, recipe.weighting, recipe, rows.counts, runtime.device),
        seed=view.seed,
    )
    with state.held():
        if recipe.epochs:
            train(job, runtime, state, context.log)
            state.pause()
    return {name: value.detach().cpu() for name, value in model.state_dict().items()}


def _save(
    view: RetrainView,
    context: Context,
    tail: Rows,
    rows: Rows,
    entries: dict[str, dict[str, Any]],
    trained: dict[Architecture, dict[str, Tensor]],
    digests: dict[str, str],
) -> None:
    common = {
        "step": "retrain",
        "space": view.space.model_dump(mode="json"),
        "seed": view.seed,
        "recipe": view.retrain.model_dump(mode="json"),
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
    references = {name: entry for name, entry in described.items() if name != "chosen"}
    tensors = {
        f"{name}.{key}": value
        for name, entry in references.items()
        for key, value in trained[tuple(entry["architecture"])].items()
    }
    save_weights(context.path("references"), tensors, {"kind": "references", "networks": references, **common})
    chosen = described["chosen"]
    save_weights(context.path("final"), trained[tuple(chosen["architecture"])], {"kind": "subnet", **chosen, **common})
