"""Checks across sections: contradictory parameters are refused before anything runs."""

from __future__ import annotations

from collections.abc import Iterator

from imbnas.cell_graph import is_connected
from imbnas.params.adapt import AdaptParams
from imbnas.params.dataset import OWN_DATASETS, PATH_DATASETS, DatasetName
from imbnas.params.differentiable import FROZEN, idle_option
from imbnas.params.evaluate import EvaluateParams
from imbnas.params.longtail import ANGULAR, prior_corrected
from imbnas.params.recipe import AugmentParams
from imbnas.params.retrain import UNTRAINED, RetrainParams
from imbnas.params.search import PROXY_METHODS, SearchParams
from imbnas.params.shared import Numerics
from imbnas.params.source import SourceParams
from imbnas.params.space_options import SpaceParams
from imbnas.params.supernet import SupernetParams
from imbnas.params.target import TargetParams


def check_source(source: SourceParams, target: TargetParams, supernet: SupernetParams) -> None:
    """Raise ValueError where a supernet for one's own images would be trained on digits, blown up from 8 x 8 pixels."""
    if source.dataset == "digits" and target.dataset in OWN_DATASETS and supernet.epochs:
        train = f" (and splits.train: {target.splits.train})" if target.splits.train is not None else ""
        raise ValueError(
            f"source.dataset is digits with target.dataset {target.dataset} and supernet.epochs {supernet.epochs}, "
            f"expected images like the target's: source.dataset: {target.dataset} with source.root: {target.root}"
            f"{train} takes source.share of the target's own, another dataset takes none of them, and "
            "supernet.epochs: 0 trains nothing on the source"
        )


def check_space(space: SpaceParams, supernet: str, adapt: AdaptParams, search: SearchParams) -> None:
    """Raise ValueError where the sampling of paths or the search does not fit the space."""
    for section, sampling in (("supernet", supernet), ("adapt", adapt.sampling)):
        if (space.name, sampling) == ("darts", "fair"):
            raise ValueError(
                f"{section}.sampling is fair in the space darts, expected mixture, uniform or sandwich: a node has "
                "hundreds of choices"
            )
        if sampling == "mixture" and space.name != "darts":
            raise ValueError(
                f"{section}.sampling is mixture in the space {space.name}, expected uniform, fair or sandwich"
            )
    if space.name == "implant":
        _check_implant(supernet, adapt.strategy, search)
    elif adapt.strategy == "implant":
        raise ValueError(
            f"adapt.strategy is implant in the space {space.name}, expected head, finetune, scratch or none, or the "
            "space implant"
        )
    if space.single:
        _check_single(space, search)
    if search.method == "darts":
        _check_darts_space(space, search)
        _check_darts_start(adapt, search)
    if search.method == "fixed":
        _check_architecture(space, search)
    cached = adapt.feature_cache.paths if adapt.strategy == "head" else 0
    width = max(space.choices) if adapt.sampling == "fair" else 1
    if cached % width:
        raise ValueError(
            f"adapt.feature_cache.paths is {cached}, expected a multiple of {width}, the paths of one step with "
            "adapt.sampling fair"
        )


def _check_implant(sampling: str, strategy: str, search: SearchParams) -> None:
    """Refuse what would not see the implants, or would train them where the backbone alone is trained."""
    if sampling == "sandwich":
        raise ValueError(
            "supernet.sampling is sandwich in the space implant, expected fair or uniform: the source trains one path, "
            "the backbone without implants"
        )
    if search.latency is not None:
        raise ValueError(
            f"search.latency is {search.latency} in the space implant, expected null: its costs are of whole stages"
        )
    if search.method in PROXY_METHODS:
        raise ValueError(
            f"search.method is {search.method} in the space implant, expected another one: implants begin at zero, so "
            "that all networks score alike before training"
        )
    if search.judged and strategy in FROZEN:
        raise ValueError(
            f"search.method is {search.method} with adapt.strategy {strategy} in the space implant, expected the "
            "strategy implant, finetune or scratch, or the method fixed, macs or params: untrained implants are zero, "
            "so that all paths score alike"
        )


def _check_single(space: SpaceParams, search: SearchParams) -> None:
    """Refuse a limit that only a smaller architecture would meet: otherwise `search` would, hours later."""
    limits = {name: getattr(search, name) for name in ("max_macs", "max_params", "max_latency", "max_energy")}
    for name, limit in limits.items():
        if isinstance(limit, str) and float(limit.removesuffix("x")) < 1.0:
            raise ValueError(
                f"search.{name} is {limit} in a space ({space.name}) with one architecture, expected null, a number or "
                "1x"
            )


