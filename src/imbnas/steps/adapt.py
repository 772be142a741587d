"""Step `adapt`: carry the supernet over to the long-tailed target.

IMB-NAS (Duggal et al. 2022, arXiv 2210.00136) freezes the backbone that was trained on balanced data and retrains the
linear head with a re-weighted loss; the other strategies are what it is compared with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imbnas.errors import UserError
from imbnas.longtail.heads import make_head
from imbnas.params.adapt import AdaptParams, AdaptView
from imbnas.params.recipe import RecipeParams
from imbnas.run.context import Context
from imbnas.seeds import derive
from imbnas.spaces.implanted import hold_backbone
from imbnas.spaces.networks import Supernet, init_head
from imbnas.spaces.registry import make_space
from imbnas.steps.adapt_head import AdaptHead
from imbnas.steps.head_stages import HEAD_STAGES
from imbnas.steps.objective import describe_head, make_objective, make_sampler
from imbnas.steps.rows import Rows, image_meta, read_tail
from imbnas.steps.supernets import read_supernet
from imbnas.steps.workbench import TrainingStep
from imbnas.training.checkpoint import save_weights
from imbnas.training.definition import Training
from imbnas.training.distillation import in_place
from imbnas.training.state import ResumeState
from imbnas.training.turns import finished


def run(view: AdaptView, context: Context) -> None:
    """Write the adapted supernet."""
    tail, held_out = read_tail(context)
    step = TrainingStep.start(context, view.runtime, make_space(view.space), tail, view.seed)
    state_dict, source = read_supernet(context.path("supernet"), view.space, "supernet")
    supernet, head = _start(step, view.adapt, state_dict, source)
    states: list[ResumeState] = []
    if view.adapt.strategy == "head":
        stage = AdaptHead(step, view, supernet, held_out)
        head, states = finished(HEAD_STAGES[view.adapt.head.name](stage)), stage.states
    elif view.adapt.strategy != "none":
        states = [_train(step, view.adapt, supernet)]
    if not step.runtime.ranks.first:
        return
    save_weights(context.path("adapted"), supernet.state_dict(), _meta(view, tail, source, head))
    for state in states:
        state.finish()


def _start(
    step: TrainingStep, adapt: AdaptParams, state_dict: dict[str, Tensor], source: dict[str, Any]
) -> tuple[Supernet, dict[str, Any]]:
    """Return the supernet as the strategy starts from it, old or new weights, old or new head; and the head's kind."""
    info, path, strategy = step.rows.split.info, step.context.path("supernet"), adapt.strategy
    same_classes = source["classes"] == list(info.classes)
    # A supernet of another project was held against the parameters: it may take images of any size.
    if source["shape"] != list(info.shape) and "reused" not in source:
        raise UserError(f"{path}: made for images of {source['shape']}, expected {list(info.shape)}; run source")
    if strategy == "none" and not same_classes:
        raise UserError(
            f"adapt.strategy: none keeps the source's head, whose {len(source['classes'])} classes "
            f"({source['dataset']}) are not the target's {len(info.classes)} ({info.dataset}); "
            "expected head, finetune or scratch"
        )
    torch.manual_seed(derive(step.seed, "adapt", "weights"))
    supernet = step.space.build_supernet(step.classes, step.shape[2])
    kind = adapt.classifier.chosen(adapt.loss) if strategy in ("finetune", "scratch", "implant") else "linear"
    head = describe_head(kind, adapt.classifier.scale)
    keep_head = strategy == "none" or (strategy in ("finetune", "implant") and same_classes and kind == "linear")
    if strategy != "scratch":
        _fill(path, supernet, state_dict, keep_head)
    if kind != "linear":
        supernet.head = make_head(head, step.space.num_features, step.classes)
    elif not keep_head and strategy != "scratch":
        init_head(supernet.head)
    if strategy == "implant":
        hold_backbone(supernet)
    return supernet, head


def _fill(path: Path, supernet: Supernet, state_dict: dict[str, Tensor], keep_head: bool) -> None:
    """Give the supernet the source's weights, the head's too where it is kept."""
    kept = {name: value for name, value in state_dict.items() if keep_head or not name.startswith("head.")}
    missing, unexpected = supernet.load_state_dict(kept, strict=False)
    if unexpected or any(keep_head or not name.startswith("head.") for name in missing):
        raise UserError(f"{path}: its weights do not fit the space, expected those of `supernet`")


def _train(step: TrainingStep, adapt: AdaptParams, supernet: Supernet) -> ResumeState:
    """Train the supernet, or what of it is not held, on the long tail and return the training's state."""
    recipe: RecipeParams = getattr(adapt, adapt.strategy)
    objective = make_objective(adapt, recipe, step.rows.counts, step.runtime.device)
    training = Training(
        name="adapt",
        model=supernet,
        recipe=recipe,
        store=step.store(),
        augment=step.augment(recipe.augment),
        sampler=make_sampler(adapt.sampler, step.rows.labels, derive(step.seed, "adapt", "rows"), recipe.epochs),
        objective=in_place(objective) if adapt.inplace_distillation else objective,
        mix=step.mix(recipe),
        seed=step.seed,
        passes=step.passes(adapt.sampling, "adapt"),
        first_pass_teaches=adapt.inplace_distillation,
    )
    state = step.state("adapt")
    step.trainer(training, state).fit()
    return state


def _meta(view: AdaptView, tail: Rows, source: dict[str, Any], head: dict[str, Any]) -> dict[str, Any]:
    reused = {"reused": source["reused"]} if "reused" in source and view.adapt.strategy != "scratch" else {}
    return {
        "kind": "supernet",
        "step": "adapt",
        "space": view.space.described,
        "seed": view.seed,
        "recipe": view.adapt.described,
        "source": _source(view.adapt, source),
        "head": head,
        "digests": {**source["digests"], "target_train": tail.split.info.digest},
        "counts": tail.counts,
        **reused,
        **image_meta(tail.split),
    }


def _source(adapt: AdaptParams, source: dict[str, Any]) -> dict[str, Any] | None:
    """Return the dataset and the classes on which the weights were trained first, None where they were on none."""
    if adapt.strategy == "scratch" or source["recipe"]["epochs"] == 0:
        return None
    return {"dataset": source["dataset"], "classes": source["classes"]}
