"""BatchNorm in a supernet, whose running statistics, shared by all paths, are wrong for each of them.

Training normalises with the batch's own statistics; scoring a subnet measures its statistics anew (DESIGN: section on
BatchNorm; Guo et al. 2020, section 3.4).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def batchnorms(model: nn.Module) -> list[_BatchNorm]:
    """Return the BatchNorm layers of a model in order."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Normalise with each batch's own statistics and leave every running buffer untouched, bit for bit."""
    layers = batchnorms(model)
    before = [(layer.training, layer.track_running_stats) for layer in layers]
    for layer in layers:
        layer.training, layer.track_running_stats = True, False
    try:
        yield
    finally:
        for layer, (training, tracking) in zip(layers, before, strict=True):
            layer.training, layer.track_running_stats = training, tracking


def reset_statistics(model: nn.Module) -> None:
    """Forget running statistics and make the next training-mode passes average theirs with equal weight."""
    for layer in batchnorms(model):
        layer.reset_running_stats()
        layer.momentum = None
