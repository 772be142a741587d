"""Options that a parameter file sets and that have no effect beside the others that it sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from imbnas.params.config import Params, defaults
from imbnas.params.shifting_options import ShiftingParams
from imbnas.params.space_options import FIXED_SIZES

Rule = tuple[tuple[str, ...], Callable[[Params], bool], str]
TRAINED = {"head", "finetune", "scratch"}
TRAINING = (
    "epochs",
    "batch_size",
    "optimizer",
    "schedule",
    "augment",
    "mixing",
    "label_smoothing",
    "inplace_distillation",
    "probe_paths",
)
"""Of `supernet`: what trains it."""


def _searches(*methods: str) -> Callable[[Params], bool]:
    return lambda params: params.search.method in methods


def _adapts(strategy: str) -> Callable[[Params], bool]:
    return lambda params: params.adapt.strategy == strategy


def _is_space(name: str) -> Callable[[Params], bool]:
    return lambda params: params.space.name == name


RULES: tuple[Rule, ...] = (
    (
        ("source", *(f"supernet.{name}" for name in TRAINING)),
        lambda params: params.supernet.reuse is None,
        "supernet.reuse takes a trained supernet",
    ),
    (
        ("search.table_column", "search.table_condition", "search.table_device", "search.table_precision"),
        lambda params: params.search.table is not None,
        "search.table is null",
    ),
    (("search.darts",), _searches("darts"), "search.method is another than darts"),
    (("search.population", "search.generations"), _searches("evolution", "nsga2"), "search.method has no generations"),
    (("search.parents", "search.mutation"), _searches("evolution"), "search.method is another than evolution"),
    (
        ("search.candidates",),
        _searches("random", "tpe", "synflow", "jacobian"),
        "search.method is another than random, tpe, synflow and jacobian",
    ),
    (
        tuple(f"search.shifting.{name}" for name in ShiftingParams.model_fields if name != "updates"),
        lambda params: bool(params.search.shifting.updates),
        "search.shifting.updates is 0",
    ),
    (
        ("search.objective", "search.fold_batchnorm"),
        lambda params: params.search.judged,
        "no validation rows score candidates",
    ),
    (
        ("search.darts.share",),
        lambda params: params.search.darts.optimization == "bilevel" or params.search.method != "darts",
        "search.darts.optimization is one-level, where all rows teach both",
    ),
    (
        ("retrain.distill.weight", "retrain.distill.temperature"),
        lambda params: params.retrain.distilled,
        "retrain.distill.teacher is none",
    ),
    (("retrain.finetune",), lambda params: params.retrain.init == "handed", "retrain.init is scratch"),
    *(((f"adapt.{name}",), _adapts(name), f"adapt.strategy is another than {name}") for name in sorted(TRAINED)),
    (("adapt.feature_cache",), _adapts("head"), "adapt.strategy is another than head"),
    *(
        ((f"space.{name}",), _is_space(name), f"space.name is another than {name}")
        for name in ("shufflenet", "mobile", "nasbench201", "darts")
    ),
    (("space.ofa",), _is_space("ofa-mobilenetv3"), "space.name is another than ofa-mobilenetv3"),
    (("space.torchvision",), _is_space("torchvision"), "space.name is another than torchvision"),
    (
        ("space.stem", "space.stages", "space.last_channels"),
        lambda params: params.space.name not in FIXED_SIZES,
        "space.name is ofa-mobilenetv3 or torchvision, whose sizes are given",
    ),
    (
        ("imbalance.ratio",),
        lambda params: params.imbalance.profile not in ("natural", "counts"),
        "imbalance.profile says how many rows each class has",
    ),
    (
        ("target.validation.per_class",),
        lambda params: params.target.validation.from_ == "reserve",
        "target.validation.from is another than reserve",
    ),
    (
        ("target.validation.fraction",),
        lambda params: params.target.validation.from_ == "longtail",
        "target.validation.from is another than longtail",
    ),
)
"""Names of options or of sections, whether they act, and why they do not."""


def idle(params: Params) -> list[str]:
    """Return a line for each option, or section of options, that differs from its default and that nothing reads.

    Files that name every parameter, as `imbnas init --full` writes them, hold defaults of what does not act.
    """
    tree, plain = params.tree(), defaults()
    return [
        f"{name} has no effect: {why}"
        for names, acts, why in RULES
        if not acts(params)
        for name in names
        if _at(tree, name) != _at(plain, name)
    ]


def _at(tree: Mapping[str, Any], name: str) -> Any:
    found: Any = tree
    for part in name.split("."):
        found = found[part]
    return found
