"""Checks across sections: contradictory parameters are refused before anything runs."""

from __future__ import annotations

from collections.abc import Iterator

from imbnas.params.adapt import AdaptParams
from imbnas.params.approximate import ApproximateParams
from imbnas.params.dataset import PATH_DATASETS, SIZELESS, DatasetName, same_images
from imbnas.params.differentiable import FROZEN
from imbnas.params.evaluate import EvaluateParams
from imbnas.params.imbalance import ImbalanceParams
from imbnas.params.longtail import prior_corrected
from imbnas.params.medmnist import stored_size
from imbnas.params.recipe import AugmentParams
from imbnas.params.retrain import UNTRAINED, RetrainParams
from imbnas.params.search import SearchParams
from imbnas.params.section import short
from imbnas.params.shared import Numerics
from imbnas.params.source import SourceParams
from imbnas.params.space_options import SpaceParams
from imbnas.params.supernet import SupernetParams
from imbnas.params.target import TargetParams


def check_sizes(source: SourceParams, target: TargetParams) -> None:
    """Raise ValueError where source and target take one dataset's images in two sizes, which no digest shows equal."""
    if source.name is None or not same_images(source, target):
        return
    ours, theirs = (stored_size(section.size, target.shape[0]) for section in (source, target))
    if ours != theirs:
        raise ValueError(
            f"source.size is {ours} with target.size {theirs} of {target.name}, expected the same: rows of the "
            "files of two sizes are not known to be the same images"
        )


def check_groups(source: SourceParams, target: TargetParams) -> None:
    """Raise ValueError where source and target share images and not the file that says which belong together."""
    if same_images(source, target) and source.groups != target.groups:
        raise ValueError(
            f"source.groups is {short(source.groups)} and target.groups {short(target.groups)} for the same images, "
            "expected the same"
        )


def check_source(source: SourceParams, target: TargetParams, supernet: SupernetParams) -> None:
    """Raise ValueError where a supernet for one's own images would be trained on digits, blown up from 8 x 8 pixels."""
    trained = supernet.epochs and supernet.reuse is None
    if source.dataset == "digits" and target.dataset in SIZELESS and trained:
        name = f" (and name: {target.name})" if target.name is not None else ""
        train = f" (and splits.train: {target.splits.train})" if target.splits.train is not None else ""
        raise ValueError(
            f"source.dataset is digits with target.dataset {target.dataset} and supernet.epochs {supernet.epochs}, "
            f"expected images like the target's: source.dataset: {target.dataset} with source.root: {target.root}"
            f"{name}{train} takes source.share of the target's own, another dataset takes none of them, and "
            "supernet.epochs: 0 trains nothing on the source"
        )


def check_precision(numerics: Numerics, search: SearchParams) -> None:
    """Raise ValueError where rounded passes would drown the small differences of a zeroth-order gradient."""
    if search.method == "darts" and search.darts.order == "zeroth" and numerics.precision != "fp32":
        raise ValueError(
            f"runtime.precision is {numerics.precision} with search.darts.order zeroth, expected fp32: it divides "
            "small differences of weights"
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
    before = (supernet.epochs or supernet.reuse is not None) if adapt.strategy != "scratch" else 0
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


def check_int8(evaluate: EvaluateParams, approximate: ApproximateParams) -> None:
    """Raise ValueError where a network is to be quantised whose convolutions are in 8 bits already."""
    if evaluate.int8 and approximate.acts:
        raise ValueError(
            f"evaluate.int8 is true with approximate.multiplier {approximate.multiplier}, expected false: its "
            "convolutions are in 8 bits already"
        )


def check_validation(target: TargetParams, adapt: AdaptParams, search: SearchParams, retrain: RetrainParams) -> None:
    """Raise ValueError where no validation rows are reserved for those who ask for some."""
    if target.validation.from_ != "reserve" or target.validation.per_class:
        return
    needed = {
        f"search.method {search.method} (fixed needs none)": search.judged,
        "adapt.head.tau auto": adapt.strategy == "head" and adapt.head.judged,
        "retrain.head.tau auto": retrain.head.judged,
        f"retrain.rows {retrain.rows}": retrain.rows != "train",
    }
    for name in (name for name, wanted in needed.items() if wanted):
        raise ValueError(f"target.validation.per_class is 0 with {name}, expected more: it needs rows of its own")


def check_rows(
    source: SourceParams, target: TargetParams, imbalance: ImbalanceParams, supernet: SupernetParams, rows: str
) -> None:
    """Raise ValueError where the final training is to have the source's rows, and they are not rows of its tail.

    A supernet of another project has taken none.
    """
    if rows != "all":
        return
    if imbalance.profile != "natural":
        raise ValueError(
            f"retrain.rows is all with imbalance.profile {imbalance.profile}, expected natural, or rows "
            "train+validation: the source's balanced rows would fill up the tail that the profile cuts"
        )
    if supernet.reuse is not None:
        return
    if not same_images(source, target):
        raise ValueError(
            f"retrain.rows is all with source.dataset {source.dataset} and target.dataset {target.dataset}, which are "
            "other images, expected rows train+validation, or one dataset for both"
        )
    for name in ("resize", "exif_rotation"):
        if getattr(source, name) != getattr(target, name):
            raise ValueError(
                f"source.{name} is {getattr(source, name)} and target.{name} is {getattr(target, name)} with "
                "retrain.rows all, expected the same: the rows of both are read alike"
            )


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
    if supernet.reuse is None:
        yield "supernet", supernet.augment
    if adapt.strategy != "none":
        yield f"adapt.{adapt.strategy}", getattr(adapt, adapt.strategy).augment
    if search.method == "darts":
        yield "search.darts", search.darts.augment
    if search.shifting.updates:
        yield "search.shifting", search.shifting.augment
    yield retrain.acting_name, retrain.acting.augment
    if retrain.head.name != "none":
        yield "retrain.head", retrain.head.augment
