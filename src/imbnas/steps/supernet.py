"""Step `supernet`: train the weight-sharing network on the balanced source."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from imbnas.data.samplers import InstanceSampler
from imbnas.longtail.crossentropy import CrossEntropy
from imbnas.params.supernet import SupernetView
from imbnas.run.context import Context
from imbnas.seeds import derive, stream
from imbnas.spaces.registry import make_space
from imbnas.steps.mixing import make_mix
from imbnas.steps.paths import training_passes
from imbnas.steps.rows import Rows, all_rows, image_meta, make_augment, make_store
from imbnas.training.history import write_losses
from imbnas.training.loop import Job, train
from imbnas.training.runtime import Runtime
from imbnas.training.scoring import Batches, Scorer
from imbnas.training.state import ResumeState
from imbnas.training.weights import save_weights

CALIBRATION_ROWS = 512


def run(view: SupernetView, context: Context) -> None:
    """Write the trained supernet; `epochs: 0` writes its seeded initial weights."""
    runtime = Runtime(view.runtime)
    context.device = runtime.device_name
    rows = all_rows(context, "source_train")
    split = rows.split
    space, recipe = make_space(view.space), view.supernet
    classes, shape = len(split.info.classes), split.info.shape
    torch.manual_seed(derive(view.seed, "supernet", "weights"))
    supernet = space.build_supernet(classes, shape[2])
    state = ResumeState(context.state_path, "supernet", context.state_interval, context.note_cost, runtime.ranks)
    with state.held():
        loss = CrossEntropy(rows.counts, label_smoothing=recipe.label_smoothing)
        job = Job(
            name="supernet",
            model=supernet,
            recipe=recipe,
            store=make_store(rows, runtime, context),
            augment=make_augment(split, recipe.augment),
            sampler=InstanceSampler(rows.labels, derive(view.seed, "supernet", "rows")),
            objective=lambda epoch: loss,
            mix=make_mix(recipe, rows.counts),
            seed=view.seed,
            passes=training_passes(space, recipe.sampling, view.seed, "supernet", shape, classes),
        )
        losses = train(job, runtime, state, context.log) if recipe.epochs else []
        if not runtime.ranks.first:
            return
        probe = _probe(view, context, runtime, supernet, rows)
        context.log(f"balanced accuracy of {recipe.probe_paths} random paths on source validation: {probe:.4f}")
        meta = {
            "kind": "supernet",
            "step": "supernet",
            "space": view.space.model_dump(mode="json"),
            "seed": view.seed,
            "recipe": recipe.model_dump(mode="json"),
            "digests": {"source_train": split.info.digest},
            "probe_balanced_accuracy": probe,
            **image_meta(split),
        }
        write_losses(context.path("supernet_losses"), losses)
        save_weights(context.path("supernet"), supernet.state_dict(), meta)
        state.finish()


def _probe(view: SupernetView, context: Context, runtime: Runtime, supernet: nn.Module, rows: Rows) -> float:
    """Return the mean balanced accuracy of random paths on the source's validation rows.

    It is measured on a copy: calibrating BatchNorm must not leave its traces in the weights that are written.
    """
    space = make_space(view.space)
    rng = stream(view.seed, "supernet", "probe")
    calibration = rows.at(np.sort(rng.permutation(len(rows))[:CALIBRATION_ROWS]))
    validation = all_rows(context, "source_validation")
    scorer = Scorer(
        runtime,
        copy.deepcopy(supernet),
        Batches(make_store(calibration, runtime, context), CALIBRATION_ROWS // 2),
        Batches(make_store(validation, runtime, context), CALIBRATION_ROWS),
        make_augment(rows.split, None),
        len(rows.split.info.classes),
    )
    tallies = [scorer(space.sample(rng)) for _ in range(view.supernet.probe_paths)]
    return round(float(np.mean([tally.balanced_accuracy for tally in tallies])), 6)