def _check_darts_space(space: SpaceParams, search: SearchParams) -> None:
    if space.name not in ("darts", "nasbench201"):
        raise ValueError(f"search.method is darts in the space {space.name}, expected the space darts or nasbench201")
    options = search.darts
    needs_cells = {
        "search.darts.edge_weights": options.edge_weights,
        "search.darts.collapse.skip": options.collapse.skip != "none",
    }
    for name, wanted in needs_cells.items():
        if wanted and space.name != "darts":
            raise ValueError(f"{name} is set in the space {space.name}, expected the space darts")
    if options.outcome == "mixture" and space.name != "nasbench201":
        raise ValueError(
            f"search.darts.outcome is mixture in the space {space.name}, expected cell, or the space nasbench201: its "
            "search network has the final network's size"
        )
    if options.branches == "bilateral" and space.name == "darts" and space.darts.layers < 4:
        raise ValueError(
            f"space.darts.layers is {space.darts.layers} with search.darts.branches bilateral, expected at least "
            "4: the last cell must be a normal one"
        )


def check_precision(numerics: Numerics, search: SearchParams) -> None:
    """Raise ValueError where rounded passes would drown the small differences of a zeroth-order gradient."""
    if search.method == "darts" and search.darts.order == "zeroth" and numerics.precision != "fp32":
        raise ValueError(
            f"runtime.precision is {numerics.precision} with search.darts.order zeroth, expected fp32: it divides "
            "small differences of weights"
        )


def _check_darts_start(adapt: AdaptParams, search: SearchParams) -> None:
    """Refuse options that need weights to learn if the adaptation froze them, and margins without a cosine head."""
    options, idle = search.darts, idle_option(search.darts, adapt.strategy)
    if idle:
        raise ValueError(idle)
    classifier = {"none": "linear", "head": adapt.head.name}.get(adapt.strategy, adapt.classifier.chosen(adapt.loss))
    if options.on_cosines and classifier not in ANGULAR:
        name = "adapt.head.name" if adapt.strategy == "head" else "adapt.classifier.name"
        raise ValueError(
            f"search.darts.{options.on_cosines} on a head that is {classifier} ({name}, with adapt.strategy "
            f"{adapt.strategy}), expected a cosine one: its margins are on cosines"
        )


def _check_architecture(space: SpaceParams, search: SearchParams) -> None:
    given, counts = search.architecture, space.choices
    if given is None:
        if not space.single:
            raise ValueError(
                f"search.method is fixed and search.architecture is null, expected its choices, one per block, because "
                f"the space {space.name} has more than one architecture"
            )
        return
    if len(given) != len(counts):
        raise ValueError(f"search.architecture has {len(given)} choices, expected {len(counts)}, one per block")
    for number, (choice, count) in enumerate(zip(given, counts, strict=True), 1):
        if choice >= count:
            raise ValueError(f"search.architecture: choice {number} is {choice}, expected at most {count - 1}")
    if space.name == "nasbench201" and not is_connected(given):
        raise ValueError(
            f"search.architecture is {'-'.join(map(str, given))}, a cell without a way from its input to its output, "
            "expected a connected one"
        )


def check_cells(space: SpaceParams, retrain: RetrainParams) -> None:
    """Raise ValueError where the final training has options of derived networks and the space is another one."""
    for name in ("auxiliary", "drop_path"):
        value = getattr(retrain, name)
        if value and space.name != "darts":
            raise ValueError(f"retrain.{name} is {value} in the space {space.name}, expected 0, or the space darts")


def check_frozen(space: SpaceParams, adapt: AdaptParams, retrain: RetrainParams) -> None:
    """Raise ValueError where the final training is to keep a backbone that is none, or that no path alone has."""
    if not retrain.frozen:
        return
    if space.name != "implant":
        raise ValueError(
            f"retrain.finetune.backbone is frozen in the space {space.name}, expected trained, or the space implant"
        )
    if adapt.strategy in ("finetune", "scratch"):
        raise ValueError(
            f"retrain.finetune.backbone is frozen with adapt.strategy {adapt.strategy}, expected trained, or the "
            "strategy implant, head or none: the statistics of a backbone that was trained with its implants are no "
            "single network's"
        )


