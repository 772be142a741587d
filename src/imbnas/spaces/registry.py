"""The search spaces by name, made from the section `space`; the only module here that reads a parameter model."""

from __future__ import annotations

from collections.abc import Callable

from imbnas.params.space_options import SpaceParams
from imbnas.spaces.chain import Outline
from imbnas.spaces.darts import DartsSpace, Size
from imbnas.spaces.implant_kinds import AdapterImplants, CellImplants
from imbnas.spaces.library import TorchvisionSpace
from imbnas.spaces.mobile import MobileSpace
from imbnas.spaces.nasbench201 import NasBench201Space
from imbnas.spaces.ofa import OfaSpace
from imbnas.spaces.resnet import ResNetSpace
from imbnas.spaces.shufflenet import ShuffleNetSpace
from imbnas.spaces.space import SearchSpace
from imbnas.spaces.stage_cells import StageCellsSpace

SPACES: dict[str, Callable[[SpaceParams, Outline], SearchSpace]] = {
    "shufflenet": lambda params, outline: ShuffleNetSpace(outline, params.shufflenet.choices),
    "mobile": lambda params, outline: MobileSpace(
        outline, params.mobile.kernels, params.mobile.expansions, params.mobile.skip
    ),
    "resnet": lambda params, outline: ResNetSpace(outline),
    "implant": lambda params, outline: (
        CellImplants(outline) if params.implant.kind == "cells" else AdapterImplants(outline, params.implant.budget)
    ),
    "nasbench201": lambda params, outline: (
        StageCellsSpace(outline, params.nasbench201.kernels, exits=params.nasbench201.exits)
        if params.staged
        else NasBench201Space(outline)
    ),
    "darts": lambda params, outline: DartsSpace(
        Size(params.darts.channels, params.darts.layers),
        Size(params.darts.derived_channels, params.darts.derived_layers),
        params.darts.operations,
        params.stem.stride,
        params.darts.partial,
    ),
    "ofa-mobilenetv3": lambda params, outline: OfaSpace(params.ofa),
    "torchvision": lambda params, outline: TorchvisionSpace(params.torchvision),
}
"""The maker of each `space.name`."""


def make_space(params: SpaceParams) -> SearchSpace:
    """Return the search space that the parameters describe."""
    outline = Outline(
        stem_channels=params.stem.channels,
        stem_stride=params.stem.stride,
        channels=tuple(params.stages.channels),
        repeats=tuple(params.stages.repeats),
        strides=tuple(params.stages.strides),
        last_channels=params.last_channels,
    )
    return SPACES[params.name](params, outline)
