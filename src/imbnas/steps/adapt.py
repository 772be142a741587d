"""Step `adapt`: carry the supernet over to the long-tailed target.

IMB-NAS (Duggal et al. 2022, arXiv 2210.00136) freezes the backbone that was trained on balanced data and retrains the
linear head with a re-weighted loss; the other strategies are what it is compared with.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from imbnas.errors import UserError
from imbnas.longtail.heads import make_head
from imbnas.params.adapt import AdaptView
from imbnas.params.recipe import RecipeParams
from imbnas.run.context import Context
from imbnas.seeds import derive
from imbnas.spaces.chain import Supernet, init_head
from imbnas.spaces.registry import make_space
from imbnas.spaces.space import SearchSpace
from imbnas.steps.adapt_head import new_head
from imbnas.steps.mixing import make_mix
from imbnas.steps.objective import describe_head, make_objective, make_sampler
from imbnas.steps.paths import training_passes
from imbnas.steps.rows import Rows, image_meta, make_augment, make_store, read_tail
from imbnas.steps.supernets import read_supernet
from imbnas.training.loop import Job, train
from imbnas.training.runtime import Runtime
from imbnas.training.state import ResumeState
from imbnas.training.weights import save_weights


def run(view: AdaptView, context: Context) -> None:
    """Write the adapted supernet."""
    runtime = Runtime(view.runtime)
    context.device = runtime.device_name
    tail, held_out = read_tail(context)
    space = make_space(view.space)
    state_dict, source = read_supernet(context.path("supernet"), view.space, "supernet")
    supernet, head = _start(view, context, space, tail, state_dict, source)
    states: list[ResumeState] = []
    if view.adapt.strategy == "head":
        head, states = new_head(view, context, runtime, space, supernet, tail, held_out)
    elif view.adapt.strategy != "none":
        states = [_train(view, context, runtime, space, supernet, tail)]
    if not runtime.ranks.first:
        return
    save_weights(context.path("adapted"), supernet.state_dict(), _meta(view, tail, source, head))
    for state in states:
        state.finish()


def _start(
    view: AdaptView,
    context: Context,
    space: SearchSpace,
    tail: Rows,
    state_dict: dict[str, Tensor],
    source: dict[str, Any],
) -> tuple[Supernet, dict[str, Any]]:
    """Return the supernet as the strategy starts from it, old or new weights, old or new head; and the head's kind."""
    info = tail.split.info
    same_classes = source["classes"] == list(info.classes)
    if source["shape"] != list(info.shape):
        raise UserError(
            f"{context.path('supernet')}: made for images of {source['shape']}, expected {list(info.shape)}; run source"
        )
    adapt, strategy = view.adapt, view.adapt.strategy
    if strategy == "none" and not same_classes:
        raise UserError(
            f"adapt.strategy: none keeps the source's head, whose {len(source['classes'])} classes "
            f"({source['dataset']}) are not the target's {len(info.classes)} ({info.dataset}); "
            "expected head, finetune or scratch"
        )
    torch.manual_seed(derive(view.seed, "adapt", "weights"))
    supernet = space.build_supernet(len(info.classes), info.shape[2])
    kind = adapt.classifier.chosen(adapt.loss) if strategy in ("finetune", "scratch") else "linear"
    head = describe_head(kind, adapt.classifier.scale)
    keep_head = strategy == "none" or (strategy == "finetune" and same_classes and kind == "linear")
    if strategy != "scratch":
        _fill(context, supernet, state_dict, keep_head)
    if kind != "linear":
        supernet.head = make_head(head, space.num_features, len(info.classes))
    elif not keep_head and strategy != "scratch":
        init_head(supernet.head)
    return supernet, head


def _fill(context: Context, supernet: Supernet, state_dict: dict[str, Tensor], keep_head: bool) -> None:
    """Give the supernet the source's weights, the head's too where it is kept."""
    kept = {name: value for name, value in state_dict.items() if keep_head or not name.startswith("head.")}
    missing, unexpected = supernet.load_state_dict(kept, strict=False)
    if unexpected or any(keep_head or not name.startswith("head.") for name in missing):
        raise UserError(f"{context.path('supernet')}: its weights do not fit the space, expected those of `supernet`")


def _train(
    view: AdaptView, context: Context, runtime: Runtime, space: SearchSpace, supernet: Supernet, tail: Rows
) -> ResumeState:
    """Train the whole supernet on the long tail and return the training's state."""
    adapt, info = view.adapt, tail.split.info
    recipe: RecipeParams = getattr(adapt, adapt.strategy)
    job = Job(
        name="adapt",
        model=supernet,
        recipe=recipe,
        store=make_store(tail, runtime, context),
        augment=make_augment(tail.split, recipe.augment),
        sampler=make_sampler(adapt.sampler, tail.labels, derive(view.seed, "adapt", "rows"), recipe.epochs),
        objective=make_objective(
            adapt.loss,
            adapt.weighting,
            adapt.losses,
            scale=adapt.classifier.scale,
            label_smoothing=recipe.label_smoothing,
            epochs=recipe.epochs,
            counts=tail.counts,
            device=runtime.device,
        ),
        mix=make_mix(recipe, tail.counts),
        seed=view.seed,
        passes=training_passes(space, adapt.sampling, view.seed, "adapt", info.shape, len(info.classes)),
    )
    state = ResumeState(context.state_path, "adapt", context.state_interval, context.note_cost, runtime.ranks)
    with state.held():
        if recipe.epochs:
            train(job, runtime, state, context.log)
            state.pause()
    return state


def _meta(view: AdaptView, tail: Rows, source: dict[str, Any], head: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "supernet",
        "step": "adapt",
        "space": view.space.model_dump(mode="json"),
        "seed": view.seed,
        "recipe": view.adapt.model_dump(mode="json"),
        "head": head,
        "digests": {**source["digests"], "target_train": tail.split.info.digest},
        "counts": tail.counts,
        **image_meta(tail.split),
    }
