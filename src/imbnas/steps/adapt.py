"""Step `adapt`: carry the supernet over to the long-tailed target.

IMB-NAS (Duggal et al. 2022, arXiv 2210.00136) freezes the backbone that was trained on balanced data and retrains the
linear head with a re-weighted loss; the other strategies are what it is compared with.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from imbnas.data.samplers import InstanceSampler
from imbnas.errors import UserError
from imbnas.params.adapt import AdaptView
from imbnas.params.recipe import RecipeParams
from imbnas.seeds import derive
from imbnas.spaces.chain import Supernet, init_head
from imbnas.spaces.registry import make_space
from imbnas.spaces.space import SearchSpace
from imbnas.steps.context import Context
from imbnas.steps.objective import make_objective
from imbnas.steps.paths import training_passes
from imbnas.steps.rows import Rows, image_meta, make_augment, make_store, read_tail
from imbnas.training.batchnorm import batchnorms
from imbnas.training.loop import Job, train
from imbnas.training.runtime import Runtime
from imbnas.training.state import ResumeState
from imbnas.training.weights import load_weights, save_weights


class FrozenBackbone(nn.Module):
    """A supernet of which only the head learns.

    Features are computed without gradient and normalised by each batch's own statistics; no parameter of the backbone
    and no BatchNorm buffer changes.
    """

    def __init__(self, supernet: Supernet) -> None:
        """Freeze everything in `supernet` but its head."""
        super().__init__()
        self.supernet = supernet
        supernet.requires_grad_(False)
        supernet.head.requires_grad_(True)
        for layer in batchnorms(supernet):
            layer.track_running_stats = False

    def forward(self, images: Tensor, architecture: tuple[int, ...]) -> Tensor:
        """Return the logits (N, classes) of one path for normalised images (N, C, H, W)."""
        with torch.no_grad():
            features = self.supernet.features(images, architecture)
        logits: Tensor = self.supernet.head(features)
        return logits


def run(view: AdaptView, context: Context) -> None:
    """Write the adapted supernet."""
    runtime = Runtime(view.runtime)
    context.device = runtime.device_name
    tail, _ = read_tail(context)
    space = make_space(view.space)
    state_dict, source = load_weights(context.path("supernet"), "supernet")
    if source["space"] != view.space.model_dump(mode="json"):
        raise UserError(f"{context.path('supernet')}: trained in another space than `space` describes, run supernet")
    supernet = _start(view, context, space, tail, state_dict, source)
    strategy = view.adapt.strategy
    state = ResumeState(context.state_path, "adapt", context.state_interval, context.note_cost)
    with state.held():
        if strategy != "none":
            model: nn.Module = FrozenBackbone(supernet) if strategy == "head" else supernet
            recipe: RecipeParams = getattr(view.adapt, strategy)
            if recipe.epochs:
                train(_job(view, context, runtime, tail, space, model, recipe), runtime, state, context.log)
        save_weights(context.path("adapted"), supernet.state_dict(), _meta(view, tail, source))
        state.finish()


def _start(
    view: AdaptView,
    context: Context,
    space: SearchSpace,
    tail: Rows,
    state_dict: dict[str, Tensor],
    source: dict[str, Any],
) -> Supernet:
    """Return the supernet as the strategy starts from it: old or new weights, old or new head."""
    info = tail.split.info
    same_classes = source["classes"] == list(info.classes)
    if source["shape"] != list(info.shape):
        raise UserError(
            f"{context.path('supernet')}: made for images of {source['shape']}, expected {list(info.shape)}; run source"
        )
    strategy = view.adapt.strategy
    if strategy == "none" and not same_classes:
        raise UserError(
            f"adapt.strategy: none keeps the source's head, whose {len(source['classes'])} classes "
            f"({source['dataset']}) are not the target's {len(info.classes)} ({info.dataset}); "
            "expected head, finetune or scratch"
        )
    torch.manual_seed(derive(view.seed, "adapt", "weights"))
    supernet = space.build_supernet(len(info.classes), info.shape[2])
    if strategy == "scratch":
        return supernet
    keep_head = strategy == "none" or (strategy == "finetune" and same_classes)
    kept = {name: value for name, value in state_dict.items() if keep_head or not name.startswith("head.")}
    missing, unexpected = supernet.load_state_dict(kept, strict=False)
    if unexpected or any(not name.startswith("head.") for name in missing):
        raise UserError(f"{context.path('supernet')}: its weights do not fit the space, expected those of `supernet`")
    if not keep_head:
        init_head(supernet.head)
    return supernet


def _job(
    view: AdaptView,
    context: Context,
    runtime: Runtime,
    tail: Rows,
    space: SearchSpace,
    model: nn.Module,
    recipe: RecipeParams,
) -> Job:
    adapt, info = view.adapt, tail.split.info
    return Job(
        name="adapt",
        model=model,
        recipe=recipe,
        store=make_store(tail, runtime, context),
        augment=make_augment(tail.split, recipe.augment),
        sampler=InstanceSampler(tail.labels, derive(view.seed, "adapt", "rows")),
        objective=make_objective(adapt.loss, adapt.weighting, recipe, tail.counts, runtime.device),
        seed=view.seed,
        passes=training_passes(space, adapt.sampling, view.seed, "adapt", info.shape, len(info.classes)),
    )


def _meta(view: AdaptView, tail: Rows, source: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "supernet",
        "step": "adapt",
        "space": view.space.model_dump(mode="json"),
        "seed": view.seed,
        "recipe": view.adapt.model_dump(mode="json"),
        "digests": {**source["digests"], "target_train": tail.split.info.digest},
        "counts": tail.counts,
        **image_meta(tail.split),
    }
