"""Step `supernet`: train the weight-sharing network on the balanced source."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from imbnas.data.order import InstanceSampler
from imbnas.longtail.crossentropy import CrossEntropy
from imbnas.params.supernet import SupernetView
from imbnas.run.context import Context
from imbnas.seeds import derive, stream
from imbnas.spaces.permuted import PermutedPasses
from imbnas.spaces.registry import make_space
from imbnas.steps.reused_supernet import take_over
from imbnas.steps.rows import all_rows, image_meta
from imbnas.steps.workbench import TrainingStep
from imbnas.training.checkpoint import save_weights
from imbnas.training.definition import Training
from imbnas.training.distillation import in_place
from imbnas.training.history import write_losses
from imbnas.training.scoring import Batches, Scorer

CALIBRATION_ROWS = 512


def run(view: SupernetView, context: Context) -> None:
    """Write the trained supernet, or that of another project; `epochs: 0` writes its seeded initial weights."""
    if view.supernet.reuse is not None:
        take_over(view, context)
        return
    rows = all_rows(context, "source_train")
    step = TrainingStep.start(context, view.runtime, make_space(view.space), rows, view.seed)
    recipe = view.supernet
    torch.manual_seed(derive(view.seed, "supernet", "weights"))
    supernet = step.space.build_supernet(step.classes, step.shape[2])
    loss = CrossEntropy(rows.counts, label_smoothing=recipe.label_smoothing)
    training = Training(
        name="supernet",
        model=supernet,
        recipe=recipe,
        store=step.store(),
        augment=step.augment(recipe.augment),
        sampler=InstanceSampler(rows.labels, derive(view.seed, "supernet", "rows")),
        objective=in_place(lambda epoch: loss) if recipe.inplace_distillation else lambda epoch: loss,
        mix=step.mix(recipe),
        seed=view.seed,
        passes=_passes(step, recipe.sampling),
        first_pass_teaches=recipe.inplace_distillation,
        together=PermutedPasses(step.space) if recipe.passes == "together" else None,
        capturable=recipe.passes == "together",
    )
    state = step.state("supernet")
    losses = step.trainer(training, state).fit()
    if not step.runtime.ranks.first:
        return
    probe = _probe(step, supernet, recipe.probe_paths)
    context.log(f"balanced accuracy of {_probed(step, recipe.probe_paths)} on source validation: {probe:.4f}")
    meta = {
        "kind": "supernet",
        "step": "supernet",
        "space": view.space.described,
        "seed": view.seed,
        "recipe": recipe.described,
        "digests": {"source_train": rows.split.info.digest},
        "probe_balanced_accuracy": probe,
        **image_meta(rows.split),
    }
    write_losses(context.path("supernet_losses"), losses)
    save_weights(context.path("supernet"), supernet.state_dict(), meta)
    state.finish()


def _passes(step: TrainingStep, sampling: str) -> Callable[[int], Sequence[tuple[Any, ...]]]:
    """Return the paths of each optimiser step; one and the same where all but a backbone is for the target alone."""
    alone = step.space.source_path
    return step.passes(sampling, "supernet") if alone is None else lambda number: [(alone,)]


def _probed(step: TrainingStep, paths: int) -> str:
    return f"{paths} random paths" if step.space.source_path is None else "the backbone"


def _probe(step: TrainingStep, supernet: nn.Module, paths: int) -> float:
    """Return the mean balanced accuracy of random paths, or of the backbone, on the source's validation rows.

    It is measured on a copy: calibrating BatchNorm must not leave its traces in the weights that are written.
    """
    rng = stream(step.seed, "supernet", "probe")
    calibration = step.rows.at(np.sort(rng.permutation(len(step.rows))[:CALIBRATION_ROWS]))
    scorer = Scorer(
        step.runtime,
        copy.deepcopy(supernet),
        Batches(step.store(calibration), CALIBRATION_ROWS // 2),
        Batches(step.store(all_rows(step.context, "source_validation")), CALIBRATION_ROWS),
        step.augment(None),
        step.classes,
    )
    alone = step.space.source_path
    probed = [step.space.sample(rng) for _ in range(paths)] if alone is None else [alone]
    tallies = [scorer(path) for path in probed]
    return round(float(np.mean([tally.balanced_accuracy for tally in tallies])), 6)