def check_inheritance(
    space: SpaceParams, supernet: SupernetParams, adapt: AdaptParams, search: SearchParams, retrain: RetrainParams
) -> None:
    """Raise ValueError where the final training is to inherit weights that nobody trains, or that fit no subnet."""
    single_stage = search.method == "darts" and search.darts.outcome == "mixture"
    if single_stage and (wrong := retrain.beside_mixture()):
        raise ValueError(f"retrain.{wrong} with search.darts.outcome mixture{UNTRAINED}")
    if retrain.init != "handed":
        return
    if space.name == "darts":
        raise ValueError(
            "retrain.init is handed in the space darts, expected scratch: a derived network has another size, and "
            "other normalisation, than the search network"
        )
    descends = search.method == "darts"
    if descends and search.darts.objective != "labels":
        raise ValueError(
            f"retrain.init is handed with search.darts.objective {search.darts.objective}, expected scratch, or the "
            "objective labels, with which a classifier is trained"
        )
    if descends and search.darts.branches == "bilateral":
        raise ValueError(
            "retrain.init is handed with search.darts.branches bilateral, expected scratch, or one branch: the "
            "classifier of two branches fits no subnet"
        )
    own = getattr(adapt, adapt.strategy).epochs if adapt.strategy in ("finetune", "scratch", "implant") else 0
    searched = search.darts.epochs if descends and adapt.strategy not in FROZEN else 0
    before = supernet.epochs if adapt.strategy != "scratch" else 0
    if not (before or own or searched):
        raise ValueError(
            f"retrain.init is handed with supernet.epochs {supernet.epochs} and adapt.strategy {adapt.strategy}, "
            "expected scratch, or a supernet that is trained: there are first weights alone to hand on"
        )


def check_corrections(search: SearchParams, retrain: RetrainParams, evaluate: EvaluateParams) -> None:
    """Raise ValueError where a training has corrected the classes' shares that `evaluate`, or a head, is to correct.

    The training of a mixture is the search's own, whatever `retrain` says of one.
    """
    options, head, corrected = search.darts, retrain.head, f"retrain.{retrain.prior_corrected()}"
    if search.method == "darts" and options.outcome == "mixture":
        searched = prior_corrected(options.loss, options.weighting, options.sampler)
        if head.entry.prior and searched:
            raise ValueError(
                f"retrain.head.name is {head.name} with search.darts.{searched}, expected a search with plain "
                "cross-entropy: both together correct the class frequencies twice"
            )
        corrected = f"search.darts.{searched}" if head.name == "none" else corrected
    if evaluate.logit_adjustment > 0.0 and not corrected.endswith("."):
        raise ValueError(
            f"evaluate.logit_adjustment is {evaluate.logit_adjustment} with {corrected}, expected 0.0: both "
            "together correct the class frequencies twice, as the logit-adjustment loss and post-hoc adjustment do"
        )


def check_validation(target: TargetParams, adapt: AdaptParams, search: SearchParams, retrain: RetrainParams) -> None:
    """Raise ValueError where no validation rows are reserved for those who ask for some."""
    if target.validation.from_ != "reserve" or target.validation.per_class:
        return
    needed = {
        f"search.method {search.method} (fixed needs none)": search.judged,
        "adapt.head.tau auto": adapt.strategy == "head" and adapt.head.judged,
        "retrain.head.tau auto": retrain.head.judged,
        "retrain.rows train+validation": retrain.rows != "train",
    }
    for name in (name for name, wanted in needed.items() if wanted):
        raise ValueError(f"target.validation.per_class is 0 with {name}, expected more: it needs rows of its own")


def check_padding(
    source: DatasetName,
    target: DatasetName,
    supernet: SupernetParams,
    adapt: AdaptParams,
    search: SearchParams,
    retrain: RetrainParams,
) -> None:
    """Raise ValueError where the crop that `auto` means takes no padding and some is given."""
    for name, augment in _augments(supernet, adapt, search, retrain):
        dataset = source if name == "supernet" else target
        if augment.crop == "auto" and augment.pad != "auto" and dataset in PATH_DATASETS:
            raise ValueError(
                f"{name}.augment.pad is {augment.pad} and crop auto is resized for {dataset}, expected auto, or crop "
                "pad: only that uses it"
            )


def _augments(
    supernet: SupernetParams, adapt: AdaptParams, search: SearchParams, retrain: RetrainParams
) -> Iterator[tuple[str, AugmentParams]]:
    """Yield the augmentations that act, by the names of their recipes."""
    yield "supernet", supernet.augment
    if adapt.strategy != "none":
        yield f"adapt.{adapt.strategy}", getattr(adapt, adapt.strategy).augment
    if search.method == "darts":
        yield "search.darts", search.darts.augment
    yield retrain.acting_name, retrain.acting.augment
    if retrain.head.name != "none":
        yield "retrain.head", retrain.head.augment
