"""Checks of the search space against the sections that sample, search and train its networks."""

from __future__ import annotations

from imbnas.cell_graph import EDGES, OPERATIONS, is_connected
from imbnas.params.across_passes import check_passes
from imbnas.params.adapt import AdaptParams
from imbnas.params.differentiable import FROZEN, DartsParams, idle_option
from imbnas.params.longtail import ANGULAR
from imbnas.params.loss_options import LOSSES
from imbnas.params.retrain import RetrainParams
from imbnas.params.search import PROXY_METHODS, SearchParams
from imbnas.params.space_options import SpaceParams
from imbnas.params.supernet import SupernetParams


def check_space(
    space: SpaceParams, supernet: SupernetParams, adapt: AdaptParams, search: SearchParams, processes: int = 1
) -> None:
    """Raise ValueError where the sampling of paths or the search does not fit the space, or several processes."""
    for section, sampling in (("supernet", supernet.sampling), ("adapt", adapt.sampling)):
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
        _check_implant(supernet.sampling, adapt.strategy, search)
    if space.staged and search.latency is not None:
        raise ValueError(
            f"search.latency is {search.latency} with space.nasbench201.per_stage true, expected null: its costs are "
            "of whole stages"
        )
    if space.name == "ofa-mobilenetv3" and search.latency is not None:
        raise ValueError(
            f"search.latency is {search.latency} in the space ofa-mobilenetv3, expected null: the last two blocks of a "
            "stage have one cost"
        )
    if space.name != "implant" and adapt.strategy == "implant":
        raise ValueError(
            f"adapt.strategy is implant in the space {space.name}, expected head, finetune, scratch or none, or the "
            "space implant"
        )
    if space.single:
        _check_single(space, search)
    if search.shifting.updates:
        _check_shifting(adapt, search)
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
    check_passes(space, supernet, adapt, processes)


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
    if space.staged:
        _check_stages(options)
    if options.switch and not (space.staged and (space.nasbench201.exits or len(space.nasbench201.kernels) > 1)):
        raise ValueError(
            f"search.darts.switch is {options.switch} in a space without searched kernels and exits, expected 0, or "
            "space.nasbench201.per_stage with kernels or exits"
        )
    if options.switch and options.collapse.stop_ratio:
        raise ValueError(
            f"search.darts.collapse.stop_ratio is {options.collapse.stop_ratio:g} with search.darts.switch "
            f"{options.switch}, expected 0: from the switch on the eigenvalue is that of more parameters"
        )
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
    if options.pruning.per_epoch:
        _check_pruning(space, options.pruning.keep)
    if options.branches == "bilateral" and space.name == "darts" and space.darts.layers < 4:
        raise ValueError(
            f"space.darts.layers is {space.darts.layers} with search.darts.branches bilateral, expected at least "
            "4: the last cell must be a normal one"
        )


def _check_stages(options: DartsParams) -> None:
    """Refuse what knows one cell for all stages, or operations alone."""
    unfit = (
        ("relaxation", options.relaxation, options.relaxation != "sigmoid", "softmax or sparsemax"),
        ("branches", options.branches, options.branches == "one", "one"),
        ("outcome", options.outcome, options.outcome == "cell", "cell"),
        ("collapse.perturbation", options.collapse.perturbation, options.collapse.perturbation == "none", "none"),
        ("stability.divergence", options.stability.divergence, not options.stability.divergence, "0"),
    )
    for name, found, fits, expected in unfit:
        if not fits:
            raise ValueError(
                f"search.darts.{name} is {found} with space.nasbench201.per_stage true, expected {expected}"
            )


def _check_pruning(space: SpaceParams, keep: int) -> None:
    """Refuse an operation that takes a share and carries nothing, and to keep as many as there are."""
    if space.name == "darts" and "none" in space.darts.operations:
        raise ValueError(
            "space.darts.operations has none with search.darts.pruning.per_epoch above 0, expected it without: it "
            "would have a share of its node and carry nothing"
        )
    count = 14 * len(space.darts.operations) if space.name == "darts" else len(EDGES) * (len(OPERATIONS) - 1)
    if keep >= count:
        raise ValueError(
            f"search.darts.pruning.keep is {keep}, expected fewer than the {count} operations of a cell: nothing would "
            "be pruned"
        )


def _check_darts_start(adapt: AdaptParams, search: SearchParams) -> None:
    """Refuse options that need weights to learn if the adaptation froze them, and margins without a cosine head."""
    options, idle = search.darts, idle_option(search.darts, adapt.strategy)
    if idle:
        raise ValueError(idle)
    if options.on_cosines:
        _check_cosines(adapt, f"search.darts.{options.on_cosines}")


def _check_shifting(adapt: AdaptParams, search: SearchParams) -> None:
    """Refuse margins without a cosine head, and class means of features that would move."""
    loss = search.shifting.loss
    if LOSSES[loss].cosine:
        _check_cosines(adapt, f"search.shifting.loss is {loss}")
    if adapt.strategy == "head" and adapt.head.name == "ncm":
        raise ValueError(
            f"search.shifting.updates is {search.shifting.updates} with adapt.head.name ncm, expected 0, or another "
            "head: features would move away from its class means"
        )


def _check_cosines(adapt: AdaptParams, found: str) -> None:
    """Raise ValueError for what was `found` where the adapted head is not a cosine one."""
    classifier = {"none": "linear", "head": adapt.head.name}.get(adapt.strategy, adapt.classifier.chosen(adapt.loss))
    if classifier not in ANGULAR:
        name = "adapt.head.name" if adapt.strategy == "head" else "adapt.classifier.name"
        raise ValueError(
            f"{found} on a head that is {classifier} ({name}, with adapt.strategy {adapt.strategy}), expected a cosine "
            "one: its margins are on cosines"
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
    width = len(given) // len(space.stages.channels) if space.staged else len(given)
    cells = [given[begin : begin + len(EDGES)] for begin in range(0, len(given), width)]
    if space.name == "nasbench201" and not all(map(is_connected, cells)):
        raise ValueError(
            f"search.architecture is {'-'.join(map(str, given))}, a cell without a way from its input to its output, "
            "expected a connected one"
        )


def check_cells(space: SpaceParams, retrain: RetrainParams, channels: int) -> None:
    """Raise ValueError where the final training, or the images, are none that networks of the space take."""
    if space.name == "torchvision" and retrain.branches != "one":
        raise ValueError(f"retrain.branches is {retrain.branches} in the space torchvision, expected one")
    if space.name == "torchvision" and channels != 3:
        raise ValueError(f"target.channels is {channels} in the space torchvision, expected 3: it takes colour")
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
