"""Options of Supernet Shifting: the supernet goes on training while a search ranks its paths."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from imbnas.params.longtail import LongTailParams, WeightingParams
from imbnas.params.loss_options import LossName
from imbnas.params.recipe import AugmentParams, OptimizerParams
from imbnas.params.shared import Batch


class ShiftingParams(LongTailParams):
    """Supernet Shifting (Zhang et al. 2024, arXiv 2403.11380): an adaptation during the search."""

    updates: Annotated[int, Field(ge=0, le=1000)] = 0
    """Steps that the supernet takes after each generation of `evolution` is scored, each on one batch of training rows
    and the summed loss of the generation's candidates (the paper: 1); at the end all candidates are scored anew. 0: its
    weights stay."""
    batch_size: Batch = 64
    """Rows in one step; each generation begins another epoch of the sampler."""
    loss: LossName = "effective-number"
    """The loss of each candidate."""
    weighting: WeightingParams = WeightingParams(defer=0.0)
    """Class weights; `defer` is a share of the generations."""
    optimizer: OptimizerParams = OptimizerParams(lr=1.0e-4, nesterov=False, weight_decay=4.0e-5, clip=0.0)
    """The optimiser, at a constant rate: rate, momentum and decay are those of the authors' code. Gradients add up over
    the candidates, so that 20 of them move the weights 20 times as far as their mean loss would."""
    augment: AugmentParams = AugmentParams()
    """Augmentation."""
