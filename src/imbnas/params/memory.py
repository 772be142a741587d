"""Lower bounds of the memory of networks and batches, from the parameters alone: impossible runs are not begun.

These are lower bounds: one weight for each pair of channels that a layer joins at its least, and for each block one
number for each pixel and channel of its output. What passes may still be too large for a given machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from imbnas.params.adapt import AdaptParams
from imbnas.params.dataset import PUBLISHED, DatasetName
from imbnas.params.evaluate import EvaluateParams
from imbnas.params.ofa_options import DEPTHS, EXPANSIONS, STRIDES, OfaChoices
from imbnas.params.retrain import RetrainParams
from imbnas.params.search import SearchParams
from imbnas.params.space_options import SpaceParams
from imbnas.params.supernet import SupernetParams

MOST = 2**40
"""Bytes; a terabyte is more than the memory of what this runs on."""
NUMBER = 4
"""Bytes of a weight or an activation."""


@dataclass(frozen=True)
class Block:
    """A block of a network: what its output is like, and how many weights all that it may be has at the least."""

    pixels: int
    channels: int
    weights: int


@dataclass(frozen=True)
class Need:
    """A lower bound of memory: the parameter that decides it, the steps that need it, in words, and bytes."""

    name: str
    steps: tuple[str, ...]
    what: str
    least: int


def needs(
    space: SpaceParams,
    source: DatasetName,
    target: DatasetName,
    side: int,
    supernet: SupernetParams,
    adapt: AdaptParams,
    search: SearchParams,
    retrain: RetrainParams,
    evaluate: EvaluateParams,
) -> Iterator[Need]:
    """Yield what networks and batches of images of `side` pixels take; no batch holds more rows than its dataset."""
    blocks = list(_blocks(space, side))
    weights = NUMBER * sum(block.weights for block in blocks)
    yield Need("space", ("supernet", "adapt", "search"), "has widths and blocks whose supernet has", weights)
    image = NUMBER * (side * side + sum(block.pixels * block.channels for block in blocks))
    trained = [("supernet", "supernet", supernet.batch_size * bool(supernet.epochs and supernet.reuse is None))]
    if adapt.strategy in ("finetune", "scratch", "implant"):
        trained.append(("adapt", f"adapt.{adapt.strategy}", getattr(adapt, adapt.strategy).batch_size))
    if search.method == "darts":
        trained.append(("search", "search.darts", search.darts.batch_size))
    trained.append(("search", "search.shifting", search.shifting.batch_size * bool(search.shifting.updates)))
    recipe = retrain.acting
    trained.append(("retrain", retrain.acting_name, recipe.batch_size * bool(recipe.epochs)))
    for step, name, rows in trained:
        what = f"is {rows}, with images of {side} pixels a step that takes"
        yield Need(f"{name}.batch_size", (step,), what, _rows(rows, source if step == "supernet" else target) * image)
    # Without gradients no block's output is kept.
    for step, name, rows in (
        ("search", "search", search.batch_size),
        ("search", "search.calibration", search.calibration.batch_size),
        ("evaluate", "evaluate", evaluate.batch_size),
    ):
        what = f"is {rows}, with images of {side} pixels a pass that takes"
        yield Need(f"{name}.batch_size", (step,), what, _rows(rows, target) * NUMBER * side * side)


def _rows(batch: int, dataset: DatasetName) -> int:
    return min(batch, PUBLISHED[dataset].rows) if dataset in PUBLISHED else batch


def refuse(found: Iterable[Need], most: int, whose: str) -> None:
    """Raise ValueError for the first that takes more than `most` bytes."""
    for need in found:
        if need.least > most:
            digits = 0 if need.least >= 2 * most else 1
            raise ValueError(
                f"{need.name} {need.what} {need.least / 2**30:,.{digits}f} GiB at the least, expected at most "
                f"{most / 2**30:,.{digits}f}{whose}"
            )


def _blocks(space: SpaceParams, side: int) -> Iterator[Block]:
    """Yield the stem and the blocks of the larger of a space's networks."""
    if space.name == "torchvision":
        # Eleven million weights and images of any size: nothing that a machine lacks.
        return
    if space.name == "ofa-mobilenetv3":
        yield from _elastic(space.ofa, side)
        return
    side = -(-side // space.stem.stride)
    if space.name == "darts":
        yield from _cells(space, side)
        return
    width = space.stem.channels
    yield Block(side * side, width, 9 * width)
    stages = zip(space.stages.channels, space.stages.repeats, space.stages.strides, strict=True)
    for channels, repeats, first in stages:
        for stride in (first, *[1] * (repeats - 1)):
            side = -(-side // stride)
            yield Block(side * side, channels, _least(space, width, channels))
            width = channels
    if space.last_channels is not None:
        yield Block(side * side, space.last_channels, width * space.last_channels)


def _least(space: SpaceParams, inputs: int, outputs: int) -> int:
    """Return the weights of all candidates of a block at the least."""
    narrow = min(inputs, outputs)
    if space.name == "mobile":
        return sum(narrow * narrow * ratio for ratio in space.mobile.expansions) * len(space.mobile.kernels)
    if space.name == "shufflenet":
        return narrow * narrow // 2 * len(space.shufflenet.choices)
    if space.name in ("resnet", "implant", "nasbench201"):
        # Two 3x3 convolutions; a cell of six edges has more.
        return 18 * narrow * narrow
    return 0


def _elastic(ofa: OfaChoices, side: int) -> Iterator[Block]:
    """Yield the blocks of the deepest network, whose widest forms hold the weights of all."""
    side, width = -(-side // 2), ofa.stem
    yield Block(side * side, width, 9 * width)
    width = ofa.first
    for channels, first in zip(ofa.stages, STRIDES, strict=True):
        for stride in (first, *[1] * (max(DEPTHS) - 1)):
            side = -(-side // stride)
            yield Block(side * side, channels, max(EXPANSIONS) * width * (width + channels))
            width = channels
    yield Block(side * side, ofa.expanded, width * ofa.expanded)
    yield Block(1, ofa.mixed, ofa.expanded * ofa.mixed)


def _cells(space: SpaceParams, side: int) -> Iterator[Block]:
    """Yield the derived network's cells, of which a step keeps the outputs, and the search network's weights."""
    darts = space.darts
    for pixels, width in _sizes(darts.derived_layers, darts.derived_channels, side):
        # Each cell begins by bringing both of its inputs to its width.
        yield Block(pixels, 4 * width, 2 * width * width)
    convolutions = sum(operation.startswith(("sep", "dil")) for operation in darts.operations)
    for _, width in _sizes(darts.layers, darts.channels, side):
        yield Block(0, 0, 14 * convolutions * (width // darts.partial) ** 2)


def _sizes(layers: int, width: int, side: int) -> Iterator[tuple[int, int]]:
    """Yield pixels and channels of each cell; those at a third and two thirds halve the side and double the width."""
    for layer in range(layers):
        if layer in (layers // 3, 2 * layers // 3):
            side, width = -(-side // 2), 2 * width
        yield side * side, width
